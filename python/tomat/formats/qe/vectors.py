"""The G vectors of Quantum ESPRESSO: which there are, in which order, and on which FFT grid.

``pw.x`` finds the components of a density in a file by their place alone: the order of its G vectors has to be its
own. The rules are those of Quantum ESPRESSO 6 and 7 (``FFTXlib/fft_types.f90: realspace_grid_init``,
``FFTXlib/fft_support.f90: good_fft_order``, ``Modules/recvec_subs.f90: ggen``, ``Modules/sort.f90: hpsort_eps``).

Lattices are (3, 3), rows a, b, c in angstrom; cutoffs in Ry; Miller indices (i, j, k) stand for G = i b1 + j b2 + k b3.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["BOHR", "fft_grid", "good_size", "miller_indices"]

#: The Bohr radius in angstrom (CODATA 2018), as in Quantum ESPRESSO 6.6 and later.
BOHR = 0.529177210903
#: Prime factors of the axes of its FFT grids.
_FACTORS = (2, 3, 5)
#: Differences of G^2 below this are none, in units of (2 pi / alat)^2.
_EPS = 1e-8


def good_size(n: int, multiple: int = 1) -> int:
    """The least product of 2, 3 and 5 that is at least ``n``, and a multiple of ``multiple``."""
    size = n
    while size % multiple or not _is_product(size):
        size += 1
    return size


def _is_product(n: int) -> bool:
    for factor in _FACTORS:
        while n % factor == 0:
            n //= factor
    return n == 1


def fft_grid(
    lattice: ArrayLike, ecutrho: float, multiples: Sequence[int] = (1, 1, 1)
) -> tuple[int, int, int]:
    """The FFT grid of a density: the least good sizes that hold all G vectors with G^2 below ``ecutrho``.

    ``pw.x`` takes a larger grid for some crystals: a multiple, along each axis, of the denominators of the fractional
    translations in their space group (2, 3, 4 or 6), for instance 20 points instead of 18 in silicon. The components of
    the density are the same.

    Args:
        lattice: rows in angstrom.
        ecutrho: cutoff of the density in Ry.
        multiples: each axis is a multiple of this.

    Raises:
        ValueError: a cutoff that is not above 0.
    """
    miller, squared, cutoff = _within(lattice, ecutrho)
    inside = np.abs(miller[squared < cutoff])
    most = inside.max(axis=0, initial=0)
    nx, ny, nz = (good_size(2 * int(m) + 1, k) for m, k in zip(most, multiples, strict=True))
    return nx, ny, nz


def miller_indices(lattice: ArrayLike, ecutrho: float, *, gamma_only: bool = False) -> NDArray[np.int32]:
    """The Miller indices of the G vectors of a density in the order of its file.

    By G^2; vectors whose G^2 differ by less than 1e-8 (2 pi / alat)^2 in the order in which three nested loops over i,
    j and k meet them. alat is the length of the first lattice vector, as where an input gives ``CELL_PARAMETERS`` in
    angstrom or bohr.

    Args:
        lattice: rows in angstrom.
        ecutrho: cutoff of the density in Ry.
        gamma_only: one of each pair G, -G, as in runs with ``K_POINTS gamma``.

    Returns:
        (n, 3) int32; the first is (0, 0, 0).

    Raises:
        ValueError: a cutoff that is not above 0.
    """
    miller, squared, _ = _within(lattice, ecutrho)
    if gamma_only:
        i, j, k = miller.T
        half = (i > 0) | ((i == 0) & ((j > 0) | ((j == 0) & (k >= 0))))
        miller, squared = miller[half], squared[half]
    return np.ascontiguousarray(miller[_order(squared)])


def _within(lattice: ArrayLike, ecutrho: float) -> tuple[NDArray[np.int32], NDArray[np.float64], float]:
    """Miller indices of all G up to the cutoff in the order of the loops, G^2, and the cutoff, in (2 pi / alat)^2."""
    if not (math.isfinite(ecutrho) and ecutrho > 0):
        raise ValueError(f"ecutrho = {ecutrho} Ry must be a finite number above 0")
    cell = np.asarray(lattice, dtype=np.float64)
    alat = float(np.linalg.norm(cell[0]))
    reciprocal = np.linalg.inv(cell / alat).T
    cutoff = ecutrho / (2.0 * math.pi * BOHR / alat) ** 2
    most = [int(math.sqrt(cutoff) * length / alat) + 1 for length in np.linalg.norm(cell, axis=1)]
    axes = [np.arange(-m, m + 1) for m in most]
    # By planes of one i, so that memory goes with their number.
    indices, squares = [], []
    for i in axes[0]:
        plane = np.stack(np.meshgrid([i], axes[1], axes[2], indexing="ij"), axis=-1).reshape(-1, 3)
        squared = ((plane @ reciprocal) ** 2).sum(axis=1)
        inside = squared <= cutoff
        indices.append(plane[inside].astype(np.int32))
        squares.append(squared[inside])
    squared = np.concatenate(squares)
    return np.concatenate(indices), np.where(squared > _EPS, squared, 0.0), cutoff


def _order(squared: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order by G^2, and within ``_EPS`` by place."""
    order = np.argsort(squared, kind="stable")
    ascending = squared[order]
    starts = np.flatnonzero(np.diff(ascending, prepend=-np.inf) >= _EPS)
    ends = np.append(starts[1:], len(order)) - 1
    if (ascending[ends] - ascending[starts] >= _EPS).any():
        # Chains of neighbours within the tolerance: what comes first depends on the comparisons that are made.
        return np.array(heap_sort(squared.tolist()), dtype=np.int64)
    shell = np.zeros(len(order), dtype=np.int64)
    shell[starts] = 1
    return order[np.lexsort((order, np.cumsum(shell)))]


def heap_sort(values: list[float]) -> list[int]:
    """The order in which ``hpsort_eps`` puts values: a heap sort, comparison by comparison."""
    n = len(values)
    keys, places = list(values), list(range(n))

    def is_less(a: float, i: int, b: float, j: int) -> bool:
        return i < j if abs(a - b) < _EPS else a < b

    for start in itertools.chain(range(n // 2 - 1, -1, -1), itertools.repeat(-1, max(0, n - 1))):
        if start >= 0:
            hole, key, place = start, keys[start], places[start]
        else:
            n -= 1
            hole, key, place = 0, keys[n], places[n]
            keys[n], places[n] = keys[0], places[0]
        child = 2 * hole + 1
        while child < n:
            if child + 1 < n and is_less(keys[child], places[child], keys[child + 1], places[child + 1]):
                child += 1
            if not is_less(key, place, keys[child], places[child]):
                break
            keys[hole], places[hole] = keys[child], places[child]
            hole, child = child, 2 * child + 1
        keys[hole], places[hole] = key, place
    return places
