"""Predict files into a folder, resumably; errors of one structure do not stop the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats import format_by_name
from tomat.formats.qe import CUTOFFS
from tomat.formats.vasp import read_augmentation
from tomat.hirshfeld import Hirshfeld
from tomat.material import Material
from tomat.metrics import measure
from tomat.prediction.assemble import CellRequest, Failure, Prediction, predict_densities
from tomat.prediction.checks import MAX_GUESS_ERROR, check_same_crystal
from tomat.prediction.grid import RADICES, check_spacing, choose_grid
from tomat.prediction.outputs import OutputFolder
from tomat.prediction.predictor import PatchPredictor
from tomat.prediction.structures import name_of, read_crystal
from tomat.prediction.unseen import doubts_about
from tomat.promolecule import Promolecule
from tomat.storage.files import is_url

#: Called with (number of finished structures, name of the current one, fraction of it that is done).
type Report = Callable[[int, str, float], None]


@dataclass(frozen=True)
class RunOptions:
    """Options of a prediction run; see :func:`tomat.predict`.

    Attributes:
        grid: (nx, ny, nz) for all structures.
        like: a density whose grid is used.
        spacing: distance of grid points in angstrom; None is that of the training data.
        cutoffs: of the wave functions and of the density in Ry, for Quantum ESPRESSO: they decide the grid if none
            of the three above is given, and which components are written.
        switches: of :data:`tomat.formats.qe.SWITCHES`, those that are on.
        radices: allowed prime factors of the axes if the spacing decides.
        overlap: grid points by which neighbouring patches overlap.
        normalize: scale to the number of valence electrons.
        electrons: valence electrons of the cell, for a single structure.
        valence: a promolecule whose valence counts replace the predictor's.
        truth: the true density of a single structure: its grid is the default, and the error and the preview compare
            with it.
        augmentation: a CHGCAR for a single structure, whose PAW augmentation occupancies are copied to the output.
        overwrite: predict again what was predicted with other options.
        max_guess_error: see :func:`tomat.prediction.assemble.predict_densities`.
        allow_unseen: whether the promolecule stands in for elements that the training data do not have.
    """

    grid: tuple[int, int, int] | None = None
    like: Material | None = None
    spacing: float | None = None
    cutoffs: tuple[float, float] | None = None
    switches: tuple[str, ...] = ()
    radices: tuple[int, ...] = RADICES
    overlap: int = 0
    normalize: bool = False
    electrons: float | None = None
    valence: Promolecule | None = None
    truth: Material | None = None
    augmentation: str | None = None
    overwrite: bool = False
    max_guess_error: float | None = MAX_GUESS_ERROR
    allow_unseen: bool = False

    def check(self, n_structures: int) -> None:
        """Check the numbers, and that options for a single structure are given with just one."""
        check_spacing(self.spacing)
        for name, number in (("electrons", self.electrons), ("max_guess_error", self.max_guess_error)):
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ValueError(f"{name} = {number:g} must be a finite number above 0")
        singular = {
            "true density": self.truth,
            "number of electrons": self.electrons,
            "file of augmentation occupancies": self.augmentation,
        }
        for what, value in singular.items():
            if value is not None and n_structures != 1:
                raise ValueError(
                    f"one {what} is given for {n_structures} structures; give only the structure it belongs to"
                )


@dataclass(frozen=True)
class FailedFile:
    """A structure that could not be predicted."""

    name: str
    path: str
    error: str


@dataclass(frozen=True)
class Settled:
    """What became of one structure.

    Attributes:
        path: of the structure, as given.
        record: of its prediction; None if it failed.
        is_new: the prediction was made in this run.
        error: why it failed.
    """

    path: str
    record: dict[str, Any] | None = None
    is_new: bool = False
    error: str = ""


@dataclass
class RunSummary:
    """Outcome of a prediction run.

    Attributes:
        predicted: records of new predictions, see :class:`tomat.prediction.outputs.OutputFolder`.
        skipped: records of predictions that existed already.
        failed: structures that could not be predicted.
        seconds: time of the run.
    """

    predicted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, one: Settled) -> None:
        """Add a structure."""
        if one.record is None:
            self.failed.append(FailedFile(name_of(one.path), one.path, one.error))
        else:
            (self.predicted if one.is_new else self.skipped).append(one.record)


def expand(structures: Sequence[str | Path]) -> list[str]:
    """Paths of structures: a folder stands for its files, a ``.txt`` file for the paths in it."""
    paths: list[str] = []
    for given in structures:
        path = Path(given)
        if is_url(given):
            paths.append(str(given))
        elif path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            paths += [line.strip() for line in lines if line.strip()]
        elif path.is_dir() and format_by_name(path) is None and not (path / "zarr.json").exists():
            paths += sorted(str(file) for file in path.iterdir() if not file.name.startswith("."))
        else:
            paths.append(str(given))
    if not paths:
        raise ValueError(f"{', '.join(map(str, structures))}: no structures found")
    seen: dict[str, str] = {}
    for one in paths:
        name = name_of(one)
        if name in seen:
            raise ValueError(
                f"{seen[name]} and {one} both have the name {name} and would be written to the same files; rename "
                "one, or use two output folders"
            )
        seen[name] = one
    return paths


def predict_files(
    predictor: PatchPredictor,
    structures: Sequence[str],
    out: Path,
    suffixes: tuple[str, ...],
    options: RunOptions,
    report: Report | None = None,
) -> RunSummary:
    """Predict structures (see :func:`expand`) into a folder; existing predictions are kept.

    Raises:
        ValueError: inconsistent options; errors of single structures are in the summary.
        OSError: the folder cannot be written.
    """
    options.check(len(structures))
    started = time.perf_counter()
    summary = RunSummary()
    settle_files(predictor, structures, out, suffixes, options, summary.add, report)
    summary.seconds = time.perf_counter() - started
    return summary


def settle_files(
    predictor: PatchPredictor,
    structures: Iterable[str],
    out: Path,
    suffixes: tuple[str, ...],
    options: RunOptions,
    settle: Callable[[Settled], None],
    report: Report | None = None,
) -> None:
    """As :func:`predict_files` for structures that come one by one; ``settle`` is told of each as soon as it is known.

    Raises:
        OSError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    identity = {
        "predictor": predictor.identity(),
        "overlap": options.overlap,
        "normalize": options.normalize,
        "augmentation": options.augmentation,
    }
    if options.cutoffs is not None:
        identity["cutoffs"] = list(options.cutoffs)
    identity |= dict.fromkeys(options.switches, True)
    run = _Run(predictor, OutputFolder(out, suffixes, identity), options, settle, report)
    outcomes = predict_densities(
        predictor,
        run.cells(structures),
        overlap=options.overlap,
        normalize=options.normalize,
        max_guess_error=options.max_guess_error,
        progress=run.progress,
    )
    for outcome in outcomes:
        run.finish(outcome)


@dataclass
class _Run:
    predictor: PatchPredictor
    folder: OutputFolder
    options: RunOptions
    settle: Callable[[Settled], None]
    report: Report | None
    n_settled: int = 0
    paths: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)

    def cells(self, structures: Iterable[str]) -> Iterator[CellRequest]:
        """Yield the cells to predict; all other structures are settled."""
        for path in structures:
            name = name_of(path)
            self.paths[name] = path
            try:
                cell = self._cell(path)
                record = self.folder.finished(cell, overwrite=self.options.overwrite)
            except (ValueError, OSError) as error:
                self._fail(name, str(error))
                continue
            if record is not None:
                self._settle(name, record=record)
                continue
            yield cell

    def finish(self, outcome: Prediction | Failure) -> None:
        cell = outcome.cell
        if isinstance(outcome, Failure):
            self._fail(cell.crystal.name, str(outcome.error))
            return
        truth = self.options.truth
        extra: dict[str, Any] = {}
        if truth is not None:
            predicted, true = (one.in_unit("chgcar").density for one in (outcome.material, truth))
            atoms = Hirshfeld.of(truth.crystal, truth.grid_shape)
            extra["metrics"] = measure(predicted, true, lattice=truth.lattice, atoms=atoms)._asdict()
        doubts = self.doubts.pop(cell.crystal.name, [])
        if doubts:
            extra["warnings"] = doubts
        try:
            augmentation = b""
            if self.options.augmentation is not None:
                augmentation = read_augmentation(self.options.augmentation, cell.crystal.n_atoms)
            if self.options.cutoffs is not None:
                facts: dict[str, Any] = dict(zip(CUTOFFS, self.options.cutoffs, strict=True))
                facts |= dict.fromkeys(self.options.switches, True)
                if outcome.electrons.expected is not None:
                    facts["electrons"] = outcome.electrons.expected
                outcome = replace(outcome, material=outcome.material.with_source(**facts))
            start = self.predictor.facts.promolecule
            record = self.folder.write(
                outcome,
                truth=truth,
                start=None if start is None else start.density,
                augmentation=augmentation,
                extra=extra,
            )
        except ValueError as error:
            self._fail(cell.crystal.name, str(error))
            return
        self._settle(cell.crystal.name, record=record, is_new=True)

    def progress(self, cell: CellRequest, done: int, of: int) -> None:
        if done < of:
            self._tell(cell.crystal.name, done / of)

    def _cell(self, path: str) -> CellRequest:
        crystal = read_crystal(path)
        options = self.options
        self.doubts[crystal.name] = doubts_about(
            crystal, self.predictor.facts, allow_unseen=options.allow_unseen
        )
        if options.truth is not None:
            check_same_crystal(crystal, options.truth)
        like = options.like
        if options.truth is not None and options.grid is None and options.spacing is None and like is None:
            like = options.truth
        grid = choose_grid(
            crystal,
            grid=options.grid,
            like=like,
            spacing=options.spacing,
            ecutrho=None if options.cutoffs is None else options.cutoffs[1],
            radices=options.radices,
            default=self.predictor.facts.spacing,
        )
        electrons = options.electrons
        if electrons is None and options.valence is not None:
            electrons = _counted(options.valence, crystal)
        return CellRequest(crystal, grid, options.truth, electrons, allow_unseen=options.allow_unseen)

    def _fail(self, name: str, error: str) -> None:
        self._settle(name, error=error)

    def _settle(self, name: str, **outcome: Any) -> None:
        self.n_settled += 1
        self.settle(Settled(self.paths.pop(name), **outcome))
        self._tell(name, 0.0)

    def _tell(self, name: str, share: float) -> None:
        if self.report:
            self.report(self.n_settled, name, share)


def _counted(valence: Promolecule, crystal: Crystal) -> float:
    """Electrons of a crystal, from the valence counts of a promolecule."""
    count = valence.count_electrons(crystal.atomic_numbers)
    if count is None:
        known = zip(valence.atomic_numbers.tolist(), valence.electrons.tolist(), strict=True)
        missing = {int(z) for z in crystal.atomic_numbers} - {z for z, n in known if math.isfinite(n)}
        names = ", ".join(_core.elements()[z - 1] for z in sorted(missing))
        raise ValueError(
            f"{crystal.name}: --valence has no count for {names}; give the electrons of the cell (--electrons)"
        )
    return count
