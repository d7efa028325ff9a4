"""Predictions of a brick model: the start, the cover, and what they do and do not depend on."""

import numpy as np
import pytest

pytest.importorskip("levanter")
import dataclasses

import tiny_brick
import tiny_field
from tomat.crystal import Crystal
from tomat.lm.brick.predictor import BrickPredictor
from tomat.prediction.assemble import predict_density
from tomat.prediction.predictor import PatchRequest

GRID, PATCH = (12, 14, 16), (8, 8, 8)


@pytest.fixture(scope="module")
def predictor() -> BrickPredictor:
    return tiny_brick.untrained()


@pytest.fixture(scope="module")
def crystal() -> Crystal:
    return tiny_field.quartz()


def patch(
    predictor: BrickPredictor, crystal: Crystal, grid: tuple[int, int, int], offset: tuple[int, int, int]
) -> np.ndarray:
    guess = predictor.facts.starting_density(crystal, grid, "e_per_A3")
    where = np.ix_(*((o + np.arange(s)) % n for o, s, n in zip(offset, PATCH, grid, strict=True)))
    (found,) = predictor.predict([PatchRequest(crystal, grid, offset, PATCH, guess[where])])
    assert found.spread is not None
    assert (found.spread > 0).all()
    return (found.density - guess[where]) / predictor.codec.scale(guess[where])


@pytest.fixture(scope="module")
def expected(predictor: BrickPredictor, crystal: Crystal) -> np.ndarray:
    found = patch(predictor, crystal, GRID, (7, 3, 11))
    assert found.std() > 0.01  # not the same everywhere
    return found


@pytest.mark.parametrize("field", [True, False])
def test_the_start_is_the_starting_density_at_every_voxel(crystal: Crystal, field: bool) -> None:
    start = tiny_brick.untrained(dataclasses.replace(tiny_brick.SHAPE, field=field), moved=0.0)
    found = predict_density(start, crystal, GRID)
    guess = start.facts.starting_density(crystal, GRID, "e_per_A3")
    np.testing.assert_array_equal(found.material.density, np.maximum(guess, np.float32(1e-6)))
    # Every voxel has one owner among 2 x 2 x 2 patches.
    assert found.n_patches == 8
    np.testing.assert_array_equal(
        sum(found.cover.weights(i).sum() for i in range(8)), np.prod(np.array(GRID, float))
    )


def test_a_shift_along_the_grid_moves_the_density_with_the_patch(
    predictor: BrickPredictor, crystal: Crystal, expected: np.ndarray
) -> None:
    moved = Crystal.of(
        crystal.lattice, crystal.atomic_numbers, (crystal.frac_coords + np.array([5, 2, 9]) / GRID) % 1
    )
    np.testing.assert_allclose(patch(predictor, moved, GRID, (0, 5, 4)), expected, rtol=2e-3, atol=2e-3)


def test_a_supercell_has_the_patches_of_its_cells(
    predictor: BrickPredictor, crystal: Crystal, expected: np.ndarray
) -> None:
    half = crystal.frac_coords * [0.5, 1, 1]
    double = Crystal.of(
        crystal.lattice * [[2], [1], [1]],
        np.tile(crystal.atomic_numbers, 2),
        np.concatenate([half, half + np.array([0.5, 0, 0])]),
    )
    found = patch(predictor, double, (24, 14, 16), (19, 3, 11))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_patches_of_several_crystals_are_predicted_in_order(
    predictor: BrickPredictor, crystal: Crystal, expected: np.ndarray
) -> None:
    other = Crystal.of(crystal.lattice * 1.1, crystal.atomic_numbers, crystal.frac_coords)
    requests = []
    for of, offset in ((other, (0, 0, 0)), (crystal, (7, 3, 11)), (other, (4, 4, 4))):
        guess = predictor.facts.starting_density(of, GRID, "e_per_A3")
        where = np.ix_(*((o + np.arange(8)) % n for o, n in zip(offset, GRID, strict=True)))
        requests.append(PatchRequest(of, GRID, offset, PATCH, guess[where], guess[where] * 1.1))
    found = predictor.predict(requests)
    start = requests[1].guess
    assert start is not None
    x = (found[1].density - start) / predictor.codec.scale(start)
    np.testing.assert_allclose(x, expected, rtol=2e-3, atol=2e-3)
    assert found[1].pit is not None
    assert found[1].expected_error is not None
    assert ((found[1].pit >= 0) & (found[1].pit <= 1)).all()


def test_other_shapes_are_refused(predictor: BrickPredictor, crystal: Crystal) -> None:
    with pytest.raises(ValueError, match="a patch of shape"):
        predictor.predict([PatchRequest(crystal, GRID, (0, 0, 0), (4, 8, 8), np.ones((4, 8, 8), np.float32))])
