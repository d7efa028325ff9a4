"""The whole cell from patches: where they lie, who owns which voxel, and how seams are blended.

Patches have their full shape always. Along each axis the grid's ``n`` points are split into ``m`` runs of equal length
(to one point), and a patch of ``p >= run`` points is centred on each: a voxel is taken from where the patch has
most of its surroundings on either side. The grid is periodic, so that patches reach over its edges; where an axis
is shorter than the patch, the patch meets its own images.

Without overlap every voxel has one owner. With overlap ``v`` runs are at most ``p - v`` long, and a voxel is the mean
of all patches (and images of patches) that hold it, weighted by a window that falls smoothly from the middle of a
patch to its faces. Weights are products over the axes, and along each axis they are divided by their sum over patches
and images: they add up to one at every voxel, whatever the grid.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

type Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Axis:
    """The patches along one axis of ``n`` grid points.

    Attributes:
        n: grid points.
        p: points of a patch.
        starts: (m,) the grid point of each patch's first point, in [0, n).
        edges: (m + 1,) run i is grid points edges[i] to edges[i + 1].
        low: (m,) where in patch i its run begins.
        weights: (m, p) of the points of each patch; None without overlap.
    """

    n: int
    p: int
    starts: NDArray[np.int64]
    edges: NDArray[np.int64]
    low: NDArray[np.int64]
    weights: NDArray[np.float64] | None

    @classmethod
    def of(cls, n: int, p: int, overlap: int) -> _Axis:
        m = -(-n // (p - overlap))
        edges = np.arange(m + 1) * n // m
        runs = np.diff(edges)
        low = (p - runs) // 2
        starts = (edges[:-1] - low) % n
        weights = None
        if overlap:
            # A ramp as wide as neighbours overlap: there one patch falls as sin^2 and the next rises as cos^2.
            faces = np.minimum(np.arange(p), np.arange(p)[::-1]) + 0.5
            ramp = np.clip(faces / max(int((p - runs).max()), 1), 0.0, 1.0)
            window = np.broadcast_to(np.sin(0.5 * np.pi * ramp) ** 2, (m, p))
            where = (starts[:, None] + np.arange(p)) % n
            sums = np.bincount(where.ravel(), window.ravel(), minlength=n)
            weights = window / sums[where]
        return cls(n, p, starts, edges, low, weights)


@dataclass(frozen=True, eq=False)
class Cover:
    """Patches that make up a whole cell.

    Attributes:
        grid_shape: points of the grid.
        patch_shape: points of each patch.
        overlap: grid points by which neighbouring patches overlap at least, 0 where each voxel has one owner.
        offsets: (n, 3) int64, the low corner of each patch, inside the grid; the last axis fastest.
    """

    grid_shape: Triple
    patch_shape: Triple
    overlap: int
    offsets: NDArray[np.int64]
    _axes: tuple[_Axis, _Axis, _Axis] = field(repr=False)

    def __len__(self) -> int:
        """Patches."""
        return len(self.offsets)

    def weights(self, index: int) -> NDArray[np.float64]:
        """What each point of patch ``index`` counts in the whole, (p, p, p); they sum to one at every grid point."""
        x, y, z = (self._axis_weights(axis, i) for axis, i in zip(self._axes, self.place(index), strict=True))
        return x[:, None, None] * y[None, :, None] * z[None, None, :]

    def place(self, index: int) -> Triple:
        """The number of patch ``index`` along each axis."""
        x, y, z = np.unravel_index(index, [len(axis.starts) for axis in self._axes])
        return int(x), int(y), int(z)

    def cut(self, density: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Patch ``index`` of a density (nx, ny, nz)."""
        return density[np.ix_(*self.points(index))]

    def points(self, index: int) -> tuple[NDArray[np.int64], ...]:
        """Grid points of patch ``index`` along each axis."""
        return tuple(
            (axis.starts[i] + np.arange(axis.p)) % axis.n
            for axis, i in zip(self._axes, self.place(index), strict=True)
        )

    def owned(self, index: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The voxels patch ``index`` owns where nothing overlaps: slices of the grid, and of the patch."""
        grid, patch = [], []
        for axis, i in zip(self._axes, self.place(index), strict=True):
            first, last, low = int(axis.edges[i]), int(axis.edges[i + 1]), int(axis.low[i])
            grid.append(slice(first, last))
            patch.append(slice(low, low + last - first))
        return tuple(grid), tuple(patch)

    def places(self) -> NDArray[np.int64]:
        """Where in its patch each voxel lies: (nx, ny, nz) indices in row-major order within the patch.

        Where seams are blended, in the patch that has the largest say in the voxel.
        """
        inside = np.arange(math.prod(self.patch_shape)).reshape(self.patch_shape)
        found = np.full(self.grid_shape, -1, dtype=np.int64)
        heaviest = np.zeros(self.grid_shape)
        for index in range(len(self)):
            if not self.overlap:
                grid, own = self.owned(index)
                found[grid] = inside[own]
                continue
            weights, where = self.weights(index), self.points(index)
            # Image by image where the patch is longer than the grid: no point is met twice.
            images = [range(0, p, n) for p, n in zip(self.patch_shape, self.grid_shape, strict=True)]
            for low in itertools.product(*images):
                part = tuple(slice(i, i + n) for i, n in zip(low, self.grid_shape, strict=True))
                at = np.ix_(*(w[p] for w, p in zip(where, part, strict=True)))
                heavier = weights[part] > heaviest[at]
                heaviest[at] = np.where(heavier, weights[part], heaviest[at])
                found[at] = np.where(heavier, inside[part], found[at])
        return found

    def seams(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Along each axis the grid points that begin a run: between them and the point before lies a seam."""
        x, y, z = (axis.edges[:-1] if len(axis.starts) > 1 else axis.edges[:0] for axis in self._axes)
        return x, y, z

    @staticmethod
    def _axis_weights(axis: _Axis, i: int) -> NDArray[np.float64]:
        if axis.weights is not None:
            return np.asarray(axis.weights[i])
        weights = np.zeros(axis.p)
        weights[axis.low[i] : axis.low[i] + axis.edges[i + 1] - axis.edges[i]] = 1.0
        return weights


def cover(grid_shape: Sequence[int], patch_shape: Sequence[int], overlap: int = 0) -> Cover:
    """Patches whose owned voxels, or blended weights, make up the whole grid exactly once.

    Args:
        grid_shape: points of the grid.
        patch_shape: points of a patch; an axis may be longer than that of the grid.
        overlap: grid points by which neighbours overlap at least.

    Raises:
        ValueError: shapes that are not three numbers above zero, or an overlap that leaves a patch no run.
    """
    grid, patch = _triple(grid_shape, "grid"), _triple(patch_shape, "patch")
    if not 0 <= overlap < min(patch):
        raise ValueError(
            f"an overlap of {overlap} grid points must be at least 0 and less than the patch's shortest axis, "
            f"{min(patch)}"
        )
    x, y, z = (_Axis.of(n, p, overlap) for n, p in zip(grid, patch, strict=True))
    corners = np.meshgrid(x.starts, y.starts, z.starts, indexing="ij")
    offsets = np.stack(corners, axis=-1).reshape(-1, 3)
    return Cover(grid, patch, overlap, offsets, (x, y, z))


class Assembly:
    """Puts predicted patches together; each must be added once, in any order.

    Args:
        cover: the patches.
    """

    def __init__(self, cover: Cover) -> None:
        """Make room for the grid."""
        self.cover = cover
        blended = cover.overlap > 0
        self._sum = np.zeros(cover.grid_shape, dtype=np.float64 if blended else np.float32)
        self._squares = np.zeros(cover.grid_shape, dtype=np.float64) if blended else None
        self._missing = np.ones(len(cover), dtype=bool)

    def add(self, index: int, patch: NDArray[np.float32]) -> None:
        """Patch ``index`` of the cover.

        Raises:
            ValueError: a patch of another shape, with values that are not finite, or added before.
        """
        if patch.shape != self.cover.patch_shape:
            raise ValueError(f"patch {index} has shape {patch.shape}, not {self.cover.patch_shape}")
        if not np.isfinite(patch).all():
            raise ValueError(f"the prediction of patch {index} holds NaN or infinite values")
        if not self._missing[index]:
            raise ValueError(f"patch {index} was added before")
        self._missing[index] = False
        if self._squares is None:
            grid, own = self.cover.owned(index)
            self._sum[grid] = patch[own]
            return
        weights = self.cover.weights(index)
        where = self.cover.points(index)
        values = patch.astype(np.float64)
        for target, addend in ((self._sum, weights * values), (self._squares, weights * values * values)):
            points, folded = _fold(where, addend, self.cover.grid_shape)
            target[np.ix_(*points)] += folded

    @property
    def complete(self) -> bool:
        """Whether all patches were added."""
        return not self._missing.any()

    def density(self) -> NDArray[np.float32]:
        """The whole.

        Raises:
            ValueError: patches are missing.
        """
        if not self.complete:
            raise ValueError(f"{int(self._missing.sum())} of {len(self.cover)} patches are missing")
        return self._sum.astype(np.float32)

    def disagreement(self) -> float | None:
        """Standard deviation among the patches that share a voxel, summed, over the sum of \\|density\\|.

        None without overlap.
        """
        if self._squares is None:
            return None
        # What rounding leaves of a difference of equal squares is no disagreement.
        noise = 1e-12 * self._squares
        variance = self._squares - self._sum * self._sum
        total = float(np.abs(self._sum).sum())
        spread = np.sqrt(np.where(variance > noise, variance, 0.0))
        return float(spread.sum()) / total if total else 0.0


def _fold(
    points: tuple[NDArray[np.int64], ...], values: NDArray[np.float64], grid: Triple
) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Images of one grid point inside a patch summed, so that no point is met twice along an axis."""
    kept = []
    for axis, (where, n) in enumerate(zip(points, grid, strict=True)):
        if len(where) > n:
            images = -(-len(where) // n)
            padding = [(0, 0)] * 3
            padding[axis] = (0, images * n - len(where))
            shape = list(values.shape)
            shape[axis : axis + 1] = [images, n]
            values = np.pad(values, padding).reshape(shape).sum(axis=axis)
        kept.append(where[:n])
    return kept, values


def _triple(shape: Sequence[int], what: str) -> Triple:
    numbers = tuple(int(n) for n in shape)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(f"{what} shape {tuple(shape)} must be three numbers above zero")
    return numbers[0], numbers[1], numbers[2]
