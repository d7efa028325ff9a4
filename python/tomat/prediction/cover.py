"""Covers of the cell by patches: their offsets, the voxels each owns, and the blending of seams.

All patches have the full shape. Along each axis the ``n`` grid points are split into ``m`` runs of equal length (to one
point), and a patch of ``p >= run`` points is centred on each, so that every voxel has surroundings on both sides. The
grid is periodic: patches wrap around its edges, and a patch longer than the axis overlaps its own images.

Without overlap every voxel has one owner. With overlap ``v``, runs are at most ``p - v`` long, and a voxel is the mean
over all patches (and images) that hold it, weighted by a window that falls smoothly towards the faces of a patch.
Weights are products over the axes, normalised along each axis, so they add up to one at every voxel.

A sliding window scores each voxel once, in the patch that knows most around it: ``middle`` is the patch in which it is
farthest from the faces, for models that see in all directions; ``latest`` is the patch in which most voxels come before
it in row-major order, along each axis, for causal models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

type Triple = tuple[int, int, int]
type Window = Literal["blend", "middle", "latest"]

#: What becomes of voxels that several patches hold.
WINDOWS: tuple[Window, ...] = get_args(Window.__value__)


@dataclass(frozen=True, eq=False)
class _Axis:
    """The patches along one axis of ``n`` grid points.

    Attributes:
        n: grid points.
        p: points of a patch.
        starts: (m,) first grid point of each patch, in [0, n).
        edges: (m + 1,) run i is grid points edges[i] to edges[i + 1].
        low: (m,) offset of run i within patch i.
        weights: (m, p) weights of the patch points; without overlap 1 in the run and 0 elsewhere.
    """

    n: int
    p: int
    starts: NDArray[np.int64]
    edges: NDArray[np.int64]
    low: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, n: int, p: int, overlap: int, window: Window) -> _Axis:
        m = -(-n // (p - overlap))
        edges = np.arange(m + 1) * n // m
        runs = np.diff(edges)
        low = p - runs if window == "latest" else (p - runs) // 2
        starts = (edges[:-1] - low) % n
        inside = np.arange(p) - low[:, None]
        weights = ((inside >= 0) & (inside < runs[:, None])).astype(np.float64)
        if overlap and window == "blend":
            # A ramp as wide as neighbours overlap: there one patch falls as sin^2 and the next rises as cos^2.
            faces = np.minimum(np.arange(p), np.arange(p)[::-1]) + 0.5
            ramp = np.clip(faces / max(int((p - runs).max()), 1), 0.0, 1.0)
            rising = np.broadcast_to(np.sin(0.5 * np.pi * ramp) ** 2, (m, p))
            where = (starts[:, None] + np.arange(p)) % n
            sums = np.bincount(where.ravel(), rising.ravel(), minlength=n)
            weights = rising / sums[where]
        return cls(n, p, starts, edges, low, weights)


@dataclass(frozen=True, eq=False)
class Cover:
    """Patches that cover a whole cell; made by :func:`cover`.

    Attributes:
        grid_shape: (nx, ny, nz).
        patch_shape: (px, py, pz).
        overlap: least number of grid points by which neighbouring patches overlap.
        window: ``blend`` the patches that hold a voxel, or take that in whose ``middle`` it is, or in which it comes
            ``latest``.
        offsets: (n, 3) int64, low corner of each patch within the grid, row-major.
    """

    grid_shape: Triple
    patch_shape: Triple
    overlap: int
    window: Window
    offsets: NDArray[np.int64]
    _axes: tuple[_Axis, _Axis, _Axis] = field(repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def blended(self) -> bool:
        """Whether a voxel is the mean of several patches; else it has one owner."""
        return self.overlap > 0 and self.window == "blend"

    def weights(self, index: int) -> NDArray[np.float64]:
        """Weights (px, py, pz) of the points of patch ``index``; over all patches they sum to one everywhere."""
        x, y, z = (axis.weights[i] for axis, i in zip(self._axes, self.place(index), strict=True))
        return np.asarray(x[:, None, None] * y[None, :, None] * z[None, None, :])

    def place(self, index: int) -> Triple:
        """The index of patch ``index`` along each axis."""
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
        """The voxels that patch ``index`` owns if nothing is blended: slices of the grid, and of the patch."""
        grid, patch = [], []
        for axis, i in zip(self._axes, self.place(index), strict=True):
            first, last, low = int(axis.edges[i]), int(axis.edges[i + 1]), int(axis.low[i])
            grid.append(slice(first, last))
            patch.append(slice(low, low + last - first))
        return tuple(grid), tuple(patch)

    def places(self) -> NDArray[np.int64]:
        """Row-major index (nx, ny, nz) of each voxel within its patch.

        Of blended patches, within that of the largest weight.
        """
        inside = np.arange(math.prod(self.patch_shape)).reshape(self.patch_shape)
        found = np.full(self.grid_shape, -1, dtype=np.int64)
        heaviest = np.zeros(self.grid_shape)
        for index in range(len(self)):
            if not self.blended:
                grid, own = self.owned(index)
                found[grid] = inside[own]
                continue
            weights, where = self.weights(index), self.points(index)
            # Image by image if the patch is longer than the grid, so that no point occurs twice.
            images = [range(0, p, n) for p, n in zip(self.patch_shape, self.grid_shape, strict=True)]
            for low in itertools.product(*images):
                part = tuple(slice(i, i + n) for i, n in zip(low, self.grid_shape, strict=True))
                at = np.ix_(*(w[p] for w, p in zip(where, part, strict=True)))
                heavier = weights[part] > heaviest[at]
                heaviest[at] = np.where(heavier, weights[part], heaviest[at])
                found[at] = np.where(heavier, inside[part], found[at])
        return found

    def seams(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For each axis, the grid points that start a run: a seam lies just before each."""
        x, y, z = (axis.edges[:-1] if len(axis.starts) > 1 else axis.edges[:0] for axis in self._axes)
        return x, y, z


def cover(
    grid_shape: Sequence[int], patch_shape: Sequence[int], overlap: int = 0, window: Window = "blend"
) -> Cover:
    """Patches whose owned voxels, or blending weights, cover every grid point exactly once.

    Args:
        grid_shape: (nx, ny, nz).
        patch_shape: (px, py, pz); an axis may be longer than that of the grid.
        overlap: least number of grid points by which neighbours overlap.
        window: one of :data:`WINDOWS`; see :class:`Cover`.

    Raises:
        ValueError: unknown ``window``, a shape that is not three positive numbers, or an overlap not below the
            shortest patch axis.
    """
    grid, patch = _triple(grid_shape, "grid"), _triple(patch_shape, "patch")
    check_window(window)
    if not 0 <= overlap < min(patch):
        raise ValueError(
            f"overlap = {overlap} grid points must be at least 0 and less than the shortest axis of a patch, "
            f"{min(patch)}"
        )
    x, y, z = (_Axis.of(n, p, overlap, window) for n, p in zip(grid, patch, strict=True))
    corners = np.meshgrid(x.starts, y.starts, z.starts, indexing="ij")
    offsets = np.stack(corners, axis=-1).reshape(-1, 3)
    return Cover(grid, patch, overlap, window, offsets, (x, y, z))


def check_window(window: str) -> Window:
    """Check the name of a window.

    Raises:
        ValueError: it is not one of :data:`WINDOWS`.
    """
    for known in WINDOWS:
        if window == known:
            return known
    raise ValueError(f"window = {window!r} is not one of {', '.join(WINDOWS)}")


class Assembly:
    """Assembles predicted patches; each must be added once, in any order.

    Args:
        cover: the patches.
    """

    def __init__(self, cover: Cover) -> None:
        self.cover = cover
        blended = cover.blended
        self._sum = np.zeros(cover.grid_shape, dtype=np.float64 if blended else np.float32)
        self._squares = np.zeros(cover.grid_shape, dtype=np.float64) if blended else None
        self._missing = np.ones(len(cover), dtype=bool)

    def add(self, index: int, patch: NDArray[np.float32]) -> None:
        """Add patch ``index`` of the cover, an array (px, py, pz)."""
        if patch.shape != self.cover.patch_shape:
            raise ValueError(f"patch {index} has shape {patch.shape}, not {self.cover.patch_shape}")
        if not np.isfinite(patch).all():
            raise ValueError(f"the prediction of patch {index} has NaN or infinite values")
        if not self._missing[index]:
            raise ValueError(f"patch {index} was already added")
        self._missing[index] = False
        if self._squares is None:
            grid, own = self.cover.owned(index)
            self._sum[grid] = patch[own]
            return
        weights = self.cover.weights(index)
        where = self.cover.points(index)
        values = patch.astype(np.float64)
        for target, addend in ((self._sum, weights * values), (self._squares, weights * values * values)):
            # A patch longer than the grid holds several images of one point.
            np.add.at(target, np.ix_(*where), addend)

    @property
    def complete(self) -> bool:
        """Whether all patches were added."""
        return not self._missing.any()

    def density(self) -> NDArray[np.float32]:
        """The assembled density (nx, ny, nz)."""
        if not self.complete:
            raise ValueError(f"{int(self._missing.sum())} of {len(self.cover)} patches are missing")
        return self._sum.astype(np.float32)

    def disagreement(self) -> float | None:
        """Sum of the standard deviations among patches that share a voxel, over the sum of \\|density\\|.

        None if nothing is blended.
        """
        if self._squares is None:
            return None
        # Differences of equal squares that are only rounding do not count.
        noise = 1e-12 * self._squares
        variance = self._squares - self._sum * self._sum
        total = float(np.abs(self._sum).sum())
        spread = np.sqrt(np.where(variance > noise, variance, 0.0))
        return float(spread.sum()) / total if total else 0.0


def _triple(shape: Sequence[int], what: str) -> Triple:
    numbers = tuple(int(n) for n in shape)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(f"{what} shape {tuple(shape)} must be three positive numbers")
    return numbers[0], numbers[1], numbers[2]
