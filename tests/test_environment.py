"""The sums over surroundings as Python sees them; their mathematics is tested in the core."""

from __future__ import annotations

import numpy as np
import pytest

from tomat import _core

BASIS = _core.EnvironmentBasis(4.0, 0.5, 10, 3, 0.3, 1.5)
CRYSTAL = (np.diag([3.0, 3.5, 4.0]), [14, 8], np.array([[0.0, 0.0, 0.0], [0.5, 0.4, 0.6]]))
POINTS = np.array([[0.1, 0.2, 0.3], [1.7, -0.4, 0.5], [0.5, 0.4, 0.6]])
SLATER = _core.Promolecule.analytic("slater", {8: 6.0, 14: 4.0})
FACTORS = np.array([1.0, 2.0, 0.5], np.float32)


def test_contracted_sums_are_the_sums_contracted() -> None:
    channels = [5, 3, 0, 9]
    weights = np.random.default_rng(0).normal(size=(2, 11, 17)).astype(np.float32)
    scales = [0.8, 1.4]
    sums = BASIS.by_site(*CRYSTAL, POINTS, SLATER, FACTORS, scales)
    assert sums.shape == (2, 3, 11, 16)
    starts = np.concatenate(([0], np.cumsum(channels)))
    expected = [
        np.einsum(
            "spnm,snk->pmk", sums[..., n * n : (n + 1) ** 2], weights[..., starts[n] : starts[n + 1]]
        ).reshape(3, -1)
        for n in range(4)
    ]
    found = BASIS.contracted(*CRYSTAL, POINTS, weights, channels, SLATER, FACTORS, scales)
    np.testing.assert_allclose(found, np.concatenate(expected, 1), atol=1e-4)


def test_no_points() -> None:
    nothing = np.zeros((0, 3))
    assert BASIS.by_site(*CRYSTAL, nothing).shape == (2, 0, 10, 16)
    weights = np.zeros((2, 10, 4), np.float32)
    assert BASIS.contracted(*CRYSTAL, nothing, weights, [1, 1, 1, 1]).shape == (0, 16)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="promolecule and factors, or neither"):
        BASIS.by_site(*CRYSTAL, POINTS, SLATER)
    with pytest.raises(ValueError, match="2 factors for 3 points"):
        BASIS.by_site(*CRYSTAL, POINTS, SLATER, FACTORS[:2])
    with pytest.raises(ValueError, match="1 scales for 2 atoms"):
        BASIS.by_site(*CRYSTAL, POINTS, scales=[1.0])
    with pytest.raises(ValueError, match="the scale of atom 1 is -1"):
        BASIS.by_site(*CRYSTAL, POINTS, scales=[1.0, -1.0])
    with pytest.raises(ValueError, match="point 1 is"):
        BASIS.by_site(*CRYSTAL, np.array([[0.0, 0.0, 0.0], [np.nan, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="weights for channels"):
        BASIS.contracted(*CRYSTAL, POINTS, np.zeros((2, 10, 3), np.float32), [1, 1, 1, 1])
