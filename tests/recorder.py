"""A predictor that remembers what it was asked, and the crystals it is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tomat.crystal import Crystal
from tomat.prediction.options import Mode
from tomat.prediction.predictor import ByTokenizer, PatchPrediction, PatchRequest, TrainingFacts
from tomat.tokenizer import PatchTokenizer

LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])


def tokenizer(patch_size: int = 5, **options: Any) -> PatchTokenizer:
    return PatchTokenizer("v3", "lmq-16k", patch_size=patch_size, **options)


def crystal(name: str = "x", numbers: Sequence[int] = (14, 8)) -> Crystal:
    rng = np.random.default_rng(len(name))
    return Crystal.of(LATTICE, list(numbers), rng.uniform(0, 1, (len(numbers), 3)), name)


@dataclass
class Recorder(ByTokenizer):
    """Predicts a function of the grid point and the crystal, and remembers what it was asked."""

    tokenizer: PatchTokenizer = field(default_factory=tokenizer)
    mode: Mode = "one_pass"
    needs_guess: bool = False
    batch_size: int = 7
    facts: TrainingFacts = field(default_factory=lambda: TrainingFacts(None, {14: 4.0, 8: 6.0}))
    batches: list[list[PatchRequest]] = field(default_factory=list)
    refuse: str = ""
    spread: bool = False
    offset: float = 0.0
    keeps_electrons: bool = False
    weights: str = ""

    @property
    def sees_truth(self) -> bool:
        return self.mode == "teacher_forced"

    def identity(self) -> dict[str, Any]:
        return {"recorder": self.offset}

    def value(self, request: PatchRequest) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        points = [
            (o + np.arange(p)) % n
            for o, p, n in zip(request.offset, request.patch_shape, request.grid_shape, strict=True)
        ]
        i, j, k = np.meshgrid(*points, indexing="ij")
        n = request.crystal.n_atoms
        return np.asarray(1.0 + n + i + 31 * j + 997 * k + self.offset, dtype=np.float32)

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        self.batches.append(list(requests))
        if any(self.refuse and request.crystal.name == self.refuse for request in requests):
            raise ValueError(f"{self.refuse} cannot be predicted")
        values = [self.value(request) for request in requests]
        return [PatchPrediction(value, value / np.float32(10) if self.spread else None) for value in values]
