"""What the predictors of trained models of all kinds have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from tomat.models import shown

if TYPE_CHECKING:
    from tomat.prediction.options import DecodingConfig, Mode


class TrainedModel(Protocol):
    """A trained model.

    Attributes:
        path: its checkpoint folder.
        step: number of training steps.
        note: the content of ``tomat.json``.
    """

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def note(self) -> dict[str, Any]: ...  # noqa: D102


class TrainedPredictor[Model: TrainedModel](ABC):
    """A predictor of a trained model.

    Attributes:
        trained: the model.
        decoding: decoding options.
        keeps_electrons: see :class:`tomat.prediction.predictor.PatchPredictor`.
    """

    keeps_electrons: ClassVar[bool] = False
    trained: Model
    decoding: DecodingConfig

    @abstractmethod
    def __init__(self, trained: Model, decoding: DecodingConfig) -> None:
        """Take the weights.

        Raises:
            ValueError: the model does not support an option.
        """

    @staticmethod
    @abstractmethod
    def load(path: str, weights: str) -> Model:
        """Open the model of a run, checkpoint or export.

        Raises:
            FileNotFoundError: there is no complete checkpoint, or no initial weights for ``start``.
            ValueError: it is damaged.
        """

    @classmethod
    def open(cls, checkpoint: str, decoding: DecodingConfig) -> Self:
        """Open the predictor of a run, checkpoint or export.

        Raises:
            FileNotFoundError, ValueError: as :meth:`load`, or the model does not support an option.
        """
        return cls(cls.load(checkpoint, decoding.weights), decoding)

    def in_mode(self, mode: Mode) -> Self:
        """The same model in another of its modes, sharing the weights.

        Raises:
            ValueError: a mode the model does not have.
        """
        return type(self)(self.trained, replace(self.decoding, mode=mode))

    def at_start(self) -> Self:
        """The same decoding with the run's initial weights.

        Raises:
            FileNotFoundError: they were not kept, or the model is an export.
        """
        return type(self)(self.load(self.trained.path, "start"), self.decoding)

    @property
    def weights(self) -> str:
        """Which weights of which run it uses, in words."""
        best = self.trained.note.get("best")
        why = f", the best held-out {best['metric']} ({best['value']:.4g})" if best else ""
        after = f"after {self.trained.step} steps" if self.trained.step else "as they began (step 0)"
        return f"{shown(self.trained.path)}: weights {after}{why}"
