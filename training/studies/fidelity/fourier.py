"""Trigonometric interpolation and Fourier coefficients of real periodic grids, ordered by physical |G|."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

#: Two |G| closer than this, relatively, belong to one shell: symmetry makes them equal, rounding does not.
_SHELL = 1e-9


def resample(values: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """The real periodic grid ``values`` (any shape) on a grid of ``shape``, by trigonometric interpolation.

    Axes that grow are interpolated; axes that shrink are cut to the frequencies the new axis can hold, then
    sampled. A grid of even length n has one coefficient for the frequencies n/2 and -n/2, whose sines it
    cannot see: going up it is split in equal halves (the real, least oscillating interpolant), going down
    the two add up. So down after up is the identity, and up after down is exact for what is band-limited to
    below half the new length.
    """
    out = values
    for axis, new in enumerate(shape):
        old = out.shape[axis]
        if new < 1:
            raise ValueError(f"shape {tuple(shape)}: give at least one point along each axis")
        if new == old:
            continue
        spectrum = np.moveaxis(np.fft.rfft(out, axis=axis, norm="forward"), axis, 0)
        kept = min(new, old)
        spectrum = spectrum[: kept // 2 + 1].copy()
        if kept % 2 == 0:
            # In a half spectrum every coefficient but 0 and Nyquist stands for two.
            spectrum[kept // 2] = spectrum[kept // 2] * 0.5 if new > old else spectrum[kept // 2].real * 2.0
        out = np.fft.irfft(np.moveaxis(spectrum, 0, axis), n=new, axis=axis, norm="forward")
    return np.asarray(out, dtype=np.float64)


def coarse_shape(shape: Sequence[int], factor: float) -> tuple[int, ...]:
    """``shape`` with each length divided by ``factor`` and rounded to the nearest, at least 1 and at most itself."""
    if not factor >= 1.0:
        raise ValueError(f"cannot down-sample by {factor}: give a factor of at least 1")
    return tuple(min(n, max(1, round(n / factor))) for n in shape)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Fourier coefficients c(G) = mean over the grid of f(r) exp(-i G r) of a real periodic grid, flattened.

    Attributes:
        shape: of the grid.
        coefficients: (n,) complex128; c at G = 0 is the mean.
        partner: (n,) the index of -G, where the coefficient is the conjugate. G and its partner hold two
        real numbers,
            a G that is its own partner (0, and corners of even grids) one: n in all, as many as voxels.
        g: (n,) the length of G in 1/angstrom (with the 2 pi), of the shortest among the wave vectors that
        the grid
            cannot tell apart, so that G and -G are equally long on even grids and in skewed cells too.
    """

    shape: tuple[int, ...]
    coefficients: NDArray[np.complex128]
    partner: NDArray[np.int64]
    g: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], lattice: ArrayLike) -> Spectrum:
        """The spectrum of ``values`` (nx, ny, nz) in the cell with rows a, b, c in angstrom."""
        coefficients = np.fft.fftn(values, norm="forward").ravel()
        axes = [(-np.arange(n)) % n for n in values.shape]
        partner = np.ravel_multi_index(np.ix_(*axes), values.shape).ravel()
        return cls(
            values.shape, coefficients, partner, _lengths(values.shape, np.asarray(lattice, dtype=np.float64))
        )

    def below(self, g_max: float) -> NDArray[np.bool_]:
        """Which coefficients have \\|G\\| <= ``g_max``; closed under G to -G."""
        return np.asarray(self.g <= g_max * (1.0 + _SHELL))

    def lowest(self, fraction: float) -> NDArray[np.bool_]:
        """The coefficients of lowest \\|G\\|, in whole shells, at most ``fraction`` of them all but always G = 0."""
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction {fraction}: must be above 0 and at most 1")
        ascending = np.sort(self.g)
        n = round(fraction * len(ascending))
        # The last place up to n where the next |G| begins a new shell.
        starts = np.flatnonzero(np.diff(ascending) > _SHELL * ascending[1:]) + 1
        ends = np.append(starts, len(ascending))
        fitting = ends[ends <= n]
        return self.below(float(ascending[(fitting[-1] if len(fitting) else ends[0]) - 1]))

    def numbers(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The independent real numbers of the coefficients ``kept``: all real parts, then all imaginary parts.

        As many as ``kept`` has coefficients: of G and -G one is written down, both its parts.
        """
        real, complex_ = self._halves(kept)
        return np.concatenate([self.coefficients.real[real], self.coefficients.imag[complex_]])

    def grid(self, kept: NDArray[np.bool_], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The density on the grid from ``numbers`` (see there); coefficients that are not kept are zero."""
        real, complex_ = self._halves(kept)
        coefficients = np.zeros_like(self.coefficients)
        coefficients[real] = numbers[: len(real)]
        coefficients[complex_] += 1j * numbers[len(real) :]
        coefficients[self.partner[complex_]] = coefficients[complex_].conj()
        grid = np.fft.ifftn(coefficients.reshape(self.shape), norm="forward").real
        return np.ascontiguousarray(grid)

    def _halves(self, kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the stored coefficients, and of those among them with an imaginary part."""
        indices = np.flatnonzero(kept)
        partners = self.partner[indices]
        return indices[indices <= partners], indices[indices < partners]


def _lengths(shape: Sequence[int], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """|G| of every coefficient: the shortest of G and its images one grid period back along each axis."""
    reciprocal = 2.0 * np.pi * np.linalg.inv(lattice).T
    metric = reciprocal @ reciprocal.T
    indices = [np.fft.fftfreq(n, 1.0 / n) for n in shape]
    shortest = np.full(tuple(shape), np.inf)
    for shifted in product((False, True), repeat=3):
        # Back means towards the other sign, so that the images of -G are minus the images of G.
        k = [i - n * np.sign(i) if s else i for i, n, s in zip(indices, shape, shifted, strict=True)]
        x, y, z = np.meshgrid(*k, indexing="ij", sparse=True)
        squared = (
            metric[0, 0] * x * x
            + metric[1, 1] * y * y
            + metric[2, 2] * z * z
            + 2.0 * (metric[0, 1] * x * y + metric[0, 2] * x * z + metric[1, 2] * y * z)
        )
        np.minimum(shortest, squared, out=shortest)
    return np.asarray(np.sqrt(np.maximum(shortest, 0.0)).ravel())
