"""Hirshfeld's weights: they divide a density among atoms, smoothly and by symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from tomat.crystal import Crystal
from tomat.hirshfeld import BACKGROUND, SMEARING, Hirshfeld

SHAPE = (20, 24, 18)
SALT = Crystal.of(np.diag([4.0, 4.5, 4.2]), [11, 17, 8], [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.3, 0.1, 0.8]])


def test_weights_divide_everything() -> None:
    atoms = Hirshfeld.of(SALT, SHAPE)
    weights = np.array(list(atoms.weights()))
    assert weights.shape == (3, *SHAPE)
    assert weights.min() >= -1e-3
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=1e-12)
    # An atom has what is at its nucleus.
    assert [int(weights[:, *at].argmax()) for at in ((0, 0, 0), (10, 12, 9), (6, 2, 14))] == [0, 1, 2]
    values = np.random.default_rng(0).uniform(-1, 1, SHAPE)
    np.testing.assert_allclose(atoms.charges(values), (weights * values).mean(axis=(1, 2, 3)), atol=1e-14)
    assert atoms.charges(values).sum() == pytest.approx(values.mean(), abs=1e-14)


def test_free_atoms_have_slaters_electrons_and_radius() -> None:
    """One atom in a large box: its component is f itself, weights times the sum."""
    box = np.diag([16.0, 16.0, 16.0])
    atoms = Hirshfeld.of(Crystal.of(box, [14], [[0.5, 0.5, 0.5]]), (80, 80, 80))
    density = atoms._total - BACKGROUND
    assert density.mean() * 16.0**3 == pytest.approx(14.0, rel=1e-9)
    away = np.stack(np.meshgrid(*[np.arange(80) * 0.2 - 8.0] * 3), axis=-1)
    squared = float((density * (away**2).sum(axis=-1)).mean()) / float(density.mean())
    # A shell of Slater's has <r^2> = (2 n + 1)(2 n + 2) / (2 zeta)^2 bohr^2; smearing adds 3 sigma^2.
    shells = [(2, 1, 13.7), (8, 2, 9.85 / 2), (4, 3, 4.15 / 3)]
    of_shells = sum(m * (2 * n + 1) * (2 * n + 2) / (2 * zeta) ** 2 for m, n, zeta in shells) / 14
    expected = of_shells * 0.529177**2 + 3 * (SMEARING * 0.2) ** 2
    assert squared == pytest.approx(expected, rel=1e-3)


def test_equal_atoms_have_equal_charges_and_a_supercell_the_same() -> None:
    silicon = Crystal.of(
        [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], [14, 14], [[0.0, 0.0, 0.0], [0.25, 0.25, 0.25]]
    )
    a, b = Hirshfeld.of(silicon, (16, 16, 16)).charges(np.full((16, 16, 16), 8.0))
    assert a == pytest.approx(4.0, rel=1e-6)
    assert b == pytest.approx(4.0, rel=1e-6)
    values = np.random.default_rng(1).uniform(0, 1, (8, 8, 10))
    once = Hirshfeld.of(SALT, (8, 8, 10)).charges(values)
    half = np.array([0.5, 1.0, 1.0])
    places = np.concatenate([SALT.frac_coords * half, SALT.frac_coords * half + [0.5, 0, 0]])
    twice = Crystal.of(SALT.lattice / half[:, None], [*SALT.atomic_numbers, *SALT.atomic_numbers], places)
    charges = Hirshfeld.of(twice, (16, 8, 10)).charges(np.tile(values, (2, 1, 1)))
    np.testing.assert_allclose(charges * 2, np.tile(once, 2), rtol=1e-9)


def test_far_from_atoms_all_share() -> None:
    slab = Crystal.of(np.diag([3.0, 3.0, 90.0]), [6, 9], [[0.0, 0.0, 0.0], [0.5, 0.5, 1 / 90]])
    carbon, fluorine = Hirshfeld.of(slab, (24, 24, 720)).weights()
    assert carbon[0, 0, 0] > 0.99
    assert fluorine[12, 12, 8] > 0.99
    np.testing.assert_allclose(carbon[..., 360], 0.5, atol=1e-3)


def test_values_on_another_grid() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\), the weights \(20, 24, 18\)"):
        Hirshfeld.of(SALT, SHAPE).charges(np.ones((2, 2, 2)))
