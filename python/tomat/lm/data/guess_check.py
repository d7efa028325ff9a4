"""Is a starting density of the same kind as the data? Measured on a few materials before training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tomat.lm.data.store import DensityStore
    from tomat.starting import StartingDensity
    from tomat.tokenizer import Patch

__all__ = ["MATERIALS", "GuessCheck", "Misfit", "check_patches", "check_store", "in_drawn_order"]

#: Materials that are looked at, and voxels of each.
MATERIALS, VOXELS = 16, 1 << 16
#: Patches of a material that are looked at, where there are no whole grids.
PATCHES = 8


@dataclass(frozen=True)
class Misfit:
    """A starting density against the true one.

    Attributes:
        material: its name.
        nmae: sum of \\|guess - density\\| over sum of \\|density\\|.
        electrons: of the guess over those of the density, less 1.
        lacking: elements the promolecule has no function for, taken from an analytic form.
    """

    material: str
    nmae: float
    electrons: float
    lacking: tuple[int, ...] = ()


@dataclass(frozen=True)
class GuessCheck:
    """How a starting density does on a sample of the data.

    Attributes:
        misfits: of the materials that were looked at.
        of: materials there are.
        whole: whole grids were looked at, not patches: electrons are those of the cell.
    """

    misfits: tuple[Misfit, ...]
    of: int
    whole: bool

    @property
    def judged(self) -> tuple[Misfit, ...]:
        """Materials whose elements the promolecule all has; all, where it has those of none."""
        return tuple(one for one in self.misfits if not one.lacking) or self.misfits

    @property
    def nmae_mean(self) -> float:
        """Mean over the judged materials."""
        return float(np.mean([one.nmae for one in self.judged]))

    @property
    def worst(self) -> Misfit:
        """The judged material with the largest NMAE."""
        return max(self.judged, key=lambda one: one.nmae)

    @property
    def off(self) -> Misfit:
        """The judged material whose electrons are furthest off."""
        return max(self.judged, key=lambda one: abs(one.electrons))

    def enforce(self, limit: float | None, name: str) -> None:
        """Stop a run whose starting density is of another kind than its data.

        Args:
            limit: largest mean NMAE. Of whole grids, the electrons of no cell may be off by more than half of it:
                counts are right to some percent where the kind is, and wrong in whole electrons where it is not.
            name: of the starting density.

        Raises:
            ValueError: above the limit.
        """
        if limit is None:
            return
        problems = []
        if self.nmae_mean > limit:
            problems.append(
                f"its NMAE is {100 * self.nmae_mean:.3g} % on average, {100 * self.worst.nmae:.3g} % for "
                f"{self.worst.material}"
            )
        if self.whole and abs(self.off.electrons) > limit / 2:
            problems.append(f"it holds {100 * self.off.electrons:+.3g} % electrons in {self.off.material}")
        if problems:
            raise ValueError(
                f"the starting density {name} is not of the kind of these data: on {len(self.judged)} of {self.of} "
                f"materials {' and '.join(problems)}, where {100 * limit:g} % on average, and half of it in electrons, "
                f"are allowed{self._lacking()}. The densities are of another kind of pseudopotential, or of several: "
                "fit a promolecule to them (tomat promolecule fit; data.guess: fit does it by itself), choose "
                "materials of one kind (data.prefix), or raise data.max_guess_nmae"
            )

    def _lacking(self) -> str:
        symbols = _core.elements()
        lacking = sorted({z for one in self.misfits for z in one.lacking})
        names = ", ".join(symbols[z - 1] for z in lacking)
        return f" ({names}: not in it, taken from slater)" if lacking else ""

    def to_json(self) -> dict[str, Any]:
        """For the run's note."""
        return {
            "materials": len(self.judged),
            "of": self.of,
            "nmae_mean": self.nmae_mean,
            "nmae_max": self.worst.nmae,
            "worst": self.worst.material,
            "electrons_off": self.off.electrons,
            "electrons_off_in": self.off.material,
            "lacking": sorted({z for one in self.misfits for z in one.lacking}),
        }

    def __str__(self) -> str:
        """In words."""
        electrons = f", electrons off by at most {100 * abs(self.off.electrons):.2g} %" if self.whole else ""
        return (
            f"NMAE {100 * self.nmae_mean:.3g} % on average, at most {100 * self.worst.nmae:.3g} % "
            f"({self.worst.material}){electrons}, on {len(self.judged)} of {self.of} materials{self._lacking()}"
        )


def in_drawn_order(names: Sequence[str]) -> list[int]:
    """Indices of materials in an order that depends on nothing but their names, and on no pattern in them."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())


def check_store(store: DensityStore, guess: StartingDensity) -> GuessCheck:
    """The starting density on up to 16 materials of a store, and 65,536 voxels of each."""
    misfits = []
    for index in in_drawn_order(store.task_ids)[:MATERIALS]:
        material = store.material(index).subgrid(VOXELS).in_unit("e_per_A3")
        values = guess.density(material.crystal, material.grid_shape)
        misfits.append(
            _misfit(material.task_id, [(values, material.density)], guess, material.atomic_numbers)
        )
    return GuessCheck(tuple(misfits), len(store), whole=True)


def check_patches(
    materials: Iterable[tuple[str, Sequence[tuple[Any, Patch]]]], guess: StartingDensity, of: int
) -> GuessCheck:
    """The same from patches: ``(name, [(guess on the patch, patch), ...])`` in one unit; at least one a material."""
    misfits = [
        _misfit(name, [(values, patch.density) for values, patch in parts], guess, parts[0][1].atomic_numbers)
        for name, parts in materials
    ]
    return GuessCheck(tuple(misfits), of, whole=False)


def _misfit(name: str, parts: Sequence[tuple[Any, Any]], guess: StartingDensity, atoms: Any) -> Misfit:
    guessed = np.concatenate([np.ravel(values) for values, _ in parts]).astype(np.float64)
    true = np.concatenate([np.ravel(values) for _, values in parts]).astype(np.float64)
    size = max(float(np.abs(true).sum()), 1e-300)
    known = guess.elements
    lacking = () if known is None else tuple(sorted({int(z) for z in atoms} - known))
    return Misfit(
        name, float(np.abs(guessed - true).sum()) / size, float((guessed - true).sum()) / size, lacking
    )
