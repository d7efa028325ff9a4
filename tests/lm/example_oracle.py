"""Examples, and the random numbers behind them, once more in NumPy: slowly, and array by array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.lm.data import RowArrays
from tomat.lm.data.shuffle import key_of
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.vocabulary import ModelVocabulary

type Keys = NDArray[np.uint64]


def mix(x: Keys) -> Keys:
    """The finalizer of splitmix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys_of(key: int, numbers: NDArray[np.int64]) -> Keys:
    return mix(mix(numbers.astype(np.uint64)) ^ np.uint64(key))


def random_bits(keys: Keys, n: int) -> NDArray[np.uint32]:
    """24 bits of lowbias32 of each place."""
    key = mix(keys)
    low = (key & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
    high = (key >> np.uint64(32)).astype(np.uint32)[:, None]
    x = (np.arange(n, dtype=np.uint32)[None, :] * np.uint32(0x9E3779B9) + low) ^ high
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x ^ (x >> np.uint32(16))) >> np.uint32(8)


def permute(positions: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """A Feistel network of eight rounds, walked until the result is below ``n``."""
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)

    def network(x: Keys) -> Keys:
        left, right = x >> bits, x & mask
        for step in range(8):
            left, right = right, left ^ (mix(right ^ np.uint64(key_of(key, step))) & mask)
        return (left << bits) | right

    out = network(positions.astype(np.uint64))
    while (beyond := np.flatnonzero(out >= n)).size:
        out[beyond] = network(out[beyond])
    return out.astype(np.int64)


def examples(
    config: ObjectiveConfig, rows: RowArrays, vocabulary: ModelVocabulary, keys: Keys
) -> dict[str, NDArray[Any]]:
    """The arrays of :meth:`tomat.lm.objective.Objective.examples`."""
    density = (rows.tokens >= vocabulary.density.start) & (rows.tokens < vocabulary.density.stop)
    weight = density.astype(np.float32) if config.voxel_weights == "equal" else rows.weight
    made: dict[str, NDArray[Any]] = {
        "tokens": rows.tokens,
        "targets": rows.tokens,
        "values": rows.values,
        "loss_weight": weight,
        "pos_ids": rows.positions,
        "segments": rows.segments,
    }
    if config.kind == "guess":
        assert rows.guess is not None
        return made | {"tokens": np.where(density, rows.guess, rows.tokens)}
    if config.kind == "masked":
        asked = density & (
            config.schedule == "all" or drawn(config.schedule, rows, vocabulary, density, keys)
        )
        return made | {
            "tokens": np.where(asked, np.int32(vocabulary.mask), rows.tokens),
            "loss_weight": np.where(asked, weight, np.float32(0)),
        }
    same = (rows.segments[:, 1:] == rows.segments[:, :-1]) & (rows.segments[:, 1:] >= 0)
    weight = np.where(density, weight, np.float32(config.preamble_weight))

    def shifted(array: NDArray[Any]) -> NDArray[Any]:
        return np.pad(array[:, 1:], ((0, 0), (0, 1)))

    return made | {
        "targets": shifted(rows.tokens),
        "values": shifted(rows.values),
        "loss_weight": shifted(weight) * np.pad(same, ((0, 0), (0, 1))).astype(np.float32),
    }


def drawn(
    schedule: str, rows: RowArrays, vocabulary: ModelVocabulary, density: NDArray[np.bool_], keys: Keys
) -> NDArray[np.bool_]:
    """Which density tokens are masked: a share of the voxels of each segment, and at least one voxel a row."""
    segments = max(int(rows.segments.max()) + 1, 1)
    share = random_bits(keys ^ np.uint64(0x5EED), segments) / 2.0**24
    if schedule == "cosine":
        share = np.cos(share * (np.pi / 2))
    limit = np.rint(share * 2.0**24).astype(np.uint32)
    number = random_bits(keys, rows.tokens.shape[1])
    bounds = vocabulary.density.start + np.cumsum([0, *vocabulary.codec.sizes])
    for component in range(1, len(vocabulary.codec.sizes)):
        later = (rows.tokens >= bounds[component]) & (rows.tokens < bounds[component + 1])
        later = later[:, component:]
        number[:, component:][later] = number[:, :-component][later]
    masked = density & (number < np.take_along_axis(limit, np.maximum(rows.segments, 0), axis=1))
    for row in np.flatnonzero(~masked.any(axis=1) & density.any(axis=1)):
        masked[row] = density[row] & (number[row] == number[row][density[row]].min())
    return masked
