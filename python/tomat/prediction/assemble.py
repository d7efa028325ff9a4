"""Whole densities from a predictor: batches over patches and materials, seams, electrons."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core
from tomat.crystal import Crystal
from tomat.prediction.checks import check_guess
from tomat.prediction.cover import Assembly, Cover, cover
from tomat.prediction.grid import check_grid
from tomat.prediction.predictor import PatchPrediction, PatchPredictor, PatchRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.material import Material

__all__ = [
    "Electrons",
    "Failure",
    "Job",
    "Prediction",
    "SeamStatistics",
    "predict_densities",
    "predict_density",
    "valence_count",
]

type Triple = tuple[int, int, int]
#: Called with (job, patches of it that are done, of how many).
type Progress = Callable[["Job", int, int], None]


@dataclass(frozen=True, eq=False)
class Job:
    """A density to predict.

    Attributes:
        crystal: the crystal.
        grid_shape: points of its grid.
        truth: the true density on that grid; shown to predictors of the mode ``teacher_forced`` alone.
        electrons: valence electrons of the cell, where not the sum of ``facts.valence``.
    """

    crystal: Crystal
    grid_shape: Triple
    truth: Material | None = None
    electrons: float | None = None

    def __post_init__(self) -> None:
        """Check the number of electrons.

        Raises:
            ValueError: it is not a number above 0.
        """
        if self.electrons is not None and not (math.isfinite(self.electrons) and self.electrons > 0):
            raise ValueError(f"electrons is {self.electrons:g}; give a number above 0")


@dataclass(frozen=True)
class Electrons:
    """Integrals of a predicted density over the cell, in electrons.

    Attributes:
        raw: as predicted.
        expected: the valence count of the atoms; None where not known.
        final: of the density that is handed back: ``expected`` where it was normalised, ``raw`` where not.
    """

    raw: float
    expected: float | None
    final: float


@dataclass(frozen=True)
class SeamStatistics:
    """How well patches fit together.

    Attributes:
        roughness: median \\|third difference\\| across the seams of patches over that elsewhere: about 1 where seams
            cannot be told from the rest; None where one patch covers the cell or seams are everywhere.
        disagreement: standard deviation among the patches that share a voxel, summed, over the sum of \\|density\\|;
            None without overlap.
    """

    roughness: float | None
    disagreement: float | None


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted density.

    Attributes:
        material: the crystal with its density, in the unit of the codec.
        spread: (nx, ny, nz) float32 standard deviation of the prediction, in the same unit; None where it is not known.
        electrons: its integrals.
        seams: how well its patches fit together.
        n_patches: patches that were predicted.
        seconds: spent on it; those of a batch are shared among its patches.
        mode: how it was predicted.
    """

    material: Material
    spread: NDArray[np.float32] | None
    electrons: Electrons
    seams: SeamStatistics
    n_patches: int
    seconds: float
    mode: str


@dataclass(frozen=True, eq=False)
class Failure:
    """A job that could not be done.

    Attributes:
        job: the job.
        error: why.
    """

    job: Job
    error: ValueError


@dataclass(eq=False)
class _Open:
    """A job whose patches are under way."""

    job: Job
    cover: Cover
    guess: NDArray[np.float32] | None
    truth: NDArray[np.float32] | None
    density: Assembly
    spread: Assembly | None = None
    done: int = 0
    seconds: float = 0.0
    error: ValueError | None = None

    @property
    def finished(self) -> bool:
        return self.error is not None or self.done == len(self.cover)

    def request(self, index: int) -> PatchRequest:
        x, y, z = (int(o) for o in self.cover.offsets[index])
        parts = [
            None if whole is None else self.cover.cut(whole, index) for whole in (self.guess, self.truth)
        ]
        return PatchRequest(
            self.job.crystal, self.cover.grid_shape, (x, y, z), self.cover.patch_shape, *parts
        )

    def take(self, index: int, patch: PatchPrediction) -> None:
        started = time.perf_counter()
        try:
            self.density.add(index, patch.density)
            if patch.spread is not None:
                if self.spread is None:
                    self.spread = Assembly(self.cover)
                self.spread.add(index, patch.spread)
        except ValueError as error:
            self.error = _named(self.job.crystal, error)
        self.done += 1
        self.seconds += time.perf_counter() - started


@dataclass(eq=False)
class _Batch:
    """Patches that go to the predictor together."""

    items: list[tuple[_Open, int]] = field(default_factory=list)

    def run(self, predictor: PatchPredictor, progress: Progress | None) -> None:
        """Predict, and hand each job its patches; one that cannot be predicted fails alone."""
        items = [(job, index) for job, index in self.items if job.error is None]
        self.items = []
        jobs = list(dict.fromkeys(job for job, _ in items))
        try:
            self._run(predictor, items)
        except ValueError as error:
            if len(jobs) == 1:
                jobs[0].error = _named(jobs[0].job.crystal, error)
            else:
                for one in jobs:
                    _Batch([(job, index) for job, index in items if job is one]).run(predictor, None)
        if progress:
            for job in jobs:
                progress(job.job, job.done, len(job.cover))

    @staticmethod
    def _run(predictor: PatchPredictor, items: list[tuple[_Open, int]]) -> None:
        started = time.perf_counter()
        requests = [job.request(index) for job, index in items]
        answers = predictor.predict(requests) if requests else []
        if len(answers) != len(items):
            raise RuntimeError(f"the predictor gave {len(answers)} patches for {len(items)} requests")
        share = (time.perf_counter() - started) / max(len(items), 1)
        for (job, index), answer in zip(items, answers, strict=True):
            job.seconds += share
            if job.error is None:
                job.take(index, answer)


def predict_density(
    predictor: PatchPredictor,
    crystal: Crystal,
    grid_shape: Sequence[int],
    *,
    overlap: int = 0,
    normalize: bool = False,
    electrons: float | None = None,
    truth: Material | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """The density of one crystal; see :func:`predict_densities`.

    Raises:
        ValueError: it cannot be predicted; the message says why.
    """
    job = Job(crystal, check_grid(grid_shape), truth, electrons)
    (outcome,) = predict_densities(predictor, [job], overlap=overlap, normalize=normalize, progress=progress)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def predict_densities(
    predictor: PatchPredictor,
    jobs: Iterable[Job],
    *,
    overlap: int = 0,
    normalize: bool = False,
    max_guess_error: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Prediction | Failure]:
    """Densities of many crystals, in order; batches are filled over patches and materials.

    Jobs are taken from the iterable as they are needed; a few are held at a time.

    Args:
        predictor: predicts patches.
        jobs: crystals with grids.
        overlap: grid points by which neighbouring patches overlap at least, see :mod:`tomat.prediction.cover`.
        normalize: scale each density to the valence count of its atoms.
        max_guess_error: largest NMAE of a starting density against the truth of a job, and twice the share by which its
            electrons may be off the counts of the training data; None compares nothing.
        progress: called after each batch.

    Yields:
        a :class:`Prediction`, or a :class:`Failure` for a job that cannot be done: a crystal that tokens cannot state,
        an element without a radial function or valence count, values that are not finite.
    """
    waiting: deque[_Open | Failure] = deque()
    batch = _Batch()
    for job in jobs:
        try:
            opened = _open(predictor, job, overlap, normalize, max_guess_error)
        except ValueError as error:
            waiting.append(Failure(job, error))
        else:
            waiting.append(opened)
            for index in range(len(opened.cover)):
                batch.items.append((opened, index))
                if len(batch.items) >= predictor.batch_size:
                    batch.run(predictor, progress)
                if opened.error is not None:
                    break
        while waiting and (isinstance(waiting[0], Failure) or waiting[0].finished):
            yield _outcome(predictor, waiting.popleft(), normalize)
    batch.run(predictor, progress)
    while waiting:
        yield _outcome(predictor, waiting.popleft(), normalize)


def valence_count(predictor: PatchPredictor, job: Job) -> float | None:
    """Valence electrons of a job's cell, as given or from the predictor's facts; None where an element is missing."""
    if job.electrons is not None:
        return job.electrons
    counts = [predictor.facts.valence.get(int(z)) for z in job.crystal.atomic_numbers]
    known = [count for count in counts if count is not None]
    return float(sum(known)) if len(known) == len(counts) else None


def _open(
    predictor: PatchPredictor, job: Job, overlap: int, normalize: bool, max_guess_error: float | None
) -> _Open:
    started = time.perf_counter()
    crystal, tokenizer = job.crystal, predictor.tokenizer
    grid = check_grid(job.grid_shape)
    try:
        tokenizer.check(grid, crystal.lattice, crystal.n_atoms)
        plan = cover(grid, tokenizer.shape_for(crystal.n_atoms), overlap)
        if normalize:
            _check_valence(predictor, job)
        guess = _guess(predictor, job) if predictor.needs_guess else None
        truth = None if job.truth is None else _truth(predictor, job, job.truth)
        if guess is not None and max_guess_error is not None and _of_a_kind(predictor):
            check_guess(crystal.name, guess, truth, _guessed(predictor, job, guess), max_guess_error)
        # A predictor that could see the truth in another mode would be worth nothing as evidence.
        truth = truth if predictor.mode == "teacher_forced" else None
    except ValueError as error:
        raise _named(crystal, error) from error
    opened = _Open(job, plan, guess, truth, Assembly(plan))
    opened.seconds = time.perf_counter() - started
    return opened


def _named(crystal: Crystal, error: ValueError) -> ValueError:
    """The error with the crystal's name in front."""
    message = str(error)
    return error if message.startswith(crystal.name) else ValueError(f"{crystal.name}: {message}")


def _check_valence(predictor: PatchPredictor, job: Job) -> None:
    count = valence_count(predictor, job)
    if count is not None:
        return
    facts, symbols = predictor.facts, _core.elements()
    missing = sorted({int(z) for z in job.crystal.atomic_numbers} - set(facts.valence))
    disputed = [z for z in missing if z in facts.disputed]
    names = ", ".join(symbols[z - 1] for z in missing)
    problem = f"the valence electrons of {names} are not known from the training data"
    if disputed:
        said = "; ".join(f"{symbols[z - 1]}: {facts.disputed[z]}" for z in disputed)
        problem += f", whose materials do not agree and are of more than one kind of pseudopotential ({said})"
    raise ValueError(
        f"{problem}; give the number of electrons of the cell (--electrons), or leave the density as it is predicted"
    )


def _guess(predictor: PatchPredictor, job: Job) -> NDArray[np.float32]:
    crystal = job.crystal
    return predictor.facts.starting_density(
        crystal.lattice,
        crystal.atomic_numbers,
        crystal.frac_coords,
        job.grid_shape,
        predictor.tokenizer.unit,
    )


def _of_a_kind(predictor: PatchPredictor) -> bool:
    """Whether the starting density is fitted to one kind of data: analytic ones are as far from all."""
    promolecule = predictor.facts.promolecule
    return promolecule is not None and promolecule.kind == "splines"


def _guessed(predictor: PatchPredictor, job: Job, guess: NDArray[np.float32]) -> tuple[float, float] | None:
    """Electrons of a starting density and of the atoms by the training data's counts; None where these do not tell."""
    expected = valence_count(predictor, replace(job, electrons=None))
    if expected is None:
        return None
    mean = float(guess.mean(dtype=np.float64))
    return mean * (1.0 if predictor.tokenizer.unit == "chgcar" else job.crystal.volume), expected


def _truth(predictor: PatchPredictor, job: Job, truth: Material) -> NDArray[np.float32]:
    if truth.grid_shape != tuple(job.grid_shape):
        raise ValueError(f"the true density has the grid {truth.grid_shape}, not {tuple(job.grid_shape)}")
    return truth.in_unit(predictor.tokenizer.unit).density


def _outcome(predictor: PatchPredictor, opened: _Open | Failure, normalize: bool) -> Prediction | Failure:
    if isinstance(opened, Failure):
        return opened
    if opened.error is not None:
        return Failure(opened.job, opened.error)
    started = time.perf_counter()
    try:
        prediction = _close(predictor, opened, normalize)
    except ValueError as error:
        return Failure(opened.job, error)
    return replace(prediction, seconds=opened.seconds + time.perf_counter() - started)


def _close(predictor: PatchPredictor, opened: _Open, normalize: bool) -> Prediction:
    job = opened.job
    density = opened.density.density()
    spread = None if opened.spread is None else opened.spread.density()
    source: dict[str, Any] = {"format": "prediction", "mode": predictor.mode}
    material = job.crystal.material(density, predictor.tokenizer.unit, source)
    raw, expected = material.n_electrons, valence_count(predictor, job)
    final = raw
    if normalize and expected is not None:
        if not raw > 0:
            raise ValueError(
                f"{job.crystal.name}: the predicted density integrates to {raw:g} electrons and cannot be scaled to "
                f"{expected:g}"
            )
        scale = np.float64(expected / raw)
        material = replace(material, density=(density * scale).astype(np.float32))
        spread = None if spread is None else (spread * scale).astype(np.float32)
        final = material.n_electrons
    seams = SeamStatistics(_roughness(opened.cover, density), opened.density.disagreement())
    return Prediction(
        material, spread, Electrons(raw, expected, final), seams, len(opened.cover), 0.0, predictor.mode
    )


def _roughness(plan: Cover, density: NDArray[np.float32]) -> float | None:
    """Third differences over the edges between grid planes: of the edges that are seams over the others.

    A third difference over four points is small where the density is smooth, and twice the step where a seam lies in
    its middle; those with a seam beside their middle are left out. A plane's is the median over its points, since near
    nuclei densities are rough by nature. Pooled over the axes that have edges of both kinds.
    """
    at = elsewhere = 0.0
    for axis, starts in enumerate(plan.seams()):
        n = density.shape[axis]
        seam, near = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        seam[starts] = True
        near[(starts[:, None] + np.array([-1, 0, 1])) % n] = True
        if not seam.any() or near.all():
            continue
        third = np.roll(density, -1, axis) - np.roll(density, 2, axis)
        third += 3 * (np.roll(density, 1, axis) - density)
        profile = np.median(np.moveaxis(np.abs(third), axis, 0).reshape(n, -1), axis=1)
        at += float(profile[seam].mean())
        elsewhere += float(profile[~near].mean())
    return at / elsewhere if elsewhere else None
