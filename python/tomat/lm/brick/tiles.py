"""Patches of bricks as tables: which voxels and points a brick has, where they lie, and what a voxel takes from them.

Voxels of a patch are row-major; bricks are row-major in the patch, voxels and points row-major in their brick.
Positions are in grid points from the patch's middle; times the vectors from one grid point to the next they are in
angstrom.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tomat.lm.brick.config import EDGE, POINTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomat.crystal import Crystal
    from tomat.lm.brick.config import BrickShape

    type Floats = NDArray[np.float32]


def _cube(edge: int) -> NDArray[np.int64]:
    """Indices (edge^3, 3), row-major."""
    return np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)


@cache
def brick_places(bricks: int) -> NDArray[np.float64]:
    """Middles (bricks^3, 3) of the bricks of a patch."""
    return np.asarray((_cube(bricks) - 0.5 * (bricks - 1)) * EDGE, np.float64)


@cache
def voxel_places() -> NDArray[np.float64]:
    """Voxels (64, 3) of a brick, from its middle."""
    return np.asarray(_cube(EDGE) - 0.5 * (EDGE - 1), np.float64)


@cache
def point_places() -> NDArray[np.float64]:
    """Points (8, 3) of a brick where the field's sums are taken, from its middle."""
    return np.asarray((_cube(POINTS) - 0.5 * (POINTS - 1)) * (EDGE / POINTS), np.float64)


@cache
def voxel_order(bricks: int) -> NDArray[np.int64]:
    """Index (bricks^3, 64) in the patch, row-major, of each voxel of each brick."""
    corner, inside = _cube(bricks) * EDGE, _cube(EDGE)
    x, y, z = np.moveaxis(corner[:, None] + inside, -1, 0)
    edge = bricks * EDGE
    return np.asarray((x * edge + y) * edge + z)


@cache
def interpolation() -> Floats:
    """Weights (64, 8) of a brick's points at its voxels: linear along each axis, exact for trilinear functions."""
    step = EDGE / POINTS
    share = (voxel_places() - point_places()[0]) / step  # (64, 3)
    upper = _cube(POINTS)
    each = np.where(upper[None] == 1, share[:, None], 1.0 - share[:, None])
    return np.asarray(each.prod(axis=-1), np.float32)


@cache
def pooling() -> Floats:
    """Weights (8, 64): the mean of the voxels nearest to each point."""
    inside = _cube(EDGE) // (EDGE // POINTS)
    same = (inside[None] == _cube(POINTS)[:, None]).all(axis=-1)
    return np.asarray(same / same.sum(axis=1, keepdims=True), np.float32)


def patch_voxels(origin: NDArray[np.int64], grid: NDArray[np.int64], edge: int) -> NDArray[np.int64]:
    """Row-major index (edge^3,) in the grid of the voxels of a patch."""
    x, y, z = ((o + np.arange(edge)) % n for o, n in zip(origin.tolist(), grid.tolist(), strict=True))
    ny, nz = int(grid[1]), int(grid[2])
    return np.asarray(((x[:, None, None] * ny + y[None, :, None]) * nz + z).ravel())


class Placed:
    """A crystal on a grid: where the bricks, points and atom images of its patches are.

    Args:
        crystal: the crystal.
        grid: (3,) grid points along the axes.
        shape: of the model.
    """

    def __init__(self, crystal: Crystal, grid: ArrayLike, shape: BrickShape) -> None:
        self.grid = np.asarray(grid, np.int64)
        self.crystal, self._shape = crystal, shape
        lattice = np.asarray(crystal.lattice, np.float64)
        #: (3, 3) angstrom, vectors from a grid point to the next.
        self.step = (lattice / self.grid[:, None]).astype(np.float32)
        corners = (2 * _cube(2) - 1) @ (lattice / self.grid[:, None]) * (0.5 * shape.edge)
        self._reach = shape.reach + float(np.linalg.norm(corners, axis=1).max())
        # Differences are wrapped to half a cell on each side first.
        most = np.ceil(self._reach * np.linalg.norm(np.linalg.inv(lattice), axis=0) + 0.5).astype(int)
        ranges = [np.arange(-n, n + 1) for n in most.tolist()]
        self._shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3) @ lattice

    def points(self, origin: NDArray[np.int64]) -> NDArray[np.float64]:
        """Fractional coordinates (points, 3), brick by brick, of the points of the patch with low corner ``origin``."""
        places = self._middle(origin) + brick_places(self._shape.bricks)[:, None] + point_places()
        return np.asarray(places.reshape(-1, 3) / self.grid)

    def images(self, origin: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int32], int]:
        """The atom images nearest to the middle of a patch: positions (atoms, 3) from there in angstrom, and sites.

        Returns:
            Positions and sites, padded with zeros, and how many there are.
        """
        away = self.crystal.frac_coords - self._middle(origin) / self.grid
        nearest = (away - np.round(away)) @ self.crystal.lattice
        places = nearest[:, None] + self._shifts
        square = np.einsum("sti,sti->st", places, places).ravel()
        inside = np.flatnonzero(square < self._reach**2)
        order = inside[np.argsort(square[inside], kind="stable")][: self._shape.atoms]
        count = self._shape.atoms
        positions, sites = np.zeros((count, 3), np.float32), np.zeros(count, np.int32)
        positions[: len(order)] = places.reshape(-1, 3)[order]
        sites[: len(order)] = order // len(self._shifts)
        return positions, sites, len(order)

    def _middle(self, origin: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(origin + 0.5 * (self._shape.edge - 1), np.float64)


def at_points(patch: Floats) -> Floats:
    """The mean of the nearest voxels (..., points) at the points of a patch (..., voxels), both brick by brick."""
    return np.asarray(
        (patch.reshape(*patch.shape[:-1], -1, EDGE**3) @ pooling().T).reshape(*patch.shape[:-1], -1)
    )


def turned(rng: np.random.Generator) -> Floats:
    """A random orthogonal matrix (3, 3), as likely a mirror image as not."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    frame: Floats = (q * np.sign(np.diagonal(r))).astype(np.float32)
    return frame
