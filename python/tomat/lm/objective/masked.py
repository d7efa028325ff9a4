"""A fraction of the voxels is masked; the model sees the others and predicts these."""

from __future__ import annotations

from typing import TYPE_CHECKING, override

import numpy as np

from tomat import _core
from tomat.lm.data.shuffle import random_bits
from tomat.lm.objective.base import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest


class Masked(Objective):
    """A fraction of the voxels is masked and predicted at once; everything else is visible."""

    @override
    def asked(
        self,
        arrays: Mapping[str, NDArray[Any]],
        guess: NDArray[np.int32] | None,
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> None:
        """Mask all tokens of a voxel or none, and at least one voxel a row."""
        segments = max(int(arrays["segments"].max()) + 1, 1)
        _core.ask_masked(
            vocabulary.tokenizer._core,
            arrays["tokens"],
            arrays["targets"],
            arrays["loss_weight"],
            arrays["segments"],
            keys,
            _limits(self.config.schedule, segments, keys),
            equal=self.equal,
            mask=vocabulary.mask,
        )

    @override
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        tokens[:] = vocabulary.mask


def _limits(schedule: str, segments: int, keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Below which of 2^24 random numbers voxels are masked, for each segment (n, segments)."""
    if schedule == "all":
        return np.full((len(keys), segments), 1 << 24, dtype=np.uint32)
    drawn = random_bits(keys ^ np.uint64(0x5EED), segments) / 2.0**24
    share = np.cos(drawn * (np.pi / 2)) if schedule == "cosine" else drawn
    return np.rint(share * 2.0**24).astype(np.uint32)
