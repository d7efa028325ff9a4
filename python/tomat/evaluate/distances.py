"""Distance of each grid point to the nearest atom, periodic images included."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def nearest_atom(
    lattice: ArrayLike, frac_coords: ArrayLike, grid_shape: Sequence[int], cutoff: float
) -> NDArray[np.float32]:
    """The distance of every grid point to the nearest atom, in angstrom.

    Only the voxels within ``cutoff`` of each image of an atom are visited.

    Args:
        lattice: (3, 3) rows a, b, c in angstrom.
        frac_coords: (n, 3).
        grid_shape: (nx, ny, nz); point (i, j, k) lies at (i/nx, j/ny, k/nz).
        cutoff: in angstrom; points farther than this from every atom get infinity.

    Returns:
        float32 (nx, ny, nz).
    """
    cell = np.asarray(lattice, dtype=np.float64)
    if not 0.0 < cutoff < math.inf:
        raise ValueError(f"cutoff = {cutoff} must be a finite distance above 0 angstrom")
    if not abs(np.linalg.det(cell)) > 0.0:
        raise ValueError("the lattice vectors span zero volume")
    shape = np.asarray(grid_shape, dtype=np.int64)
    # A ball of radius r reaches r |b_i*| along axis i in fractional coordinates, b* without 2 pi.
    reach = cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)
    metric = cell @ cell.T
    squared = np.full(tuple(shape), np.inf, dtype=np.float32)
    for atom in np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3) % 1.0:
        first = np.floor(atom - reach).astype(int)
        last = np.floor(atom + reach).astype(int)
        for image in itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            _lay(squared, atom - np.asarray(image), reach, metric, shape)
    squared[squared > cutoff * cutoff] = np.inf
    return np.sqrt(squared)


def _lay(
    squared: NDArray[np.float32],
    atom: NDArray[np.float64],
    reach: NDArray[np.float64],
    metric: NDArray[np.float64],
    shape: NDArray[np.int64],
) -> None:
    """Lower the squared distances inside the cell to those from one image of an atom."""
    low = np.maximum(np.ceil((atom - reach) * shape), 0).astype(int)
    high = np.minimum(np.floor((atom + reach) * shape), shape - 1).astype(int)
    if (low > high).any():
        return
    x, y, z = (
        (np.arange(low[axis], high[axis] + 1) / shape[axis] - atom[axis]).reshape(
            tuple(-1 if i == axis else 1 for i in range(3))
        )
        for axis in range(3)
    )
    found = metric[0, 0] * x * x + metric[1, 1] * y * y + metric[2, 2] * z * z
    found = found + 2.0 * (metric[0, 1] * x * y + metric[0, 2] * x * z + metric[1, 2] * y * z)
    view = squared[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    # Rounding may leave a point on an atom at -1e-16.
    np.minimum(view, np.maximum(found, 0.0), out=view)
