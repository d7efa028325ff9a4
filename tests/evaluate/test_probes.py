"""Does the harness see what a predictor uses? Stand-ins whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from predictors import TOKENIZERS, TokenPredictor, TruthPredictor
from runs import IDS, LABEL, ROOT, tomat_main
from tomat.evaluate.alterations import PROBES, fourier_shift, generator
from tomat.evaluate.measure import Truth
from tomat.evaluate.methods import PatchMethod
from tomat.evaluate.probes import Probing, probe, probe_material
from tomat.material import Entry
from tomat.prediction.predictor import PatchPrediction

NAMES = ("qe-0211", "qe-0003", "qe-0934", "qev-0003", "vasp-mp-2300242", "vasp-mp-2458987")
MATERIALS = {name: tomat.read(LABEL / f"{name}.zarr") for name in NAMES}


def probed(predictor: Any, *names: str, materials: Any = NAMES, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of some probes."""
    method = PatchMethod(predictor)
    pool = list(MATERIALS.values())
    return [
        row
        for name in materials
        for row in probe_material(
            method, Truth.of(MATERIALS[name], name, method.unit), [PROBES[x] for x in names], pool, seed
        )
    ]


def test_v3_is_translation_invariant_to_the_codecs_precision() -> None:
    """A predictor that reads the tokens alone, Gaussians at the places they state: it moves by their rounding."""
    rows = probed(TokenPredictor("v3"), "translated")
    assert len(rows) == len(NAMES)
    for row in rows:
        # 24 bits over four decades: a coordinate is off by 6e-7 of itself at most.
        assert row["moved"] < 1e-5
        assert abs(row["change"]) < 1e-5
    # Nearly all patches have the same tokens; where an atom lies on the corner's plane, 0 and 1 are one place.
    assert np.mean([row["same_tokens"] for row in rows]) > 0.9


def test_v2_is_not() -> None:
    """Its tokens say where in the cell a patch lies: all of them change, though not what they mean."""
    rows = probed(TokenPredictor("v2"), "translated")
    assert max(row["same_tokens"] for row in rows) < 0.2


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(NAMES))
def test_translation_for_any_shift(seed: int, name: str) -> None:
    (row,) = probed(TokenPredictor("v3"), "translated", materials=(name,), seed=seed)
    assert row["moved"] < 1e-5


def test_other_preambles_are_seen_by_a_model_that_reads_them() -> None:
    names = ("other_preamble", "random_preamble", "random_positions", "shifted_atoms")
    for row in probed(TokenPredictor("v3"), *names):
        assert row["moved"] > 0.01, row
    (row,) = probed(TokenPredictor("v3"), "permuted_positions", materials=("qe-0003",))
    assert row["moved"] > 0.01


def test_a_model_that_reads_nothing_is_found_out() -> None:
    class Constant(TokenPredictor):
        def predict(self, requests: Any) -> list[PatchPrediction]:
            return [PatchPrediction(np.full(r.patch_shape, 3.0, dtype=np.float32)) for r in requests]

    names = ("other_preamble", "random_preamble", "random_positions", "shifted_atoms", "permuted_positions")
    rows = probed(Constant("v3"), *names)
    assert {row["probe"] for row in rows} == set(names)
    assert all(row["moved"] == 0.0 and row["change"] == 0.0 for row in rows)


def test_elements_in_one_cell_alone_cannot_change_places() -> None:
    assert probed(TokenPredictor(), "permuted_positions", materials=("qe-0211",)) == []
    assert probed(TokenPredictor(), "permuted_atoms", materials=("vasp-mp-2300242",)) == []


def test_a_leak_of_the_answer_is_found() -> None:
    honest = probed(TokenPredictor("v3"), "false_truth")
    assert all(row["moved"] == 0.0 for row in honest)
    cheat = probed(TruthPredictor(1.0, mode="one_pass"), "false_truth")
    assert all(row["moved"] > 0.1 for row in cheat)


def test_the_order_of_atoms() -> None:
    blind = probed(TokenPredictor("v3"), "permuted_atoms")
    minding = probed(TokenPredictor("v3", order=True), "permuted_atoms")
    assert all(row["moved"] < 1e-6 for row in blind)
    assert max(row["moved"] for row in minding) > 0.01


@pytest.mark.parametrize("name", ["cyclic_axes", "swapped_axes", "inverted", "translated_crystal"])
def test_turned_crystals_come_back_the_same(name: str) -> None:
    """A predictor that is a function of space alone: turned and turned back, it gives what it gave."""
    rows = probed(TokenPredictor("v2"), name)
    assert len(rows) == len(NAMES)
    assert all(row["moved"] < 1e-5 for row in rows)
    # The truth turns as the crystal does, or the error would change.
    truths = probed(TruthPredictor(1.1), name)
    assert all(row["nmae"] == pytest.approx(0.1, rel=1e-4) and row["moved"] < 1e-5 for row in truths)


def test_fractional_shifts() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 7, 8))
    for steps in ([1.0, 0.0, 0.0], [2.0, -3.0, 5.0]):
        whole = np.roll(values, [int(s) for s in steps], axis=(0, 1, 2))
        np.testing.assert_allclose(fourier_shift(values, np.array(steps)), whole, atol=1e-12)
    x = np.arange(9) / 9
    wave = np.cos(2 * np.pi * 2 * x)[:, None, None] * np.ones((9, 4, 4))
    moved = np.cos(2 * np.pi * 2 * (x - 0.3 / 9))[:, None, None] * np.ones((9, 4, 4))
    np.testing.assert_allclose(fourier_shift(wave, np.array([0.3, 0, 0])), moved, atol=1e-12)
    smooth = probed(TruthPredictor(1.1), "fractional_shift", materials=("qe-0211", "qe-0003"))
    assert all(row["nmae"] == pytest.approx(0.1, rel=1e-3) and row["moved"] < 0.02 for row in smooth)


def test_draws_depend_on_the_material_and_the_probe_alone() -> None:
    first = generator(0, "a", "translated").uniform(size=3)
    assert (generator(0, "a", "translated").uniform(size=3) == first).all()
    for other in (
        generator(1, "a", "translated"),
        generator(0, "b", "translated"),
        generator(0, "a", "inverted"),
    ):
        assert (other.uniform(size=3) != first).all()


def test_a_probe_run_goes_on_where_it_was(tmp_path: Any) -> None:
    entries = [Entry(name, str(LABEL / f"{name}.zarr")) for name in NAMES[:3]]
    plan = Probing(PatchMethod(TokenPredictor()), entries, ("translated", "false_truth"))
    first = probe(plan, tmp_path / "p")
    assert first["probes"]["translated"]["n"] == 3
    assert first["probes"]["false_truth"]["moved_max"] == 0.0

    class Never(TokenPredictor):
        def predict(self, requests: Any) -> list[PatchPrediction]:
            raise AssertionError("measured before")

    again = probe(Probing(PatchMethod(Never()), entries, ("translated", "false_truth")), tmp_path / "p")
    assert again["probes"] == first["probes"]


def test_failures_are_named(tmp_path: Any) -> None:
    entries = [Entry(name, str(LABEL / f"{name}.zarr")) for name in NAMES[:2]]
    predictor = TruthPredictor(refuses=NAMES[0])
    content = probe(Probing(PatchMethod(predictor), entries, ("inverted",)), tmp_path / "p")
    assert [error["task_id"] for error in content["errors"]] == [NAMES[0]]
    assert "not today" in content["errors"][0]["error"]


def test_the_command_line(tmp_path: Any) -> None:
    done = tomat_main("probe", "promolecule", ROOT, "--limit", 2, "-o", tmp_path / "p", "--json")
    assert done.code == 0, done.err
    probes = done.json["probes"]
    assert probes["false_truth"]["moved_max"] == 0.0
    assert probes["flat_guess"]["moved"]["value"] > 0.1
    assert tomat_main("probe", "promolecule", ROOT, "--limit", 2, "-o", tmp_path / "p").code == 0
    refused = tomat_main("probe", "promolecule", ROOT, "--probe", "telepathy", "-o", tmp_path / "q")
    assert refused.code == 1
    assert "unknown probe 'telepathy'" in refused.err
    assert len(IDS) == 20
    assert set(TOKENIZERS) == {"v2", "v3"}
