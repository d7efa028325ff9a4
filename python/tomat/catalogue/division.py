"""Divide materials into splits so that no group, a formula or a chemical system, is on two sides."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def split_groups(
    ids: Sequence[str], groups: Sequence[str], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[str]]:
    """Ids of each split, in the order of ``ids``; all of a group are in one.

    The number of materials each split should have is its fraction of all, in whole numbers by largest remainders.
    Groups come largest first, and those of one size in an order that the seed shuffles; each goes to a split that still
    has room for it, chosen with probability proportional to the room, or to the one with most room where none has
    enough. So large groups are not always on the side of the largest split, and the small ones fill what is left: with
    enough groups of one material the fractions are met exactly. The result depends neither on the order of the
    materials nor on the machine.

    Raises:
        ValueError: no materials, an id twice, fractions that are none.
    """
    if not ids:
        raise ValueError("no materials to divide")
    if len(set(ids)) < len(ids) or len(ids) != len(groups):
        raise ValueError("every material must be there once, with one group")
    room = _targets(len(ids), fractions)
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in zip(ids, groups, strict=True):
        members[group].append(name)
    side: dict[str, str] = {}
    for group in sorted(members, key=lambda g: (-len(members[g]), _word(seed, "order", g), g)):
        size = len(members[group])
        fits = {name: left for name, left in room.items() if left >= size}
        if fits:
            place = _word(seed, "side", group) * sum(fits.values()) >> 64
            for name, left in fits.items():
                chosen = name
                place -= left
                if place < 0:
                    break
        else:
            chosen = max(room, key=lambda name: room[name])
        room[chosen] -= size
        side[group] = chosen
    found: dict[str, list[str]] = {name: [] for name in fractions}
    for name, group in zip(ids, groups, strict=True):
        found[side[group]].append(name)
    return found


def _targets(total: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to the fractions, ``total`` in all."""
    weight = math.fsum(fractions.values())
    if not fractions or any(not (math.isfinite(f) and f > 0) for f in fractions.values()):
        raise ValueError(f"fractions {dict(fractions)} are not numbers above zero; give train=0.8,test=0.2")
    quotas = {name: total * f / weight for name, f in fractions.items()}
    targets = {name: math.floor(quota) for name, quota in quotas.items()}
    missing = total - sum(targets.values())
    for name in sorted(quotas, key=lambda n: targets[n] - quotas[n])[:missing]:
        targets[name] += 1
    return targets


def _word(seed: int, purpose: str, group: str) -> int:
    """A random number of 64 bits that follows from its arguments."""
    digest = hashlib.sha256(f"tomat.split.1\0{purpose}\0{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
