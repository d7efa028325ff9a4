"""The model sees a starting density and predicts the true one, all voxels at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

from tomat import _core
from tomat.lm.objective.base import Objective, density_ids

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest


class Guess(Objective):
    """Every voxel holds the token of a starting density and is predicted."""

    needs_guess = True

    @override
    def asked(
        self,
        arrays: Mapping[str, NDArray[Any]],
        guess: NDArray[np.int32] | None,
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> None:
        if guess is None:
            raise ValueError("objective.kind = guess needs a starting density in the rows: set data.guess")
        _core.ask_from_guess(
            vocabulary.tokenizer._core,
            arrays["tokens"],
            arrays["targets"],
            arrays["loss_weight"],
            guess,
            equal=self.equal,
        )

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        tokens[:] = density_ids(request, "guess", vocabulary)
