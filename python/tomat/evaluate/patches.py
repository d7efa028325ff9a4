"""A patch predictor as a method: the whole cell from a cover, with the place of every voxel in its patch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.methods import DIAGNOSTICS, MODES, Predicted
from tomat.prediction.cover import Assembly, cover
from tomat.prediction.predictor import Crystal, PatchRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tomat.evaluate.methods import Mode
    from tomat.material import Material
    from tomat.prediction.cover import Cover
    from tomat.prediction.predictor import PatchPrediction, PatchPredictor

__all__ = ["Alteration", "PatchMethod", "StartMethod"]

type Alteration = Callable[[PatchRequest], PatchRequest]


@dataclass(frozen=True, eq=False)
class PatchMethod:
    """Predicts whole cells with a patch predictor.

    The predictor gets the true density in diagnostic modes, and where it needs it for the expected error of its
    distribution (``gives_expected_error``); :mod:`tomat.evaluate.probes` checks that its densities do not depend on it.

    Attributes:
        predictor: predicts patches.
        overlap: grid points by which neighbouring patches overlap, their seams blended; 0: each voxel has one owner.
    """

    predictor: PatchPredictor
    overlap: int = 0

    @property
    def mode(self) -> Mode:
        """That of the predictor.

        Raises:
            ValueError: a mode that has no label here.
        """
        mode = self.predictor.mode
        if mode not in MODES:
            raise ValueError(f"a predictor of mode {mode!r}; known: {', '.join(MODES)}")
        return mode

    @property
    def unit(self) -> str:
        """The tokenizer's."""
        return self.predictor.tokenizer.unit

    def identity(self) -> dict[str, Any]:
        """The predictor's, with codec and vocabulary."""
        tokenizer = self.predictor.tokenizer
        return {
            **self.predictor.identity(),
            "overlap": self.overlap,
            "layout": tokenizer.layout.name,
            "codec": tokenizer.density_codec.name,
            "codec_hash": tokenizer.density_codec.hash,
            "vocabulary_hash": tokenizer.vocabulary.hash,
            "pad_to": tokenizer.pad_to,
        }

    def predict(self, material: Material, alter: Alteration | None = None) -> Predicted:
        """The density of a material's crystal on its grid, in the codec's unit.

        Args:
            material: its density is handed over as the class says, and never part of a headline's input.
            alter: changes each request before the predictor sees it, for :mod:`tomat.evaluate.probes`; patches are put
                where the unchanged requests lie.

        Raises:
            ValueError: no patch shape fits the row, or the predictor refuses.
        """
        inside = material.in_unit(self.unit)
        patch_shape = self.predictor.tokenizer.shape_for(len(material.atomic_numbers))
        patches = cover(material.grid_shape, patch_shape, self.overlap)
        whole = _Whole(patches)
        started = time.perf_counter()
        guess = self._guess(inside) if self.predictor.needs_guess else None
        for batch in _batches(len(patches), self.predictor.batch_size):
            requests = self._requests(inside, patches, batch, guess)
            if alter is not None:
                requests = [alter(request) for request in requests]
            for index, prediction in zip(batch, self.predictor.predict(requests), strict=True):
                whole.add(index, prediction)
        return whole.predicted(self.unit, time.perf_counter() - started)

    def requests_of(self, material: Material) -> list[PatchRequest]:
        """The requests of all patches of a material, without densities in them.

        Raises:
            ValueError: no patch shape fits the row.
        """
        patch_shape = self.predictor.tokenizer.shape_for(len(material.atomic_numbers))
        patches = cover(material.grid_shape, patch_shape, self.overlap)
        crystal = Crystal.from_material(material)
        return [
            PatchRequest(crystal, material.grid_shape, _triple(offset), patch_shape)
            for offset in patches.offsets
        ]

    def _requests(
        self,
        material: Material,
        patches: Cover,
        batch: Sequence[int],
        guess: NDArray[np.float32] | None,
    ) -> list[PatchRequest]:
        gives_error = bool(getattr(self.predictor, "gives_expected_error", False))
        truth = material.density if self.predictor.mode in DIAGNOSTICS or gives_error else None
        crystal = Crystal.from_material(material)
        return [
            PatchRequest(
                crystal,
                material.grid_shape,
                _triple(patches.offsets[index]),
                patches.patch_shape,
                guess=None if guess is None else patches.cut(guess, index),
                truth=None if truth is None else patches.cut(truth, index),
            )
            for index in batch
        ]

    def _guess(self, material: Material) -> NDArray[np.float32]:
        return self.predictor.facts.starting_density(
            material.lattice,
            material.atomic_numbers,
            material.frac_coords,
            material.grid_shape,
            material.unit,
        )


@dataclass(frozen=True, eq=False)
class StartMethod(PatchMethod):
    """The weights a model began with, step 0: what training has to be better than.

    Its label is ``start``, and of a predictor that sees the true neighbours ``start_teacher_forced``, a diagnostic.
    """

    @property
    def mode(self) -> Mode:
        """See above."""
        return "start_teacher_forced" if super().mode in DIAGNOSTICS else "start"


class _Whole:
    """Puts patches together: the density, its expected error, the place in its patch of every voxel."""

    def __init__(self, patches: Cover) -> None:
        self._patches = patches
        self._density = Assembly(patches)
        self._error = Assembly(patches)
        self._errors = 0
        shape = patches.grid_shape
        self._place = np.full(shape, -1, dtype=np.int64)
        self._heaviest = np.zeros(shape)
        self._places = np.arange(math.prod(patches.patch_shape)).reshape(patches.patch_shape)

    def add(self, index: int, prediction: PatchPrediction) -> None:
        """Patch ``index``."""
        self._density.add(index, prediction.density)
        if prediction.expected_error is not None:
            self._errors += 1
            self._error.add(index, prediction.expected_error)
        if not self._patches.overlap:
            grid, own = self._patches.owned(index)
            self._place[grid] = self._places[own]
            return
        # Seams are blended: a voxel counts for the patch that has the largest say in it.
        weights, where = self._patches.weights(index), self._patches.points(index)
        for cut in np.ndindex(
            *(-(-len(w) // n) for w, n in zip(where, self._patches.grid_shape, strict=True))
        ):
            part = tuple(
                slice(c * n, (c + 1) * n) for c, n in zip(cut, self._patches.grid_shape, strict=True)
            )
            at = np.ix_(*(w[p] for w, p in zip(where, part, strict=True)))
            heavier = weights[part] > self._heaviest[at]
            self._heaviest[at] = np.where(heavier, weights[part], self._heaviest[at])
            self._place[at] = np.where(heavier, self._places[part], self._place[at])

    def predicted(self, unit: str, seconds: float) -> Predicted:
        """The whole.

        Raises:
            ValueError: some patches came with an expected error and some without.
        """
        n = len(self._patches)
        if self._errors not in (0, n):
            raise ValueError(
                f"{self._errors} of {n} patches came with an expected error; it must be all or none"
            )
        return Predicted(
            self._density.density().astype(np.float64),
            unit,
            seconds,
            self._error.density().astype(np.float64) if self._errors else None,
            self._place,
            self._patches.patch_shape,
            {"patches": n},
        )


def _batches(n: int, size: int) -> Iterator[range]:
    step = max(1, size)
    for start in range(0, n, step):
        yield range(start, min(n, start + step))


def _triple(values: NDArray[np.int64]) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z
