"""Whole densities from a predictor of patches: batches over patches and crystals, seams, electrons."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core
from tomat.crystal import Crystal
from tomat.material import Material
from tomat.prediction.checks import check_guess
from tomat.prediction.cover import Assembly, Cover, cover
from tomat.prediction.grid import check_grid
from tomat.prediction.predictor import PatchPrediction, PatchPredictor, PatchRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray


type Triple = tuple[int, int, int]
#: Changes what a predictor is asked; the prediction is put where the unchanged request lies.
type Alteration = Callable[[PatchRequest], PatchRequest]
#: Called with (cell, patches of it that are done, of how many).
type Progress = Callable[["CellRequest", int, int], None]


@dataclass(frozen=True, eq=False)
class CellRequest:
    """A density to predict.

    Attributes:
        crystal: the crystal.
        grid_shape: points of its grid.
        truth: the true density on that grid; shown to those predictors alone that :func:`sees_truth` names.
        electrons: valence electrons of the cell, where not the sum of ``facts.valence``.
        alter: changes each patch's request before the predictor sees it; None changes nothing.
    """

    crystal: Crystal
    grid_shape: Triple
    truth: Material | None = None
    electrons: float | None = None
    alter: Alteration | None = None

    def __post_init__(self) -> None:
        """Check the number of electrons.

        Raises:
            ValueError: it is not a number above 0.
        """
        if self.electrons is not None and not (math.isfinite(self.electrons) and self.electrons > 0):
            raise ValueError(f"electrons is {self.electrons:g}; give a number above 0")

    @classmethod
    def of(cls, material: Material, alter: Alteration | None = None) -> CellRequest:
        """The crystal of a material on its grid, the material as the truth."""
        return cls(material.crystal, material.grid_shape, material, alter=alter)

    def patch(
        self,
        plan: Cover,
        index: int,
        guess: NDArray[np.float32] | None = None,
        truth: NDArray[np.float32] | None = None,
    ) -> PatchRequest:
        """The request of patch ``index`` of a cover, with its parts of densities on the whole grid."""
        x, y, z = (int(o) for o in plan.offsets[index])
        parts = [None if whole is None else plan.cut(whole, index) for whole in (guess, truth)]
        request = PatchRequest(self.crystal, plan.grid_shape, (x, y, z), plan.patch_shape, *parts)
        return request if self.alter is None else self.alter(request)


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
        expected_error: (nx, ny, nz) float32 mean of \\|density - truth\\| over the predicted distribution, in the same
            unit; None where it is not known, and of densities that were normalised.
        electrons: its integrals.
        cover: its patches; :meth:`tomat.prediction.cover.Cover.places` tells where in its patch each voxel lies.
        disagreement: see :class:`SeamStatistics`.
        seconds: spent on it; those of a batch are shared among its patches.
        mode: how it was predicted.
    """

    material: Material
    spread: NDArray[np.float32] | None
    expected_error: NDArray[np.float32] | None
    electrons: Electrons
    cover: Cover
    disagreement: float | None
    seconds: float
    mode: str

    @property
    def n_patches(self) -> int:
        """Patches that were predicted."""
        return len(self.cover)

    @functools.cached_property
    def seams(self) -> SeamStatistics:
        """How well its patches fit together."""
        return SeamStatistics(_roughness(self.cover, self.material.density), self.disagreement)


@dataclass(frozen=True, eq=False)
class Failure:
    """A density that could not be predicted.

    Attributes:
        cell: what was asked for.
        error: why.
    """

    cell: CellRequest
    error: Exception


@dataclass(eq=False)
class _Open:
    """A cell whose patches are under way."""

    cell: CellRequest
    cover: Cover
    guess: NDArray[np.float32] | None
    truth: NDArray[np.float32] | None
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
        parts = {"density": patch.density, "spread": patch.spread, "expected error": patch.expected_error}
        try:
            for name, values in parts.items():
                if values is not None:
                    self.parts.setdefault(name, Assembly(self.cover)).add(index, values)
        except ValueError as error:
            self.error = _named(self.cell.crystal, error)
        self.done += 1
        self.seconds += time.perf_counter() - started

    def whole(self, name: str) -> NDArray[np.float32] | None:
        """A part put together; None where no patch came with it.

        Raises:
            ValueError: some patches came with it and some without.
        """
        if name not in self.parts:
            return None
        part = self.parts[name]
        if not part.complete:
            raise ValueError(f"some patches came with the {name} and some without; it must be all or none")
        return part.density()


@dataclass(eq=False)
class _Batch:
    """Patches that go to the predictor together, and what may go wrong with one cell without ending the others."""

    expected: tuple[type[Exception], ...]
    items: list[tuple[_Open, int]] = field(default_factory=list)

    def run(self, predictor: PatchPredictor, progress: Progress | None) -> None:
        """Predict, and hand each cell its patches; one that cannot be predicted fails alone."""
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
    progress: Progress | None = None,
) -> Prediction:
    """The density of one crystal; see :func:`predict_densities`.

    Raises:
        ValueError: it cannot be predicted; the message says why.
    """
    cell = CellRequest(crystal, check_grid(grid_shape), truth, electrons)
    (outcome,) = predict_densities(predictor, [cell], overlap=overlap, normalize=normalize, progress=progress)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def predict_densities(
    predictor: PatchPredictor,
    cells: Iterable[CellRequest],
    *,
    overlap: int = 0,
    normalize: bool = False,
    max_guess_error: float | None = None,
    progress: Progress | None = None,
    expected: tuple[type[Exception], ...] = (ValueError,),
) -> Iterator[Prediction | Failure]:
    """Densities of many crystals, in order; batches are filled over patches and crystals.

    Cells are taken from the iterable as they are needed; a few are held at a time.

    Args:
        predictor: predicts patches.
        cells: crystals with grids.
        overlap: grid points by which neighbouring patches overlap at least, see :mod:`tomat.prediction.cover`.
        normalize: scale each density to the valence count of its atoms.
        max_guess_error: largest NMAE of a starting density against the truth of a cell, and twice the share by which
            its electrons may be off the counts of the training data; None compares nothing.
        progress: called after each batch.
        expected: errors of the predictor that fail one crystal and leave the others; all others are raised.

    Yields:
        a :class:`Prediction`, or a :class:`Failure` for a crystal that cannot be done: one that tokens cannot state,
        an element without a radial function or valence count, values that are not finite.
    """
    waiting: deque[_Open | Failure] = deque()
    batch = _Batch(expected)
    for cell in cells:
        try:
            opened = _open(predictor, cell, overlap, normalize, max_guess_error)
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


def sees_truth(predictor: PatchPredictor) -> bool:
    """Whether a predictor is shown the true density: those that predict from true neighbours, and those that need it
    for the expected error of their distribution and say so (``gives_expected_error``).

    :mod:`tomat.evaluate.probes` checks that the densities of the latter do not depend on it.
    """
    return predictor.mode == "teacher_forced" or bool(getattr(predictor, "gives_expected_error", False))


def valence_count(predictor: PatchPredictor, cell: CellRequest) -> float | None:
    """Valence electrons of a cell, as given or from the predictor's facts; None where an element is missing."""
    if cell.electrons is not None:
        return cell.electrons
    counts = [predictor.facts.valence.get(int(z)) for z in cell.crystal.atomic_numbers]
    known = [count for count in counts if count is not None]
    return float(sum(known)) if len(known) == len(counts) else None


def _open(
    predictor: PatchPredictor, cell: CellRequest, overlap: int, normalize: bool, max_guess_error: float | None
) -> _Open:
    started = time.perf_counter()
    crystal, tokenizer = cell.crystal, predictor.tokenizer
    grid = check_grid(cell.grid_shape)
    try:
        tokenizer.check(grid, crystal.lattice, crystal.n_atoms)
        plan = cover(grid, tokenizer.shape_for(crystal.n_atoms), overlap)
        if normalize:
            _check_valence(predictor, cell)
        guess = _guess(predictor, cell) if predictor.needs_guess else None
        truth = None if cell.truth is None else _truth(predictor, cell, cell.truth)
        if guess is not None and max_guess_error is not None and _of_a_kind(predictor):
            check_guess(crystal.name, guess, truth, _guessed(predictor, cell, guess), max_guess_error)
    except ValueError as error:
        raise _named(crystal, error) from error
    opened = _Open(cell, plan, guess, truth if sees_truth(predictor) else None)
    opened.seconds = time.perf_counter() - started
    return opened


def _named(crystal: Crystal, error: Exception) -> Exception:
    """The error with the crystal's name in front; others than ``ValueError`` as they are."""
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
        problem += f", whose materials do not agree and are of more than one kind of pseudopotential ({said})"
    raise ValueError(
        f"{problem}; give the number of electrons of the cell (--electrons), or leave the density as it is predicted"
    )


def _guess(predictor: PatchPredictor, cell: CellRequest) -> NDArray[np.float32]:
    return predictor.facts.starting_density(cell.crystal, cell.grid_shape, predictor.tokenizer.unit)


def _of_a_kind(predictor: PatchPredictor) -> bool:
    """Whether the starting density is fitted to one kind of data: analytic ones are as far from all."""
    promolecule = predictor.facts.promolecule
    return promolecule is not None and promolecule.kind == "splines"


def _guessed(
    predictor: PatchPredictor, cell: CellRequest, guess: NDArray[np.float32]
) -> tuple[float, float] | None:
    """Electrons of a starting density and of the atoms by the training data's counts; None where these do not tell."""
    expected = valence_count(predictor, replace(cell, electrons=None))
    if expected is None:
        return None
    mean = float(guess.mean(dtype=np.float64))
    return mean * (1.0 if predictor.tokenizer.unit == "chgcar" else cell.crystal.volume), expected


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
    expected_error = opened.whole("expected error")
    source: dict[str, Any] = {"format": "prediction", "mode": predictor.mode}
    material = Material.on(cell.crystal, density, predictor.tokenizer.unit, source)
    raw, expected = material.n_electrons, valence_count(predictor, cell)
    final = raw
    if normalize and expected is not None:
        if not raw > 0:
            raise ValueError(
                f"{cell.crystal.name}: the predicted density integrates to {raw:g} electrons and cannot be scaled to "
                f"{expected:g}"
            )
        scale = np.float64(expected / raw)
        material = replace(material, density=(density * scale).astype(np.float32))
        spread = None if spread is None else (spread * scale).astype(np.float32)
        expected_error, final = None, material.n_electrons
    return Prediction(
        material,
        spread,
        expected_error,
        Electrons(raw, expected, final),
        opened.cover,
        opened.parts["density"].disagreement(),
        0.0,
        predictor.mode,
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
