"""Periodic densities on another grid, by trigonometric interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: About so many grid points draw a surface.
_POINTS = 40**3
#: Fewest and most grid points along an axis of a surface.
_FEWEST, _MOST = 16, 160


def drawn_shape(lattice: ArrayLike) -> tuple[int, int, int]:
    """Grid points (nx, ny, nz) that surfaces in a cell are drawn on: about 40^3, evenly spaced."""
    lengths = np.linalg.norm(np.asarray(lattice, dtype=np.float64), axis=1)
    short = np.zeros(3, dtype=bool)
    step = 1.0
    for _ in range(3):
        # Short axes have the fewest points; the others share what is left.
        step = float(lengths[~short].prod() * _FEWEST ** short.sum() / _POINTS) ** (1.0 / (~short).sum())
        short |= lengths / step < _FEWEST
        if short.all():
            break
    nx, ny, nz = (min(max(round(float(length) / step), _FEWEST), _MOST) for length in lengths)
    return nx, ny, nz


def resampled(values: NDArray[np.floating], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """A periodic function (nx, ny, nz) on another grid, float64 in ``shape``.

    Components that both grids hold are kept, others are zero; of an axis that changes, the highest component of an
    even number of points is left out.
    """
    out = values.astype(np.float64)
    for axis, n in enumerate(shape):
        old = out.shape[axis]
        if n == old:
            continue
        components = np.moveaxis(np.fft.rfft(out, axis=axis, norm="forward"), axis, -1)
        kept = (min(old, n) - 1) // 2 + 1
        new = np.zeros((*components.shape[:-1], n // 2 + 1), dtype=np.complex128)
        new[..., :kept] = components[..., :kept]
        out = np.moveaxis(np.fft.irfft(new, n=n, axis=-1, norm="forward"), -1, axis)
    return out
