"""Each token is predicted from those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

import numpy as np

from tomat.lm.objective.base import TEACHER_FORCED, Objective, density_ids

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from tomat.lm.data.rows import RowBatch
    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest


class NextToken(Objective):
    """Autoregressive: each token is predicted from those before it."""

    causal = True
    modes = ("free_running", "teacher_forced")
    asks_preamble = True

    @property
    @override
    def label(self) -> str:
        return TEACHER_FORCED

    @override
    def asked(
        self,
        batch: RowBatch,
        density: NDArray[np.bool_],
        weight: NDArray[np.float32],
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> dict[str, NDArray[Any]]:
        """Shift the targets by one; the first token of a sequence is not predicted."""
        same = (batch.segments[:, 1:] == batch.segments[:, :-1]) & (batch.segments[:, 1:] >= 0)
        if self.config.preamble_weight:
            weight = np.where(density, weight, np.float32(self.config.preamble_weight))
        targets, values, weights = (np.zeros_like(a) for a in (batch.tokens, batch.values, weight))
        targets[:, :-1] = batch.tokens[:, 1:]
        values[:, :-1] = batch.values[:, 1:]
        np.multiply(weight[:, 1:], same, out=weights[:, :-1])
        return {"targets": targets, "values": values, "loss_weight": weights}

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        if mode == "teacher_forced":
            tokens[:] = density_ids(request, "truth", vocabulary)
