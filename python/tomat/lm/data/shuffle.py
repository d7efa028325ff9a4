"""Stateless random permutations and numbers, determined by keys and the same on every platform.

Levanter's Feistel permutation (``levanter.data._prp``) is not used: resumed runs would see their data in another order,
and its rounds are affine modulo a power of two, so it mixes worse (neighbours among 65,536 places end up 9,402 distinct
steps apart; in a random order 48,000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomat import _core

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
    return _core.keys_of(key, np.asarray(numbers, dtype=np.int64).reshape(-1))


def permute(positions: ArrayLike, n: int, key: int) -> NDArray[np.int64]:
    """Images of ``positions`` under a permutation of ``range(n)`` chosen by ``key``, in time independent of ``n``.

    A Feistel network over the next power of four is iterated until the result is below ``n``, on average in fewer than
    four steps.

    Raises:
        IndexError: a position outside ``range(n)``.
    """
    x = np.asarray(positions, dtype=np.int64).reshape(-1)
    if x.size and not 0 <= x.min() <= x.max() < n:
        raise IndexError(f"positions up to {x.max()} in an order of {n}")
    return _core.permute(x, n, [key_of(key, step) for step in range(_ROUNDS)])


def random_bits(keys: ArrayLike, n: int) -> NDArray[np.uint32]:
    """Random numbers of 24 bits, uint32 (len(keys), n), one row per key."""
    return _core.random_bits(np.asarray(keys, dtype=np.uint64).reshape(-1), n)


def _mix_one(x: int) -> int:
    """The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), as in the core."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
