"""What can be evaluated: anything that gives the density of a whole cell, with the label its numbers carry."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from tomat.prediction.assemble import CellRequest, Failure, predict_densities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.codec import Codec
    from tomat.material import Material
    from tomat.prediction.predictor import PatchPredictor
    from tomat.promolecule import Promolecule

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

#: What may go wrong with one material without ending the evaluation: it is counted and named.
EXPECTED = (OSError, ValueError, KeyError, RuntimeError, MemoryError)


def is_headline(mode: str) -> bool:
    """Whether numbers of this mode may stand above the line."""
    return mode in HEADLINES


def primary_mode(modes: Sequence[str]) -> str:
    """The mode that pictures and comparisons are of where none is named: the first headline there is."""
    return next((mode for mode in modes if is_headline(mode)), modes[0])


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
        n_patches: that were predicted; 0 of methods without.
    """

    density: NDArray[np.float64]
    unit: str
    seconds: float
    expected_error: NDArray[np.float64] | None = None
    place: NDArray[np.int64] | None = None
    patch_shape: tuple[int, int, int] | None = None
    n_patches: int = 0


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

    def predict_all(self, materials: Iterable[Material]) -> Iterator[Predicted | Exception]:
        """The densities of many materials in order, or what was wrong with one (:data:`EXPECTED`).

        Materials are taken from the iterable as they are needed; here one by one.
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
class CodecFloor(Method):
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


@dataclass(frozen=True, eq=False)
class PatchMethod(Method):
    """Predicts whole cells with a patch predictor, see :mod:`tomat.prediction.assemble`.

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

    def predict(self, material: Material) -> Predicted:
        """The density of one material; many fill batches better."""
        (found,) = self.predict_all([material])
        if isinstance(found, Exception):
            raise found
        return found

    def predict_all(self, materials: Iterable[Material]) -> Iterator[Predicted | Exception]:
        """The densities of many materials in order, in the codec's unit; batches are filled over them."""
        return self.predict_cells(CellRequest.of(material) for material in materials)

    def predict_cells(self, cells: Iterable[CellRequest]) -> Iterator[Predicted | Exception]:
        """The same of cells, whose requests may be altered."""
        found = predict_densities(self.predictor, cells, overlap=self.overlap, expected=EXPECTED)
        for one in found:
            if isinstance(one, Failure):
                yield one.error
                continue
            error = one.expected_error
            yield Predicted(
                one.material.density.astype(np.float64),
                self.unit,
                one.seconds,
                None if error is None else error.astype(np.float64),
                one.cover.places(),
                one.cover.patch_shape,
                one.n_patches,
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
