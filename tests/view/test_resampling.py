"""Densities on the grid that they are drawn on."""

from __future__ import annotations

import numpy as np
import pytest

from tomat.view.resampling import drawn_shape, resampled


@pytest.mark.parametrize("shape", [(9, 16, 7), (20, 5, 8), (40, 41, 42)])
def test_what_both_grids_hold_is_kept(shape: tuple[int, int, int]) -> None:
    def of(nx: int, ny: int, nz: int) -> np.ndarray:
        x, y, z = np.meshgrid(*[np.arange(n) / n for n in (nx, ny, nz)], indexing="ij")
        return np.asarray(1.5 + np.cos(2 * np.pi * (2 * x - y)) - 0.3 * np.sin(2 * np.pi * (3 * z + x)))

    np.testing.assert_allclose(resampled(of(12, 10, 9), shape), of(*shape), atol=1e-12)


def test_the_mean_is_kept_and_an_equal_grid_changes_nothing() -> None:
    values = np.random.default_rng(0).lognormal(size=(8, 9, 10))
    assert resampled(values, (5, 12, 7)).mean() == pytest.approx(values.mean())
    np.testing.assert_array_equal(resampled(values, (8, 9, 10)), values)


@pytest.mark.parametrize("lengths", [(3.0, 3.0, 3.0), (4.0, 5.0, 30.0), (2.0, 90.0, 95.0)])
def test_pages_stay_small_and_steps_even(lengths: tuple[float, float, float]) -> None:
    shape = drawn_shape(np.diag(lengths))
    assert np.prod(shape) < 1.1 * 40**3
    if max(lengths) < 40:
        steps = np.array(lengths) / shape
        assert steps.max() / steps.min() < 1.1
