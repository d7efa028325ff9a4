"""Stateless random permutations and numbers, determined by keys and the same on every platform.

Levanter's Feistel permutation (``levanter.data._prp``) is not used: resumed runs would see their data in another order,
and its rounds are affine modulo a power of two, so it mixes worse (neighbours among 65,536 places end up 9,402 distinct
steps apart; in a random order 48,000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MASK = (1 << 64) - 1
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15


def key_of(*parts: int | str) -> int:
    """A 64-bit key from numbers and words; their order matters."""
    key = 0
    for part in parts:
        words = [part] if isinstance(part, int) else list(part.encode())
        for word in (len(words), *words):
            key = _mix_one(key ^ (word & _MASK))
    return key


def keys_of(key: int, numbers: ArrayLike) -> NDArray[np.uint64]:
    """A key for each of ``numbers`` (n,)."""
    return _mix(_mix(np.asarray(numbers, dtype=np.int64).astype(np.uint64)) ^ np.uint64(key))


def permute(positions: ArrayLike, n: int, key: int) -> NDArray[np.int64]:
    """Images of ``positions`` under a permutation of ``range(n)`` chosen by ``key``, in time independent of ``n``.

    A Feistel network over the next power of four is iterated until the result is below ``n``, on average in fewer than
    four steps.

    Raises:
        IndexError: a position outside ``range(n)``.
    """
    x = np.atleast_1d(np.asarray(positions, dtype=np.int64)).astype(np.uint64)
    if x.size and int(x.max()) >= n:
        raise IndexError(f"positions up to {x.max()} in an order of {n}")
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    keys = [np.uint64(key_of(key, step)) for step in range(_ROUNDS)]
    out = _feistel(x, half, keys)
    while (beyond := np.flatnonzero(out >= n)).size:
        out[beyond] = _feistel(out[beyond], half, keys)
    return out.astype(np.int64)


def random_bits(keys: ArrayLike, n: int) -> NDArray[np.uint32]:
    """Random numbers of 24 bits, uint32 (len(keys), n), one row per key."""
    key = _mix(np.asarray(keys, dtype=np.uint64).reshape(-1))
    low = (key & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
    high = (key >> np.uint64(32)).astype(np.uint32)[:, None]
    # 32-bit arithmetic is faster, and this runs over every token of every batch.
    x = np.arange(n, dtype=np.uint32)[None, :] * np.uint32(0x9E3779B9) + low
    x ^= high
    _mix32(x)
    x >>= np.uint32(8)
    return x


def _feistel(x: NDArray[np.uint64], half: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix_one(x: int) -> int:
    """:func:`_mix` of one number, without NumPy's overhead."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix32(x: NDArray[np.uint32]) -> None:
    """The finalizer lowbias32 (C. Wellons, hash-prospector), in place."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
