"""Crystals to rows of token ids and back; the format is docs/crystals.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomat import _core
from tomat.codec import Codec, load_codec
from tomat.crystal import Crystal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CrystalLanguage", "WrittenCrystal"]

#: Steps of lengths and angles of a cell: hundredths of an angstrom, tenths of a degree.
_STEPS = np.array([100.0] * 3 + [10.0] * 3)


@dataclass(frozen=True, eq=False)
class WrittenCrystal:
    """A crystal in the whole numbers of its tokens.

    Attributes:
        cell: (6,) a, b, c in hundredths of an angstrom and alpha, beta, gamma in tenths of a degree.
        elements: (n,) int32 atomic numbers; 0 is ``[MASK]``.
        positions: (n, 3) int32 in steps of the language's resolution; three times -1 is ``[MASK]``.
        conditions: what stands before the crystal: slots, ascending, each with its numbers (:class:`Conditions`).
        answer: elements and positions that were masked, in the order of the atoms; one element alone answers for all.
            None if nothing is said after the crystal.
    """

    cell: tuple[int, ...]
    elements: NDArray[np.int32]
    positions: NDArray[np.int32]
    conditions: tuple[tuple[int, tuple[int, ...]], ...] = ()
    answer: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    @property
    def n_atoms(self) -> int:
        """Atoms, masked ones too."""
        return len(self.elements)

    def ordered(self, order: ArrayLike) -> WrittenCrystal:
        """The same crystal with its atoms in another order, a permutation of (n,); without an answer.

        Raises:
            ValueError: it has an answer, whose order is that of the atoms.
        """
        if self.answer is not None:
            raise ValueError(
                "an answer stands in the order of the atoms; order them before anything is masked"
            )
        places = np.asarray(order)
        return replace(self, elements=self.elements[places], positions=self.positions[places])

    def under(self, conditions: Sequence[tuple[int, Sequence[int]]]) -> WrittenCrystal:
        """The same crystal behind these conditions."""
        return replace(self, conditions=tuple((slot, tuple(values)) for slot, values in conditions))

    def with_masked_element(self, element: int) -> WrittenCrystal:
        """All atoms of an element masked, and the element as the answer.

        Raises:
            ValueError: no atom is of this element.
        """
        found = self.elements == element
        if not found.any():
            raise ValueError(f"no atom has the atomic number {element}")
        nothing = np.empty((0, 3), np.int32)
        return replace(
            self,
            elements=np.where(found, np.int32(0), self.elements),
            answer=(np.array([element], np.int32), nothing),
        )

    def with_masked_sites(
        self, sites: ArrayLike, *, elements: bool = True, positions: bool = False
    ) -> WrittenCrystal:
        """Some atoms masked, and what they are as the answer.

        Args:
            sites: (m,) indices of atoms.
            elements: mask their elements.
            positions: mask their positions.
        """
        chosen = np.zeros(self.n_atoms, bool)
        chosen[np.asarray(sites)] = True
        answer = (
            self.elements[chosen & elements],
            self.positions[chosen & positions],
        )
        return replace(
            self,
            elements=np.where(chosen & elements, np.int32(0), self.elements),
            positions=np.where((chosen & positions)[:, None], np.int32(-1), self.positions),
            answer=answer,
        )


class CrystalLanguage:
    """Writes and reads rows of crystals.

    Args:
        positions: values that a coordinate can take: 1024 (one token) or 4096 (two).
        codec: of densities, or its name, path or URL, if rows go on with a density; None for crystals alone.

    Raises:
        KeyError, OSError: an unknown codec.
        ValueError: another resolution.
    """

    def __init__(self, positions: int = 1024, codec: Codec | str | Path | None = None) -> None:
        self.positions = positions
        self.codec = load_codec(codec) if codec is not None and not isinstance(codec, Codec) else codec
        try:
            self._core = _core.CrystalLanguage(positions, self.codec)
        except OverflowError as error:
            raise ValueError(f"positions = {positions}; choose 1024 or 4096") from error

    @property
    def total_size(self) -> int:
        """Number of ids: they run from 0 to one less."""
        return self._core.total_size

    @property
    def specials(self) -> dict[str, int]:
        """Ids of the specials by printed name."""
        return self._core.specials

    @property
    def atom_range(self) -> tuple[int, int]:
        """First id of the atoms, hydrogen, and the id behind the last."""
        return self._core.atom_range

    @property
    def int_range(self) -> tuple[int, int]:
        """First id of the ints, 0, and the id behind the last, 1023."""
        return self._core.int_range

    @property
    def density_range(self) -> tuple[int, int]:
        """First id of densities and the id behind the last; empty without a codec."""
        return self._core.density_range

    @property
    def hash(self) -> str:
        """SHA-256 of everything that gives an id its meaning."""
        return self._core.hash

    def name(self, token: int) -> str:
        """The printed form of an id.

        Raises:
            IndexError: no such id.
        """
        return self._core.name(token)

    def write(self, crystal: Crystal) -> WrittenCrystal:
        """A crystal in whole numbers, in the frame and order it has.

        Lengths are rounded to 0.01 angstrom, angles to 0.1 degrees, positions to the resolution, halves to even.

        Raises:
            ValueError: a cell longer than 102.39 angstrom, or with an angle that is rounded to 0 or 180 degrees.
        """
        parameters = _core.lattice_parameters(crystal.lattice)
        cell, positions = self._core.quantize(parameters, crystal.atomic_numbers, crystal.frac_coords)
        return WrittenCrystal(tuple(cell), crystal.atomic_numbers.copy(), positions)

    def encode(self, written: WrittenCrystal, frame: Sequence[int] = (0, 0, 0)) -> NDArray[np.int32]:
        """The token ids of a row, from ``[BOS]`` to ``[EOS]``.

        Args:
            written: the crystal.
            frame: steps of the resolution by which all atoms are moved along a, b and c, modulo the cell: the same
                crystal, exactly.

        Raises:
            ValueError: numbers out of their range, or an answer to other questions than were asked.
        """
        steps = [int(step) % self.positions for step in frame]
        return self._core.encode(
            written.conditions, written.cell, written.elements, written.positions, written.answer, steps
        )

    def decode(self, ids: ArrayLike) -> WrittenCrystal:
        """The crystal of a row; ``[PAD]`` may follow it.

        Raises:
            ValueError: not a row of this language; the message names the block and the position.
        """
        array = np.ascontiguousarray(ids, np.int32)
        conditions, cell, elements, positions, answer = self._core.decode(array)
        found = WrittenCrystal(tuple(cell), elements, positions, answer=answer)
        return found.under(conditions)

    def crystal(self, written: WrittenCrystal, name: str = "crystal") -> Crystal:
        """The crystal that was written, to the steps of the language.

        Raises:
            ValueError: something is masked, or no cell has such angles.
        """
        if (written.elements == 0).any() or (written.positions < 0).any():
            raise ValueError(f"{name}: some of it is masked; fill it in first")
        parameters = np.array(written.cell) / _STEPS
        try:
            return Crystal.from_parameters(
                parameters, written.elements, written.positions / self.positions, name
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def show(self, ids: ArrayLike) -> list[str]:
        """The printed forms of the ids of a row, trailing padding left out.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        return self._core.show(np.ascontiguousarray(ids, np.int32))
