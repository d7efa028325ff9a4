"""The predictors that are no models on real densities, how predictors are opened, and the grids they predict on."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

import tomat
from predictors import CodecFloorPredictor
from recorder import Recorder, crystal, tokenizer
from runs import LABEL
from tomat.lm.decode.opening import open_predictor
from tomat.metrics import nmae
from tomat.prediction.assemble import CellRequest, predict_density, valence_count
from tomat.prediction.grid import choose_grid
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PatchPredictor, PromoleculePredictor, TrainingFacts
from tomat.promolecule import Promolecule
from tomat.tokenizer import PatchTokenizer

PROMOLECULE = Promolecule.load("qe-sg15")
SILICON = LABEL / "qe-0039.zarr"


@pytest.mark.parametrize("name", ["qe-0039", "qe-0934", "qev-0001"])
@pytest.mark.parametrize("overlap", [0, 5])
def test_the_promolecule_in_patches_is_the_promolecule(name: str, overlap: int) -> None:
    predictor = open_predictor("promolecule")
    m = tomat.read(LABEL / f"{name}.zarr").in_unit(predictor.tokenizer.unit)
    outcome = tomat.predict(m, predictor, like=m, overlap=overlap)
    direct = PROMOLECULE.predict(m).astype(np.float32)
    np.testing.assert_array_equal(outcome.material.density, direct)
    assert nmae(outcome.material.density, m.density) == nmae(direct, m.density)
    assert outcome.electrons.final == pytest.approx(m.n_electrons, rel=1e-4)


def test_the_codec_floor_in_patches_is_the_codec_floor() -> None:
    m = tomat.read(LABEL / "qe-0934.zarr")
    for codec in ("lmq-16k", "l1-1k-e_per_A3", "two_token_9_12"):
        predictor: PatchPredictor = CodecFloorPredictor(PatchTokenizer("v3", codec, patch_size=14))
        outcome = predict_density(predictor, m.crystal, m.grid_shape, truth=m)
        unit = predictor.tokenizer.unit
        direct = predictor.tokenizer.density_codec.roundtrip(m.in_unit(unit).density).astype(np.float32)
        np.testing.assert_array_equal(outcome.material.density, direct)
        assert outcome.material.unit == unit
        with pytest.raises(ValueError, match="has no truth"):
            predict_density(predictor, m.crystal, m.grid_shape)


def test_identities_say_what_predictions_depend_on() -> None:
    slater = PromoleculePredictor(tokenizer(), Promolecule.load("slater"))
    assert slater.identity() != PromoleculePredictor(tokenizer(), PROMOLECULE).identity()
    assert slater.facts.valence[14] == 4.0
    floors = [CodecFloorPredictor(PatchTokenizer("v3", codec)).identity() for codec in ("l1-1k", "l1-2k")]
    assert floors[0] != floors[1]
    json.dumps([slater.identity(), floors])


def test_facts_are_read_off_the_training_data() -> None:
    materials = [tomat.read(path) for path in sorted(LABEL.glob("qe-*.zarr"))]
    facts = TrainingFacts.of(materials, PROMOLECULE)
    sides = [np.linalg.norm(m.lattice, axis=1) / m.grid_shape for m in materials]
    assert facts.spacing == pytest.approx(np.exp(np.log(sides).mean()))
    grids_made = [choose_grid(m.crystal, default=facts.spacing) for m in materials]
    points = [np.prod(grid) / np.prod(m.grid_shape) for grid, m in zip(grids_made, materials, strict=True)]
    assert np.exp(np.log(points).mean()) == pytest.approx(1.0, abs=0.05)
    assert facts.valence[14] == 4.0
    for m in materials:
        count = valence_count(Recorder(facts=facts), CellRequest(m.crystal, (4, 4, 4)))
        assert count is None or count == pytest.approx(m.n_electrons, rel=1e-4)
    stored = json.loads(json.dumps(facts.to_json()))
    assert TrainingFacts.from_json(stored, PROMOLECULE) == facts
    assert TrainingFacts.from_json({}) == TrainingFacts()
    with pytest.raises(ValueError, match="damaged"):
        TrainingFacts.from_json({"valence": {"Si": 4}})
    with pytest.raises(ValueError, match="at least one cell"):
        TrainingFacts.of([])


def test_elements_the_guess_does_not_know_are_named() -> None:
    predictor = open_predictor("promolecule")
    with pytest.raises(ValueError, match=r"argon: .*no radial function for Ar"):
        tomat.predict(crystal("argon", [18]), predictor, grid=(6, 6, 6))
    assert tomat.predict(crystal("argon", [18]), "promolecule:slater", grid=(6, 6, 6)).n_patches == 1


def test_choosing_a_grid() -> None:
    m = tomat.read(SILICON)
    x = m.crystal
    assert choose_grid(x) == m.grid_shape == choose_grid(x, like=SILICON) == choose_grid(x, like=m)
    assert choose_grid(x, default=0.2) == (20, 20, 20) == choose_grid(x, spacing=0.2, default=0.1)
    assert choose_grid(x, grid=(3, 4, 5), default=0.2) == (3, 4, 5)
    with pytest.raises(ValueError, match="grid and spacing both set the grid"):
        choose_grid(x, grid=(3, 4, 5), spacing=0.2)
    with pytest.raises(ValueError, match="qe-0039: lattice vector a"):
        choose_grid(x, spacing=0.001)


def test_checkpoints_without_jax_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomat.lm.decode.kinds", None)
    with pytest.raises(ValueError, match=r"runs/x: .*pip install 'tomat\[train\]'.*promolecule"):
        open_predictor("runs/x")
    with pytest.raises(ValueError, match="samples = 4: a promolecule has no such option"):
        open_predictor("promolecule", DecodingConfig(samples=4))


def test_decoding_options_of_an_open_predictor_are_an_error() -> None:
    predictor = open_predictor("promolecule")
    with pytest.raises(ValueError, match="mode, samples: the predictor is open already"):
        tomat.predict(crystal("x", [14]), predictor, grid=(6, 6, 6), mode="k_pass", samples=4)


def test_checkpoints_are_opened_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    given: dict[str, Any] = {}
    models = types.ModuleType("tomat.lm.decode.kinds")

    def open_kind(checkpoint: str, decoding: DecodingConfig) -> Recorder:
        given.update(decoding.given(), checkpoint=checkpoint)
        return Recorder()

    models.open_kind = open_kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tomat.lm.decode.kinds", models)
    outcome = tomat.predict(
        crystal(), "runs/x", grid=(5, 5, 5), mode="k_pass", passes=3, batch_size=2, seed=5
    )
    assert outcome.n_patches == 1
    assert given == {
        "checkpoint": "runs/x",
        "mode": "k_pass",
        "passes": 3,
        "batch_size": 2,
        "seed": 5,
    }
