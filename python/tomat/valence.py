"""Valence electrons of the elements, inferred from the electron counts of materials.

The count of an element depends on its pseudopotential: 10 for Mg in one set, 8 in another. Materials computed with one
set agree on one integer per element, which is found exactly. If materials of several sets are mixed, an element on
which they disagree gets no count, and the materials are named.

>>> from tomat.valence import fit_valence
>>> fit_valence([("a", [12, 8], 16.0), ("b", [8, 8], 12.0)]).counts
{8: 6.0, 12: 10.0}
>>> mixed = fit_valence([("a", [12, 8], 16.0), ("b", [8, 8], 12.0), ("c", [12, 8], 14.0)])
>>> mixed.counts
{8: 6.0}
>>> print(mixed.disputed[12])
10 in a, 8 in c
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tomat import _core

__all__ = ["Dispute", "Valence", "fit_valence"]

#: Tolerance for a whole number of electrons in a cell: absolute, as a share of the count if that is more, and at most.
_UNEVEN, _UNEVEN_SHARE, _UNEVEN_MOST = 0.05, 1e-4, 0.25
#: Materials listed per count.
_NAMED = 5
#: Numbers of core electrons with closed shells: 1s2, 2s2, 2p6, 3s2, ..., with d10 and f14.
_CORES = frozenset({0, 2, 4, 10, 12, 18, 28, 30, 36, 46, 48, 54, 60, 62, 68, 78, 80, 86, 92, 94, 100})
#: Iterations towards the least absolute misfit.
_STEPS = 24
#: Eigenvalues of the normal matrix below this share of the largest belong to undetermined directions.
_OPEN = 1e-12
_F_BLOCK = frozenset({*range(57, 72), *range(89, 104)})


@dataclass(frozen=True)
class Dispute:
    """An element on whose count materials disagree.

    Attributes:
        counts: ``(count, materials)``, the most frequent count first, with at most five materials each. The count is
            None if the compositions do not determine it for this element alone.
    """

    counts: tuple[tuple[float | None, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{'not agreed on' if count is None else f'{count:g}'} in {' and '.join(names)}"
            for count, names in self.counts
        )

    def to_json(self) -> list[list[Any]]:
        """Pairs of count and materials."""
        return [[count, list(names)] for count, names in self.counts]

    @classmethod
    def from_json(cls, stored: Iterable[Sequence[Any]]) -> Self:
        """From :meth:`to_json`."""
        said = ((None if count is None else float(count), tuple(map(str, names))) for count, names in stored)
        return cls(tuple(said))


@dataclass(frozen=True)
class Valence:
    """Valence electrons of elements, as inferred from materials.

    Attributes:
        counts: electrons by atomic number, where compositions determine them and all materials agree.
        disputed: elements on which materials disagree; they have no count.
        uneven: materials without a whole number of electrons, which are not used.
    """

    counts: dict[int, float] = field(default_factory=dict)
    disputed: dict[int, Dispute] = field(default_factory=dict)
    uneven: tuple[str, ...] = ()

    def complaints(self) -> list[str]:
        """A message for each disputed element, and one about uneven materials."""
        symbols = _core.elements()
        lines = [f"the valence electrons of {symbols[z - 1]}: {what}" for z, what in self.disputed.items()]
        if self.uneven:
            lines.append(
                f"{len(self.uneven)} materials do not hold a whole number of electrons: "
                + ", ".join(self.uneven[:_NAMED])
                + (", ..." if len(self.uneven) > _NAMED else "")
            )
        return lines


@dataclass(frozen=True, eq=False)
class _Row:
    """Materials of one composition and number of electrons."""

    atoms: tuple[tuple[int, int], ...]
    electrons: int
    names: tuple[str, ...]

    @property
    def elements(self) -> frozenset[int]:
        return frozenset(z for z, _ in self.atoms)


def fit_valence(materials: Iterable[tuple[str, Sequence[int], float]]) -> Valence:
    """The valence electrons of each element, from ``(name, atomic numbers, electrons)`` of materials.

    Counts are integers, and a material whose elements all have one holds exactly their sum. An element has no count if
    the compositions do not determine it (it occurs in one ratio only, or only with disputed elements), or if materials
    disagree. The disputed element of a material is the one for which another count, with a closed-shell core, explains
    its electrons; if there are several, all are disputed.
    """
    grouped: dict[tuple[tuple[tuple[int, int], ...], int], list[str]] = defaultdict(list)
    uneven: list[str] = []
    for name, atoms, electrons in materials:
        whole = round(electrons)
        if abs(electrons - whole) > min(max(_UNEVEN, _UNEVEN_SHARE * whole), _UNEVEN_MOST):
            uneven.append(name)
            continue
        composition = tuple(sorted(Counter(int(z) for z in atoms).items()))
        grouped[composition, whole].append(name)
    rows = [_Row(atoms, electrons, tuple(names)) for (atoms, electrons), names in sorted(grouped.items())]
    blamed: set[int] = set()
    while True:
        clean = [row for row in rows if not row.elements & blamed]
        system = _System(clean)
        counts = system.exact()
        more = system.culprits() if counts is None else _unexplained(rows, counts, blamed)
        if counts is not None and not more:
            break
        blamed |= more
    disputed = {z: _dispute(z, rows, counts) for z in sorted(blamed)}
    return Valence(counts, disputed, tuple(uneven))


class _System:
    """The linear equations of the rows: atoms times counts equal electrons."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows
        self.numbers = sorted({z for row in rows for z in row.elements})
        self.column = {z: i for i, z in enumerate(self.numbers)}
        self.matrix = np.zeros((len(rows), len(self.numbers)))
        for line, row in zip(self.matrix, rows, strict=True):
            for z, n in row.atoms:
                line[self.column[z]] = n
        self.electrons = np.array([row.electrons for row in rows], dtype=np.float64)
        self.every = np.ones(len(rows), dtype=np.bool_)
        self.weights = np.array([len(row.names) for row in rows], dtype=np.float64)

    def exact(self) -> dict[int, float] | None:
        """Counts of the elements the rows determine; None unless all rows agree on whole numbers."""
        if not self.rows:
            return {}
        solution, told = self._solve(self.every, self.weights)
        if self._misfit(solution).max() > 1e-3:
            return None
        sound = _whole(solution) & (solution > 0.5)
        if not sound[told].all():
            return None
        return {z: float(np.round(solution[i])) for i, z in enumerate(self.numbers) if told[i]}

    def culprits(self) -> set[int]:
        """Elements, at least one, that explain the rows which contradict the majority."""
        solution, told, agree = self._majority()
        against = np.flatnonzero(~agree).tolist()
        if not against:
            # All agree, but on numbers that are not counts.
            wrong = told & ~(_whole(solution) & (solution > 0.5))
            return {z for i, z in enumerate(self.numbers) if wrong[i]}
        found: set[int] = set()
        while against:
            explained: Counter[int] = Counter()
            for at in against:
                for z in self._suspects(at, solution, told):
                    explained[z] += len(self.rows[at].names)
            if not explained:
                return found or {z for at in against for z in self.rows[at].elements}
            most = max(explained.values())
            found |= {z for z, count in explained.items() if count == most}
            against = [at for at in against if not self.rows[at].elements & found]
        return found

    def _suspects(self, at: int, solution: NDArray[np.float64], told: NDArray[np.bool_]) -> Iterator[int]:
        """Elements of a row that alone explain its misfit."""
        residual = self.electrons[at] - float(self.matrix[at] @ solution)
        for z, n in self.rows[at].atoms:
            column = self.column[z]
            change = residual / n
            # An undetermined count may be anything; a known one may change to that of another core.
            if not told[column] or (
                abs(change - round(change)) < 1e-3 and _possible(z, round(solution[column] + change))
            ):
                yield z

    def _majority(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """The solution of least absolute misfit, the elements it determines, and the rows that agree with it."""
        solution, _ = self._solve(self.every, self.weights)
        for step in range(_STEPS):
            weights = self.weights / np.maximum(self._misfit(solution), 0.6**step)
            solution, _ = self._solve(self.every, weights)
        agree = self._misfit(solution) < 0.05
        while agree.any():
            solution, told = self._solve(agree, self.weights, solution)
            misfit = self._misfit(solution)
            if misfit[agree].max() < 1e-3:
                return solution, told, misfit < 1e-3
            agree &= misfit < 0.5 * misfit[agree].max()
        return solution, np.zeros(len(self.numbers), dtype=np.bool_), agree

    def _solve(
        self,
        chosen: NDArray[np.bool_],
        weights: NDArray[np.float64],
        prior: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The least-squares solution of some rows nearest to ``prior``, and the elements they determine."""
        matrix = self.matrix[chosen]
        start = np.zeros(len(self.numbers)) if prior is None else prior
        weighted = (matrix * weights[chosen][:, None]).T
        # Its size is the number of elements, not of materials.
        sizes, directions = np.linalg.eigh(weighted @ matrix)
        tells = sizes > _OPEN * max(float(sizes[-1]), 1e-300)
        sides = directions.T @ (weighted @ (self.electrons[chosen] - matrix @ start))
        step = directions[:, tells] @ (sides[tells] / sizes[tells])
        return start + step, np.abs(directions[:, ~tells]).max(axis=1, initial=0.0) < 1e-5

    def _misfit(self, solution: NDArray[np.float64]) -> NDArray[np.float64]:
        misfit: NDArray[np.float64] = np.abs(self.matrix @ solution - self.electrons)
        return misfit


def _whole(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.abs(values - np.round(values)) < 1e-3


def _possible(z: int, count: int) -> bool:
    """Whether a pseudopotential of the element can have this count: a closed-shell core without valence shells.

    Lanthanides and actinides can have any count, since their open f shell may be in the core.
    """
    if not 1 <= count <= z:
        return False
    if z in _F_BLOCK:
        return True
    outside = int(_core.valence_electrons(z))
    # Outside the noble-gas core, without the d10 of groups 12 to 18.
    least = outside - 10 if outside >= 12 else outside
    return count >= least and z - count in _CORES


def _unexplained(rows: Sequence[_Row], counts: Mapping[int, float], blamed: set[int]) -> set[int]:
    """More elements to blame: those of rows that no possible counts of the blamed elements explain."""
    more: set[int] = set()
    for row in rows:
        known = [(z, n) for z, n in row.atoms if z not in blamed]
        if len(known) == len(row.atoms) or any(z not in counts for z, _ in known):
            continue
        rest = row.electrons - round(sum(n * counts[z] for z, n in known))
        sums = {0}
        for z, n in row.atoms:
            if z in blamed:
                sums = {total + n * count for total in sums for count in _possible_counts(z)}
        if rest in sums:
            continue
        others = {
            z
            for z, n in known
            if any(rest + n * (round(counts[z]) - count) in sums for count in _possible_counts(z))
        }
        more |= others or {z for z, _ in known}
    return more


@cache
def _possible_counts(z: int) -> tuple[int, ...]:
    return tuple(count for count in range(1, z + 1) if _possible(z, count))


def _dispute(z: int, rows: Sequence[_Row], counts: Mapping[int, float]) -> Dispute:
    """The counts that the rows with an element imply, given those of the other elements."""
    said: dict[float | None, list[str]] = defaultdict(list)
    for row in rows:
        atoms = dict(row.atoms)
        if z not in atoms:
            continue
        number = atoms.pop(z)
        others = [counts.get(other) for other in atoms]
        count = None
        if None not in others:
            rest = sum(n * counts[other] for other, n in atoms.items())
            count = (row.electrons - rest) / number
        said[count].extend(row.names)
    if len(said) > 2 or (len(said) == 2 and None not in said):
        said.pop(None, None)
    order = sorted(said, key=lambda count: (count is None, -len(said[count]), -(count or 0.0)))
    return Dispute(tuple((count, tuple(said[count][:_NAMED])) for count in order))
