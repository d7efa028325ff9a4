"""Trigonometric resampling and Fourier coefficients by |G|: against SciPy, sums written out, and geometry."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from scipy.signal import resample as scipy_resample

import tomat
from training.studies.fidelity.fourier import Spectrum, coarse_shape, resample

lengths = st.integers(1, 13)
shapes = st.tuples(lengths, lengths, lengths)
seeds = st.integers(0, 2**32 - 1)

#: Cubic, hexagonal, face-centred primitive, and one that no reduction would leave so skewed.
CELLS = [
    np.diag([4.0, 5.0, 6.5]),
    np.array([[3.0, 0.0, 0.0], [-1.5, 2.598, 0.0], [0.0, 0.0, 7.0]]),
    np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]),
    np.array([[4.0, 0.0, 0.0], [3.5, 2.0, 0.0], [-3.0, 1.0, 5.0]]),
]


def noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


# --- resampling ---------------------------------------------------------------------------------------------


@given(seeds, shapes, shapes)
def test_resample_is_scipys(seed: int, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    values = noise(seed, old)
    expected = values
    for axis, n in enumerate(new):
        expected = scipy_resample(expected, n, axis=axis)
    np.testing.assert_allclose(resample(values, new), expected, rtol=0, atol=1e-12)


@given(seeds, lengths, st.integers(1, 40))
def test_up_is_the_trigonometric_interpolant(seed: int, n: int, m: int) -> None:
    """The sum written out, with cos alone at the Nyquist frequency of an even grid."""
    values = noise(seed, (n,))
    if m < n:
        return
    x = np.arange(m) / m
    expected = np.full(m, values.mean())
    at = np.arange(n) / n
    for k in range(1, n // 2 + 1):
        share = 1.0 if 2 * k == n else 2.0
        c = (values * np.exp(-2j * np.pi * k * at)).mean() * share
        expected += (
            (c * np.exp(2j * np.pi * k * x)).real if share == 2.0 else c.real * np.cos(2 * np.pi * k * x)
        )
    np.testing.assert_allclose(resample(values, (m,)), expected, rtol=0, atol=1e-12)


@given(seeds, shapes, st.tuples(*[st.integers(0, 12)] * 3))
def test_down_after_up_is_the_identity(seed: int, shape: tuple[int, ...], more: tuple[int, ...]) -> None:
    values = noise(seed, shape)
    larger = tuple(n + m for n, m in zip(shape, more, strict=True))
    up = resample(values, larger)
    np.testing.assert_allclose(resample(up, shape), values, rtol=0, atol=1e-12)
    assert up.mean() == pytest.approx(values.mean(), abs=1e-12)


@given(seeds, shapes, st.tuples(*[st.integers(0, 12)] * 3))
def test_up_after_down_is_exact_for_band_limited_grids(
    seed: int, shape: tuple[int, ...], more: tuple[int, ...]
) -> None:
    """Frequencies strictly below half the coarse length survive, whatever the parities."""
    larger = tuple(n + m for n, m in zip(shape, more, strict=True))
    spectrum = np.fft.fftn(noise(seed, larger))
    for axis, (n, m) in enumerate(zip(shape, larger, strict=True)):
        above = np.abs(np.fft.fftfreq(m, 1.0 / m)) >= n / 2
        spectrum[(slice(None),) * axis + (above,)] = 0.0
    values = np.fft.ifftn(spectrum).real
    np.testing.assert_allclose(resample(resample(values, shape), larger), values, rtol=0, atol=1e-12)


def test_nyquist_of_even_grids() -> None:
    """The highest frequency of an even grid, (-1)^i, comes back; half of it would, were it not split and added."""
    values = np.array([1.0, -1.0, 1.0, -1.0])
    np.testing.assert_allclose(resample(values, (8,)), [1, 0, -1, 0, 1, 0, -1, 0], atol=1e-15)
    np.testing.assert_allclose(resample(resample(values, (8,)), (4,)), values, atol=1e-15)
    np.testing.assert_allclose(resample(resample(values, (7,)), (4,)), values, atol=1e-14)


def test_coarse_shape() -> None:
    assert coarse_shape((20, 21, 1), 2) == (10, 10, 1)
    assert coarse_shape((20, 21, 1), 1) == (20, 21, 1)
    assert coarse_shape((3, 2, 1), 100) == (1, 1, 1)
    for factor in (0.5, float("nan")):
        with pytest.raises(ValueError, match="give a factor of at least 1"):
            coarse_shape((4, 4, 4), factor)
    with pytest.raises(ValueError, match="at least one point along each axis"):
        resample(np.ones((2, 2)), (2, 0))


# --- spectrum -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(5, 7, 9), (6, 4, 8), (6, 7, 1), (2, 2, 2)])
def test_lengths_are_those_of_the_shortest_image(
    cell: NDArray[np.float64], shape: tuple[int, int, int]
) -> None:
    """pymatgen's reciprocal lattice, and all images one period away instead of those towards zero."""
    reciprocal = Lattice(cell).reciprocal_lattice.matrix
    indices = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in shape], indexing="ij"), -1).reshape(
        -1, 3
    )
    spectrum = Spectrum.of(np.ones(shape), cell)
    nearest = np.min(
        [
            np.linalg.norm((indices + np.multiply(shift, shape)) @ reciprocal, axis=1)
            for shift in product((-1, 0, 1), repeat=3)
        ],
        axis=0,
    )
    own = np.linalg.norm(indices @ reciprocal, axis=1)
    assert np.all(spectrum.g <= own + 1e-12)
    assert np.all(spectrum.g >= nearest - 1e-12)
    if np.count_nonzero(cell) == 3:
        np.testing.assert_allclose(spectrum.g, own, rtol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
@given(seed=seeds, shape=shapes)
def test_partner(cell: NDArray[np.float64], seed: int, shape: tuple[int, int, int]) -> None:
    """At -G the coefficient is the conjugate and the length the same to the bit: no cutoff can part them."""
    spectrum = Spectrum.of(noise(seed, shape), cell)
    np.testing.assert_allclose(
        spectrum.coefficients[spectrum.partner], spectrum.coefficients.conj(), atol=1e-13
    )
    np.testing.assert_array_equal(spectrum.g[spectrum.partner], spectrum.g)
    np.testing.assert_array_equal(spectrum.partner[spectrum.partner], np.arange(len(spectrum.g)))


@pytest.mark.parametrize("cell", CELLS)
@given(seed=seeds, shape=shapes, fraction=st.floats(0.0, 1.0, exclude_min=True))
def test_kept_coefficients(
    cell: NDArray[np.float64], seed: int, shape: tuple[int, int, int], fraction: float
) -> None:
    """As many real numbers as coefficients; whole shells; and the numbers give the low-pass, written the short way."""
    values = noise(seed, shape)
    spectrum = Spectrum.of(values, cell)
    kept = spectrum.lowest(fraction)
    count = int(kept.sum())
    assert kept[0]
    assert 1 <= count <= max(1, round(fraction * values.size))
    assert count == values.size or spectrum.g[~kept].min() > spectrum.g[kept].max() * (1 + 1e-10)
    numbers = spectrum.numbers(kept)
    assert numbers.shape == (count,)
    masked = np.where(kept, spectrum.coefficients, 0).reshape(shape)
    expected = np.fft.ifftn(masked, norm="forward")
    np.testing.assert_allclose(expected.imag, 0, atol=1e-12)
    np.testing.assert_allclose(spectrum.grid(kept, numbers), expected.real, atol=1e-12)
    np.testing.assert_array_equal(spectrum.below(float(spectrum.g[kept].max())), kept)


@given(seeds, shapes)
def test_all_coefficients_are_exact(seed: int, shape: tuple[int, int, int]) -> None:
    values = noise(seed, shape)
    spectrum = Spectrum.of(values, CELLS[3])
    kept = spectrum.lowest(1.0)
    assert kept.all()
    np.testing.assert_allclose(spectrum.grid(kept, spectrum.numbers(kept)), values, rtol=0, atol=1e-13)


def test_a_plane_wave_has_its_length() -> None:
    """cos(G r) with G = 2 pi / 4 A along x is kept from that |G| on, and lost below."""
    x = np.arange(10) / 10
    values = np.broadcast_to(np.cos(2 * np.pi * x)[:, None, None], (10, 8, 6)).copy()
    spectrum = Spectrum.of(values, CELLS[0])
    g = 2 * np.pi / 4.0
    for factor, norm in ((0.999, 0.0), (1.0, 1.0)):
        kept = spectrum.below(g * factor)
        np.testing.assert_allclose(spectrum.grid(kept, spectrum.numbers(kept)), values * norm, atol=1e-14)


def test_fraction_out_of_range() -> None:
    spectrum = Spectrum.of(np.ones((2, 2, 2)), CELLS[0])
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            spectrum.lowest(fraction)


def test_real_densities_end_at_their_cutoff(data: Path) -> None:
    """The physical check of |G|: 60 Ry orbitals make a density of |G|^2 up to 240 Ry (1/bohr^2), and nothing above."""
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr")
    spectrum = Spectrum.of(material.density.astype(np.float64), material.lattice)
    above = spectrum.g > np.sqrt(240.0) / 0.529177 * 1.001
    size = np.abs(spectrum.coefficients)
    assert above.any()
    assert size[above].max() < 1e-6
    assert size[~above & (spectrum.g > 20.0)].max() > 3e-6
