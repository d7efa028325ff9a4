"""Division of materials into splits, with no group (formula or chemical system) in more than one."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def split_groups(
    ids: Sequence[str], groups: Sequence[str], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[str]]:
    """Ids of each split, in the order of ``ids``, with each group in one split.

    The target size of a split is its fraction of the materials, rounded by largest remainders. Groups are placed
    largest first, in random order within one size: each goes to a split with enough room, chosen with probability
    proportional to its room, or else to the one with the most room. Small groups thus fill what is left; with enough
    groups of one material the fractions are met exactly. The result depends neither on the order of the materials nor
    on the machine.

    Raises:
        ValueError: no materials, a repeated id, or invalid fractions.
    """
    if not ids:
        raise ValueError("no materials to divide")
    if len(set(ids)) < len(ids) or len(ids) != len(groups):
        raise ValueError("every material must occur once, with one group")
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
            chosen = list(fits)[bisect_right(list(accumulate(fits.values())), place)]
        else:
            chosen = max(room, key=lambda name: room[name])
        room[chosen] -= size
        side[group] = chosen
    found: dict[str, list[str]] = {name: [] for name in fractions}
    for name, group in zip(ids, groups, strict=True):
        found[side[group]].append(name)
    return found


def parse_fractions(text: str) -> dict[str, float]:
    """Shares by name from text: ``train=0.8,test=0.2``.

    Raises:
        ValueError: a part that is not a name with a share above 0, or a name twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not equals or not name or name in found or not value > 0:
            raise ValueError(f"fractions {text!r}: give name=share,name=share with shares above 0")
        found[name] = value
    return found


def _targets(total: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Integers proportional to the fractions, with sum ``total``."""
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
    """A pseudo-random 64-bit number determined by its arguments."""
    digest = hashlib.sha256(f"tomat.split.1\0{purpose}\0{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
