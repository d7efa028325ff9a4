"""Whole densities from predictors of patches: batches, what predictors see and give, electrons, seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from recorder import Recorder, crystal, tokenizer
from strategies import grids, seeds
from tomat.prediction.assemble import (
    CellRequest,
    Failure,
    Prediction,
    predict_densities,
    predict_density,
    valence_count,
)
from tomat.prediction.options import Mode
from tomat.prediction.predictor import (
    PatchPrediction,
    PatchRequest,
    PromoleculePredictor,
    TrainingFacts,
)
from tomat.promolecule import Promolecule
from tomat.tokenizer import PatchTokenizer

PROMOLECULE = Promolecule.load("qe-sg15")


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


@given(seed=seeds, unit=st.sampled_from(["lmq-16k", "l1-1k-e_per_A3"]), count=st.floats(0.5, 300.0))
@settings(max_examples=25)
def test_voxels_move_with_their_spread_where_electrons_are_kept(seed: int, unit: str, count: float) -> None:
    predictor = Recorder(PatchTokenizer("v3", unit, patch_size=4), offset=float(seed % 97), spread=True)
    raw = predict_density(predictor, crystal(), (6, 7, 5), electrons=count)
    kept = predict_density(replace(predictor, keeps_electrons=True), crystal(), (6, 7, 5), electrons=count)
    assert raw.electrons.final == raw.electrons.raw == kept.electrons.raw
    assert kept.material.n_electrons == pytest.approx(count, rel=1e-5)
    assert kept.electrons.final == kept.material.n_electrons
    assert raw.spread is not None
    moved = kept.material.density.astype(np.float64) - raw.material.density
    np.testing.assert_allclose(moved * raw.spread.sum(), moved.sum() * raw.spread, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(kept.spread, raw.spread)
    # Not known: nothing moves. Without a spread: nothing to move by.
    for other in (
        replace(predictor, keeps_electrons=True, facts=TrainingFacts()),
        replace(predictor, keeps_electrons=True, spread=False),
    ):
        same = predict_density(other, crystal(), (6, 7, 5))
        np.testing.assert_array_equal(same.material.density, raw.material.density)


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
