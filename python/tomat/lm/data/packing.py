"""Packing of several sequences into rows of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomat.lm.data.shuffle import key_of, permute

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest number of passes to separate sequences of one material.
_REPAIRS = 20


@dataclass(frozen=True, eq=False)
class Packing:
    """Sequences of each row: row r holds ``sequences[starts[r]:starts[r + 1]]``.

    Attributes:
        starts: (rows + 1,) int64.
        sequences: (n,) int64, each sequence once.
        fill: fraction of all positions that hold a token.
    """

    starts: NDArray[np.int64]
    sequences: NDArray[np.int64]
    fill: float

    def __len__(self) -> int:
        return len(self.starts) - 1


def one_each(lengths: NDArray[np.int32], size: int) -> Packing:
    """One row per sequence."""
    n = len(lengths)
    return Packing(np.arange(n + 1), np.arange(n), _fill(lengths, n, size))


def pack(lengths: NDArray[np.int32], materials: NDArray[np.int32], size: int, seed: int) -> Packing:
    """Pack sequences into rows of ``size`` positions.

    Sequences have few distinct lengths, so rows are filled by patterns of lengths, longest first, each used as often as
    possible. Sequences of one length are assigned at random. Two sequences of one material share a row only if it
    cannot be avoided.

    Args:
        lengths: (n,) tokens of each sequence, at most ``size``.
        materials: (n,) material index of each.
        size: positions per row.
        seed: of the random assignment.
    """
    distinct, kind = np.unique(lengths, return_inverse=True)
    pools = _pools(kind, len(distinct), seed)
    patterns = _patterns(distinct.astype(np.int64), np.array([len(pool) for pool in pools]), size)
    counts = np.array([count for _, count in patterns], dtype=np.int64)
    widths = np.array([len(pattern) for pattern, _ in patterns], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(np.repeat(widths, counts))])
    sequences = np.empty(len(lengths), dtype=np.int64)
    used, place = [0] * len(distinct), 0
    for pattern, count in patterns:
        block = np.empty((count, len(pattern)), dtype=np.int64)
        for column, index in enumerate(pattern):
            block[:, column] = pools[index][used[index] : used[index] + count]
            used[index] += count
        sequences[place : place + block.size] = block.ravel()
        place += block.size
    _separate(starts, sequences, lengths, materials, size, seed)
    return Packing(starts, sequences, _fill(lengths, len(starts) - 1, size))


def _pools(kind: NDArray[np.int64], n: int, seed: int) -> list[NDArray[np.int64]]:
    """The sequences of each length, in random order."""
    order = permute(np.arange(len(kind)), len(kind), key_of(seed, "pack")) if len(kind) else np.arange(0)
    order = order[np.argsort(kind[order], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(kind, minlength=n))[:-1])


def _patterns(lengths: NDArray[np.int64], left: NDArray[np.int64], size: int) -> list[tuple[list[int], int]]:
    """Patterns (indices of lengths) with the number of rows of each: first fit, longest first."""
    left = left.copy()
    found: list[tuple[list[int], int]] = []
    while left.any():
        need = np.zeros_like(left)
        free = size
        pattern: list[int] = []
        for index in range(len(lengths) - 1, -1, -1):
            times = min(free // int(lengths[index]), int(left[index]))
            need[index] = times
            free -= times * int(lengths[index])
            pattern += [index] * times
        needed = need > 0
        count = int((left[needed] // need[needed]).min())
        left -= need * count
        found.append((pattern, count))
    return found


def _separate(
    starts: NDArray[np.int64],
    sequences: NDArray[np.int64],
    lengths: NDArray[np.int32],
    materials: NDArray[np.int32],
    size: int,
    seed: int,
) -> None:
    """Swap sequences until no row holds a material twice or no swap helps; equal lengths first."""
    if len(sequences) == len(starts) - 1:
        return
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    free = size - np.bincount(rows, weights=lengths[sequences]).astype(np.int64)
    by_length = np.argsort(lengths[sequences], kind="stable")
    twice = _repeated(rows, materials[sequences])

    def clashes(at: int, material: int) -> bool:
        row = rows[at]
        there = range(int(starts[row]), int(starts[row + 1]))
        return any(p != at and materials[sequences[p]] == material for p in there)

    def swap(place: int, other: int) -> bool:
        """Swap two places if both rows have room and it adds no repeated material.

        True if the first place's material then occurs only once in its row.
        """
        mine, theirs = sequences[place], sequences[other]
        if not clashes(place, materials[mine]):
            return True  # its double has moved
        longer = int(lengths[theirs]) - int(lengths[mine])
        fits = longer <= free[rows[place]] and -longer <= free[rows[other]]
        same = materials[mine] == materials[theirs] or rows[place] == rows[other]
        if same or not fits or clashes(place, materials[theirs]) or clashes(other, materials[mine]):
            return False
        sequences[[place, other]] = sequences[[other, place]]
        free[rows[place]] -= longer
        free[rows[other]] += longer
        return True

    for repair in range(_REPAIRS):
        if not twice.size:
            return
        draws = [key_of(seed, "swap", repair, place) for place in twice.tolist()]
        # Swaps of equal lengths keep the length at each place.
        low, high = np.zeros_like(twice), np.full_like(twice, len(rows))
        if repair < _REPAIRS // 2:
            there = lengths[sequences[by_length]]
            low = np.searchsorted(there, lengths[sequences[twice]], side="left")
            high = np.searchsorted(there, lengths[sequences[twice]], side="right")
        stay = []
        for place, draw, first, end in zip(twice.tolist(), draws, low.tolist(), high.tolist(), strict=True):
            if not swap(place, int(by_length[first + draw % (end - first)])):
                stay.append(place)
        twice = np.array(stay, dtype=np.int64)


def _repeated(rows: NDArray[np.int64], materials: NDArray[np.int32]) -> NDArray[np.int64]:
    """Places whose material occurs earlier in their row."""
    pairs = rows * (int(materials.max()) + 1) + materials
    order = np.argsort(pairs, kind="stable")
    repeated: NDArray[np.int64] = order[1:][pairs[order][1:] == pairs[order][:-1]]
    return repeated


def _fill(lengths: NDArray[np.int32], rows: int, size: int) -> float:
    return float(lengths.sum(dtype=np.int64)) / (rows * size) if rows else 0.0
