"""Triangles of an isosurface of a periodic density in any cell, by marching tetrahedra.

A. Doi and A. Koide, IEICE Trans. E74, 214 (1991). Each cube of grid points is cut into the six tetrahedra around one of
its diagonals, which neighbouring cubes cut alike, so that the surface has no holes.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def half_level(density: NDArray[np.floating]) -> float:
    """The isovalue whose surface encloses half of the integral of a density (nx, ny, nz)."""
    descending = np.sort(density.ravel())[::-1].astype(np.float64)
    sums = np.cumsum(np.maximum(descending, 0.0))
    return float(descending[min(int(np.searchsorted(sums, 0.5 * sums[-1])), descending.size - 1)])


def isosurface(
    density: NDArray[np.floating], level: float, lattice: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The isosurface of a periodic density at ``level``, within one cell.

    Args:
        density: (nx, ny, nz), at least 2 points per axis.
        level: the isovalue, in the unit of the density.
        lattice: (3, 3) rows a, b, c in angstrom.

    Returns:
        Vertices (n, 3) in angstrom and triangles (m, 3) as indices of vertices; both may be empty.
    """
    # The far faces of the cell repeat the near ones.
    values = np.pad(density.astype(np.float64), [(0, 1)] * 3, mode="wrap")
    tetrahedra = _tetrahedra(values.shape)
    flat = values.ravel()
    above = flat[tetrahedra] > level
    pairs = []
    for corner in range(4):
        rest = [i for i in range(4) if i != corner]
        # One corner against three: a triangle over its three edges.
        alone = (above.sum(axis=1) == 1) & above[:, corner]
        alone |= (above.sum(axis=1) == 3) & ~above[:, corner]
        cut = tetrahedra[alone]
        pairs.append(np.stack([cut[:, [corner, other]] for other in rest], axis=1))
    for i, j, k, m in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)):
        # Two against two: four edges, two triangles.
        split = (above[:, i] == above[:, j]) & (above[:, k] == above[:, m]) & (above[:, i] != above[:, k])
        cut = tetrahedra[split]
        halves = (((i, k), (i, m), (j, k)), ((j, k), (i, m), (j, m)))
        pairs += [np.stack([cut[:, edge] for edge in edges], axis=1) for edges in halves]
    return _vertices(np.concatenate(pairs), flat, values.shape, level, np.asarray(lattice, dtype=np.float64))


def _tetrahedra(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Corners (n, 4) of all tetrahedra, as flat indices of grid points."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    first = index[:-1, :-1, :-1].ravel()
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    found = []
    for order in permutations(range(3)):
        steps = np.concatenate([[0], np.cumsum(strides[list(order)])])
        found.append(first[:, None] + steps[None, :])
    return np.concatenate(found)


def _vertices(
    edges: NDArray[np.int64],
    flat: NDArray[np.float64],
    shape: tuple[int, ...],
    level: float,
    lattice: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and triangles from triangles (m, 3, 2) of grid edges, merging shared vertices."""
    ends = np.sort(edges.reshape(-1, 2), axis=1)
    unique, number = np.unique(ends[:, 0] * flat.size + ends[:, 1], return_inverse=True)
    one, other = unique // flat.size, unique % flat.size
    share = ((level - flat[one]) / np.where(flat[other] == flat[one], 1.0, flat[other] - flat[one]))[:, None]
    places = [np.stack(np.unravel_index(x, shape), axis=1) for x in (one, other)]
    cells = np.array(shape) - 1
    points = (places[0] * (1.0 - share) + places[1] * share) / cells
    return (points @ lattice).astype(np.float32), number.reshape(-1, 3).astype(np.int32)
