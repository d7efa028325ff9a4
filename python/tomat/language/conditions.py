"""What may stand before a crystal: its formula, number of atoms, space group, and bins of named columns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tomat.symmetry import space_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from tomat.crystal import Crystal

__all__ = ["FIRST_COLUMN", "SYMPREC", "Column", "Conditions", "Slot"]

#: A slot number and what stands behind it.
type Slot = tuple[int, tuple[int, ...]]

#: Slot of the first named column; before it are the formula, the number of atoms and the space group.
FIRST_COLUMN = 3
#: Distance in angstrom up to which atoms are equal where a space group is found.
SYMPREC = 0.01


@dataclass(frozen=True)
class Column:
    """A number of each crystal, in bins.

    Attributes:
        name: of the column.
        edges: ascending; bin i holds values from edge i - 1 up to, but without, edge i.
    """

    name: str
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.edges or any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"column {self.name}: bins need ascending edges, not {list(self.edges)}")
        if len(self.edges) > 1023:
            raise ValueError(f"column {self.name}: {len(self.edges) + 1} bins; at most 1024 can be written")

    @classmethod
    def fit(cls, name: str, values: ArrayLike, bins: int = 32) -> Self:
        """Bins with as many crystals in each, as far as values differ.

        Raises:
            ValueError: no two different values, or values that are not finite.
        """
        given = np.asarray(values, np.float64)
        if not given.size or not np.isfinite(given).all():
            raise ValueError(f"column {name}: {given.size} values, not all of them finite")
        # Edges are values that occur: few different ones get a bin each.
        inner = np.unique(np.quantile(given, np.arange(1, bins) / bins, method="higher"))
        edges = inner[inner > given.min()]
        if not edges.size:
            raise ValueError(f"column {name}: all values are {given.min():g}; nothing can be asked for")
        return cls(name, tuple(edges.tolist()))

    def bin(self, value: float) -> int:
        """The bin of a value.

        Raises:
            ValueError: it is not finite.
        """
        if not np.isfinite(value):
            raise ValueError(f"column {self.name}: {value} is not finite")
        return int(np.searchsorted(self.edges, value, side="right"))


@dataclass(frozen=True)
class Conditions:
    """The conditions of a data set or model.

    Attributes:
        formula: slot 0: elements in ascending atomic number, each with its number of atoms.
        n_atoms: slot 1.
        space_group: slot 2, of the crystal as given to :data:`SYMPREC`; needs ``tomat[symmetry]``.
        columns: slots 3 and above.
    """

    formula: bool = False
    n_atoms: bool = False
    space_group: bool = False
    columns: tuple[Column, ...] = ()

    @property
    def slots(self) -> dict[str, int]:
        """The slot of each condition by name."""
        kept = {"formula": self.formula, "n_atoms": self.n_atoms, "space_group": self.space_group}
        own = {name: slot for slot, (name, is_kept) in enumerate(kept.items()) if is_kept}
        return own | {column.name: FIRST_COLUMN + i for i, column in enumerate(self.columns)}

    def of(self, crystal: Crystal, values: Mapping[str, float | None] | None = None) -> tuple[Slot, ...]:
        """The conditions that a crystal meets, ascending; a column without a value is left out.

        Raises:
            ValueError: a value that is not finite, a space group that cannot be found, or moyopy is not installed.
        """
        found: list[Slot] = []
        if self.formula:
            elements, counts = np.unique(crystal.atomic_numbers, return_counts=True)
            pairs = np.stack([elements, counts], axis=1)
            found.append((0, tuple(pairs.ravel().tolist())))
        if self.n_atoms:
            found.append((1, (crystal.n_atoms,)))
        if self.space_group:
            found.append((2, (space_group(crystal, symprec=SYMPREC),)))
        for at, column in enumerate(self.columns):
            value = (values or {}).get(column.name)
            if value is not None:
                found.append((FIRST_COLUMN + at, (column.bin(value),)))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """For ``meta.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if not isinstance(content["columns"], list):
            raise TypeError(f"columns are {content['columns']!r}, not a list")
        columns = tuple(Column(one["name"], tuple(map(float, one["edges"]))) for one in content["columns"])
        return cls(bool(content["formula"]), bool(content["n_atoms"]), bool(content["space_group"]), columns)
