"""Folds of training densities, divided by chemical system: what a cross-fitted starting density has not seen."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tomat.categories import chemical_system
from tomat.lm.data.guess_check import in_drawn_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomat.lm.data.store import DensityStore
    from tomat.starting import StartingDensity

#: Starting densities of materials, by their place in a store, that have another than the rest.
type OwnStarts = Mapping[int, StartingDensity]

_WRITTEN = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")


@dataclass(frozen=True)
class Fold:
    """A fold of several, written ``1/3``.

    Attributes:
        number: from 1.
        of: number of folds.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The fold that is written so.

        Raises:
            ValueError: it is none.
        """
        found = _WRITTEN.fullmatch(text.strip())
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of or of < 2:
            raise ValueError(
                f"data.fold = {text!r}: give the number of the fold and that of all folds, such as 1/3"
            )
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Division:
    """Chemical systems divided into folds; each system is in one.

    Attributes:
        systems: of each fold, sorted, as :func:`tomat.categories.chemical_system` names them.
    """

    systems: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, store: DensityStore, folds: int) -> Self:
        """Divide the densities in a store; folds have about equally many materials.

        The division depends only on names and elements of the materials.

        Raises:
            ValueError: fewer chemical systems than folds.
        """
        sizes: dict[str, int] = {}
        for index in in_drawn_order(store.task_ids):
            system = chemical_system(store.atomic_numbers(index))
            sizes[system] = sizes.get(system, 0) + 1
        if len(sizes) < folds:
            raise ValueError(
                f"{folds} folds (data.fold, data.guess_folds), but the densities are of {len(sizes)} chemical "
                "systems; give fewer folds"
            )
        members: list[list[str]] = [[] for _ in range(folds)]
        filled = [0] * folds
        # The largest systems first, each into the smallest fold.
        for system in sorted(sizes, key=lambda system: sizes[system], reverse=True):
            smallest = filled.index(min(filled))
            members[smallest].append(system)
            filled[smallest] += sizes[system]
        return cls(tuple(tuple(sorted(fold)) for fold in members))

    def places(self, store: DensityStore) -> NDArray[np.int64]:
        """The fold (materials,) of each material of a store, from 0; -1 for systems that are in none."""
        fold_of = {system: k for k, fold in enumerate(self.systems) for system in fold}
        systems = (chemical_system(store.atomic_numbers(index)) for index in range(len(store)))
        return np.array([fold_of.get(system, -1) for system in systems], np.int64)

    @property
    def hash(self) -> str:
        """SHA-256 of the systems of all folds."""
        return hashlib.sha256(json.dumps(self.systems).encode()).hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """The fold that a model is trained without.

    Attributes:
        fold: which one.
        division: hash of the division.
        systems: the chemical systems of the fold.
    """

    fold: Fold
    division: str
    systems: tuple[str, ...]

    @classmethod
    def of(cls, store: DensityStore, fold: Fold) -> Self:
        """A fold of the densities in a store.

        Raises:
            ValueError: fewer chemical systems than folds.
        """
        division = Division.of(store, fold.of)
        return cls(fold, division.hash, division.systems[fold.number - 1])

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        fold = Fold(int(stored["number"]), int(stored["of"]))
        return cls(fold, str(stored["division"]), tuple(map(str, stored["systems"])))

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the note of a run."""
        return {
            "number": self.fold.number,
            "of": self.fold.of,
            "division": self.division,
            "systems": list(self.systems),
        }

    def within(self, store: DensityStore) -> NDArray[np.bool_]:
        """(materials,) whether each material of a store is in the fold."""
        systems = frozenset(self.systems)
        return np.array([chemical_system(store.atomic_numbers(i)) in systems for i in range(len(store))])


def own_identities(own: OwnStarts) -> list[str]:
    """What notes of runs and caches say of starting densities: the identity of each model, sorted."""
    return sorted({starting.identity for starting in own.values()})


def own_notices(own: OwnStarts, materials: int) -> list[str]:
    """A message about materials without a starting density of their own, if the others have one."""
    rest = materials - len(own)
    if not own or not rest:
        return []
    return [
        f"training data: {rest} of {materials} materials start from data.guess: no model of data.guess_crossfit was "
        "trained without their chemical systems, or its promolecule lacks one of their elements"
    ]
