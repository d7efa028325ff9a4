"""Whole densities from a patch predictor: batching over patches and crystals, seams, electron counts."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.material import Material
from tomat.prediction.checks import check_guess
from tomat.prediction.cover import Assembly, Cover, Triple, Window, cover
from tomat.prediction.grid import check_grid
from tomat.prediction.predictor import PatchPrediction, PatchPredictor, PatchRequest
from tomat.prediction.unseen import share_of_unseen

#: Changes a request; the prediction is placed where the unchanged request lies.
type Alteration = Callable[[PatchRequest], PatchRequest]
#: Called with (cell, number of its patches done, number of its patches).
type Progress = Callable[["CellRequest", int, int], None]


@dataclass(frozen=True, eq=False)
class CellRequest:
    """A density to predict.

    Attributes:
        crystal: the crystal.
        grid_shape: (nx, ny, nz).
        truth: the true density on that grid; shown only to predictors with ``sees_truth``.
        electrons: valence electrons of the cell; None is the sum over ``facts.valence``.
        allow_unseen: whether the promolecule stands in for elements that the training data do not have, see
            :mod:`tomat.prediction.unseen`; else their prediction is the model's.
        alter: changes each patch request before the predictor sees it; None changes nothing.

    Raises:
        ValueError: ``electrons`` that are not finite and positive.
    """

    crystal: Crystal
    grid_shape: Triple
    truth: Material | None = None
    electrons: float | None = None
    alter: Alteration | None = None
    allow_unseen: bool = False

    def __post_init__(self) -> None:
        if self.electrons is not None and not (math.isfinite(self.electrons) and self.electrons > 0):
            raise ValueError(f"electrons = {self.electrons:g} must be a finite number above 0")

    @classmethod
    def of(cls, material: Material, alter: Alteration | None = None) -> CellRequest:
        """The crystal and grid of a material, with the material as the truth."""
        return cls(material.crystal, material.grid_shape, material, alter=alter)

    def patch(
        self,
        plan: Cover,
        index: int,
        guess: NDArray[np.float32] | None = None,
        truth: NDArray[np.float32] | None = None,
    ) -> PatchRequest:
        """The request of patch ``index``; ``guess`` and ``truth`` (nx, ny, nz) are cut to the patch."""
        x, y, z = (int(o) for o in plan.offsets[index])
        parts = [None if whole is None else plan.cut(whole, index) for whole in (guess, truth)]
        request = PatchRequest(self.crystal, plan.grid_shape, (x, y, z), plan.patch_shape, *parts)
        return request if self.alter is None else self.alter(request)


@dataclass(frozen=True)
class Electrons:
    """Electron counts of a predicted density.

    Attributes:
        raw: as predicted.
        expected: the valence electrons of the atoms; None if not known.
        final: of the returned density: ``expected`` if it was normalised or corrected, else ``raw``.
    """

    raw: float
    expected: float | None
    final: float


@dataclass(frozen=True)
class SeamStatistics:
    """How well patches match at their seams.

    Attributes:
        roughness: median \\|third difference\\| across seams divided by that elsewhere; about 1 if seams are invisible.
            None if one patch covers the cell or seams are everywhere.
        disagreement: sum over voxels of the standard deviation among the patches that share the voxel, divided by the
            sum of \\|density\\|; None without overlap.
    """

    roughness: float | None
    disagreement: float | None


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted density.

    Attributes:
        cell: the request.
        material: the crystal with its density, in the unit of the codec.
        spread: (nx, ny, nz) float32 standard deviation of the prediction in the same unit, or None.
        expected_error: (nx, ny, nz) float32 mean of \\|density - truth\\| over the predicted distribution in the same
            unit; None if not known, or if the density was normalised or unseen elements were allowed.
        pit: (nx, ny, nz) float32 predicted probability of less than the truth; None if not known, or if the density was
            normalised.
        electrons: its electron counts.
        cover: its patches; :meth:`tomat.prediction.cover.Cover.places` gives the position of each voxel in its patch.
        disagreement: see :class:`SeamStatistics`.
        seconds: time spent; the time of a batch is split evenly over its patches.
        mode: the prediction mode.
    """

    cell: CellRequest
    material: Material
    spread: NDArray[np.float32] | None
    expected_error: NDArray[np.float32] | None
    pit: NDArray[np.float32] | None
    electrons: Electrons
    cover: Cover
    disagreement: float | None
    seconds: float
    mode: str

    @property
    def n_patches(self) -> int:
        """Number of patches."""
        return len(self.cover)

    @functools.cached_property
    def seams(self) -> SeamStatistics:
        """How well its patches match at their seams."""
        return SeamStatistics(_roughness(self.cover, self.material.density), self.disagreement)


@dataclass(frozen=True, eq=False)
class Failure:
    """A density that could not be predicted.

    Attributes:
        cell: the request.
        error: the reason.
    """

    cell: CellRequest
    error: Exception


@dataclass(eq=False)
class _Open:
    """A cell whose patches are being predicted."""

    cell: CellRequest
    cover: Cover
    guess: NDArray[np.float32] | None
    truth: NDArray[np.float32] | None
    unseen: NDArray[np.float32] | None = None
    parts: dict[str, Assembly] = field(default_factory=dict)
    done: int = 0
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        return self.error is not None or self.done == len(self.cover)

    def request(self, index: int) -> PatchRequest:
        return self.cell.patch(self.cover, index, self.guess, self.truth)

    def take(self, index: int, patch: PatchPrediction) -> None:
        started = time.perf_counter()
        parts = {
            "density": patch.density,
            "spread": patch.spread,
            "expected error": patch.expected_error,
            "probability of less than the truth": patch.pit,
        }
        try:
            for name, values in parts.items():
                if values is not None:
                    self.parts.setdefault(name, Assembly(self.cover)).add(index, values)
        except ValueError as error:
            self.error = _named(self.cell.crystal, error)
        self.done += 1
        self.seconds += time.perf_counter() - started

    def whole(self, name: str) -> NDArray[np.float32] | None:
        """An assembled part, or None if no patch has it; an error if only some have."""
        if name not in self.parts:
            return None
        part = self.parts[name]
        if not part.complete:
            raise ValueError(f"the predictor gave the {name} for some patches only; give it for all or none")
        return part.density()


@dataclass(eq=False)
class _Batch:
    """Patches that are predicted together; ``expected`` errors fail a cell and leave the others."""

    expected: tuple[type[Exception], ...]
    items: list[tuple[_Open, int]] = field(default_factory=list)

    def run(self, predictor: PatchPredictor, progress: Progress | None) -> None:
        """Predict the patches and hand them to their cells; on an error each cell is tried alone."""
        items = [(opened, index) for opened, index in self.items if opened.error is None]
        self.items = []
        cells = list(dict.fromkeys(opened for opened, _ in items))
        try:
            self._run(predictor, items)
        except self.expected as error:
            if len(cells) == 1:
                cells[0].error = _named(cells[0].cell.crystal, error)
            else:
                for one in cells:
                    alone = [(opened, index) for opened, index in items if opened is one]
                    _Batch(self.expected, alone).run(predictor, None)
        if progress:
            for opened in cells:
                progress(opened.cell, opened.done, len(opened.cover))

    @staticmethod
    def _run(predictor: PatchPredictor, items: list[tuple[_Open, int]]) -> None:
        started = time.perf_counter()
        requests = [opened.request(index) for opened, index in items]
        answers = predictor.predict(requests) if requests else []
        if len(answers) != len(items):
            raise RuntimeError(f"the predictor gave {len(answers)} patches for {len(items)} requests")
        share = (time.perf_counter() - started) / max(len(items), 1)
        for (opened, index), answer in zip(items, answers, strict=True):
            opened.seconds += share
            if opened.error is None:
                opened.take(index, answer)


def predict_density(
    predictor: PatchPredictor,
    crystal: Crystal,
    grid_shape: Sequence[int],
    *,
    overlap: int = 0,
    normalize: bool = False,
    electrons: float | None = None,
    truth: Material | None = None,
    allow_unseen: bool = False,
) -> Prediction:
    """The density of one crystal; see :func:`predict_densities`."""
    cell = CellRequest(crystal, check_grid(grid_shape), truth, electrons, allow_unseen=allow_unseen)
    (outcome,) = predict_densities(predictor, [cell], overlap=overlap, normalize=normalize)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def predict_densities(
    predictor: PatchPredictor,
    cells: Iterable[CellRequest],
    *,
    overlap: int = 0,
    window: Window = "blend",
    normalize: bool = False,
    max_guess_error: float | None = None,
    progress: Progress | None = None,
    expected: tuple[type[Exception], ...] = (ValueError,),
) -> Iterator[Prediction | Failure]:
    """Yield the densities of many crystals, in order; batches span patches and crystals.

    Cells are taken from the iterable as needed; a few are held at a time.

    Args:
        predictor: predicts patches.
        cells: crystals with grids.
        overlap: least number of grid points by which neighbouring patches overlap, see :mod:`tomat.prediction.cover`.
        window: what becomes of voxels that several patches hold, one of :data:`tomat.prediction.cover.WINDOWS`.
        normalize: bring each density to the valence electrons of its atoms, which must be known: by a factor, or as
            predictors that keep electrons do it, see :func:`_corrected`.
        max_guess_error: largest allowed NMAE of a starting density against the truth; its electron count may deviate
            from the training data's by half this fraction. None checks nothing.
        progress: called after each batch.
        expected: types of errors that fail one crystal and leave the others; all other errors are raised.

    Yields:
        a :class:`Prediction`, or a :class:`Failure`: a crystal that the tokenizer cannot encode, an element without a
        radial function or valence count, values that are not finite.
    """
    waiting: deque[_Open | Failure] = deque()
    batch = _Batch(expected)
    for cell in cells:
        try:
            opened = _open(predictor, cell, (overlap, window), normalize, max_guess_error)
        except expected as error:
            waiting.append(Failure(cell, error))
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


def valence_count(predictor: PatchPredictor, cell: CellRequest) -> float | None:
    """Valence electrons of a cell, as given or from the predictor's facts; None if an element is missing."""
    if cell.electrons is not None:
        return cell.electrons
    counts = [predictor.facts.valence.get(int(z)) for z in cell.crystal.atomic_numbers]
    known = [count for count in counts if count is not None]
    return float(sum(known)) if len(known) == len(counts) else None


def _open(
    predictor: PatchPredictor,
    cell: CellRequest,
    patches: tuple[int, Window],
    normalize: bool,
    max_guess_error: float | None,
) -> _Open:
    started = time.perf_counter()
    crystal, tokenizer = cell.crystal, predictor.tokenizer
    grid = check_grid(cell.grid_shape)
    overlap, window = patches
    try:
        tokenizer.check(grid, crystal.lattice, crystal.n_atoms)
        plan = cover(grid, predictor.patch_shape(crystal.n_atoms, grid, overlap), overlap, window)
        if normalize:
            _check_valence(predictor, cell)
        facts, guess = predictor.facts, None
        if predictor.needs_guess:
            guess = facts.starting_density(crystal, cell.grid_shape, tokenizer.unit)
        truth = None if cell.truth is None else _truth(predictor, cell, cell.truth)
        # Splines are fitted to one kind of data, analytic forms are not.
        fitted = facts.promolecule is not None and facts.promolecule.kind == "splines"
        if guess is not None and max_guess_error is not None and fitted:
            check_guess(crystal.name, guess, truth, _guessed(predictor, cell, guess), max_guess_error)
    except ValueError as error:
        raise _named(crystal, error) from error
    opened = _Open(cell, plan, guess, truth if predictor.sees_truth else None)
    if cell.allow_unseen and guess is not None:
        opened.unseen = share_of_unseen(crystal, facts, cell.grid_shape)
    opened.seconds = time.perf_counter() - started
    return opened


def _named(crystal: Crystal, error: Exception) -> Exception:
    """A ``ValueError`` with the crystal's name in front; other errors unchanged."""
    if not isinstance(error, ValueError) or str(error).startswith(crystal.name):
        return error
    return ValueError(f"{crystal.name}: {error}")


def _check_valence(predictor: PatchPredictor, cell: CellRequest) -> None:
    count = valence_count(predictor, cell)
    if count is not None:
        return
    facts, symbols = predictor.facts, _core.elements()
    missing = sorted({int(z) for z in cell.crystal.atomic_numbers} - set(facts.valence))
    disputed = [z for z in missing if z in facts.disputed]
    names = ", ".join(symbols[z - 1] for z in missing)
    problem = f"the valence electrons of {names} are not known from the training data"
    if disputed:
        said = "; ".join(f"{symbols[z - 1]}: {facts.disputed[z]}" for z in disputed)
        problem += f": its materials disagree, so they use more than one kind of pseudopotential ({said})"
    raise ValueError(
        f"{problem}; give the number of electrons in the cell (--electrons), or predict without normalisation"
    )


def _guessed(
    predictor: PatchPredictor, cell: CellRequest, guess: NDArray[np.float32]
) -> tuple[float, float] | None:
    """Electrons of a starting density, and those expected from the training data; None if an element is missing."""
    expected = valence_count(predictor, replace(cell, electrons=None))
    if expected is None:
        return None
    mean = float(guess.mean(dtype=np.float64))
    return mean * _electrons_of_mean(predictor, cell), expected


def _truth(predictor: PatchPredictor, cell: CellRequest, truth: Material) -> NDArray[np.float32]:
    if truth.grid_shape != tuple(cell.grid_shape):
        raise ValueError(f"the true density has the grid {truth.grid_shape}, not {tuple(cell.grid_shape)}")
    return truth.in_unit(predictor.tokenizer.unit).density


def _outcome(predictor: PatchPredictor, opened: _Open | Failure, normalize: bool) -> Prediction | Failure:
    if isinstance(opened, Failure):
        return opened
    if opened.error is not None:
        return Failure(opened.cell, opened.error)
    started = time.perf_counter()
    try:
        prediction = _close(predictor, opened, normalize)
    except ValueError as error:
        return Failure(opened.cell, _named(opened.cell.crystal, error))
    return replace(prediction, seconds=opened.seconds + time.perf_counter() - started)


def _close(predictor: PatchPredictor, opened: _Open, normalize: bool) -> Prediction:
    cell = opened.cell
    density, spread = opened.parts["density"].density(), opened.whole("spread")
    expected_error, pit = opened.whole("expected error"), opened.whole("probability of less than the truth")
    if opened.unseen is not None and opened.guess is not None:
        density = density + opened.unseen * (opened.guess - density)
        expected_error, pit = None, None
    source: dict[str, Any] = {"format": "prediction", "mode": predictor.mode}
    material = Material.on(cell.crystal, density, predictor.tokenizer.unit, source)
    raw, expected = material.n_electrons, valence_count(predictor, cell)
    final = raw
    if predictor.keeps_electrons and expected is not None and spread is not None and spread.any():
        excess = (raw - expected) / _electrons_of_mean(predictor, cell)
        material = replace(material, density=_corrected(density, spread, excess))
        final = material.n_electrons
    elif normalize and expected is not None:
        if not raw > 0:
            raise ValueError(
                f"{cell.crystal.name}: the predicted density integrates to {raw:g} electrons and cannot be scaled to "
                f"{expected:g}"
            )
        scale = np.float64(expected / raw)
        material = replace(material, density=(density * scale).astype(np.float32))
        spread = None if spread is None else (spread * scale).astype(np.float32)
        expected_error, pit, final = None, None, material.n_electrons
    return Prediction(
        cell,
        material,
        spread,
        expected_error,
        pit,
        Electrons(raw, expected, final),
        opened.cover,
        opened.parts["density"].disagreement(),
        0.0,
        predictor.mode,
    )


def _corrected(
    density: NDArray[np.floating], spread: NDArray[np.float32], excess: float
) -> NDArray[np.float32]:
    """The density with a mean lower by ``excess``: every voxel moves in proportion to its spread.

    Among densities with the right integral, the one with the smallest expected error has the same quantile of its
    distribution at every voxel (the multiplier of the constraint is a probability). For distributions of one form it
    lies so many standard deviations from the median everywhere.
    """
    step = excess / np.mean(spread, dtype=np.float64)
    return (density - step * spread).astype(np.float32)


def _electrons_of_mean(predictor: PatchPredictor, cell: CellRequest) -> float:
    """Electrons in the cell of a density whose mean is 1 in the predictor's unit."""
    return 1.0 if predictor.tokenizer.unit == "chgcar" else cell.crystal.volume


def _roughness(plan: Cover, density: NDArray[np.float32]) -> float | None:
    """Third differences across seams, divided by those across other pairs of grid planes.

    A third difference over four points is small where the density is smooth, and twice the step if a seam lies in its
    middle; those with a seam off the middle are left out. Each plane counts by its median, since densities are rough
    near nuclei. Pooled over the axes that have both kinds of planes.
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
