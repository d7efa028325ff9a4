"""Triangles of an isosurface of a periodic density in any cell, by marching tetrahedra.

A. Doi and A. Koide, IEICE Trans. E74, 214 (1991). Each cube of grid points is cut into the six tetrahedra around one of
its diagonals, which neighbouring cubes cut alike, so that the surface has no holes. Grid points are taken into space by
the lattice after that, so that the angles of the cell do not matter.
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
    density: NDArray[np.floating], level: float, lattice: ArrayLike, *, closed: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The isosurface of a periodic density at ``level``, within one cell.

    Args:
        density: (nx, ny, nz), at least 2 points per axis.
        level: the isovalue, in the unit of the density.
        lattice: (3, 3) rows a, b, c in angstrom.
        closed: also what the faces of the cell cut off, where the density is above the level: the surface of a body.

    Returns:
        Vertices (n, 3) in angstrom and triangles (m, 3) as indices of vertices, counter-clockwise seen from below the
        level; both may be empty. With ``closed``, vertices on the rim of a face are there twice, so that a renderer
        shows the edge.
    """
    # The far faces of the cell repeat the near ones.
    values = np.pad(density.astype(np.float64), [(0, 1)] * 3, mode="wrap")
    last = np.array(values.shape) - 1
    if closed:
        # Nothing is outside: surfaces towards there are those of the faces themselves, to the last digit.
        values = np.pad(values, 1, constant_values=-1e30)
    tetrahedra = _tetrahedra(values, level)
    flat = values.ravel()
    above = flat[tetrahedra] > level
    cut, edges = _triangles(tetrahedra, above)
    places, triangles = _vertices(edges, flat, values.shape, level)
    triangles = _turned(places, triangles, cut, flat[cut] > level, values.shape)
    if closed:
        places, triangles = _on_faces(np.clip(places - 1.0, 0.0, last), triangles, last)
    cell = np.asarray(lattice, dtype=np.float64)
    if np.linalg.det(cell) < 0:
        triangles = triangles[:, ::-1]
    return ((places / last) @ cell).astype(np.float32), triangles.astype(np.int32)


def _triangles(
    tetrahedra: NDArray[np.int64], above: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each triangle its tetrahedron (m, 4), and the three grid edges (m, 3, 2) that it lies across."""
    owners, edges = [], []
    for corner in range(4):
        # One corner against three: a triangle over its three edges.
        alone = (above.sum(axis=1) == 1) & above[:, corner]
        alone |= (above.sum(axis=1) == 3) & ~above[:, corner]
        cut = tetrahedra[alone]
        owners.append(cut)
        edges.append(np.stack([cut[:, [corner, other]] for other in range(4) if other != corner], axis=1))
    for i, j, k, m in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)):
        # Two against two: four edges, two triangles.
        split = (above[:, i] == above[:, j]) & (above[:, k] == above[:, m]) & (above[:, i] != above[:, k])
        cut = tetrahedra[split]
        for half in (((i, k), (i, m), (j, k)), ((j, k), (i, m), (j, m))):
            owners.append(cut)
            edges.append(np.stack([cut[:, edge] for edge in half], axis=1))
    return np.concatenate(owners), np.concatenate(edges)


def _turned(
    places: NDArray[np.float64],
    triangles: NDArray[np.int64],
    cut: NDArray[np.int64],
    above: NDArray[np.bool_],
    shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """The triangles, turned so that their normals point to the corners of their tetrahedra below the level."""
    a, b, c = (places[triangles[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    corners = np.stack(np.unravel_index(cut, shape), axis=-1) - a[:, None, :]
    towards = np.einsum("mkd,md,mk->m", corners, normals, np.where(above, -1.0, 1.0))
    return np.where((towards < 0)[:, None], triangles[:, ::-1], triangles)


def _tetrahedra(values: NDArray[np.float64], level: float) -> NDArray[np.int64]:
    """Corners (n, 4) of the tetrahedra of cubes that the surface cuts, as flat indices of grid points."""
    shape = values.shape
    above = values > level
    corners = [above[i : shape[0] - 1 + i, j : shape[1] - 1 + j, k : shape[2] - 1 + k] for i, j, k in _CUBE]
    some, every = np.logical_or.reduce(corners), np.logical_and.reduce(corners)
    first = np.arange(values.size).reshape(shape)[:-1, :-1, :-1][some & ~every]
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    found = []
    for order in permutations(range(3)):
        steps = np.concatenate([[0], np.cumsum(strides[list(order)])])
        found.append(first[:, None] + steps[None, :])
    return np.concatenate(found)


_CUBE = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]


def _vertices(
    edges: NDArray[np.int64], flat: NDArray[np.float64], shape: tuple[int, ...], level: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices in grid steps and triangles, from triangles (m, 3, 2) of grid edges; shared vertices are merged."""
    ends = np.sort(edges.reshape(-1, 2), axis=1)
    unique, number = np.unique(ends[:, 0] * flat.size + ends[:, 1], return_inverse=True)
    one, other = unique // flat.size, unique % flat.size
    share = ((level - flat[one]) / np.where(flat[other] == flat[one], 1.0, flat[other] - flat[one]))[:, None]
    places = [np.stack(np.unravel_index(x, shape), axis=1) for x in (one, other)]
    return places[0] * (1.0 - share) + places[1] * share, number.reshape(-1, 3)


def _on_faces(
    places: NDArray[np.float64], triangles: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge vertices that meet on the faces of the cell, drop triangles without an area, and part faces at the rim."""
    merged, number = np.unique(places, axis=0, return_inverse=True)
    triangles = number.reshape(-1)[triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    for axis in range(3):
        for side in (0, last[axis]):
            flat = (merged[triangles, axis] == side).all(axis=1)
            own, number = np.unique(triangles[flat], return_inverse=True)
            triangles[flat] = len(merged) + number.reshape(-1, 3)
            merged = np.concatenate([merged, merged[own]])
    used, number = np.unique(triangles, return_inverse=True)
    return merged[used], number.reshape(-1, 3)
