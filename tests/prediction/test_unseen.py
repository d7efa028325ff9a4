"""Elements a model has not seen are refused, or spherical atoms stand in for them and it is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from places import DATA
from predictors import TokenPredictor
from runs import tomat_main
from tomat.crystal import Crystal
from tomat.prediction.assemble import predict_density
from tomat.prediction.predictor import PatchPrediction, TrainingFacts
from tomat.prediction.unseen import check_elements, share_of_unseen, unseen_elements
from tomat.promolecule import UnscaledPromolecule

PROMOLECULE = UnscaledPromolecule.load("qe-sg15")
FACTS = TrainingFacts(elements=frozenset({8, 14}), promolecule=PROMOLECULE.source, guess=PROMOLECULE)
GRID = (10, 12, 14)


def crystal(*numbers: int) -> Crystal:
    places = [[0.1, 0.2, 0.3], [0.6, 0.55, 0.8], [0.4, 0.9, 0.05]]
    return Crystal.of(np.diag([3.0, 3.5, 4.0]), list(numbers), places[: len(numbers)], "x")


class Doubled(TokenPredictor):
    """Predicts twice its starting density."""

    def predict(self, requests: Any) -> list[PatchPrediction]:
        return [PatchPrediction(2 * request.guess) for request in requests]


def test_unseen_elements_are_those_of_the_crystal_alone() -> None:
    assert unseen_elements(crystal(27, 14, 26), FACTS) == (26, 27)
    assert unseen_elements(crystal(14, 8), FACTS) == ()
    assert unseen_elements(crystal(27), TrainingFacts()) == ()


def test_they_are_refused_by_name_and_allowed_with_a_word() -> None:
    with pytest.raises(ValueError, match=r"x: the model was trained without Fe, Co; .*--allow-unseen"):
        check_elements(crystal(27, 14, 26), FACTS, allow=False)
    (said,) = check_elements(crystal(27, 14, 26), FACTS, allow=True)
    assert said == "Fe, Co: not in the training data; these atoms are those of the promolecule"
    assert check_elements(crystal(14, 8), FACTS, allow=False) == []


def test_shares_are_those_of_the_atoms_in_the_promolecule() -> None:
    share = share_of_unseen(crystal(27, 14), FACTS, GRID)
    assert share is not None
    whole, alone = (PROMOLECULE.per_volume(c, GRID) for c in (crystal(27, 14), crystal(27)))
    dense = whole > 1e-6
    assert dense.mean() > 0.9
    np.testing.assert_allclose(share[dense], alone[dense] / whole[dense], rtol=1e-5)
    assert share.max() > 0.99
    assert share.min() < 0.05
    assert share_of_unseen(crystal(8, 14), FACTS, GRID) is None
    only = share_of_unseen(crystal(27), FACTS, GRID)
    assert only is not None
    assert only.max() == 1
    assert set(np.unique(only)) <= {0, 1}  # 0 where no density is


def test_the_promolecule_stands_in_where_their_atoms_are() -> None:
    predictor = Doubled(needs_guess=True, facts=FACTS)
    one = crystal(27, 14)
    guess = FACTS.starting_density(one, GRID, predictor.tokenizer.unit)
    share = share_of_unseen(one, FACTS, GRID)
    assert share is not None
    found = predict_density(predictor, one, GRID, allow_unseen=True).material.density
    np.testing.assert_allclose(found, guess * (2 - share), rtol=1e-5)
    alone = predict_density(predictor, crystal(27), GRID, allow_unseen=True).material.density
    np.testing.assert_allclose(
        alone, FACTS.starting_density(crystal(27), GRID, predictor.tokenizer.unit), rtol=1e-5
    )
    # Evaluations score the model itself.
    np.testing.assert_allclose(predict_density(predictor, one, GRID).material.density, 2 * guess, rtol=1e-6)


def test_in_python_it_is_an_error_or_a_warning() -> None:
    predictor = Doubled(needs_guess=True, facts=FACTS)
    with pytest.raises(ValueError, match="trained without Co"):
        tomat.predict(crystal(27, 14), predictor, grid=GRID)
    with pytest.warns(UserWarning, match="x: Co: not in the training data"):
        tomat.predict(crystal(27, 14), predictor, grid=GRID, allow_unseen=True)


def test_the_command_fails_and_names_the_way_out(tmp_path: Path) -> None:
    path = DATA / "rho_gga" / "label" / "qe-0039.zarr"
    odd = tmp_path / "odd.vasp"
    odd.write_text("odd\n1.0\n4 0 0\n0 4 0\n0 0 4\nAm Si\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    words = ["predict", odd, path, "-o", tmp_path / "out", "--format", "zarr", "--spacing", "0.5"]
    refused = tomat_main(*words)
    assert refused.code == 1
    assert "failed: odd: the model was trained without Am" in refused.err
    assert "1 predicted, 1 failed" in refused.out
    allowed = tomat_main(*words, "--allow-unseen")
    assert allowed.code == 0, allowed.err
    assert "warning: odd: Am: not in the training data" in allowed.err
    record = json.loads((tmp_path / "out" / "odd.json").read_text())
    assert record["warnings"][0].startswith("Am: not in the training data")
