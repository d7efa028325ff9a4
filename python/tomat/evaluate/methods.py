"""Methods that can be evaluated: each predicts the density of a whole cell, in a named mode."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tomat.codec import Codec
from tomat.material import Material
from tomat.prediction import options
from tomat.prediction.assemble import CellRequest, Failure, predict_densities
from tomat.prediction.cover import Window
from tomat.prediction.predictor import PatchPredictor
from tomat.promolecule import Promolecule
from tomat.starting import StartingDensity

type Mode = options.Mode | Literal["start", "start_teacher_forced", "promolecule", "codec_floor"]

#: Modes of a model that sees nothing of the true density; only these may be quoted as its error.
HEADLINES: tuple[Mode, ...] = ("one_pass", "k_pass", "free_running")
#: Modes that see the true neighbouring voxels: diagnostics, not a measure of quality.
DIAGNOSTICS: tuple[Mode, ...] = ("teacher_forced", "start_teacher_forced")
#: Baselines: the weights at step 0 (in the first headline mode), spherical atoms, and the true density through the
#: codec.
BASELINES: tuple[Mode, ...] = ("start", "promolecule", "codec_floor")
#: All modes, in table order.
MODES: tuple[Mode, ...] = (*HEADLINES, *BASELINES, *DIAGNOSTICS)

#: Errors that fail one material and do not end the evaluation.
EXPECTED = (OSError, ValueError, KeyError, RuntimeError, MemoryError)


def primary_mode(modes: Sequence[str]) -> str:
    """The default mode of pictures and comparisons: the first headline mode, else the first."""
    return next((mode for mode in modes if mode in HEADLINES), modes[0])


@dataclass(frozen=True, eq=False)
class Predicted:
    """A predicted density of a whole cell.

    Attributes:
        density: (nx, ny, nz) float64 in ``unit``.
        unit: ``chgcar`` or ``e_per_A3``.
        seconds: time of the prediction, without reading and measuring.
        expected_error: (nx, ny, nz) E|v - true| in ``unit``, or None if the method gives no distribution.
        pit: (nx, ny, nz) predicted probability of less than the truth, likewise.
        place: (nx, ny, nz) int, row-major index of each voxel within its patch, or None.
        patch_shape: shape of the patches; None without ``place``.
        n_patches: number of predicted patches; 0 for methods without patches.
    """

    density: NDArray[np.float64]
    unit: str
    seconds: float
    expected_error: NDArray[np.float64] | None = None
    pit: NDArray[np.float64] | None = None
    place: NDArray[np.int64] | None = None
    patch_shape: tuple[int, int, int] | None = None
    n_patches: int = 0


class Method(Protocol):
    """Predicts densities of whole cells."""

    @property
    def mode(self) -> Mode:
        """The mode its numbers are labelled with."""

    @property
    def weights(self) -> str:
        """Which weights of which run it uses, in words; empty for a method without any."""
        return ""

    def identity(self) -> dict[str, Any]:
        """Everything its densities depend on, as JSON."""

    def predict(self, material: Material) -> Predicted:
        """The density of a material's crystal on its grid.

        Headline modes and the promolecule must not look at ``material.density``.

        Raises:
            ValueError, KeyError: the material cannot be predicted.
        """

    def predict_all(self, materials: Iterable[Material]) -> Iterator[Predicted | Exception]:
        """Yield the densities of materials in order; for a failed one its error (:data:`EXPECTED`).

        Materials are taken from the iterable as needed.
        """
        for material in materials:
            try:
                yield self.predict(material)
            except EXPECTED as error:
                yield error


@dataclass(frozen=True)
class PromoleculeMethod(Method):
    """The sum of spherical atoms.

    Attributes:
        promolecule: fitted or analytic.
        fallback: analytic form for elements the promolecule lacks; None makes them an error.
    """

    promolecule: Promolecule
    fallback: str | None = "slater"
    mode: Mode = "promolecule"

    def identity(self) -> dict[str, Any]:
        """Content hash and fallback."""
        return {"promolecule": self.promolecule.hash, "fallback": self.fallback}

    def predict(self, material: Material) -> Predicted:
        """The promolecule, scaled to its own number of valence electrons."""
        started = time.perf_counter()
        density = self.promolecule.predict(material, fallback=self.fallback)
        return Predicted(density, material.unit, time.perf_counter() - started)


@dataclass(frozen=True)
class CodecFloor(Method):
    """The true density encoded in tokens and decoded again: close to a lower bound on a model's error.

    Attributes:
        codec: the density codec.
        unit: the unit it encodes.
        starting: the starting density, for codecs that are relative to one.

    Raises:
        ValueError: the codec encodes another unit.
    """

    codec: Codec
    unit: str
    starting: StartingDensity | None = None
    mode: Mode = "codec_floor"

    def __post_init__(self) -> None:
        self.codec.unit_for(self.unit)

    def identity(self) -> dict[str, Any]:
        """Content hash and unit."""
        return {"codec": self.codec.name, "codec_hash": self.codec.hash, "unit": self.unit}

    def predict(self, material: Material) -> Predicted:
        """The decoded density."""
        started = time.perf_counter()
        values = material.in_unit(self.unit).density
        guess = None
        if self.starting is not None and self.codec.needs_guess:
            guess = self.starting.density(material.crystal, material.grid_shape, self.unit)
        back = self.codec.roundtrip(values, guess)
        return Predicted(np.asarray(back), self.unit, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class PatchMethod(Method):
    """Whole cells from a patch predictor, see :mod:`tomat.prediction.assemble`.

    Attributes:
        predictor: predicts patches.
        overlap: grid points by which neighbouring patches overlap.
        window: what becomes of voxels that several patches hold, one of :data:`tomat.prediction.cover.WINDOWS`.
    """

    predictor: PatchPredictor
    overlap: int = 0
    window: Window = "blend"

    @property
    def mode(self) -> Mode:
        """The predictor's mode."""
        mode = self.predictor.mode
        if mode not in MODES:
            raise ValueError(f"the predictor has the unknown mode {mode!r}; known: {', '.join(MODES)}")
        return mode

    @property
    def weights(self) -> str:
        """The predictor's."""
        return self.predictor.weights

    @property
    def unit(self) -> str:
        """The tokenizer's."""
        return self.predictor.tokenizer.unit

    def identity(self) -> dict[str, Any]:
        """The predictor's identity, with codec and vocabulary."""
        tokenizer = self.predictor.tokenizer
        codec = self.predictor.codec
        return {
            **self.predictor.identity(),
            "overlap": self.overlap,
            # Results of earlier versions do not say that patches are blended.
            **({} if self.window == "blend" else {"window": self.window}),
            "layout": tokenizer.layout.name,
            "codec": codec.name,
            "codec_hash": codec.hash,
            "vocabulary_hash": tokenizer.vocabulary.hash,
            "pad_to": tokenizer.pad_to,
        }

    def predict(self, material: Material) -> Predicted:
        """The density of one material; :meth:`predict_all` fills batches."""
        (found,) = self.predict_all([material])
        if isinstance(found, Exception):
            raise found
        return found

    def predict_all(self, materials: Iterable[Material]) -> Iterator[Predicted | Exception]:
        """Yield densities in the codec's unit, or errors, in order; batches span materials."""
        return self.predict_cells(CellRequest.of(material) for material in materials)

    def predict_cells(self, cells: Iterable[CellRequest]) -> Iterator[Predicted | Exception]:
        """As :meth:`predict_all`, for cells, whose requests may be altered."""
        found = predict_densities(
            self.predictor, cells, overlap=self.overlap, window=self.window, expected=EXPECTED
        )
        for one in found:
            if isinstance(one, Failure):
                yield one.error
                continue
            error, pit = (None if a is None else a.astype(np.float64) for a in (one.expected_error, one.pit))
            yield Predicted(
                one.material.density.astype(np.float64),
                self.unit,
                one.seconds,
                error,
                pit,
                one.cover.places(),
                one.cover.patch_shape,
                one.n_patches,
            )


@dataclass(frozen=True, eq=False)
class StartMethod(PatchMethod):
    """The weights at step 0, which training must improve on.

    Its mode is ``start``, or ``start_teacher_forced`` (a diagnostic) if the predictor sees true neighbours.
    """

    @property
    def mode(self) -> Mode:
        """``start`` or ``start_teacher_forced``."""
        return "start_teacher_forced" if super().mode in DIAGNOSTICS else "start"
