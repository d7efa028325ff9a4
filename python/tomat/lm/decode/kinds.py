"""Predictors and exports of all kinds of models; needs JAX and Levanter."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol, Self

from tomat.lm.brick.checkpoint import open_brick
from tomat.lm.brick.predictor import BrickPredictor
from tomat.lm.checkpoint import model_kind, open_checkpoint
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.export import export_model
from tomat.lm.field.checkpoint import open_field
from tomat.lm.field.export import export_field
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.record import SEAL
from tomat.prediction.predictor import PatchPredictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tomat.codec import Codec
    from tomat.lm.checkpoint import Trained
    from tomat.lm.decode.base import TrainedModel
    from tomat.lm.field.checkpoint import RelativeModel
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


def export_transformer(
    trained: Trained, out: Path, *, dtype: str = "float32", more: dict[str, Any] | None = None
) -> None:
    """Write an open transformer to the folder ``out``; ``more`` goes into its note."""
    note = {name: value for name, value in trained.note.items() if name not in ("format", SEAL)}
    export_model(
        trained.model,
        trained.vocabulary,
        out,
        objective=trained.note["objective"],
        data=trained.note.get("data"),
        extra={"note": note, "steps": trained.step, **(more or {})},
        dtype=dtype,
    )


def _export_transformer(checkpoint: str, out: Path, *, weights: str, dtype: str) -> Trained:
    trained = open_checkpoint(checkpoint, weights=weights)
    export_transformer(trained, out, dtype=dtype)
    return trained


def _export_relative(
    checkpoint: str, out: Path, *, weights: str, dtype: str, opened: Callable[..., RelativeModel[Any]]
) -> RelativeModel[Any]:
    if dtype != "float32":
        raise ValueError(
            f"{checkpoint}: a model of this kind is exported as float32, not as {dtype}; omit --dtype"
        )
    trained = opened(checkpoint, weights=weights)
    export_field(trained, out)
    return trained


#: Exports a checkpoint, by the kind of its model.
EXPORTERS: dict[str, Callable[..., TrainedModel]] = {
    "transformer": _export_transformer,
    "field": functools.partial(_export_relative, opened=open_field),
    "brick": functools.partial(_export_relative, opened=open_brick),
}


def export_kind(checkpoint: str, out: Path, *, weights: str = "best", dtype: str = "float32") -> TrainedModel:
    """Export the model of a run or checkpoint to the folder ``out``, and return it.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        ValueError: it is damaged, of an unknown kind, or ``out`` holds something else.
        OSError: ``out`` cannot be written.
    """
    kind = _kind(checkpoint, weights)
    if kind not in EXPORTERS:
        raise ValueError(
            f"{checkpoint}: a model of kind {kind} has no export; give the run or checkpoint itself"
        )
    return EXPORTERS[kind](checkpoint, out, weights=weights, dtype=dtype)


def open_kind(checkpoint: str, decoding: DecodingConfig) -> OpenModel:
    """Open the predictor of a run, checkpoint or export.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        ValueError: it is damaged, of an unknown kind, or does not support an option.
    """
    return PREDICTORS[_kind(checkpoint, decoding.weights)](checkpoint, decoding)


def _kind(checkpoint: str, weights: str) -> str:
    kind = model_kind(checkpoint, weights=weights)
    if kind not in PREDICTORS:
        raise ValueError(f"{checkpoint}: a model of kind {kind}; this program knows {', '.join(PREDICTORS)}")
    return kind
