"""Check, on a few materials before training, that a starting density is of the same kind as the data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tomat.lm.data.store import DensityStore
    from tomat.starting import StartingDensity
    from tomat.tokenizer import Patch

#: Number of sampled materials, and of voxels of each.
MATERIALS, VOXELS = 16, 1 << 16
#: Number of sampled patches per material if there are no whole grids.
PATCHES = 8


@dataclass(frozen=True)
class Misfit:
    """Deviation of a starting density from the true one.

    Attributes:
        material: its name.
        nmae: sum of \\|guess - density\\| over sum of \\|density\\|.
        electrons: relative deviation of the electron count.
        lacking: elements that the promolecule lacks and an analytic form replaced.
    """

    material: str
    nmae: float
    electrons: float
    lacking: tuple[int, ...] = ()


@dataclass(frozen=True)
class GuessCheck:
    """Deviations of a starting density on a sample of the data.

    Attributes:
        misfits: of the sampled materials.
        of: total number of materials.
        whole: whole grids were sampled, not patches, so electrons are those of the cell.
    """

    misfits: tuple[Misfit, ...]
    of: int
    whole: bool

    @property
    def judged(self) -> tuple[Misfit, ...]:
        """Materials with all elements in the promolecule; all materials if there are none."""
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
        """The judged material with the largest deviation in electrons."""
        return max(self.judged, key=lambda one: abs(one.electrons))

    def enforce(self, limit: float | None, name: str) -> None:
        """Raise if the starting density is of another kind than the data.

        Args:
            limit: largest mean NMAE. For whole grids, electron counts may deviate by half of it: they agree to a few
                per cent for the same kind of data, and differ by whole electrons otherwise.
            name: of the starting density.

        Raises:
            ValueError: the limit is exceeded.
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
            problems.append(
                f"its electron count in {self.off.material} is off by {100 * self.off.electrons:+.3g} %"
            )
        if problems:
            raise ValueError(
                f"the starting density {name} is not of the kind of these data: on {len(self.judged)} of {self.of} "
                f"materials {' and '.join(problems)}; at most {100 * limit:g} % NMAE on average and {50 * limit:g} % "
                f"in electrons are allowed{self._lacking()}. The densities use other pseudopotentials, or several: fit "
                "a promolecule to them (data.guess: fit, or tomat promolecule fit), select materials of one kind "
                "(data.prefix), or raise data.max_guess_nmae"
            )

    @property
    def lacking(self) -> list[int]:
        """Atomic numbers that the promolecule lacks in any sampled material."""
        return sorted({z for one in self.misfits for z in one.lacking})

    def _lacking(self) -> str:
        symbols = _core.elements()
        names = ", ".join(symbols[z - 1] for z in self.lacking)
        return f" ({names}: not in it, taken from slater)" if names else ""

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the run's note."""
        return {
            "materials": len(self.judged),
            "of": self.of,
            "nmae_mean": self.nmae_mean,
            "nmae_max": self.worst.nmae,
            "worst": self.worst.material,
            "electrons_off": self.off.electrons,
            "electrons_off_in": self.off.material,
            "lacking": self.lacking,
        }

    def __str__(self) -> str:
        electrons = f", electrons off by at most {100 * abs(self.off.electrons):.2g} %" if self.whole else ""
        return (
            f"NMAE {100 * self.nmae_mean:.3g} % on average, at most {100 * self.worst.nmae:.3g} % "
            f"({self.worst.material}){electrons}, on {len(self.judged)} of {self.of} materials{self._lacking()}"
        )


def in_drawn_order(names: Sequence[str]) -> list[int]:
    """Indices of materials in a pseudo-random order that depends only on their names."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())


def check_store(
    store: DensityStore, guess: StartingDensity, own: Mapping[int, StartingDensity] | None = None
) -> GuessCheck:
    """Check the starting density on up to 16 materials of a store, with up to 65,536 voxels each.

    Args:
        store: the densities.
        guess: the starting density.
        own: starting densities of materials that have another.
    """
    misfits = []
    for index in in_drawn_order(store.task_ids)[:MATERIALS]:
        material = store.material(index).subgrid(VOXELS).in_unit("e_per_A3")
        start = (own or {}).get(index, guess)
        values = start.density(material.crystal, material.grid_shape)
        misfits.append(
            _misfit(material.task_id, [(values, material.density)], start, material.atomic_numbers)
        )
    return GuessCheck(tuple(misfits), len(store), whole=True)


def check_patches(
    materials: Iterable[tuple[str, Sequence[tuple[Any, Patch]]]], guess: StartingDensity, of: int
) -> GuessCheck:
    """As :func:`check_store`, from patches ``(name, [(guess, density), ...])`` in one unit, at least one per name."""
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
