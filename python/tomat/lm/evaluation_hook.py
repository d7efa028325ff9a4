"""Evaluation during training, on whole rows of validation data with all voxels weighted equally."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import haliax as hax
import levanter.tracker
import numpy as np
from jax.experimental import multihost_utils

from tomat.lm.data.shuffle import key_of, permute
from tomat.lm.numbers import aggregate, count_tokens, row_sums, unigram_bits
from tomat.lm.stream import ExampleDataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levanter.callbacks import StepInfo
    from levanter.trainer import Trainer
    from numpy.typing import NDArray

    from tomat.lm.config import TrainConfig
    from tomat.lm.data import Rows
    from tomat.lm.kept import KeptWeights
    from tomat.lm.spatial.rows import SpatialRows
    from tomat.lm.vocabulary import ModelVocabulary

#: Randomly drawn training rows whose tokens are counted for the unigram baseline.
_COUNTED_ROWS = 512
#: Rows in memory at a time while tokens are counted.
_AT_A_TIME = 64


def _described(
    rows: Rows, indices: NDArray[np.int64], vocabulary: ModelVocabulary
) -> Iterator[tuple[Any, Any]]:
    """Yield counts of density tokens and electrons per voxel, some rows at a time."""
    for start in range(0, len(indices), _AT_A_TIME):
        batch = rows.rows(0, indices[start : start + _AT_A_TIME])
        electrons = batch.electrons.astype(np.float64) / np.maximum(batch.n_voxels, 1)
        yield count_tokens(batch.tokens, vocabulary), electrons


class EvaluationHook(ABC):
    """A hook of Levanter's trainer that evaluates the model and keeps the best weights.

    Attributes:
        last: numbers of the last evaluation by name.
    """

    def __init__(self, kept: KeptWeights) -> None:
        """Nothing is evaluated yet."""
        self.last: dict[str, float] = {}
        self._step = -1
        self._kept = kept

    @abstractmethod
    def evaluate(self, model: Any) -> dict[str, float]:
        """Numbers by name; those of the model start with the label of the evaluation."""

    def begin(self, model: Any, steps: int) -> None:
        """Evaluate the initial weights, and log the numbers under step 0, before the first step.

        Args:
            model: the weights.
            steps: earlier steps, above 0 if the run is initialised from a checkpoint.
        """
        self._look(model, steps, steps)

    def __call__(self, info: StepInfo[Any]) -> None:
        """Evaluate the weights, averaged ones if there are any, and log the numbers."""
        step = int(info.step)
        if step != self._step:
            self._look(info.eval_model, step, step + 1)

    def _look(self, model: Any, step: int, steps: int) -> None:
        """Evaluate the weights after ``steps`` steps, log under ``step``, and keep the weights if they are best."""
        self._step = step
        self.last = self.evaluate(model)
        levanter.tracker.log({f"eval/{name}": value for name, value in self.last.items()}, step=step)
        self._kept.look(model, steps, self.last)


class Evaluation(EvaluationHook):
    """A hook of Levanter's trainer that evaluates the model.

    Averages are over voxels and materials, not over batches; rows that pad the last batch do not count.

    Args:
        trainer: gives devices and precision.
        config: of the run.
        training: the training rows, for the unigram baseline.
        validation: the rows to evaluate on, not packed.
        vocabulary: of the model.
        Pos: the model's position axis.
        kept: keeps the best weights.
    """

    def __init__(
        self,
        trainer: Trainer,
        config: TrainConfig,
        training: Rows,
        validation: Rows,
        vocabulary: ModelVocabulary,
        Pos: hax.Axis,  # noqa: N803 - the field's name
        kept: KeptWeights,
        *,
        space: SpatialRows | None = None,
    ) -> None:
        """Count tokens and describe the validation rows."""
        super().__init__(kept)
        objective = config.objective.for_evaluation()
        self.label = objective.build().label
        self._dataset = ExampleDataset(
            validation,
            objective,
            vocabulary,
            Pos,
            finite=True,
            limit=config.evaluation.max_rows,
            space=space,
        )
        size = config.evaluation.batch_size or config.trainer.train_batch_size
        self._loader = self._dataset.loader(trainer, size, buffered=2, fetched=1)
        self._describe_rows(training, validation, vocabulary)
        mapping = trainer.compute_axis_mapping

        @eqx.filter_jit
        def sums(model: Any, example: Any) -> Any:
            with hax.axis_mapping(mapping):
                return row_sums(
                    trainer.mp.cast_to_compute(model), example, vocabulary, block_size=config.loss.block_size
                )

        self._sums = sums

    def _describe_rows(self, training: Rows, validation: Rows, vocabulary: ModelVocabulary) -> None:
        """Material and electrons of each row, and the bits per voxel of the unigram baseline."""
        rows = self._dataset.places(range(self._dataset.count))[1]
        sequences = [int(validation.sequences(int(row))[0]) for row in rows]
        source = validation.source
        self._materials = [source.task_ids[int(source.materials[i])] for i in sequences]
        batches = list(_described(validation, rows, vocabulary))
        self._electrons = np.concatenate([electrons for _, electrons in batches])
        chosen = permute(np.arange(min(len(training), _COUNTED_ROWS)), len(training), key_of("unigram"))
        reference = sum(counts for counts, _ in _described(training, chosen, vocabulary))
        self.unigram = unigram_bits(
            sum(counts for counts, _ in batches), vocabulary, reference=reference, pseudo_count=1.0
        )

    def evaluate(self, model: Any) -> dict[str, float]:
        """Numbers by name; every name starts with the label of the evaluation."""
        parts = [
            multihost_utils.process_allgather(self._sums(model, example), tiled=True)
            for example in self._loader
        ]
        total = len(self._materials)
        columns = {name: np.concatenate([part[name] for part in parts])[:total] for name in parts[0]}
        numbers = aggregate(
            [columns], self.label, electrons_per_voxel=self._electrons, materials=self._materials
        )
        return {**numbers.as_dict(), "unigram_bits_per_voxel": self.unigram}
