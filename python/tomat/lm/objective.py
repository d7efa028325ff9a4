"""What the model is asked: inputs, targets and weights made of rows; NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tomat.lm.data.rows import Row, RowBatch
from tomat.lm.data.shuffle import random_bits

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from tomat.lm.vocabulary import ModelVocabulary

__all__ = ["ObjectiveConfig", "example_arrays"]

type Kind = Literal["next_token", "masked", "guess"]
type Schedule = Literal["all", "cosine", "uniform"]
type VoxelWeights = Literal["equal", "nmae"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the model is asked.

    Attributes:
        kind: ``next_token``: causal, each token from those before it. ``masked``: a share of the voxels is masked and
            asked for at once, everything else is visible. ``guess``: every voxel carries the token of a starting
            density and is asked for.
        schedule: of ``masked``, the share of voxels that is masked, drawn for each sequence: ``all`` of them,
            ``uniform`` u in [0, 1), or ``cosine`` cos(u pi / 2) (MaskGIT, Chang et al., CVPR 2022).
        preamble_weight: of ``next_token``, the weight of tokens that are not density; their structure is given, so
            the other kinds do not ask for it.
        voxel_weights: ``equal``: 1 each. ``nmae``: 1 / mean \\|density\\| of the material, so that the weighted mean
            absolute error over its voxels is its NMAE.
    """

    kind: str = "masked"
    schedule: str = "cosine"
    preamble_weight: float = 0.0
    voxel_weights: str = "equal"

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            ValueError: an unknown one, or a preamble weight where the preamble is not asked for.
        """
        for name, known in (("kind", Kind), ("schedule", Schedule), ("voxel_weights", VoxelWeights)):
            if getattr(self, name) not in get_args(known.__value__):
                choices = ", ".join(get_args(known.__value__))
                raise ValueError(f"objective.{name} = {getattr(self, name)!r}; choose one of {choices}")
        if not (np.isfinite(self.preamble_weight) and self.preamble_weight >= 0):
            raise ValueError(f"objective.preamble_weight = {self.preamble_weight} must be 0 or above")
        if self.preamble_weight and self.kind != "next_token":
            raise ValueError(
                f"objective.preamble_weight = {self.preamble_weight}, but {self.kind} gives the preamble and does not "
                "ask for it; set it to 0"
            )

    @property
    def causal(self) -> bool:
        """Whether attention looks back only; otherwise it looks both ways."""
        return self.kind == "next_token"


def example_arrays(
    rows: Row, config: ObjectiveConfig, vocabulary: ModelVocabulary, keys: ArrayLike
) -> dict[str, NDArray[Any]]:
    """The arrays of examples, each aligned with the model's activations.

    Args:
        rows: one row (L,) or a batch (n, L).
        config: what is asked.
        vocabulary: of the model.
        keys: (n,) uint64 or one number: decides what is masked; other rows need other keys.

    Returns:
        ``tokens`` int32 (inputs), ``targets`` int32, ``values`` float32 (the truth where the target is the last token
        of a voxel), ``loss_weight`` float32 (0 where nothing is asked), ``pos_ids`` int32, ``segments`` int32 (-1 at
        padding), all of the shape of the rows.

    Raises:
        ValueError: ``guess`` for rows without one, ``nmae`` where a material's mean density is not known.
    """
    batch = RowBatch.of(rows)
    density = (batch.tokens >= vocabulary.density.start) & (batch.tokens < vocabulary.density.stop)
    weight = _voxel_weight(batch, config, density)
    if config.kind == "next_token":
        arrays = _next_token(batch, config, density, weight)
    elif config.kind == "masked":
        asked = density
        if config.schedule != "all":
            asked = _masked(batch, config.schedule, vocabulary, np.asarray(keys, dtype=np.uint64), density)
        tokens = np.where(asked, np.int32(vocabulary.mask), batch.tokens)
        arrays = _at_once(batch, tokens, np.where(asked, weight, np.float32(0)))
    else:
        if batch.guess is None:
            raise ValueError("objective.kind = guess needs a starting density in the rows: set data.guess")
        arrays = _at_once(batch, np.where(density, batch.guess, batch.tokens), weight)
    arrays["pos_ids"], arrays["segments"] = batch.positions, batch.segments
    return arrays if isinstance(rows, RowBatch) else {name: array[0] for name, array in arrays.items()}


def _voxel_weight(
    batch: RowBatch, config: ObjectiveConfig, density: NDArray[np.bool_]
) -> NDArray[np.float32]:
    if config.voxel_weights == "equal":
        return density.astype(np.float32)
    if not np.isfinite(batch.weight).all():
        raise ValueError(
            "objective.voxel_weights = nmae needs the mean density of every material; these rows have no cell and "
            "their unit is e_per_A3: use equal, or rows of v2-lat or v3"
        )
    return batch.weight


def _at_once(
    batch: RowBatch, tokens: NDArray[np.int32], weight: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    return {"tokens": tokens, "targets": batch.tokens, "values": batch.values, "loss_weight": weight}


def _next_token(
    batch: RowBatch, config: ObjectiveConfig, density: NDArray[np.bool_], weight: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """Everything moves one to the left; the first token of a sequence is asked of nobody."""
    same = (batch.segments[:, 1:] == batch.segments[:, :-1]) & (batch.segments[:, 1:] >= 0)
    if config.preamble_weight:
        weight = np.where(density, weight, np.float32(config.preamble_weight))
    targets, values, weights = (
        np.zeros_like(batch.tokens),
        np.zeros_like(batch.values),
        np.zeros_like(weight),
    )
    targets[:, :-1] = batch.tokens[:, 1:]
    values[:, :-1] = batch.values[:, 1:]
    np.multiply(weight[:, 1:], same, out=weights[:, :-1])
    return {"tokens": batch.tokens, "targets": targets, "values": values, "loss_weight": weights}


def _masked(
    batch: RowBatch,
    schedule: str,
    vocabulary: ModelVocabulary,
    keys: NDArray[np.uint64],
    density: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which density tokens are masked: all tokens of a voxel or none, and at least one voxel a row."""
    keys = np.atleast_1d(keys)
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
