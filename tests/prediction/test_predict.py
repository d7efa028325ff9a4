"""Whole densities from predictors of patches: batches, seams, electrons, files, and runs that go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from predictors import CodecFloorPredictor
from runs import LABEL, Result, tomat_main, wait_for
from strategies import grids, seeds
from tomat.crystal import Crystal
from tomat.lm.decode.opening import open_predictor
from tomat.metrics import nmae
from tomat.prediction.assemble import (
    CellRequest,
    Failure,
    Prediction,
    predict_densities,
    predict_density,
    valence_count,
)
from tomat.prediction.grid import choose_grid
from tomat.prediction.options import DecodingConfig, Mode
from tomat.prediction.predictor import (
    ByTokenizer,
    PatchPrediction,
    PatchPredictor,
    PatchRequest,
    PromoleculePredictor,
    TrainingFacts,
)
from tomat.promolecule import Promolecule
from tomat.tokenizer import PatchTokenizer

PROMOLECULE = Promolecule.load("qe-sg15")
SILICON = LABEL / "qe-0039.zarr"
LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])


def tokenizer(patch_size: int = 5, **options: Any) -> PatchTokenizer:
    return PatchTokenizer("v3", "lmq-16k", patch_size=patch_size, **options)


def crystal(name: str = "x", numbers: Sequence[int] = (14, 8)) -> Crystal:
    rng = np.random.default_rng(len(name))
    return Crystal.of(LATTICE, list(numbers), rng.uniform(0, 1, (len(numbers), 3)), name)


@dataclass
class Recorder(ByTokenizer):
    """Predicts a function of the grid point and the crystal, and remembers what it was asked."""

    tokenizer: PatchTokenizer = field(default_factory=tokenizer)
    mode: Mode = "one_pass"
    needs_guess: bool = False
    batch_size: int = 7
    facts: TrainingFacts = field(default_factory=lambda: TrainingFacts(None, {14: 4.0, 8: 6.0}))
    batches: list[list[PatchRequest]] = field(default_factory=list)
    refuse: str = ""
    spread: bool = False
    offset: float = 0.0
    weights: str = ""

    @property
    def sees_truth(self) -> bool:
        return self.mode == "teacher_forced"

    def identity(self) -> dict[str, Any]:
        return {"recorder": self.offset}

    def value(self, request: PatchRequest) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        points = [
            (o + np.arange(p)) % n
            for o, p, n in zip(request.offset, request.patch_shape, request.grid_shape, strict=True)
        ]
        i, j, k = np.meshgrid(*points, indexing="ij")
        n = request.crystal.n_atoms
        return np.asarray(1.0 + n + i + 31 * j + 997 * k + self.offset, dtype=np.float32)

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        self.batches.append(list(requests))
        if any(self.refuse and request.crystal.name == self.refuse for request in requests):
            raise ValueError(f"{self.refuse} cannot be predicted")
        values = [self.value(request) for request in requests]
        return [PatchPrediction(value, value / np.float32(10) if self.spread else None) for value in values]


def whole(cell: CellRequest) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What Recorder predicts for a whole cell."""
    request = PatchRequest(cell.crystal, cell.grid_shape, (0, 0, 0), cell.grid_shape)
    return Recorder().value(request)


def done(outcome: Prediction | Failure) -> Prediction:
    assert isinstance(outcome, Prediction), outcome
    return outcome


# --- whole densities ----------------------------------------------------------------------------------------


@given(
    shapes=st.lists(grids(13), min_size=1, max_size=4),
    patch=st.integers(1, 6),
    batch=st.integers(1, 9),
    data=st.data(),
)
@settings(max_examples=50)
def test_batches_over_materials_change_nothing(
    shapes: list[tuple[int, int, int]], patch: int, batch: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, patch - 1))
    predictor = Recorder(tokenizer(patch), batch_size=batch, spread=True)
    cells = [CellRequest(crystal(f"m{i}", [14] * (i + 1)), shape) for i, shape in enumerate(shapes)]
    outcomes = [done(o) for o in predict_densities(predictor, iter(cells), overlap=overlap)]
    for cell, outcome in zip(cells, outcomes, strict=True):
        assert outcome.material.task_id == cell.crystal.name
        np.testing.assert_array_equal(outcome.material.density, whole(cell))
        assert outcome.spread is not None
        np.testing.assert_allclose(outcome.spread, whole(cell) / 10, rtol=1e-6)
        assert outcome.seconds > 0
    sizes = [len(requests) for requests in predictor.batches]
    assert all(size == batch for size in sizes[:-1])
    assert sum(sizes) == sum(outcome.n_patches for outcome in outcomes)


def test_one_crystal_that_cannot_be_predicted_fails_alone() -> None:
    predictor = Recorder(refuse="bad", batch_size=50)
    cells = [CellRequest(crystal(name), (9, 9, 9)) for name in ("a", "bad", "c")]
    cells.insert(2, CellRequest(crystal("wide"), (9, 9, 1024)))
    outcomes = list(predict_densities(predictor, cells))
    assert [isinstance(o, Failure) for o in outcomes] == [False, True, True, False]
    failed = [o for o in outcomes if isinstance(o, Failure)]
    assert str(failed[0].error) == "bad cannot be predicted"
    assert "1023" in str(failed[1].error)
    assert failed[1].cell.crystal.name == "wide"
    np.testing.assert_array_equal(done(outcomes[3]).material.density, whole(cells[3]))


def test_what_a_predictor_does_wrong_is_not_hidden() -> None:
    class Short(Recorder):
        def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
            return super().predict(requests)[1:]

    with pytest.raises(RuntimeError, match="6 patches for 7 requests"):
        predict_density(Short(), crystal(), (9, 9, 9))
    with pytest.raises(ValueError, match="x: the prediction of patch 0 has NaN"):
        predict_density(Recorder(offset=float("nan")), crystal(), (9, 9, 9))


@dataclass
class Stating(Recorder):
    """Also gives the expected error of its distribution, which is one point."""

    @property
    def sees_truth(self) -> bool:
        return True

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        found = super().predict(requests)
        return [
            replace(one, expected_error=np.abs(one.density - np.asarray(request.truth)))
            for one, request in zip(found, requests, strict=True)
        ]


def test_parts_that_some_patches_lack_are_refused() -> None:
    class Half(Recorder):
        def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
            found = super().predict(requests)
            return [replace(one, spread=one.density) if i % 2 else one for i, one in enumerate(found)]

    with pytest.raises(ValueError, match="x: the predictor gave the spread for some patches only"):
        predict_density(Half(), crystal(), (9, 9, 9))


def test_the_truth_is_shown_to_diagnostics_and_those_that_state_they_need_it() -> None:
    truth = tomat.Material.on(crystal(), np.ones((6, 6, 6)), "chgcar")
    modes: tuple[Mode, ...] = ("one_pass", "k_pass", "free_running", "teacher_forced")
    for mode in modes:
        predictor = Recorder(mode=mode)
        predict_density(predictor, crystal(), (6, 6, 6), truth=truth)
        shown = {request.truth is not None for batch in predictor.batches for request in batch}
        assert shown == {mode == "teacher_forced"}
        # One that says it needs the truth for the expected error of its distribution is shown it in every mode.
        stating = Stating(mode=mode)
        found = predict_density(stating, crystal(), (6, 6, 6), truth=truth)
        assert all(request.truth is not None for batch in stating.batches for request in batch)
        np.testing.assert_array_equal(found.material.density, whole(CellRequest(crystal(), (6, 6, 6))))
        assert found.expected_error is not None
        np.testing.assert_array_equal(found.expected_error, np.abs(found.material.density - 1))
        scaled = predict_density(stating, crystal(), (6, 6, 6), truth=truth, normalize=True)
        assert scaled.expected_error is None
    with pytest.raises(ValueError, match=r"x: the true density has the grid \(6, 6, 6\)"):
        predict_density(Recorder(mode="teacher_forced"), crystal(), (6, 6, 7), truth=truth)


def test_progress_counts_patches() -> None:
    told: list[tuple[str, int, int]] = []
    cells = [CellRequest(crystal(name), (9, 9, 9)) for name in "ab"]
    list(
        predict_densities(
            Recorder(), cells, progress=lambda cell, n, of: told.append((cell.crystal.name, n, of))
        )
    )
    assert told[0] == ("a", 7, 8)
    assert told[-1] == ("b", 8, 8)
    assert ("a", 8, 8) in told


def test_shapes_follow_the_atoms() -> None:
    """Where the cube does not fit a row, the fallback shape is asked for."""
    room = tokenizer(5).length(1)
    small = tokenizer(5, pad_to=room, fallback_shapes=[(4, 5, 5)])
    predictor = Recorder(small)
    cells = [CellRequest(crystal("few", [14]), (9, 9, 9)), CellRequest(crystal("many", [14] * 3), (9, 9, 9))]
    outcomes = [done(o) for o in predict_densities(predictor, cells)]
    shapes = {request.patch_shape for batch in predictor.batches for request in batch}
    assert shapes == {(5, 5, 5), (4, 5, 5)}
    for cell, outcome in zip(cells, outcomes, strict=True):
        np.testing.assert_array_equal(outcome.material.density, whole(cell))


# --- electrons ----------------------------------------------------------------------------------------------


@given(seed=seeds, unit=st.sampled_from(["lmq-16k", "l1-1k-e_per_A3"]), count=st.floats(0.5, 300.0))
@settings(max_examples=25)
def test_normalised_densities_hold_their_electrons(seed: int, unit: str, count: float) -> None:
    predictor = Recorder(PatchTokenizer("v3", unit, patch_size=4), offset=float(seed % 97), spread=True)
    raw = predict_density(predictor, crystal(), (6, 7, 5))
    scaled = predict_density(predictor, crystal(), (6, 7, 5), normalize=True, electrons=count)
    assert scaled.material.n_electrons == pytest.approx(count, rel=1e-6)
    assert scaled.electrons.final == scaled.material.n_electrons
    assert scaled.electrons.expected == count
    assert scaled.electrons.raw == pytest.approx(raw.electrons.final, rel=1e-12)
    factor = count / raw.electrons.raw
    np.testing.assert_allclose(scaled.material.density, raw.material.density * factor, rtol=1e-6)
    assert scaled.spread is not None
    assert raw.spread is not None
    np.testing.assert_allclose(scaled.spread, raw.spread * factor, rtol=1e-6)


def test_the_valence_of_the_training_data_is_the_count() -> None:
    outcome = predict_density(Recorder(), crystal(numbers=(14, 8, 8)), (6, 6, 6), normalize=True)
    assert outcome.electrons.expected == 16.0
    assert outcome.electrons.final == pytest.approx(16.0)
    plain = predict_density(Recorder(), crystal(numbers=(14, 8, 8)), (6, 6, 6))
    assert plain.electrons.expected == 16.0
    assert plain.electrons.final == plain.electrons.raw
    assert valence_count(Recorder(), CellRequest(crystal(numbers=(14, 26)), (6, 6, 6))) is None
    with pytest.raises(ValueError, match=r"x: the valence electrons of Fe are not known.*give the number"):
        predict_density(Recorder(), crystal(numbers=(14, 26)), (6, 6, 6), normalize=True)
    predict_density(Recorder(), crystal(numbers=(14, 26)), (6, 6, 6), normalize=True, electrons=12)
    with pytest.raises(ValueError, match="above 0"):
        predict_density(Recorder(), crystal(), (6, 6, 6), normalize=True, electrons=-1)
    with pytest.raises(ValueError, match=r"integrates to -.* and cannot be scaled"):
        predict_density(Recorder(offset=-1e5), crystal(), (6, 6, 6), normalize=True)


# --- seams --------------------------------------------------------------------------------------------------


def test_seams_that_can_be_seen_are_measured() -> None:
    class Stepped(PromoleculePredictor):
        def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
            guesses = super().predict(requests)
            return [
                PatchPrediction(guess.density * np.float32(1.0 + 0.05 * (sum(request.offset) % 3)))
                for guess, request in zip(guesses, requests, strict=True)
            ]

    smooth = PromoleculePredictor(tokenizer(8), PROMOLECULE)
    rough = Stepped(tokenizer(8), PROMOLECULE)
    seams = predict_density(smooth, crystal(), (24, 24, 24)).seams
    assert seams.roughness == pytest.approx(1.0, abs=0.4)
    assert seams.disagreement is None
    stepped = predict_density(rough, crystal(), (24, 25, 26)).seams
    assert stepped.roughness is not None
    assert stepped.roughness > 2.0
    blended = predict_density(rough, crystal(), (24, 25, 26), overlap=4).seams
    assert blended.roughness is not None
    assert blended.roughness < stepped.roughness
    assert blended.disagreement is not None
    assert 0.005 < blended.disagreement < 0.05
    one_patch = predict_density(smooth, crystal(), (6, 6, 6)).seams
    assert one_patch.roughness is None


# --- the two predictors, on real densities ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qe-0039", "qe-0934", "qev-0001"])
@pytest.mark.parametrize("overlap", [0, 5])
def test_the_promolecule_in_patches_is_the_promolecule(name: str, overlap: int) -> None:
    predictor = open_predictor("promolecule")
    m = tomat.read(LABEL / f"{name}.zarr").in_unit(predictor.tokenizer.unit)
    outcome = tomat.predict(predictor, m, like=m, overlap=overlap)
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
        tomat.predict(predictor, crystal("argon", [18]), grid=(6, 6, 6))
    assert tomat.predict("promolecule:slater", crystal("argon", [18]), grid=(6, 6, 6)).n_patches == 1


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
        tomat.predict(predictor, crystal("x", [14]), grid=(6, 6, 6), mode="k_pass", samples=4)


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
        "runs/x", crystal(), grid=(5, 5, 5), mode="k_pass", passes=3, batch_size=2, seed=5
    )
    assert outcome.n_patches == 1
    assert given == {
        "checkpoint": "runs/x",
        "mode": "k_pass",
        "passes": 3,
        "batch_size": 2,
        "seed": 5,
    }


# --- the command line ---------------------------------------------------------------------------------------


def predict(*arguments: object) -> Result:
    return tomat_main("predict", "promolecule", *arguments)


ZARR = ("--format", "zarr")


def test_the_command_predicts_what_the_promolecule_is(tmp_path: Path) -> None:
    """The error of what is written is that of the promolecule, for every format."""
    names = ["qe-0039", "qe-0934"]
    paths = [LABEL / f"{name}.zarr" for name in names]
    for name, path in zip(names, paths, strict=True):
        out = tmp_path / name
        formats = ("zarr", "chgcar.gz", "cube", "png")
        options = [word for kind in formats for word in ("--format", kind)]
        result = predict(path, "-o", out, "--truth", path, *options, "--json")
        assert result.code == 0, result.err
        (record,) = result.json["predicted"]
        m = tomat.read(path)
        expected = nmae(PROMOLECULE.predict(m), m.density)
        assert record["metrics"]["nmae"] == pytest.approx(expected, rel=1e-6)
        assert record["made_from"]["grid"] == list(m.grid_shape)
        files = [f"{name}{suffix}" for suffix in (".zarr", ".CHGCAR.gz", ".cube", ".png")]
        assert record["files"] == files
        assert sorted(file.name for file in out.iterdir()) == sorted([*files, f"{name}.json"])
        for file in files[:3]:
            predicted = tomat.read(out / file).in_unit("chgcar").density
            assert nmae(predicted, m.density) == pytest.approx(expected, rel=1e-4)
        assert (out / files[3]).read_bytes().startswith(b"\x89PNG")
        assert json.loads((out / f"{name}.json").read_text()) == record


def test_what_is_printed(tmp_path: Path) -> None:
    result = predict(SILICON, "-o", tmp_path, "--normalize", "--format", "chgcar")
    assert result.code == 0, result.err
    for words in (
        "qe-0039: grid 40 x 40 x 40, 27 patches one_pass",
        "8.0000 electrons",
        "seams",
        "1 predicted",
        "note: CHGCAR holds no PAW augmentation occupancies",
        "ICHARG = 1",
    ):
        assert words in result.out, result.out
    again = predict(SILICON, "-o", tmp_path, "--normalize", "--format", "chgcar")
    assert "0 predicted, 1 there already" in again.out
    assert "note" not in again.out
    assert predict(SILICON, "-o", tmp_path, "--normalize", *ZARR, "--quiet").out == ""


def test_electrons_and_valence(tmp_path: Path) -> None:
    given = predict(SILICON, "-o", tmp_path / "a", *ZARR, "--electrons", "28", "--json")
    (record,) = given.json["predicted"]
    assert record["electrons"]["final"] == pytest.approx(28.0)
    assert record["electrons"]["raw"] == pytest.approx(8.0, rel=1e-3)
    zinc = LABEL / "qe-0954.zarr"
    counted = predict(zinc, "-o", tmp_path / "b", *ZARR, "--valence", "slater", "--json")
    (record,) = counted.json["predicted"]
    expected = Promolecule.load("slater").count_electrons(tomat.read(zinc).atomic_numbers)
    assert record["electrons"]["final"] == pytest.approx(expected)
    both = predict(SILICON, zinc, "-o", tmp_path / "c", "--electrons", "28")
    assert both.code == 1
    assert "one number of electrons is given for 2 structures" in both.err


def test_failures_are_counted_and_named_and_the_rest_is_made(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.vasp").write_text("nothing")
    (tmp_path / "in" / "argon.vasp").write_text("Ar\n4.0\n1 0 0\n0 1 0\n0 0 1\nAr\n1\nDirect\n0 0 0\n")
    (tmp_path / "in" / "huge.vasp").write_text("He\n400\n1 0 0\n0 1 0\n0 0 1\nHe\n1\nDirect\n0 0 0\n")
    (tmp_path / "in" / "si.zarr").symlink_to(SILICON)
    result = predict(tmp_path / "in", "-o", tmp_path / "out", *ZARR)
    assert result.code == 1
    for words in (
        "broken.vasp: no crystal could be read",
        "failed: argon: ",
        "no radial function for Ar",
        "failed: huge",
    ):
        assert words in result.err, result.err
    assert "1 predicted, 3 failed" in result.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["si.json", "si.zarr"]
    told = predict(tmp_path / "in", "-o", tmp_path / "out", *ZARR, "--json").json
    assert sorted(failure["name"] for failure in told["failed"]) == ["argon", "broken", "huge"]
    assert told["failed"][0]["path"].startswith(str(tmp_path))
    assert len(told["skipped"]) == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["none.cif", "-o", "{out}"], "none.cif: no such file"),
        ([SILICON, "-o", "{out}", "--grid", "5,5"], "grid"),
        ([SILICON, "-o", "{out}", "--grid", "5,5,5", "--spacing", "1"], "both set the grid"),
        ([SILICON, "-o", "{out}", "--format", "hdf5"], "format 'hdf5'"),
        ([SILICON, "-o", "{out}", "--format", "png.gz"], "format 'png.gz'"),
        ([SILICON, "-o", "{out}", "--radices", "2,x"], "radices"),
        ([SILICON, "-o", "{out}", "--overlap", "19"], "overlap = 19"),
        ([SILICON, "-o", "{out}", "--mode", "k_pass"], "mode = k_pass: a promolecule has no such option"),
        ([SILICON, SILICON, "-o", "{out}"], "both have the name qe-0039"),
        ([SILICON, "-o", "{out}", "--truth", SILICON, "--grid", "5,5,5"], "grid"),
        ([SILICON, "-o", "{out}", "--augmentation", SILICON], ""),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, arguments: list[Any], match: str) -> None:
    result = predict(*[tmp_path / "out" if word == "{out}" else word for word in arguments], *ZARR)
    assert result.code == 1
    assert match in result.err
    assert "Traceback" not in result.err


# --- going on -----------------------------------------------------------------------------------------------


def test_other_options_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(SILICON, "-o", out, *ZARR).code == 0
    first = (out / "qe-0039.json").read_bytes()
    other = predict(SILICON, "-o", out, *ZARR, "--overlap", "3")
    assert other.code == 1
    assert "overlap was 0 and is 3" in other.err
    assert "--overwrite" in other.err
    assert (out / "qe-0039.json").read_bytes() == first
    changed = predict(SILICON, "-o", out, *ZARR, "--overlap", "3", "--overwrite", "--json")
    assert len(changed.json["predicted"]) == 1
    # Options that change no number leave what is there.
    assert (
        len(predict(SILICON, "-o", out, *ZARR, "--overlap", "3", "--overwrite", "--json").json["skipped"])
        == 1
    )
    for file in (out / "qe-0039.zarr").rglob("*"):
        if file.is_file():
            file.unlink()
    (out / "qe-0039.json").write_text("{")
    damaged = predict(SILICON, "-o", out, *ZARR, "--overlap", "3")
    assert "qe-0039.json: damaged" in damaged.err


def test_a_missing_file_is_made_again(tmp_path: Path) -> None:
    both = (*ZARR, "--format", "cube")
    assert predict(SILICON, "-o", tmp_path, *ZARR).code == 0
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["predicted"]) == 1
    (tmp_path / "qe-0039.cube").unlink()
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["predicted"]) == 1
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["skipped"]) == 1


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed between and inside writes: what has a record is whole, and the second run makes the rest."""
    out = tmp_path / "out"
    slow = (
        "import time; from dataclasses import replace; from tomat.formats import FORMATS as F; f = F['chgcar']; "
        "F['chgcar'] = replace(f, encode=lambda *a: (time.sleep(0.1), f.encode(*a))[1])"
    )
    program = f"{slow}\nfrom tomat.cli import main\nmain()"
    arguments = [
        *("predict", "promolecule", str(LABEL), "-o", str(out), "--format", "zarr", "--format", "chgcar"),
        *("--spacing", "0.3"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(out.glob("*.json"))) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    finished = {path.stem: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert 3 <= len(finished) < len(list(LABEL.iterdir()))
    for name in finished:
        assert tomat.read(out / f"{name}.zarr").grid_shape == tomat.read(out / f"{name}.CHGCAR").grid_shape
    result = tomat_main(*arguments, "--json")
    assert result.code == 0, result.err
    assert {record["name"] for record in result.json["skipped"]} == set(finished)
    assert len(result.json["predicted"]) + len(finished) == len(list(LABEL.iterdir()))
    assert {name: (out / f"{name}.json").stat().st_mtime_ns for name in finished} == finished


def test_a_spread_is_written_beside_the_density(tmp_path: Path) -> None:
    from tomat.prediction.run import RunOptions, predict_files

    predictor = Recorder(spread=True)
    summary = predict_files(
        predictor, [str(SILICON)], tmp_path, (".zarr",), RunOptions(grid=(6, 7, 8), normalize=True)
    )
    (record,) = summary.predicted
    assert record["files"] == ["qe-0039.zarr", "qe-0039.spread.zarr"]
    density, spread = (tomat.read(tmp_path / name) for name in record["files"])
    np.testing.assert_allclose(spread.density, density.density / 10, rtol=1e-6)
    assert density.n_electrons == pytest.approx(8.0)
    # Another predictor is another prediction.
    again = predict_files(
        replace(predictor, offset=1.0),
        [str(SILICON)],
        tmp_path,
        (".zarr",),
        RunOptions(grid=(6, 7, 8), normalize=True),
    )
    assert "predicted with other options (predictor was {'recorder': 0.0}" in again.failed[0].error


def test_occupancies_of_another_file(tmp_path: Path, data: Path) -> None:
    lithium = data / "chgcar" / "vasp-pmg-Li-nospin.CHGCAR.gz"
    result = predict(
        lithium, "-o", tmp_path, "--format", "chgcar", "--like", lithium, "--augmentation", lithium
    )
    assert result.code == 0, result.err
    assert "note" not in result.out
    assert tomat.read(tmp_path / "vasp-pmg-Li-nospin.CHGCAR").source["has_augmentation"]
