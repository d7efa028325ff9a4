"""Tests of descriptors: sums of the core with fixed weights against smoothed densities and potentials by FFT."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("levanter")
import jax.numpy as jnp

from tomat.crystal import Crystal
from tomat.lm.field.config import N_DESCRIPTORS, FieldShape
from tomat.lm.field.descriptors import DESCRIPTORS, fixed_weights
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.network import of_descriptors
from tomat.lm.field.surroundings import Surroundings
from tomat.promolecule import UnscaledPromolecule

CRYSTAL = Crystal.of(
    [[4.3, 0.0, 0.0], [0.6, 4.1, 0.0], [-0.3, 0.5, 5.0]],
    [11, 17, 14, 8],
    [[0.0, 0.0, 0.0], [0.52, 0.47, 0.5], [0.1, 0.5, 0.2], [0.6, 0.1, 0.8]],
)
GRID = (48, 48, 56)
SHAPE = FieldShape(channels=(1, 1), descriptors=True)


@pytest.fixture(scope="module")
def around() -> Surroundings:
    return Surroundings(SHAPE, UnscaledPromolecule.load("qe-sg15"))


@pytest.fixture(scope="module")
def by_fft(around: Surroundings) -> np.ndarray:
    """(points, descriptors) from the promolecule on a grid, in plane waves."""
    density = around.promolecule.density(CRYSTAL, GRID, "e_per_A3").astype(np.float64)
    index = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in GRID], indexing="ij"), -1)
    wave = index @ (2 * np.pi * np.linalg.inv(CRYSTAL.lattice).T)
    square = np.sum(wave**2, axis=-1)
    volume = abs(np.linalg.det(CRYSTAL.lattice))
    radii = np.linspace(0.0, 12.0, 4001)
    nuclei = np.zeros(GRID, complex)
    for z, place in zip(CRYSTAL.atomic_numbers.tolist(), CRYSTAL.frac_coords, strict=True):
        radial = around.promolecule.radial(z, radii)
        electrons = 4 * np.pi * np.trapezoid(radial * radii**2, radii)
        nuclei += electrons / volume * np.exp(-2j * np.pi * (index @ place))
    transform = np.fft.fftn(density) / density.size
    found = []
    for of in DESCRIPTORS:
        smooth = np.exp(-0.5 * square * of.width**2)
        if of.kind == "potential":
            part = np.zeros_like(transform)
            np.divide(4 * np.pi * 14.39964548 * (transform - nuclei) * smooth, square, part, where=square > 0)
        else:
            part = transform * smooth * (-square if of.kind == "laplacian" else 1.0)
        found.append((np.fft.ifftn(part) * density.size).real.ravel())
    return np.stack(found, axis=-1)


def sums(around: Surroundings, points: np.ndarray, guess: np.ndarray) -> np.ndarray:
    weights = fixed_weights(SHAPE, around.promolecule, around._basis)[CRYSTAL.atomic_numbers]
    found = around.at_points(CRYSTAL, points, guess)
    return np.asarray(np.einsum("spn,snd->pd", found[..., 0], weights))


def test_sums_are_the_smoothed_promolecule(around: Surroundings, by_fft: np.ndarray) -> None:
    chosen = np.random.default_rng(0).choice(int(np.prod(GRID)), 400, replace=False)
    points = np.stack(np.unravel_index(chosen, GRID), axis=-1) / GRID
    found, wanted = sums(around, points, np.ones(400, np.float32)), by_fft[chosen].copy()
    # A potential is known up to a constant: plane waves have a mean of zero.
    for at, of in enumerate(DESCRIPTORS):
        if of.kind == "potential":
            wanted[:, at] += np.mean(found[:, at] - wanted[:, at])
        error = np.sqrt(np.mean((found[:, at] - wanted[:, at]) ** 2)) / np.std(wanted[:, at])
        # The widest reaches beyond the cutoff.
        assert error < (0.2 if of.width > 0.9 else 0.02), (of, error)


def test_what_the_network_sees_is_about_one_in_size(around: Surroundings) -> None:
    points = np.random.default_rng(1).uniform(size=(300, 3))
    seen = np.asarray(of_descriptors(jnp.asarray(sums(around, points, np.ones(300, np.float32)))))
    assert seen.shape == (300, N_DESCRIPTORS) == (300, len(DESCRIPTORS))
    assert np.all(np.abs(seen) < 6)
    assert np.all(seen.std(axis=0) > 0.02)


def test_every_element_has_weights(around: Surroundings) -> None:
    table = around.features[:, N_FEATURES:].reshape(119, SHAPE.functions, N_DESCRIPTORS)
    assert np.isfinite(table).all()
    assert not table[0].any()
    assert np.all(np.abs(table[1:, :-1]).sum(axis=1) > 0)
    # The atom's own density is none of the functions.
    assert not table[:, -1].any()
    assert Surroundings(FieldShape(channels=(1, 1)), around.promolecule).features.shape == (119, N_FEATURES)
