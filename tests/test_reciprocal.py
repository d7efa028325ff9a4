"""Potentials and gradients against closed forms and against a sum over wave vectors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomat import reciprocal

SKEW = np.array([[3.0, 0.2, -0.4], [1.1, 4.0, 0.3], [-0.7, 0.9, 5.0]])


def points(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Fractional coordinates (nx, ny, nz, 3)."""
    return np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)


def wave(miller: tuple[int, int, int], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """cos(G r) on the grid."""
    return np.asarray(np.cos(2 * math.pi * (points(shape) @ np.array(miller, dtype=float))))


def wave_vector(miller: tuple[int, int, int], lattice: Any) -> NDArray[np.float64]:
    return np.asarray(2 * math.pi * np.linalg.inv(lattice) @ np.array(miller, dtype=float))


@pytest.mark.parametrize("miller", [(1, 0, 0), (0, 2, 0), (0, 0, 1), (1, -1, 2), (-2, 1, 1)])
@pytest.mark.parametrize("shape", [(8, 9, 10), (7, 12, 9)])
@pytest.mark.parametrize("lattice", [np.diag([3.0, 4.0, 5.0]), SKEW])
def test_a_cosine_wave_in_closed_form(
    miller: tuple[int, int, int], shape: tuple[int, int, int], lattice: NDArray[np.float64]
) -> None:
    """V = 4 pi e^2 A / G^2 cos(G r), and |grad| = A |G| |sin(G r)|: every axis with its own length and points."""
    g = np.linalg.norm(wave_vector(miller, lattice))
    density = 0.3 * wave(miller, shape) + 2.0
    potential = 4 * math.pi * 14.3996454784 * (density - 2.0) / g**2
    np.testing.assert_allclose(reciprocal.hartree_potential(density, lattice), potential, atol=1e-12)
    slope = 0.3 * g * np.sqrt(1 - np.minimum(1.0, wave(miller, shape) ** 2))
    np.testing.assert_allclose(reciprocal.gradient_norm(density, lattice), slope, atol=2e-7)


def slow_potential(density: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every component by its sum, with the shortest of its wave vectors."""
    shape: Any = density.shape
    at = points(shape)
    found = np.zeros(shape, dtype=complex)
    for k in itertools.product(*(range(n) for n in shape)):
        signed = [
            [f] if 2 * f < n else [f - n] if 2 * f > n else [f, -f] for f, n in zip(k, shape, strict=True)
        ]
        squared = min(float(np.sum(wave_vector(m, lattice) ** 2)) for m in itertools.product(*signed))
        if squared > 0:
            phase = np.exp(2j * math.pi * (at @ np.array(k, dtype=float)))
            found += (density * phase.conj()).mean() / squared * phase
    return np.asarray(4 * math.pi * reciprocal.COULOMB * found.real)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 2, 6), (3, 4, 1), (2, 2, 2), (5, 3, 4)])
def test_the_potential_is_the_slow_sum(shape: tuple[int, int, int]) -> None:
    density = np.random.default_rng(0).uniform(-1, 1, shape)
    np.testing.assert_allclose(
        reciprocal.hartree_potential(density, SKEW), slow_potential(density, SKEW), atol=1e-12
    )


@given(st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3), st.integers(0, 2**32 - 1))
def test_order_and_direction_of_the_axes_do_not_matter(order: list[int], mirrored: Any, seed: int) -> None:
    """Noise fills the highest components of even axes too, where the sign of a frequency is open."""
    density = np.random.default_rng(seed).uniform(-1, 1, (4, 5, 6))
    signs = np.where(mirrored, -1.0, 1.0)

    def turned(values: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis in np.flatnonzero(mirrored).tolist():
            values = np.roll(np.flip(values, axis), 1, axis)  # point 0 stays
        return values.transpose(order)

    lattice = (SKEW * signs[:, None])[order]
    for of in (reciprocal.hartree_potential, reciprocal.gradient_norm):
        np.testing.assert_allclose(of(turned(density), lattice), turned(of(density, SKEW)), atol=1e-11)


def test_a_rotation_and_a_supercell_change_nothing() -> None:
    density = np.random.default_rng(1).uniform(0, 1, (4, 6, 5))
    angle = 0.7
    turn = np.array(
        [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    for of in (reciprocal.hartree_potential, reciprocal.gradient_norm):
        np.testing.assert_allclose(of(density, SKEW @ turn), of(density, SKEW), atol=1e-11)
        repeated = of(np.tile(density, (2, 1, 3)), SKEW * np.array([[2.0], [1.0], [3.0]]))
        np.testing.assert_allclose(repeated, np.tile(of(density, SKEW), (2, 1, 3)), atol=1e-10)


def test_arguments_that_do_not_fit() -> None:
    for of in (reciprocal.hartree_potential, reciprocal.gradient_norm):
        with pytest.raises(ValueError, match=r"shape \(2,\); give \(nx, ny, nz\)"):
            of([1.0, 2.0], np.eye(3))
        with pytest.raises(ValueError, match="zero volume"):
            of(np.ones((2, 2, 2)), np.zeros((3, 3)))
        with pytest.raises(ValueError, match=r"lattice has shape \(3,\)"):
            of(np.ones((2, 2, 2)), [1.0, 1.0, 1.0])
