"""Predictions of a field model are those of the crystal, however its cell, axes and atoms are written down."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.crystal import Crystal
from tomat.lm.field.levels import relative
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.field.surroundings import FLOOR
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig, Sampling
from tomat.prediction.predictor import PatchRequest

N_POINTS = 40


@pytest.fixture(scope="module")
def predictor() -> FieldPredictor:
    return tiny_field.untrained()


@pytest.fixture(scope="module")
def crystal() -> Crystal:
    return tiny_field.quartz()


def at(predictor: FieldPredictor, crystal: Crystal, points: np.ndarray) -> np.ndarray:
    """The predicted mean of x at fractional points, and the promolecule there."""
    opened = predictor.trained
    ones = np.ones(len(points), np.float32)
    guess = np.maximum(opened.surroundings.at_points(crystal, points, ones)[:, :, -1, 0].sum(axis=0), FLOOR)
    given = {"guess": guess, "truth": guess, "drawn": ones}
    weights = opened.of_atoms(crystal)
    found = opened.at_points(crystal, weights, points, given, Sampling(), ("mean",))
    return relative(opened.codec, guess, found["mean"])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(5).random((N_POINTS, 3))


@pytest.fixture(scope="module")
def expected(predictor: FieldPredictor, crystal: Crystal, points: np.ndarray) -> np.ndarray:
    found = at(predictor, crystal, points)
    assert found.std() > 0.01  # not the same everywhere
    return found


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=3e-4, atol=3e-5)


def test_a_translation_off_the_grid_moves_the_density(
    predictor: FieldPredictor, crystal: Crystal, points: np.ndarray, expected: np.ndarray
) -> None:
    shift = np.array([0.1234567, 0.345678, 0.987654])
    moved = Crystal.of(crystal.lattice, crystal.atomic_numbers, (crystal.frac_coords + shift) % 1)
    close(at(predictor, moved, points + shift), expected)


@pytest.mark.parametrize("improper", [False, True])
def test_a_rotation_or_reflection_turns_the_density(
    predictor: FieldPredictor, crystal: Crystal, points: np.ndarray, expected: np.ndarray, improper: bool
) -> None:
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn)) * (-1 if improper else 1)
    turned = Crystal.of(crystal.lattice @ turn, crystal.atomic_numbers, crystal.frac_coords)
    close(at(predictor, turned, points), expected)


def test_the_order_of_atoms_does_not_matter(
    predictor: FieldPredictor, crystal: Crystal, points: np.ndarray, expected: np.ndarray
) -> None:
    order = [2, 0, 3, 1]
    close(
        at(
            predictor,
            Crystal.of(crystal.lattice, crystal.atomic_numbers[order], crystal.frac_coords[order]),
            points,
        ),
        expected,
    )


def test_another_cell_of_the_same_lattice_has_the_same_density(
    predictor: FieldPredictor, crystal: Crystal, points: np.ndarray, expected: np.ndarray
) -> None:
    change = np.array([[1, 0, 0], [1, 1, 0], [-1, 1, 1]])
    back = np.linalg.inv(change)
    other = Crystal.of(change @ crystal.lattice, crystal.atomic_numbers, crystal.frac_coords @ back % 1)
    close(at(predictor, other, points @ back), expected)


def test_a_supercell_has_the_density_of_its_cells(
    predictor: FieldPredictor, crystal: Crystal, points: np.ndarray, expected: np.ndarray
) -> None:
    half = crystal.frac_coords * [0.5, 1, 1]
    double = Crystal.of(
        crystal.lattice * [[2], [1], [1]],
        np.tile(crystal.atomic_numbers, 2),
        np.concatenate([half, half + np.array([0.5, 0, 0])]),
    )
    for image in (0.0, 0.5):
        close(at(predictor, double, points * [0.5, 1, 1] + np.array([image, 0, 0])), expected)


def test_the_start_is_the_promolecule(crystal: Crystal) -> None:
    start = tiny_field.untrained(moved=0.0)
    start = FieldPredictor(start.trained, DecodingConfig())
    grid = (12, 14, 16)
    found = predict_density(start, crystal, grid)
    guess = start.facts.starting_density(crystal, grid, "e_per_A3")
    np.testing.assert_array_equal(found.material.density, np.maximum(guess, np.float32(1e-6)))
    assert found.spread is not None
    assert (found.spread > 0).all()


@pytest.mark.parametrize(
    ("offset", "shape"), [((0, 0, 0), (12, 14, 16)), ((7, 3, 11), (5, 9, 4)), ((1, 13, 2), (13, 3, 20))]
)
def test_a_voxel_does_not_depend_on_the_patch_it_is_asked_in(
    predictor: FieldPredictor, crystal: Crystal, offset: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    grid = (12, 14, 16)
    whole = predict_density(predictor, crystal, grid).material.density
    guess = predictor.facts.starting_density(crystal, grid, "e_per_A3")
    where = np.ix_(*((o + np.arange(s)) % n for o, s, n in zip(offset, shape, grid, strict=True)))
    (found,) = predictor.predict([PatchRequest(crystal, grid, offset, shape, guess[where])])
    np.testing.assert_allclose(found.density, whole[where], rtol=1e-5, atol=1e-7)
    assert found.expected_error is None


def test_patches_divide_the_grid_and_overlaps_change_nothing(
    predictor: FieldPredictor, crystal: Crystal
) -> None:
    assert predictor.patch_shape(4, (40, 32, 33), 0) == (20, 32, 17)
    whole = predict_density(predictor, crystal, (36, 10, 12))
    assert whole.n_patches == 2
    blended = predict_density(predictor, crystal, (36, 10, 12), overlap=4)
    np.testing.assert_allclose(blended.material.density, whole.material.density, rtol=1e-5, atol=1e-7)


def test_other_modes_are_refused(predictor: FieldPredictor) -> None:
    with pytest.raises(ValueError, match="predicts in mode one_pass, not k_pass"):
        predictor.in_mode("k_pass")


def test_the_truth_changes_the_expected_error_alone(
    predictor: FieldPredictor, crystal: Crystal, tmp_path: Path
) -> None:
    del tmp_path
    grid = (8, 8, 8)
    guess = predictor.facts.starting_density(crystal, grid, "e_per_A3")
    truth = guess * 1.1
    predictor = FieldPredictor(predictor.trained, replace(predictor.decoding, estimate="median"))
    untold, told = predictor.predict(
        [PatchRequest(crystal, grid, (0, 0, 0), grid, guess, given) for given in (None, truth)]
    )
    np.testing.assert_array_equal(untold.density, told.density)
    assert told.expected_error is not None
    assert told.pit is not None
    assert untold.pit is None
    # What lies above the median is above half of the distribution.
    assert (told.pit[truth > told.density] >= 0.5 - 1e-5).all()
    assert (told.expected_error >= np.abs(told.density - truth) * (1 - 1e-5) - 1e-6).all()
