"""Chemical category and formula of a crystal, from its elements alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

from tomat import _core

__all__ = ["CATEGORIES", "METALS", "Category", "category", "chemical_system", "reduced_formula"]

type Category = Literal[
    "halide", "oxyhalide", "chalcogenide", "oxychalcogenide", "oxide", "intermetallic", "other"
]

#: The categories, in the order tables show them.
CATEGORIES: tuple[Category, ...] = get_args(Category.__value__)

_SYMBOLS = tuple(_core.elements())
_HALOGENS = frozenset({"F", "Cl", "Br", "I", "At", "Ts"})
_CHALCOGENS = frozenset({"S", "Se", "Te", "Po", "Lv"})
_NONMETALS = frozenset({"H", "He", "C", "N", "O", "P", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"})
_METALLOIDS = frozenset({"B", "Si", "Ge", "As", "Sb"})

#: Symbols of the elements that are neither halogens, chalcogens, other nonmetals nor metalloids.
METALS: frozenset[str] = frozenset(_SYMBOLS) - _HALOGENS - _CHALCOGENS - _NONMETALS - _METALLOIDS


def category(elements: Iterable[str | int]) -> Category:
    """The category of a crystal of ``elements`` (symbols or atomic numbers), whatever their amounts.

    The first rule that holds decides:

    1. a halogen (F, Cl, Br, I, At, Ts) and oxygen: ``oxyhalide``;
    2. a halogen: ``halide`` (so a sulphide chloride is a halide);
    3. oxygen and a chalcogen (S, Se, Te, Po, Lv): ``oxychalcogenide`` (also sulphates and tellurites: the rules use
       elements, not oxidation states);
    4. a chalcogen: ``chalcogenide``;
    5. oxygen: ``oxide`` (also carbonates, nitrates, phosphates, hydroxides and solid O2);
    6. metals only: ``intermetallic`` (also alloys and pure metals; B, Si, Ge, As, Sb are metalloids, not metals; Al,
       Ga, In, Tl, Sn, Pb, Bi are metals);
    7. anything else: ``other`` (nitrides, carbides, hydrides, borides, silicides, pnictides, other elements).

    Raises:
        ValueError: no elements, or one that is not an element.
    """
    symbols = {_symbol(element) for element in elements}
    if not symbols:
        raise ValueError("no elements; a crystal has at least one")
    oxygen = "O" in symbols
    if symbols & _HALOGENS:
        return "oxyhalide" if oxygen else "halide"
    if symbols & _CHALCOGENS:
        return "oxychalcogenide" if oxygen else "chalcogenide"
    if oxygen:
        return "oxide"
    return "intermetallic" if symbols <= METALS else "other"


def reduced_formula(elements: Iterable[str | int]) -> str:
    """The reduced formula of a cell in Hill order; ``elements`` has one entry per atom.

    E. A. Hill, J. Am. Chem. Soc. 22, 478 (1900): carbon, hydrogen, then by symbol; without carbon, all by symbol.

    Raises:
        ValueError: no atoms, or one that is not an element.
    """
    counts = Counter(_symbol(element) for element in elements)
    if not counts:
        raise ValueError("no atoms; a crystal has at least one")
    divisor = math.gcd(*counts.values())
    first = [symbol for symbol in ("C", "H") if "C" in counts and symbol in counts]
    order = first + sorted(set(counts) - set(first))
    parts = ((symbol, counts[symbol] // divisor) for symbol in order)
    return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in parts)


def chemical_system(elements: Iterable[str | int]) -> str:
    """The symbols of the elements, each once, sorted and joined by hyphens, as in the Materials Project: ``Cl-Na``.

    Raises:
        ValueError: one that is not an element.
    """
    return "-".join(sorted({_symbol(element) for element in elements}))


def _symbol(element: str | int) -> str:
    if isinstance(element, str):
        if element in _SYMBOLS:
            return element
        raise ValueError(f"{element!r} is not the symbol of an element")
    number = int(element)
    if not 1 <= number <= len(_SYMBOLS):
        raise ValueError(f"{number} is not an atomic number from 1 to {len(_SYMBOLS)}")
    return _SYMBOLS[number - 1]
