"""What can be evaluated: anything that gives the density of a whole cell, with the label its numbers carry."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.codec import Codec
    from tomat.material import Material
    from tomat.promolecule import Promolecule

__all__ = [
    "BASELINES",
    "DIAGNOSTICS",
    "HEADLINES",
    "MODES",
    "CodecFloor",
    "Method",
    "Mode",
    "Predicted",
    "PromoleculeMethod",
    "is_headline",
]

type Mode = Literal[
    "one_pass",
    "k_pass",
    "free_running",
    "teacher_forced",
    "start",
    "start_teacher_forced",
    "promolecule",
    "codec_floor",
]

#: Modes of a model that sees nothing of the true density: what a headline may be made of.
HEADLINES: tuple[Mode, ...] = ("one_pass", "k_pass", "free_running")
#: Modes that see the true neighbouring voxels: for understanding a model, never for saying how good it is.
DIAGNOSTICS: tuple[Mode, ...] = ("teacher_forced", "start_teacher_forced")
#: What every model is put beside: the weights it began with (step 0, in the first of its headline modes), spherical
#: atoms, and the true density through the codec.
BASELINES: tuple[Mode, ...] = ("start", "promolecule", "codec_floor")
#: All, in the order tables show them.
MODES: tuple[Mode, ...] = (*HEADLINES, *BASELINES, *DIAGNOSTICS)


def is_headline(mode: str) -> bool:
    """Whether numbers of this mode may stand above the line."""
    return mode in HEADLINES


@dataclass(frozen=True, eq=False)
class Predicted:
    """A predicted density of a whole cell, every voxel exactly once.

    Attributes:
        density: (nx, ny, nz) float64 in ``unit``.
        unit: ``chgcar`` or ``e_per_A3``.
        seconds: the prediction took, reading and measuring not included.
        expected_error: (nx, ny, nz) E|v - true| in ``unit`` where the method gives a distribution, or None.
        place: (nx, ny, nz) int, index in row-major order within its patch of each voxel, or None.
        patch_shape: of the patches ``place`` counts in; None without ``place``.
        counts: patches, passes and whatever else the method counts.
    """

    density: NDArray[np.float64]
    unit: str
    seconds: float
    expected_error: NDArray[np.float64] | None = None
    place: NDArray[np.int64] | None = None
    patch_shape: tuple[int, int, int] | None = None
    counts: dict[str, int] = field(default_factory=dict)


class Method(Protocol):
    """Gives densities of whole cells."""

    @property
    def mode(self) -> Mode:
        """The label of its numbers."""

    def identity(self) -> dict[str, Any]:
        """What its densities depend on, as JSON takes it."""

    def predict(self, material: Material) -> Predicted:
        """The density of a material's crystal on its grid.

        Headline modes and the promolecule must not look at ``material.density``.

        Raises:
            ValueError, KeyError: a material it cannot do; the message says why.
        """


@dataclass(frozen=True)
class PromoleculeMethod:
    """The sum of spherical atoms.

    Attributes:
        promolecule: fitted or analytic.
        fallback: analytic form for elements it does not know; None makes them an error.
    """

    promolecule: Promolecule
    fallback: str | None = "slater"
    mode: Mode = "promolecule"

    def identity(self) -> dict[str, Any]:
        """Content hash and fallback."""
        return {"promolecule": self.promolecule.hash, "fallback": self.fallback}

    def predict(self, material: Material) -> Predicted:
        """Its density, scaled to its own count of valence electrons."""
        started = time.perf_counter()
        density = self.promolecule.predict(material, fallback=self.fallback)
        return Predicted(density, material.unit, time.perf_counter() - started)


@dataclass(frozen=True)
class CodecFloor:
    """The true density written in tokens and read back: no model with these tokens does better than this by much.

    Attributes:
        codec: the density codec.
        unit: the unit it encodes.

    Raises:
        ValueError: a unit that is not the codec's own.
    """

    codec: Codec
    unit: str
    mode: Mode = "codec_floor"

    def __post_init__(self) -> None:
        """Check the unit."""
        self.codec.unit_for(self.unit)

    def identity(self) -> dict[str, Any]:
        """Content hash and unit."""
        return {"codec": self.codec.name, "codec_hash": self.codec.hash, "unit": self.unit}

    def predict(self, material: Material) -> Predicted:
        """What comes back."""
        started = time.perf_counter()
        values = material.in_unit(self.unit).density
        back = self.codec.roundtrip(values)
        return Predicted(np.asarray(back), self.unit, time.perf_counter() - started)
