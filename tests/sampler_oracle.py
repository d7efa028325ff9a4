"""A slow reference of the samplers, written from docs/sampling.md and from nothing else."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracle import Shape

REJECTIONS = 32


def words(purpose: str, seed: int, epoch: int, task_id: str, *numbers: int) -> list[int]:
    text = purpose.encode() + b"\0" + b"".join(n.to_bytes(8, "little") for n in (seed, epoch, *numbers))
    digest = hashlib.sha256(text + task_id.encode()).digest()
    return [int.from_bytes(digest[8 * k : 8 * k + 8], "little") for k in range(4)]


def below(word: int, limit: int) -> int:
    return word * limit >> 64


def held(density: NDArray[Any], patch: Shape, origin: Sequence[int]) -> NDArray[Any]:
    """The voxels of a patch, repeated ones included."""
    cut = density
    for axis in range(3):
        cut = np.take(cut, range(origin[axis], origin[axis] + patch[axis]), axis=axis, mode="wrap")
    return cut


def weights(density: NDArray[np.float32], patch: Shape) -> list[int]:
    """Integer weight of each origin, row-major."""
    magnitudes = [abs(float(v)) for v in density.ravel()]
    total = 0.0
    for v in magnitudes:
        total += v
    if total == 0.0:
        fixed = np.ones(density.shape, dtype=object)
    else:
        bits = 62 - math.frexp(total)[1] - math.frexp(float(math.prod(patch)))[1]
        fixed = np.array([int(v * 2.0**bits) for v in magnitudes], dtype=object).reshape(density.shape)
    return [int(held(fixed, patch, o).sum()) for o in itertools.product(*map(range, density.shape))]


def _uniform(grid: Shape, seed: int, task_id: str, epoch: int) -> Iterator[tuple[int, ...]]:
    for i in itertools.count():
        drawn = words("tomat.uniform.1", seed, epoch, task_id, i)
        yield tuple(below(w, n) for w, n in zip(drawn, grid, strict=False))


def uniform_once(grid: Shape, n: int, *, seed: int, task_id: str, epoch: int) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    seen: set[tuple[int, ...]] = set()
    for origin in _uniform(grid, seed, task_id, epoch):
        if len(found) == n:
            break
        if len(seen) == math.prod(grid):
            seen = set()
        if origin not in seen:
            seen.add(origin)
            found.append(origin)
    return found


def electrons(
    density: NDArray[np.float32],
    patch: Shape,
    n: int,
    *,
    seed: int,
    task_id: str,
    epoch: int,
    replacement: bool,
) -> list[tuple[int, ...]]:
    grid = density.shape
    table = all_weights = weights(density, patch)
    found: list[int] = []
    seen: set[int] = set()
    rejected = 0
    for i in itertools.count():
        if len(found) == n:
            break
        if not replacement and len(seen) == sum(w > 0 for w in all_weights):
            seen, table = set(), all_weights
        place = below(words("tomat.electrons.1", seed, epoch, task_id, i)[0], sum(table))
        origin = next(k for k, end in enumerate(itertools.accumulate(table)) if end > place)
        if replacement or origin not in seen:
            seen.add(origin)
            found.append(origin)
            rejected = 0
        else:
            rejected += 1
        if rejected == REJECTIONS:
            table = [0 if k in seen else w for k, w in enumerate(all_weights)]
            rejected = 0
    return [tuple(int(x) for x in np.unravel_index(k, grid)) for k in found]


def tiling(
    grid: Shape, patch: Shape, n: int, *, seed: int, task_id: str, epoch: int
) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    counts = [-(-g // p) for g, p in zip(grid, patch, strict=True)]
    disjoint = [max(g // p, 1) for g, p in zip(grid, patch, strict=True)]
    everything = list(itertools.product(*map(range, counts)))
    first = [t for t in everything if all(k < d for k, d in zip(t, disjoint, strict=True))]
    for number in itertools.count():
        if len(found) >= n:
            return found[:n]
        origin = [
            below(w, g)
            for w, g in zip(words("tomat.tiling.1", seed, epoch, task_id, number), grid, strict=False)
        ]
        stream = (
            w
            for block in itertools.count()
            for w in words("tomat.tiling.shuffle.1", seed, epoch, task_id, number, block)
        )
        for group in (first, [t for t in everything if t not in set(first)]):
            order = list(group)
            for i in range(len(order)):
                j = i + below(next(stream), len(order) - i)
                order[i], order[j] = order[j], order[i]
            found += [
                tuple((o + k * p) % g for o, k, p, g in zip(origin, t, patch, grid, strict=True))
                for t in order
            ]
    raise AssertionError
