"""Predictors of all kinds of models; needs JAX and Levanter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from tomat.lm.brick.predictor import BrickPredictor
from tomat.lm.checkpoint import model_kind
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.field.predictor import FieldPredictor
from tomat.prediction.predictor import PatchPredictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.codec import Codec
    from tomat.prediction.options import DecodingConfig, Mode


class OpenModel(PatchPredictor, Protocol):
    """The predictor of a trained model.

    Attributes:
        modes: all modes that the model supports.
        codec: of densities.
    """

    @property
    def modes(self) -> tuple[Mode, ...]: ...  # noqa: D102
    @property
    def codec(self) -> Codec: ...  # noqa: D102

    def in_mode(self, mode: Mode) -> Self:
        """The same model in another of its modes."""
        ...

    def at_start(self) -> Self:
        """The same decoding with the run's initial weights."""
        ...


#: Opens the predictor of a checkpoint, by the kind of its model.
PREDICTORS: dict[str, Callable[[str, DecodingConfig], OpenModel]] = {
    "transformer": ModelPredictor.open,
    "field": FieldPredictor.open,
    "brick": BrickPredictor.open,
}


def open_kind(checkpoint: str, decoding: DecodingConfig) -> OpenModel:
    """Open the predictor of a run, checkpoint or export.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        ValueError: it is damaged, of an unknown kind, or does not support an option.
    """
    kind = model_kind(checkpoint, weights=decoding.weights)
    if kind not in PREDICTORS:
        raise ValueError(f"{checkpoint}: a model of kind {kind}; this program knows {', '.join(PREDICTORS)}")
    return PREDICTORS[kind](checkpoint, decoding)
