"""Each token is predicted from those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

from tomat import _core
from tomat.lm.objective.base import TEACHER_FORCED, Objective, density_ids

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

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
        arrays: Mapping[str, NDArray[Any]],
        guess: NDArray[np.int32] | None,
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> None:
        """Shift the targets by one; the first token of a sequence is not predicted."""
        _core.ask_next_tokens(
            vocabulary.tokenizer._core,
            arrays["tokens"],
            arrays["targets"],
            arrays["loss_weight"],
            arrays["values"],
            arrays["segments"],
            equal=self.equal,
            preamble=self.config.preamble_weight,
        )

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        if mode == "teacher_forced":
            tokens[:] = density_ids(request, "truth", vocabulary)
