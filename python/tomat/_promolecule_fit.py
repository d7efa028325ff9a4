"""The fit of a promolecule's radial functions: passes of linear least squares over the materials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import _core
from tomat._threads import check_threads
from tomat.material import Entry, Material, task_id_of
from tomat.valence import Valence, fit_valence

type Source = Material | Entry | str | Path

#: Floor of the divisors of ``relative`` and ``absolute``, in units of a material's mean \|density\|.
_FLOORS: dict[str, float] = {"squared": 1.0, "relative": 0.03, "absolute": 1e-3}


@dataclass(frozen=True, kw_only=True)
class RadialFit:
    """What is fitted and how; fields as the arguments of :meth:`tomat.promolecule.Promolecule.fit`."""

    cutoff: float
    splines: int
    inner: float
    loss: str
    steps: int
    floor: float | None
    ridge: float
    smooth: float
    conserve: bool
    voxels: int | None

    def __post_init__(self) -> None:
        if self.loss not in _FLOORS:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(_FLOORS)}")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; give 0 or more")
        if self.voxels is not None and self.voxels < 1:
            raise ValueError(f"voxels is {self.voxels}; give 1 or more")

    def run(
        self, sources: Sequence[Source], threads: int | None, progress: Callable[[int, int], None] | None
    ) -> tuple[list[int], NDArray[np.float64], Valence, dict[str, Any]]:
        """Atomic numbers (n,), coefficients (n, splines), valence electrons, and how they were found, as JSON.

        Raises:
            ValueError: no materials, or equations without a unique solution.
            OSError: a file cannot be read.
        """
        if not sources:
            raise ValueError("no materials to fit to")
        passes = 1 + (self.steps if self.loss == "absolute" else 0)
        first = "squared" if self.loss == "absolute" else self.loss
        workers = check_threads(threads or None)
        solution: tuple[list[int], NDArray[np.float64]] | None = None
        valence: Valence | None = None
        with ThreadPoolExecutor(workers) as pool:
            for step in range(passes):
                name = first if solution is None else self.loss
                limit = _FLOORS[name] if self.floor is None or name == "squared" else self.floor
                equations = _core.NormalEquations(self.cutoff, self.inner, self.splines)
                part = _Pass(equations, name, limit, solution, self.voxels)
                counts = []
                for done, count in enumerate(pool.map(part.add, sources), 1):
                    counts.append(count)
                    if progress:
                        progress(step * len(sources) + done, passes * len(sources))
                valence = valence or fit_valence(counts)
                solution = equations.solve(
                    ridge=self.ridge, smooth=self.smooth, electrons=valence.counts if self.conserve else {}
                )
        if solution is None or valence is None:  # pragma: no cover - there is at least one pass
            raise ValueError("no pass was made")
        about: dict[str, Any] = {
            "method": "linear least squares, cubic B-splines in ln(1 + r^2 / inner^2)",
            "loss": self.loss,
            "steps": passes - 1,
            "floor": limit,
            "ridge": self.ridge,
            "smooth": self.smooth,
            "conserve": self.conserve,
            "materials": len(sources),
            "voxels": equations.voxels,
            "version": _core.__version__,
        }
        if valence.disputed:
            about["disputed"] = {str(z): dispute.to_json() for z, dispute in valence.disputed.items()}
        return *solution, valence, about


@dataclass(frozen=True)
class _Pass:
    equations: _core.NormalEquations
    loss: str
    floor: float
    previous: tuple[list[int], NDArray[np.float64]] | None
    subset: int | None = None

    def add(self, source: Source) -> tuple[str, list[int], float]:
        """Add a material; returns its name, atomic numbers and electrons."""
        if not isinstance(source, Material):
            source = (source if isinstance(source, Entry) else Entry(task_id_of(source), str(source))).read()
        material = source
        numbers = atomic_numbers_of(material.atomic_numbers)
        electrons = material.n_electrons
        if self.subset is not None:
            material = material.subgrid(self.subset)
        try:
            self.equations.add(
                material.density,
                material.unit,
                material.lattice,
                numbers,
                material.frac_coords,
                loss=self.loss,
                floor=self.floor,
                previous=self.previous,
            )
        except ValueError as error:
            raise ValueError(f"{material.task_id}: {error}") from error
        return material.task_id, numbers, electrons


def atomic_numbers_of(values: ArrayLike) -> list[int]:
    """Atomic numbers as integers.

    Raises:
        ValueError: one that is not an element.
    """
    numbers = [int(z) for z in np.asarray(values).reshape(-1)]
    bad = [z for z in numbers if not 1 <= z <= 118]
    if bad:
        raise ValueError(f"atomic number {bad[0]} is not an element; give 1 (H) to 118 (Og)")
    return numbers
