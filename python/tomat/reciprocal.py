"""Densities in reciprocal space: the Coulomb potential and the gradient of a periodic density on its grid.

Arrays are (nx, ny, nz), point (i, j, k) at fractional coordinates (i/nx, j/ny, k/nz); ``lattice`` is (3, 3), rows a, b,
c in angstrom. Along an axis with an even number of points, the highest component stands for a positive and a negative
frequency alike: the potential takes the shorter of its wave vectors, the gradient leaves it out along that axis. Both
are therefore the same for every order and direction of the axes.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["COULOMB", "cell_of", "gradient_norm", "hartree_potential", "squared_wave_vectors"]

#: The square of the elementary charge in Gaussian units, e^2 / (4 pi epsilon_0), in eV angstrom (CODATA 2018).
COULOMB = 14.3996454784


def cell_of(lattice: ArrayLike) -> NDArray[np.float64]:
    """``lattice`` as (3, 3) float64.

    Raises:
        ValueError: another shape, values that are not finite, or a cell of zero volume.
    """
    cell = np.asarray(lattice, dtype=np.float64)
    if cell.shape != (3, 3) or not np.isfinite(cell).all():
        raise ValueError(
            f"the lattice has shape {cell.shape}; give (3, 3) finite numbers, rows a, b, c in angstrom"
        )
    if not abs(float(np.linalg.det(cell))) > 0.0:
        raise ValueError("the lattice vectors span zero volume")
    return cell


def hartree_potential(density: ArrayLike, lattice: ArrayLike) -> NDArray[np.float64]:
    r"""The potential energy of an electron in the field of ``density``, in eV: V(G) = 4 pi e^2 density(G) / G^2.

    The component G = 0 is left out: a charged density is neutralised by a uniform background.

    Args:
        density: (nx, ny, nz) in electrons per cubic angstrom.
        lattice: (3, 3), rows in angstrom.

    Returns:
        float64 (nx, ny, nz), mean 0.

    Raises:
        ValueError: a density that is not three-dimensional, or a lattice without volume.
    """
    values, cell = _grid(density), cell_of(lattice)
    squared = squared_wave_vectors(cell, values.shape)
    squared[0, 0, 0] = 1.0
    components = np.fft.rfftn(values) * (4.0 * math.pi * COULOMB / squared)
    components[0, 0, 0] = 0.0
    return np.asarray(np.fft.irfftn(components, values.shape, axes=(0, 1, 2)))


def gradient_norm(values: ArrayLike, lattice: ArrayLike) -> NDArray[np.float64]:
    r"""\|grad values\| on every point, float64 (nx, ny, nz), per angstrom; from the Fourier components.

    Raises:
        ValueError: values that are not three-dimensional, or a lattice without volume.
    """
    array, cell = _grid(values), cell_of(lattice)
    slopes = [_derivative(array, axis) for axis in range(3)]
    metric = np.linalg.inv(cell @ cell.T)
    squared = np.zeros(array.shape)
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        squared += (1.0 if i == j else 2.0) * metric[i, j] * slopes[i] * slopes[j]
    # Rounding may leave a vanishing slope at -1e-33.
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _grid(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"the density has shape {array.shape}; give (nx, ny, nz), none of them 0")
    return array


def _derivative(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The derivative by the fractional coordinate of ``axis``."""
    n = values.shape[axis]
    frequencies = np.fft.rfftfreq(n, 1.0 / n)
    if n % 2 == 0:
        frequencies[-1] = 0.0
    factor = (2j * math.pi * frequencies).reshape([-1 if i == axis else 1 for i in range(3)])
    return np.asarray(np.fft.irfft(np.fft.rfft(values, axis=axis) * factor, n, axis=axis))


def squared_wave_vectors(cell: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """G^2 of the components of ``numpy.fft.rfftn``, per square angstrom; the least of equivalent wave vectors.

    Args:
        cell: (3, 3), rows in angstrom.
        shape: (nx, ny, nz) of the grid.

    Returns:
        float64 (nx, ny, nz // 2 + 1).
    """
    metric = 4.0 * math.pi**2 * np.linalg.inv(cell @ cell.T)

    def of(axes: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        x, y, z = np.ix_(*axes)
        straight = metric[0, 0] * x * x + metric[1, 1] * y * y + metric[2, 2] * z * z
        skew = metric[0, 1] * x * y + metric[0, 2] * x * z + metric[1, 2] * y * z
        return np.asarray(straight + 2.0 * skew)

    nx, ny, nz = shape
    axes = [np.fft.fftfreq(nx, 1.0 / nx), np.fft.fftfreq(ny, 1.0 / ny), np.fft.rfftfreq(nz, 1.0 / nz)]
    squared = of(axes)
    even = [axis for axis, n in enumerate(shape) if n % 2 == 0]
    for signs in itertools.product((-1.0, 1.0), repeat=len(even)):
        highest = {axis: np.array([sign * shape[axis] / 2.0]) for axis, sign in zip(even, signs, strict=True)}
        signed = [axis.copy() for axis in axes]
        for axis, value in highest.items():
            signed[axis][shape[axis] // 2] = value[0]
        for axis, value in highest.items():
            middle = shape[axis] // 2
            plane = tuple(np.s_[middle : middle + 1] if i == axis else np.s_[:] for i in range(3))
            on_plane = of([value if i == axis else signed[i] for i in range(3)])
            squared[plane] = np.minimum(squared[plane], on_plane)
    return squared
