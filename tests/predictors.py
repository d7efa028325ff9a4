"""Patch predictors that are no models, for tests of what stands behind the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import tomat
from tomat.prediction.options import Mode
from tomat.prediction.predictor import ByTokenizer, PatchPrediction, PatchRequest, TrainingFacts

TOKENIZERS = {
    "v3": tomat.PatchTokenizer("v3", "lmq-16k", patch_size=8, pad_to=1024),
    "v2": tomat.PatchTokenizer("v2", "lmq-16k", patch_size=8, pad_to=1024),
}


def preamble(tokenizer: tomat.PatchTokenizer, request: PatchRequest) -> np.ndarray[Any, Any]:
    """The row of a request with an empty density: all that a model is told of a crystal."""
    crystal = request.crystal
    empty = np.zeros(request.grid_shape, dtype=np.float32)
    offsets = np.array([request.offset])
    rows = tokenizer.encode(empty, crystal.lattice, crystal.atomic_numbers, crystal.frac_coords, offsets)
    return np.asarray(rows[0])


@dataclass(frozen=True, eq=False)
class TokenPredictor(ByTokenizer):
    """Reads the tokens of a request and nothing else: Gaussians where the tokens say that atoms are.

    Attributes:
        order: makes it mind the order of atoms, as a model may.
    """

    layout: str = "v3"
    mode: Mode = "one_pass"
    order: bool = False
    needs_guess: bool = False
    batch_size: int = 7
    facts: TrainingFacts = field(default_factory=TrainingFacts)
    keeps_electrons: bool = False
    weights: str = ""

    @property
    def sees_truth(self) -> bool:
        return self.mode == "teacher_forced"

    @property
    def tokenizer(self) -> tomat.PatchTokenizer:
        return TOKENIZERS[self.layout]

    def identity(self) -> dict[str, Any]:
        return {"predictor": "tokens", "layout": self.layout, "order": self.order}

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        return [PatchPrediction(self._density(request)) for request in requests]

    def _density(self, request: PatchRequest) -> np.ndarray[Any, np.dtype[np.float32]]:
        told = self.tokenizer.decode(preamble(self.tokenizer, request))
        corner = np.zeros(3) if told.offset is None else np.array(told.offset) / told.grid_shape
        axes = [
            (np.arange(n) / g) + c
            for n, g, c in zip(request.patch_shape, told.grid_shape, corner, strict=True)
        ]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        out = np.full(request.patch_shape, 0.1)
        for number, (z, place) in enumerate(zip(told.atomic_numbers, told.frac_coords, strict=True)):
            apart = points - place
            apart -= np.round(apart)
            weight = z * (1 + number if self.order else 1)
            out += weight * np.exp(-40 * (apart**2).sum(axis=-1))
        return out.astype(np.float32)


@dataclass(frozen=True, eq=False)
class TruthPredictor(ByTokenizer):
    """Gives the truth times a factor: a diagnostic, or, as ``one_pass``, a cheat that probes must find.

    Attributes:
        factor: of the density.
        expected: also says the expected error of a distribution, by so much wider than its estimate's.
    """

    factor: float = 1.1
    mode: Mode = "teacher_forced"
    expected: float | None = None
    refuses: str | None = None
    needs_guess: bool = False
    batch_size: int = 16
    facts: TrainingFacts = field(default_factory=TrainingFacts)
    about: dict[str, Any] = field(default_factory=dict)
    sees_truth: bool = True
    keeps_electrons: bool = False
    weights: str = ""

    @property
    def tokenizer(self) -> tomat.PatchTokenizer:
        return TOKENIZERS["v3"]

    def identity(self) -> dict[str, Any]:
        return {"predictor": "truth", "factor": self.factor, **self.about}

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        return [self._one(request) for request in requests]

    def _one(self, request: PatchRequest) -> PatchPrediction:
        if request.crystal.name == self.refuses:
            raise ValueError(f"{self.refuses}: not today")
        truth = request.truth
        assert truth is not None
        made = PatchPrediction((truth * self.factor).astype(np.float32))
        if self.expected is None:
            return made
        error = np.abs(truth * self.factor - truth) + self.expected * np.abs(truth)
        return replace(
            made, expected_error=error.astype(np.float32), pit=np.full(truth.shape, 0.8, np.float32)
        )


@dataclass(frozen=True, eq=False)
class CodecFloorPredictor(ByTokenizer):
    """The truth through the codec and back: what no model with these tokens can beat by much."""

    tokenizer: tomat.PatchTokenizer
    batch_size: int = 256
    mode: Mode = "teacher_forced"
    needs_guess: bool = False
    sees_truth: bool = True
    keeps_electrons: bool = False
    weights: str = ""
    facts: TrainingFacts = field(default_factory=TrainingFacts)

    def identity(self) -> dict[str, Any]:
        """The codec's content hash."""
        return {"predictor": "codec floor", "codec": self.tokenizer.density_codec.hash}

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """The true patches as they come back from tokens.

        Raises:
            ValueError: a request without a truth.
        """
        codec = self.tokenizer.density_codec
        found = []
        for request in requests:
            if request.truth is None:
                raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no truth")
            found.append(PatchPrediction(codec.roundtrip(request.truth).astype(np.float32)))
        return found
