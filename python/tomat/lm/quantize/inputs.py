"""Crystals to calibrate with: which, and where in them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.prediction.predictor import PatchRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.material import Entry, Material
    from tomat.prediction.cover import Triple
    from tomat.prediction.predictor import PatchPredictor, TrainingFacts

#: Grid points of a crystal that make one row of a field model.
POINTS = 512


@dataclass(frozen=True)
class Calibration:
    """What to calibrate with.

    Attributes:
        entries: materials; only their crystals and grids matter, but for objective ``next_token``.
        rows: patches of a transformer; of a field model, crystals with :data:`POINTS` points each.
        seed: of what is drawn.

    Raises:
        ValueError: no materials, or no rows.
    """

    entries: Sequence[Entry]
    rows: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.entries or self.rows < 1:
            raise ValueError("calibrating takes at least one material and one row")

    def identity(self) -> dict[str, Any]:
        """For the record."""
        names = "\n".join(entry.task_id for entry in self.entries)
        return {
            "materials": len(self.entries),
            "materials_sha256": hashlib.sha256(names.encode()).hexdigest(),
            "rows": self.rows,
            "seed": self.seed,
        }

    def materials(self, facts: TrainingFacts) -> Iterator[tuple[Material, list[np.random.Generator]]]:
        """Materials in a random order, with a generator for each row they make; those with unseen elements make none.

        Raises:
            OSError, ValueError: a material cannot be read, or all have unseen elements.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.entries)).tolist()
        left, seen = self.rows, 0
        counts = Counter(order[i % len(order)] for i in range(self.rows))
        for index in order:
            material = self.entries[index].read()
            elements = set(material.atomic_numbers.tolist())
            if facts.elements is not None and not elements <= facts.elements:
                continue  # its rows are left to materials that were to make none, if there are any
            seen += 1
            take = min(left, max(counts[index], 1))
            left -= take
            yield material, [np.random.default_rng([self.seed, index, row]) for row in range(take)]
            if not left:
                return
        if not seen:
            raise ValueError("every material to calibrate with has elements that the model has not seen")


@dataclass(frozen=True, eq=False)
class Cell:
    """Points of a crystal.

    Attributes:
        crystal: the crystal.
        points: (points, 3) fractional coordinates.
        guess: (points,) the promolecule there in e/A^3.
    """

    crystal: Crystal
    points: NDArray[np.float64]
    guess: NDArray[np.float32]


def cells(calibration: Calibration, facts: TrainingFacts) -> list[Cell]:
    """Points of crystals for a field model."""
    found = []
    for material, generators in calibration.materials(facts):
        guess = facts.starting_density(material.crystal, material.grid_shape, "e_per_A3").ravel()
        for generator in generators:
            index = generator.choice(guess.size, size=min(POINTS, guess.size), replace=False)
            grid = np.stack(np.unravel_index(index, material.grid_shape), axis=-1)
            found.append(Cell(material.crystal, grid / np.array(material.grid_shape), guess[index]))
    return found


def patches(calibration: Calibration, predictor: PatchPredictor) -> list[PatchRequest]:
    """Patches of crystals for a transformer, with truth and, where it needs one, starting density."""
    found, facts, tokenizer = [], predictor.facts, predictor.tokenizer
    for material, generators in calibration.materials(facts):
        crystal, grid = material.crystal, material.grid_shape
        wholes: dict[str, NDArray[np.float32]] = {"truth": material.in_unit(tokenizer.unit).density}
        if predictor.needs_guess:
            wholes["guess"] = facts.starting_density(crystal, grid, tokenizer.unit)
        try:
            shape = tokenizer.shape_for(len(crystal.atomic_numbers))
        except ValueError:
            continue  # too many atoms for its rows, as in training
        for generator in generators:
            x, y, z = (int(n) for n in generator.integers(grid))
            offset: Triple = (x, y, z)
            where = np.ix_(*((o + np.arange(p)) % n for o, p, n in zip(offset, shape, grid, strict=True)))
            cut = {name: whole[where] for name, whole in wholes.items()}
            found.append(PatchRequest(crystal, grid, offset, shape, **cut))
    if not found:
        raise ValueError("no material to calibrate with fits the model's rows")
    return found
