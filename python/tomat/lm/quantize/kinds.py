"""The kinds of models that can be written into one file; needs JAX and Levanter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, override

from tomat.lm.brick.checkpoint import open_brick
from tomat.lm.checkpoint import Trained, model_kind, open_checkpoint
from tomat.lm.decode.kinds import export_transformer
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.export import state_dict, with_state_dict
from tomat.lm.field.checkpoint import RelativeModel, as_open, named_weights, open_field, with_named_weights
from tomat.lm.field.export import export_field
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.quantize import field, transformer
from tomat.lm.quantize.inputs import cells, patches
from tomat.models import bundled
from tomat.prediction.options import DecodingConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from tomat.lm.decode.base import TrainedModel
    from tomat.lm.quantize.inputs import Calibration, Cell

    type Weights = dict[str, NDArray[np.float32]]


class Quantisable(ABC):
    """A trained model whose weights can be coded.

    Attributes:
        kind: of the model.
        rows: the axis of the outputs in its matrices.
        weights: by name.
    """

    kind: ClassVar[str]
    rows: ClassVar[int]
    weights: Weights

    @property
    @abstractmethod
    def trained(self) -> TrainedModel:
        """The model."""

    @property
    def name(self) -> str:
        """Of its run."""
        return str(self.trained.note["name"])

    @property
    def step(self) -> int:
        """Number of training steps."""
        return self.trained.step

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(weight.size for weight in self.weights.values())

    @abstractmethod
    def is_end(self, name: str) -> bool:
        """Whether a matrix has the encoding of the embedding."""

    @abstractmethod
    def walk(self, calibration: Calibration, weights: Weights, code: Callable[..., None]) -> None:
        """Hand all matrices with their Hessians to ``code``, which changes ``weights``.

        Raises:
            OSError, ValueError: what to calibrate with cannot be read, or is of no use to the model.
        """

    @abstractmethod
    def export(self, weights: Weights, out: Path, more: dict[str, Any]) -> None:
        """Write the export of the model with other weights to a new folder; ``more`` is for its note."""


class Transformer(Quantisable):
    """A transformer; its rows are those it predicts patches with."""

    kind, rows = "transformer", 0

    def __init__(self, trained: Trained) -> None:
        if getattr(trained.config, "spatial", False):
            raise ValueError(
                f"{trained.path}: a model with positions in space or the field's eyes has no export"
            )
        self._trained, self.weights = trained, state_dict(trained.model)
        self._rows: tuple[Calibration, list[transformer.Row]] | None = None

    @property
    @override
    def trained(self) -> Trained:
        return self._trained

    @override
    def is_end(self, name: str) -> bool:
        return name == transformer.EMBEDDING

    @override
    def walk(self, calibration: Calibration, weights: Weights, code: Callable[..., None]) -> None:
        if self._rows is None or self._rows[0] is not calibration:
            self._rows = calibration, self._drawn(calibration)
        blocks = transformer.Blocks.of(self.trained.config, causal=self.trained.objective.causal)
        transformer.walk(blocks, self._rows[1], weights, code)

    def _drawn(self, calibration: Calibration) -> list[transformer.Row]:
        objective = self.trained.objective
        # A causal model is seen with the true tokens before each, the others as they predict.
        mode = "teacher_forced" if objective.causal else objective.modes[0]
        predictor = ModelPredictor(self.trained, DecodingConfig(mode=mode, estimate="mode"))
        shift = 1 if objective.causal else 0
        return [
            transformer.Row(of.tokens, slice(of.first - shift, of.first - shift + of.count))
            for of in predictor.layouts(patches(calibration, predictor))
        ]

    @override
    def export(self, weights: Weights, out: Path, more: dict[str, Any]) -> None:
        model = with_state_dict(self.trained.model, weights)
        export_transformer(replace(self.trained, model=model), out, more=more)


class Field(Quantisable):
    """A field model; its rows are points of crystals."""

    kind, rows = "field", 1

    def __init__(self, trained: RelativeModel[Any]) -> None:
        self._trained, self.weights = trained, named_weights(trained.model)
        self._cells: tuple[Calibration, list[Cell]] | None = None

    @property
    @override
    def trained(self) -> RelativeModel[Any]:
        return self._trained

    @override
    def is_end(self, name: str) -> bool:
        return field.is_end(name)

    @override
    def walk(self, calibration: Calibration, weights: Weights, code: Callable[..., None]) -> None:
        model = as_open(self.trained)
        if self._cells is None or self._cells[0] is not calibration:
            self._cells = calibration, cells(calibration, FieldPredictor(model, DecodingConfig()).facts)
        field.walk(model, self._cells[1], weights, code)

    @override
    def export(self, weights: Weights, out: Path, more: dict[str, Any]) -> None:
        model = with_named_weights(self.trained.model, weights, self.trained.path)
        export_field(replace(self.trained, model=model), out, **more)


class Brick(Field):
    """A brick model, whose inputs are not collected."""

    kind = "brick"

    @override
    def is_end(self, name: str) -> bool:
        return "embed" in name or name.startswith("head.")

    @override
    def walk(self, calibration: Calibration, weights: Weights, code: Callable[..., None]) -> None:
        del calibration, weights, code
        raise ValueError(
            f"{self.trained.path}: the inputs of a brick model's layers are not collected, so there is no GPTQ for it; "
            "round to the nearest"
        )


#: Opens a model by its kind.
_OPENED: dict[str, Callable[[str, str], Quantisable]] = {
    "transformer": lambda path, weights: Transformer(open_checkpoint(path, weights=weights)),
    "field": lambda path, weights: Field(open_field(path, weights=weights)),
    "brick": lambda path, weights: Brick(open_brick(path, weights=weights)),
}


def open_quantisable(checkpoint: str, weights: str) -> Quantisable:
    """Open the model of a run, checkpoint, export or artefact, or one of the package.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        ValueError: it is damaged, or of a kind that cannot be written into one file.
    """
    inside = bundled(checkpoint)
    checkpoint = checkpoint if inside is None else str(inside.folder)
    kind = model_kind(checkpoint, weights=weights)
    if kind not in _OPENED:
        raise ValueError(f"{checkpoint}: a model of kind {kind} cannot be written into one file")
    return _OPENED[kind](checkpoint, weights)
