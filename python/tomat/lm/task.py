"""What is particular to a kind of model in training; the rest is common, in :mod:`tomat.lm.train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import jax
    from levanter.data.loader import DataLoader
    from levanter.trainer import Trainer

    from tomat.codec import Codec
    from tomat.lm.evaluation_hook import EvaluationHook
    from tomat.lm.kept import KeptWeights


class Examples(Protocol):
    """Endless training examples; example i depends only on the seed and i."""

    def loader(self, trainer: Trainer, batch_size: int, *, buffered: int, fetched: int) -> DataLoader[Any]:
        """Levanter's loader of batches."""
        ...

    def row_id(self, index: int) -> str:
        """The materials of an example, in words."""
        ...


class Task(Protocol):
    """A model, its data, its loss and its evaluation.

    Attributes:
        codec: of the densities.
        notices: messages about the data.
        positions: predictions of an example, or tokens, for the throughput.
        unit: what ``positions`` counts: ``voxels`` or ``tokens``.
        flops: floating-point operations of an example in a training step.
        loss: for Levanter's ``Trainer``.
    """

    @property
    def codec(self) -> Codec: ...  # noqa: D102
    @property
    def notices(self) -> list[str]: ...  # noqa: D102
    @property
    def positions(self) -> int: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def flops(self) -> float: ...  # noqa: D102
    @property
    def loss(self) -> Any: ...  # noqa: D102

    def note(self) -> dict[str, Any]:
        """Its parts of the note of a run, as JSON; see docs/training.md."""
        ...

    def build(self, key: jax.Array) -> Any:
        """A model at its start."""
        ...

    def examples(self) -> Examples:
        """The training examples."""
        ...

    def evaluation(self, trainer: Trainer, kept: KeptWeights) -> EvaluationHook | None:
        """The evaluation on held-out data; None without them."""
        ...
