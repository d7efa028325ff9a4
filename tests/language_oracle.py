"""A slow reference of rows of crystals, written from docs/crystals.md and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from oracle import SPECIALS, SYMBOLS

NAMES = [
    *SPECIALS["lattice"],
    "[MASK]",
    "[CONDITIONS_START]",
    "[CONDITIONS_END]",
    "[ANSWER_START]",
    "[ANSWER_END]",
]
VOCABULARY = [*NAMES, *SYMBOLS, *map(str, range(1024))]

type Slot = tuple[int, Sequence[int]]


def nearest(value: float, per: int) -> int:
    """``value * per`` to the nearest whole number, halves to even, from the product as a double has it."""
    product = Fraction(value * per)
    below = math.floor(product)
    rest = product - below
    if rest == Fraction(1, 2):
        return below + below % 2
    return below + (rest > Fraction(1, 2))


def words(
    cell: Sequence[float],
    atomic_numbers: Sequence[int],
    frac_coords: Sequence[Sequence[float]],
    values: int,
    frame: Sequence[int] = (0, 0, 0),
    conditions: Sequence[Slot] = (),
) -> list[str]:
    """The printed tokens of a crystal."""
    found = ["[BOS]"]
    if conditions:
        found.append("[CONDITIONS_START]")
        for slot, numbers in conditions:
            found.append(str(slot))
            for at, number in enumerate(numbers):
                found.append(SYMBOLS[number - 1] if slot == 0 and at % 2 == 0 else str(number))
        found.append("[CONDITIONS_END]")
    found.append("[LATTICE_START]")
    for at, length in enumerate(cell):
        whole = nearest(length, 100 if at < 3 else 10)
        found += [str(whole // 10), str(whole % 10)]
    found += ["[LATTICE_END]", "[ATOMS_START]"]
    found += [SYMBOLS[z - 1] for z in atomic_numbers]
    found += ["[ATOMS_END]", "[POS_START]"]
    for place in frac_coords:
        for x, step in zip(place, frame, strict=True):
            whole = (nearest(x - math.floor(x), values) + step) % values
            found += [str(whole)] if values == 1024 else [str(whole // 4), str(whole % 4)]
    return [*found, "[POS_END]", "[EOS]"]


def ids(printed: Sequence[str]) -> list[int]:
    """Their ids: specials, then atoms, then ints."""
    return [VOCABULARY.index(word) for word in printed]
