"""The model sees a starting density and predicts the true one, all voxels at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

import numpy as np

from tomat.lm.objective.base import Objective, density_ids

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from tomat.lm.data.rows import RowBatch
    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest


class Guess(Objective):
    """Every voxel holds the token of a starting density and is predicted."""

    needs_guess = True

    @override
    def asked(
        self,
        batch: RowBatch,
        density: NDArray[np.bool_],
        weight: NDArray[np.float32],
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> dict[str, NDArray[Any]]:
        if batch.guess is None:
            raise ValueError("objective.kind = guess needs a starting density in the rows: set data.guess")
        return {"tokens": np.where(density, batch.guess, batch.tokens)}

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        tokens[:] = density_ids(request, "guess", vocabulary)
