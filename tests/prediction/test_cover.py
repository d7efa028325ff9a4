"""Covers of the cell: every voxel exactly once, blended weights that sum to one, whole densities back from patches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies import grids, seeds, shapes
from tomat.prediction.cover import WINDOWS, Assembly, Cover, Window, check_window, cover
from tomat.prediction.grid import (
    DEFAULT_SPACING,
    MAX_AXIS,
    check_grid,
    friendly_sizes,
    grid_for,
    parse_grid,
)


@st.composite
def covers(draw: st.DrawFn) -> Cover:
    """Covers of grids that patches do not divide, shorter and longer than patches, with and without overlap."""
    patch = draw(shapes(9))
    return cover(draw(grids(23)), patch, draw(st.integers(0, min(patch) - 1)), draw(st.sampled_from(WINDOWS)))


def density_of(plan: Cover, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    # Nine orders of magnitude and both signs.
    values = rng.choice([-1.0, 1.0], plan.grid_shape) * 10.0 ** rng.uniform(-5, 4, plan.grid_shape)
    return values.astype(np.float32)


@given(plan=covers())
def test_every_voxel_has_one_owner(plan: Cover) -> None:
    owners = np.zeros(plan.grid_shape, dtype=int)
    for index in range(len(plan)):
        grid, patch = plan.owned(index)
        owners[grid] += 1
        # What the patch holds there is what lies there.
        for axis in range(3):
            np.testing.assert_array_equal(
                plan.points(index)[axis][patch[axis]], np.arange(plan.grid_shape[axis])[grid[axis]]
            )
    np.testing.assert_array_equal(owners, 1)


@given(plan=covers())
def test_weights_sum_to_one_over_patches_and_images(plan: Cover) -> None:
    total = np.zeros(plan.grid_shape)
    for index in range(len(plan)):
        weights = plan.weights(index)
        assert weights.shape == plan.patch_shape
        assert (weights >= 0).all()
        np.add.at(total, np.ix_(*plan.points(index)), weights)
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


@given(plan=covers(), seed=seeds)
def test_the_patches_of_any_density_give_it_back_exactly(plan: Cover, seed: int) -> None:
    density = density_of(plan, seed)
    assembly = Assembly(plan)
    for index in np.random.default_rng(seed).permutation(len(plan)):
        assert not assembly.complete
        assembly.add(int(index), plan.cut(density, int(index)))
    np.testing.assert_array_equal(assembly.density(), density)
    disagreement = assembly.disagreement()
    assert (disagreement is None) == (plan.overlap == 0 or plan.window != "blend")
    assert disagreement is None or disagreement < 1e-6


@given(plan=covers())
def test_offsets_lie_in_the_grid_and_are_as_few_as_can_be(plan: Cover) -> None:
    assert (plan.offsets >= 0).all()
    assert (plan.offsets < np.array(plan.grid_shape)).all()
    needed = [-(-n // (p - plan.overlap)) for n, p in zip(plan.grid_shape, plan.patch_shape, strict=True)]
    assert len(plan) == np.prod(needed) == len(plan.offsets)
    for index, offset in enumerate(plan.offsets):
        np.testing.assert_array_equal([points[0] for points in plan.points(index)], offset)


@given(grid=grids(30), patch=shapes(9), data=st.data())
def test_neighbours_overlap_by_what_was_asked(
    grid: tuple[int, int, int], patch: tuple[int, int, int], data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(1, min(patch))) - 1
    plan = cover(grid, patch, overlap)
    for axis in range(3):
        starts = np.unique(plan.offsets[:, axis])
        if len(starts) > 1:
            steps = np.diff([*starts, starts[0] + grid[axis]])
            assert steps.max() <= patch[axis] - overlap


def test_an_overlapping_patch_fades_smoothly_to_its_faces() -> None:
    plan = cover((60, 60, 60), (19, 19, 19), 7)
    weights = plan.weights(0)[:, 9, 9]
    middle = int(np.argmax(weights))
    assert (np.diff(weights[: middle + 1]) >= -1e-12).all()
    assert (np.diff(weights[middle:]) <= 1e-12).all()
    assert weights[0] < 0.05 * weights.max()
    assert np.abs(np.diff(weights)).max() < 0.25 * weights.max()


def test_an_owned_voxel_is_far_from_the_faces_of_its_patch() -> None:
    plan = cover((30, 30, 30), (19, 19, 19))
    _, patch = plan.owned(0)
    assert patch == (slice(2, 17),) * 3


@given(grid=grids(30), patch=shapes(9), window=st.sampled_from(("middle", "latest")), data=st.data())
def test_a_sliding_window_scores_each_voxel_once_where_it_has_the_most_context(
    grid: tuple[int, int, int], patch: tuple[int, int, int], window: Window, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, min(patch) - 1))
    plan = cover(grid, patch, overlap, window)
    inside = np.stack(np.unravel_index(plan.places(), patch))
    for axis, (n, p) in enumerate(zip(grid, patch, strict=True)):
        before, after = inside[axis].min(), p - 1 - inside[axis].max()
        # Context along an axis: what overlaps, all of it before a voxel or half of it on each side.
        context = p - -(-n // -(-n // (p - overlap)))
        assert (before, after) == (context, 0) if window == "latest" else min(before, after) >= context // 2
        assert context >= overlap or n <= p


def test_a_sliding_window_takes_one_patch_and_blends_none() -> None:
    shape = (24, 24, 24)
    for window, own in (("middle", slice(2, 6)), ("latest", slice(4, 8))):
        plan = cover(shape, (8, 8, 8), 4, check_window(window))
        assembly = Assembly(plan)
        for index in range(len(plan)):
            assembly.add(index, np.full((8, 8, 8), index, dtype=np.float32))
        assert set(np.unique(assembly.density())) == set(range(len(plan)))
        assert plan.owned(0)[1] == (own,) * 3
        assert assembly.disagreement() is None
    with pytest.raises(ValueError, match="window = 'last' is not one of blend, middle, latest"):
        check_window("last")


def test_disagreement_measures_what_patches_disagree_on() -> None:
    plan = cover((20, 20, 20), (8, 8, 8), 4)
    assembly = Assembly(plan)
    for index in range(len(plan)):
        assembly.add(index, np.full((8, 8, 8), 1.0 + 0.1 * (-1) ** index, dtype=np.float32))
    disagreement = assembly.disagreement()
    assert disagreement is not None
    assert 0.01 < disagreement < 0.1


def test_what_does_not_fit_is_refused() -> None:
    plan = cover((5, 6, 7), (4, 4, 4))
    assembly = Assembly(plan)
    patch = np.zeros((4, 4, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="shape"):
        assembly.add(0, np.zeros((4, 4, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        assembly.add(0, np.full((4, 4, 4), np.nan, dtype=np.float32))
    assembly.add(0, patch)
    with pytest.raises(ValueError, match="already added"):
        assembly.add(0, patch)
    with pytest.raises(ValueError, match=r"7 of 8 patches are missing"):
        assembly.density()
    for bad in ((0, 5, 5), (5, 5)):
        with pytest.raises(ValueError, match="three positive numbers"):
            cover(bad, (4, 4, 4))
    with pytest.raises(ValueError, match="overlap = 4"):
        cover((9, 9, 9), (4, 5, 6), 4)


def test_a_million_voxels() -> None:
    """A loop over voxels would be felt here."""
    plan = cover((100, 100, 100), (19, 19, 19), 4)
    density = density_of(plan, 0)
    assembly = Assembly(plan)
    for index in range(len(plan)):
        assembly.add(index, plan.cut(density, index))
    np.testing.assert_array_equal(assembly.density(), density)


# --- grids --------------------------------------------------------------------------------------------------


def test_friendly_sizes() -> None:
    assert friendly_sizes()[:12] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15]
    assert 22 not in friendly_sizes()
    assert {22, 26, 143} <= set(friendly_sizes((2, 3, 5, 7, 11, 13)))
    assert friendly_sizes()[-1] == 1008
    with pytest.raises(ValueError, match="at least 2"):
        friendly_sizes((1, 2))


@given(
    lengths=st.tuples(*[st.floats(1.0, 40.0)] * 3),
    spacing=st.floats(0.05, 0.5),
    tilt=st.floats(-0.4, 0.4),
)
def test_the_nearest_friendly_number_is_taken(
    lengths: tuple[float, float, float], spacing: float, tilt: float
) -> None:
    lattice = np.diag(lengths)
    lattice[1, 0] = tilt * lengths[1]
    sides = np.linalg.norm(lattice, axis=1)
    for n, side in zip(grid_for(lattice, spacing), sides, strict=True):
        assert n in friendly_sizes()
        others = [abs(np.log(size * spacing / side)) for size in friendly_sizes()]
        assert abs(np.log(n * spacing / side)) == pytest.approx(min(others), abs=1e-9)


def test_the_default_spacing_is_that_of_the_real_densities() -> None:
    """Silicon's 40 points, its cell edge 3.867 angstrom."""
    edge = 3.8670884974565167
    assert grid_for(np.eye(3) * edge) == (40, 40, 40)
    assert pytest.approx(edge / 40, rel=0.02) == DEFAULT_SPACING


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_must_be_a_length(spacing: float) -> None:
    with pytest.raises(ValueError, match="spacing"):
        grid_for(np.eye(3) * 4, spacing)


def test_too_many_points_name_the_axis_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"vector b is 150 A long.*at most 1023.*at least 0\.1489 A"):
        grid_for(np.diag([4.0, 150.0, 4.0]), 0.1)
    assert max(grid_for(np.diag([4.0, 150.0, 4.0]), 0.1489)) <= MAX_AXIS


def test_grids_as_text() -> None:
    assert parse_grid("48,50,60") == parse_grid("48x50x60") == (48, 50, 60)
    assert parse_grid("48") == (48, 48, 48)
    for bad in ("48,50", "a,b,c", "0,1,2", "1024", ""):
        with pytest.raises(ValueError, match="grid"):
            parse_grid(bad)
    with pytest.raises(ValueError, match="from 1 to 1023"):
        check_grid((4, 4, 1024))
