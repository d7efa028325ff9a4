"""A fraction of the voxels is masked; the model sees the others and predicts these."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

import numpy as np

from tomat.lm.data.shuffle import random_bits
from tomat.lm.objective.base import Objective

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from tomat.lm.data.rows import RowBatch
    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest


class Masked(Objective):
    """A fraction of the voxels is masked and predicted at once; everything else is visible."""

    @override
    def asked(
        self,
        batch: RowBatch,
        density: NDArray[np.bool_],
        weight: NDArray[np.float32],
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> dict[str, NDArray[Any]]:
        schedule = self.config.schedule
        asked = density if schedule == "all" else _drawn(batch, schedule, vocabulary, keys, density)
        return {
            "tokens": np.where(asked, np.int32(vocabulary.mask), batch.tokens),
            "loss_weight": np.where(asked, weight, np.float32(0)),
        }

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        tokens[:] = vocabulary.mask


def _drawn(
    batch: RowBatch,
    schedule: str,
    vocabulary: ModelVocabulary,
    keys: NDArray[np.uint64],
    density: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which density tokens are masked: all tokens of a voxel or none, and at least one voxel a row."""
    segments = max(int(batch.segments.max()) + 1, 1)
    drawn = random_bits(keys ^ np.uint64(0x5EED), segments) / 2.0**24
    share = np.cos(drawn * (np.pi / 2)) if schedule == "cosine" else drawn
    limit = np.rint(share * 2.0**24).astype(np.uint32)
    number = random_bits(keys, batch.tokens.shape[1])
    sizes = vocabulary.codec.sizes
    bounds = vocabulary.density.start + np.cumsum([0, *sizes])
    for component in range(1, len(sizes)):
        later = (batch.tokens >= bounds[component]) & (batch.tokens < bounds[component + 1])
        later = later[:, component:]
        number[:, component:][later] = number[:, :-component][later]
    if segments > 1:
        limit = np.take_along_axis(limit, np.maximum(batch.segments, 0), axis=1)
    masked = density & (number < limit)
    for row in np.flatnonzero(~masked.any(axis=1) & density.any(axis=1)):
        lowest = number[row][density[row]].min()
        masked[row] = density[row] & (number[row] == lowest)
    return masked
