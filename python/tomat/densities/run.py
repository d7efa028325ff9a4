"""Compute the densities of many crystals, several at once; errors of one do not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from tomat._threads import check_threads
from tomat.categories import chemical_system
from tomat.crystal import Crystal
from tomat.densities.base import Computed, DensityEngine, KilledError
from tomat.densities.folder import DensityFolder, formula
from tomat.prediction.run import FailedFile
from tomat.prediction.structures import name_of, read_crystal

#: Called with the number of structures that are done and the name of the last one.
type Report = Callable[[int, str], None]

#: How often a crystal is tried whose program is killed.
_LIVES = 2
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass
class DensitySummary:
    """Outcome of a run.

    Attributes:
        computed: a record a new density, in the order of the structures.
        skipped: names of those that were there.
        failed: structures without a density.
        splits: number of materials of each split, of all that the folder has.
        seconds: time of the run.
    """

    computed: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Structures that are settled."""
        return len(self.computed) + len(self.skipped) + len(self.failed)


def compute_densities(
    engine: DensityEngine,
    structures: Sequence[str],
    out: Path,
    *,
    workers: int | None = None,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    report: Report | None = None,
) -> DensitySummary:
    """Compute the densities of structures into a ``rho_gga`` root; those that are there are kept.

    The files of the root are the same whatever ``workers`` is, and however often the run was stopped.

    Args:
        engine: what computes them.
        structures: files, as :func:`tomat.prediction.run.expand` gives them.
        out: the root.
        workers: crystals at once; one per processor if None.
        fractions: share of the materials of each split, by chemical system.
        seed: of the division into splits.
        report: told of every structure that is settled.

    Raises:
        ValueError: the root has densities of another kind, or another run is at work there; errors of single structures
            are in the summary.
        OSError: the root cannot be written.
    """
    started = time.perf_counter()
    workers = check_threads(workers)
    folder = DensityFolder(out)
    with folder.held():
        run = _Run(engine, folder, report)
        crystals = run.read(structures)
        folder.begin(engine.identity(), run.pseudopotentials)
        try:
            run.compute(crystals, workers)
        finally:
            asked = {crystal.name: chemical_system(crystal.atomic_numbers) for crystal in run.readable}
            run.summary.splits = folder.close(asked, fractions, seed)
    order = {name_of(path): index for index, path in enumerate(structures)}
    run.summary.computed.sort(key=lambda record: order[record["name"]])
    run.summary.failed.sort(key=lambda failure: order[failure.name])
    run.summary.seconds = time.perf_counter() - started
    return run.summary


@dataclass
class _Run:
    engine: DensityEngine
    folder: DensityFolder
    report: Report | None
    summary: DensitySummary = field(default_factory=DensitySummary)
    paths: dict[str, str] = field(default_factory=dict)
    readable: list[Crystal] = field(default_factory=list)
    pseudopotentials: dict[str, str] = field(default_factory=dict)

    def read(self, structures: Sequence[str]) -> list[Crystal]:
        """The crystals that can be computed; all others go into the summary."""
        found = []
        for path in structures:
            name = name_of(path)
            self.paths[name] = path
            try:
                crystal = read_crystal(path)
                self.readable.append(crystal)
                self.pseudopotentials |= self.engine.pseudopotentials(crystal)
            except (ValueError, OSError) as error:
                self._fail(name, error)
                continue
            found.append(crystal)
        return found

    def compute(self, crystals: Sequence[Crystal], workers: int) -> None:
        stop = Event()
        with ThreadPoolExecutor(workers) as pool:
            waiting: dict[Future[Computed], str] = {}
            try:
                for crystal in crystals:
                    try:
                        there = self.folder.finished(crystal)
                    except (ValueError, OSError) as error:
                        self._fail(crystal.name, error)
                        continue
                    if there:
                        self.summary.skipped.append(crystal.name)
                        self._tell(crystal.name)
                        continue
                    waiting[pool.submit(self._one, crystal, stop)] = crystal.name
                for future in as_completed(waiting):
                    self._settle(waiting[future], future)
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, crystal: Crystal, stop: Event) -> Computed:
        for life in range(_LIVES):
            try:
                with self.folder.workplace(crystal.name, self.engine.telling) as work:
                    computed = self.engine.compute(crystal, work, stop)
                    self.folder.write(computed)
                    return computed
            except KilledError:
                if life == _LIVES - 1:
                    raise
        raise AssertionError

    def _settle(self, name: str, future: Future[Computed]) -> None:
        try:
            computed = future.result()
        except (ValueError, OSError) as error:
            self._fail(name, error)
            return
        material = computed.material
        self.summary.computed.append(
            {
                "name": name,
                "formula": formula(material.crystal),
                "electrons": material.source.get("electrons"),
                "kmesh": material.source.get("kmesh"),
                "grid": list(material.grid_shape),
                **computed.scf,
                "seconds": round(computed.seconds, 3),
            }
        )
        self._tell(name)

    def _fail(self, name: str, error: Exception) -> None:
        self.summary.failed.append(FailedFile(name, self.paths[name], str(error)))
        self._tell(name)

    def _tell(self, name: str) -> None:
        if self.report:
            self.report(self.summary.done, name)
