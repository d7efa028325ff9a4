"""Where patches are cut, and how often they cover each voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["coverage_histogram", "sample_offsets"]


def sample_offsets(
    grid_shape: Sequence[int], n: int, *, seed: int, task_id: str, epoch: int = 0
) -> NDArray[np.int32]:
    """The origins of patches 0 to n - 1 of a material, int32 (n, 3), uniform over all grid points.

    They depend on the arguments alone, and the first patches of a longer draw are those of a shorter one:
    docs/format.md gives the formula.

    Raises:
        ValueError: a grid axis outside 1 to 1023, or a negative number.
    """
    for name, value in (("n", n), ("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} = {value} must be between 0 and 2**64 - 1")
    return _core.sample_offsets(_shape(grid_shape), n, seed=seed, task_id=task_id, epoch=epoch)


def coverage_histogram(
    grid_shape: Sequence[int], patch_shape: Sequence[int], offsets: ArrayLike
) -> NDArray[np.int64]:
    """``h[k]``: how many of the grid's voxels the patches cover exactly k times, int64, without trailing zeros.

    Every voxel of every patch counts, also the repeated ones of a patch longer than a grid axis, so that
    ``sum(k * h[k])`` is the number of patches times the voxels of one.

    Raises:
        ValueError: an offset outside the grid, or an empty axis.
    """
    array = np.asarray(offsets, dtype=np.int64)
    array = np.ascontiguousarray(array.reshape(0, 3) if array.size == 0 else array)
    if array.ndim != 2:
        raise ValueError(f"offsets have shape {array.shape}; give (n, 3)")
    return _core.coverage_histogram(_shape(grid_shape), _shape(patch_shape), array)


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    numbers = [int(n) for n in shape]
    if len(numbers) != 3 or any(n < 1 for n in numbers):
        raise ValueError(f"shape {tuple(shape)} is not three numbers above zero")
    return numbers[0], numbers[1], numbers[2]
