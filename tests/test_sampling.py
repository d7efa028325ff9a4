"""The sampler and the coverage counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import oracle
import strategies
import tomat

U64 = st.integers(0, 2**64 - 1)
AXES = st.integers(1, 1023)


@given(st.tuples(AXES, AXES, AXES), st.integers(0, 20), U64, st.text(max_size=30), U64)
def test_offsets_equal_the_oracle(grid: oracle.Shape, n: int, seed: int, task_id: str, epoch: int) -> None:
    got = tomat.sample_offsets(grid, n, seed=seed, task_id=task_id, epoch=epoch)
    assert got.dtype == np.int32
    assert got.shape == (n, 3)
    np.testing.assert_array_equal(
        got, oracle.sample_offsets(grid, n, seed=seed, task_id=task_id, epoch=epoch)
    )
    assert np.all((got >= 0) & (got < grid))


@given(st.tuples(AXES, AXES, AXES), st.integers(0, 30), st.integers(0, 30), U64)
def test_the_first_patches_do_not_depend_on_how_many(
    grid: oracle.Shape, m: int, more: int, seed: int
) -> None:
    few = tomat.sample_offsets(grid, m, seed=seed, task_id="mp-1")
    many = tomat.sample_offsets(grid, m + more, seed=seed, task_id="mp-1")
    np.testing.assert_array_equal(few, many[:m])


def test_epoch_defaults_to_zero_and_everything_matters() -> None:
    grid = (97, 101, 103)
    base = tomat.sample_offsets(grid, 8, seed=1, task_id="mp-1")
    np.testing.assert_array_equal(base, tomat.sample_offsets(grid, 8, seed=1, task_id="mp-1", epoch=0))
    for seed, task_id, epoch in ((2, "mp-1", 0), (1, "mp-2", 0), (1, "mp-1", 1)):
        assert not np.array_equal(
            base, tomat.sample_offsets(grid, 8, seed=seed, task_id=task_id, epoch=epoch)
        )


def test_origins_are_uniform_and_independent() -> None:
    """Chi-square over all 105 origins together, so that a dependence between the axes would show as well."""
    grid = (5, 7, 3)
    for seed in range(3):
        offsets = tomat.sample_offsets(grid, 21_000, seed=seed, task_id="mp-149")
        counts = np.bincount(np.ravel_multi_index(offsets.T, grid), minlength=105)
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("grid", [(0, 3, 3), (3, 3), (3, -1, 3)])
def test_grids_that_are_none(grid: Any) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)):
        tomat.sample_offsets(grid, 3, seed=0, task_id="x")


# --- coverage -----------------------------------------------------------------------------------------------


@given(strategies.grids(), strategies.shapes(), st.integers(0, 12), strategies.seeds)
def test_coverage_equals_brute_force(grid: oracle.Shape, patch: oracle.Shape, n: int, seed: int) -> None:
    offsets = tomat.sample_offsets(grid, n, seed=seed, task_id="x")
    got = tomat.coverage_histogram(grid, patch, offsets)
    expected = oracle.coverage_histogram(grid, patch, offsets.tolist())
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)
    assert got.sum() == np.prod(grid)
    assert np.dot(np.arange(len(got)), got) == n * np.prod(patch)
    assert got[-1] > 0


def test_a_patch_that_wraps_counts_every_time() -> None:
    h = tomat.coverage_histogram((2, 1, 3), (5, 1, 3), np.array([[1, 0, 2]]))
    assert h.tolist() == [0, 0, 3, 3]
    assert tomat.coverage_histogram((2, 1, 3), (1, 1, 1), np.zeros((0, 3), dtype=np.int32)).tolist() == [6]


def test_a_cover_without_overlap() -> None:
    offsets = np.array([[x, y, z] for x in (0, 4) for y in (0, 4) for z in (0, 4)])
    assert tomat.coverage_histogram((8, 8, 8), (4, 4, 4), offsets).tolist() == [0, 512]


def test_coverage_of_a_large_grid() -> None:
    """Against an independent count by differences along each axis."""
    grid, patch = (60, 64, 72), (19, 19, 19)
    offsets = tomat.sample_offsets(grid, 64, seed=3, task_id="big")
    count = np.zeros(grid, dtype=np.int64)
    for offset in offsets:
        axes = [(np.arange(p) + o) % n for p, o, n in zip(patch, offset, grid, strict=True)]
        np.add.at(count, np.ix_(*axes), 1)
    np.testing.assert_array_equal(tomat.coverage_histogram(grid, patch, offsets), np.bincount(count.ravel()))


@pytest.mark.parametrize("offsets", [[[2, 0, 0]], [[-1, 0, 0]], [[0, 0]]])
def test_offsets_outside_the_grid_are_refused(offsets: list[list[int]]) -> None:
    with pytest.raises((ValueError, TypeError)):
        tomat.coverage_histogram((2, 2, 2), (1, 1, 1), np.array(offsets))
