"""Crystals as text, as language models of words read and write them.

The representation of N. Gruver et al., Fine-tuned language models generate stable inorganic materials as text
(ICLR 2024, arXiv:2402.04379), section 4: lengths to 0.1 angstrom, angles to whole degrees, then an element and its
fractional coordinates to two digits a line each::

    3.9 3.9 3.9
    90 90 90
    Sr
    0.00 0.00 0.00
    Ti
    0.50 0.50 0.50

Three prompts go before it: to write a crystal, to write one that meets conditions, and to say which element was
replaced by ``[MASK]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomat import _core
from tomat.crystal import Crystal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MASK", "Prompt", "condition", "generate", "infill", "read_text", "write_text"]

type Kind = Literal["generate", "condition", "infill"]

#: Stands for an element that is asked for.
MASK = "[MASK]"
#: Steps of a coordinate.
STEPS = 100

_SYMBOLS = _core.elements()
_LENGTHS = re.compile(r"\d+\.\d \d+\.\d \d+\.\d", re.ASCII)
_ANGLES = re.compile(r"\d{1,3} \d{1,3} \d{1,3}", re.ASCII)
_PLACE = re.compile(r"0\.\d\d 0\.\d\d 0\.\d\d", re.ASCII)

_WRITE = (
    "Generate a description of the lengths and angles of the lattice vectors and then the element type and coordinates "
    "for each atom within the lattice:\n"
)


@dataclass(frozen=True)
class Prompt:
    """A question and what is to be answered.

    Attributes:
        kind: which of the three.
        prompt: ends with a line break; the answer follows.
        response: the text of a crystal, or the symbol of an element.
    """

    kind: Kind
    prompt: str
    response: str


def write_text(crystal: Crystal, *, frame: Sequence[int] = (0, 0, 0), masked: int | None = None) -> str:
    """A crystal as text, without a line break at its end.

    Args:
        crystal: its atoms keep their order.
        frame: hundredths of the axes by which all atoms are moved, after rounding.
        masked: atomic number of the element that is written as ``[MASK]``.

    Raises:
        ValueError: a length that is rounded to 0, an angle that is rounded to 0 or 180 degrees.
    """
    parameters = np.array(_core.lattice_parameters(crystal.lattice))
    lengths, angles = np.rint(parameters[:3] * 10), np.rint(parameters[3:])
    if (lengths < 1).any() or (angles < 1).any() or (angles > 179).any():
        raise ValueError(
            f"{crystal.name}: the cell {parameters.round(3).tolist()} cannot be written to 0.1 angstrom and whole "
            "degrees"
        )
    places = np.rint((crystal.frac_coords % 1.0) * STEPS).astype(np.int64) + np.asarray(frame, np.int64)
    lines = [
        " ".join(f"{length / 10:.1f}" for length in lengths.tolist()),
        " ".join(f"{angle:.0f}" for angle in angles.tolist()),
    ]
    for z, place in zip(crystal.atomic_numbers.tolist(), (places % STEPS).tolist(), strict=True):
        lines += [MASK if z == masked else _SYMBOLS[z - 1], " ".join(f"0.{x:02}" for x in place)]
    return "\n".join(lines)


def read_text(text: str, name: str = "crystal") -> Crystal:
    """The crystal of a text; nothing but what :func:`write_text` writes is taken.

    Args:
        text: one line break at its end is allowed.
        name: of the crystal, and in messages.

    Raises:
        ValueError: not such a text, with the line and what is expected there; a cell that does not exist.
    """
    lines = text.removesuffix("\n").split("\n")

    def wrong(number: int, expected: str) -> ValueError:
        found = repr(lines[number][:60]) if number < len(lines) else "the end of the text"
        return ValueError(f"{name}, line {number + 1}: expected {expected}, found {found}")

    def matched(number: int, pattern: re.Pattern[str], expected: str) -> list[float]:
        if number >= len(lines) or not pattern.fullmatch(lines[number]):
            raise wrong(number, expected)
        return [float(word) for word in lines[number].split(" ")]

    lengths = matched(0, _LENGTHS, "three lengths such as 3.9 3.9 12.0")
    angles = matched(1, _ANGLES, "three angles such as 90 90 120")
    if min(lengths) <= 0:
        raise wrong(0, "lengths above 0")
    if not all(0 < angle < 180 for angle in angles):
        raise wrong(1, "angles between 0 and 180")
    numbers, places = [], []
    for number in range(2, max(len(lines), 4), 2):
        if number >= len(lines) or lines[number] not in _SYMBOLS:
            raise wrong(number, "an element")
        numbers.append(_SYMBOLS.index(lines[number]) + 1)
        places.append(matched(number + 1, _PLACE, "three coordinates such as 0.00 0.50 0.33"))
    try:
        return Crystal.from_parameters([*lengths, *angles], numbers, places, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def generate(crystal: Crystal, frame: Sequence[int] = (0, 0, 0)) -> Prompt:
    """To write any crystal."""
    return Prompt(
        "generate", f"Below is a description of a bulk material. {_WRITE}", write_text(crystal, frame=frame)
    )


def condition(
    crystal: Crystal, conditions: Mapping[str, str | float], frame: Sequence[int] = (0, 0, 0)
) -> Prompt:
    """To write a crystal that meets conditions, by name: numbers are given to four digits.

    Raises:
        ValueError: no conditions.
    """
    if not conditions:
        raise ValueError(f"{crystal.name}: no conditions; ask for any crystal instead")
    said = " ".join(
        f"The {key.replace('_', ' ')} is {value if isinstance(value, str) else f'{value:.4g}'}."
        for key, value in conditions.items()
    )
    prompt = f"Below is a description of a bulk material. {said} {_WRITE}"
    return Prompt("condition", prompt, write_text(crystal, frame=frame))


def infill(crystal: Crystal, element: int, frame: Sequence[int] = (0, 0, 0)) -> Prompt:
    """To say which element was replaced everywhere.

    Args:
        crystal: with the element.
        element: its atomic number.
        frame: as :func:`write_text`.

    Raises:
        ValueError: no atom is of this element.
    """
    if element not in crystal.atomic_numbers:
        raise ValueError(f"{crystal.name}: no atom has the atomic number {element}")
    prompt = (
        "Below is a partial description of a bulk material where one element has been replaced with the string "
        f'"{MASK}":\n{write_text(crystal, frame=frame, masked=element)}\n'
        f"Generate an element that could replace {MASK} in the bulk material:\n"
    )
    return Prompt("infill", prompt, _SYMBOLS[element - 1])
