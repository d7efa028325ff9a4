"""What a program that computes densities is asked, and what it answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

from tomat.crystal import Crystal
from tomat.material import Material


class KilledError(ValueError):
    """The program was ended by a signal: not its own doing, so it may be tried again."""


class StoppedError(RuntimeError):
    """The program was ended because the run it belongs to stops."""


@dataclass(frozen=True)
class EngineOptions:
    """How densities are computed; energies in Ry, as Quantum ESPRESSO counts.

    Attributes:
        pseudo: folder of pseudopotentials.
        ecutwfc: cutoff of the wave functions, Ry.
        ecutrho: cutoff of the density, Ry; None is four times ``ecutwfc``.
        kspacing: largest distance of k points, 1/angstrom, with the factor 2 pi.
        kpoints: the mesh of k points of all crystals, instead of ``kspacing``.
        smearing: of the occupations, of every crystal, metal or not.
        degauss: its width, Ry.
        conv_thr: estimated accuracy of the energy of the cell at which SCF has converged, Ry.
        mixing_beta: share of the new density that SCF mixes in. The converged density does not depend on it.
        max_steps: of SCF.
        command: the program, with the words before it (``mpirun -np 4 pw.x``).
        timeout: seconds that a crystal may take; None for as long as it takes.

    Raises:
        ValueError: a number that cannot be.
    """

    pseudo: Path
    ecutwfc: float
    ecutrho: float | None = None
    kspacing: float = 0.3
    kpoints: tuple[int, int, int] | None = None
    smearing: str = "mv"
    degauss: float = 0.015
    conv_thr: float = 1e-9
    mixing_beta: float = 0.6
    max_steps: int = 100
    command: str = "pw.x"
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("ecutwfc", "ecutrho", "kspacing", "degauss", "conv_thr", "mixing_beta", "timeout"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value:g} must be a finite number above 0")
        if self.kpoints is not None and min(self.kpoints) < 1:
            raise ValueError(f"k points {self.kpoints}: give whole numbers from 1")


@dataclass(frozen=True, eq=False)
class Computed:
    """A density with what is known about it.

    Attributes:
        material: on the grid of the program; ``source`` says how it was made.
        scf: numbers of the run: energy, accuracy, iterations, k points.
        seconds: wall time.
    """

    material: Material
    scf: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class DensityEngine(ABC):
    """A program that computes densities.

    Attributes:
        telling: names of the files in its folder that say why a run failed.
    """

    telling: ClassVar[tuple[str, ...]]

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that densities depend on beside the crystal and the pseudopotentials, in JSON types."""

    @abstractmethod
    def pseudopotentials(self, crystal: Crystal) -> dict[str, str]:
        """The SHA-256 of the pseudopotential of each element of a crystal, by symbol.

        Raises:
            ValueError: an element without one, or one that cannot be used.
        """

    @abstractmethod
    def compute(self, crystal: Crystal, work: Path, stop: Event) -> Computed:
        """The converged density of a crystal; ``work`` is an empty folder for the program's files.

        Raises:
            KilledError: the program was killed.
            StoppedError: ``stop`` was set.
            ValueError: it failed; the message has its own words.
            OSError: a file cannot be read or written.
        """
