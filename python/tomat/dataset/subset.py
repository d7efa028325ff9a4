"""Draws of materials in an order that their names decide.

The place of a material in the order is a hash of the seed and its name. It depends on no other material, so that
adding materials to a set, or listing them in another order, leaves the order of the others as it was: the draw of a
grown set holds the old draw's materials, but for those that a new one displaces.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["draw_names", "draw_stratified", "keyed_order"]


def keyed_order(names: Iterable[str], seed: int = 0) -> list[str]:
    """The names in random order: by ``SHA-256("tomat.subset.1\\0" + seed + "\\0" + name)``, the seed as a decimal."""
    return sorted(names, key=lambda name: _key(name, seed))


def draw_names(names: Sequence[str], n: int, seed: int = 0) -> list[str]:
    """The first ``n`` names of the keyed order; all of them if there are no more.

    Raises:
        ValueError: ``n`` below one.
    """
    _check(n)
    return keyed_order(names, seed)[:n]


def draw_stratified(names: Sequence[str], n: int, values: Mapping[str, float], seed: int = 0) -> list[str]:
    """``n`` names spread evenly over the distribution of a value, in the keyed order.

    The names, sorted by value (ties by name), are cut into ten parts of sizes as equal as possible (fewer if ``n`` is
    below ten); each part gives the first of its keyed order, in shares of ``n`` proportional to its size, the largest
    remainders rounded up. Where the cuts between the parts stay, adding a name changes the draw of its own part only.

    Args:
        names: to draw from.
        n: how many; all of them if there are no more.
        values: of every name.
        seed: of the order.

    Raises:
        ValueError: ``n`` below one.
        KeyError: a name without a value.
    """
    _check(n)
    if n >= len(names):
        return keyed_order(names, seed)
    by_value = sorted(names, key=lambda name: (values[name], name))
    parts = min(10, n)
    bounds = [round(len(by_value) * i / parts) for i in range(parts + 1)]
    strata = [by_value[a:b] for a, b in itertools.pairwise(bounds)]
    quotas = [n * len(stratum) / len(by_value) for stratum in strata]
    counts = [int(quota) for quota in quotas]
    # Equal remainders go to parts in keyed order, not always to the lightest.
    order = sorted(range(parts), key=lambda i: (counts[i] - quotas[i], _key(f"part {i}", seed)))
    for i in order[: n - sum(counts)]:
        counts[i] += 1
    drawn = [
        name
        for stratum, count in zip(strata, counts, strict=True)
        for name in keyed_order(stratum, seed)[:count]
    ]
    return keyed_order(drawn, seed)


def _key(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"tomat.subset.1\0{seed}\0{name}".encode()).digest()


def _check(n: int) -> None:
    if n < 1:
        raise ValueError(f"a sample of {n} materials; give at least 1")
