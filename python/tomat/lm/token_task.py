"""The task of a transformer on rows of tokens: patches of densities, quantised."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import draccus
import numpy as np

from tomat.lm.data import open_rows
from tomat.lm.data.facts import data_facts, store_valence
from tomat.lm.data.folds import own_notices
from tomat.lm.data.guess_fit import FIT
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.evaluation_hook import Evaluation
from tomat.lm.loss import DensityLoss
from tomat.lm.model.flops import StepFlops, step_flops
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.record import earlier_promolecule, tokenizer_note
from tomat.lm.spatial.checks import check_spatial, space_of
from tomat.lm.stream import ExampleDataset
from tomat.lm.vocabulary import ModelVocabulary
from tomat.valence import Valence

if TYPE_CHECKING:
    import jax
    from levanter.trainer import Trainer

    from tomat.codec import Codec
    from tomat.lm.config import TrainConfig
    from tomat.lm.data import Rows
    from tomat.lm.kept import KeptWeights
    from tomat.lm.model.qwen import DensityLMConfig

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TokenTask:
    """A transformer on rows of tokens; implements :class:`tomat.lm.task.Task`.

    Attributes:
        config: of the run.
        rows: training rows.
        validation: held-out rows, or None.
    """

    config: TrainConfig
    rows: Rows
    validation: Rows | None

    @classmethod
    def open(cls, config: TrainConfig) -> TokenTask:
        """Open the data of a run.

        Raises:
            OSError, KeyError, ValueError: as :func:`open_data`.
        """
        return cls(config, *open_data(config))

    @cached_property
    def vocabulary(self) -> ModelVocabulary:
        """Ids of the model."""
        return ModelVocabulary(self.rows.tokenizer)

    @property
    def codec(self) -> Codec:
        """Of the rows."""
        return self.rows.tokenizer.density_codec

    @cached_property
    def notices(self) -> list[str]:
        """Messages about the starting density, disputed valence electrons, and left-out or clipped materials."""
        return _notices(self.rows, self.validation, self._valence)

    @property
    def positions(self) -> int:
        """Tokens of a row."""
        return self.config.model.shape().seq_len

    @property
    def unit(self) -> str:
        """What :attr:`positions` counts."""
        return "tokens"

    @property
    def flops(self) -> float:
        """Of a row."""
        return (
            training_flops(self.config, self.vocabulary, self.rows).model
            / self.config.trainer.train_batch_size
        )

    @cached_property
    def loss(self) -> DensityLoss:
        """Of density tokens."""
        return DensityLoss(self.config.loss, self.vocabulary)

    @cached_property
    def _valence(self) -> Valence:
        """Valence electrons of the elements in the training densities; not known for rows of a dataset."""
        source = self.rows.source
        return store_valence(source.store) if isinstance(source, DensitySource) else Valence()

    @cached_property
    def _model_config(self) -> DensityLMConfig:
        return levanter_config(
            self.config.model,
            bidirectional=not self.config.objective.build().causal,
            sequences_per_row=int(np.diff(self.rows.packing.starts).max()),
        )

    def note(self) -> dict[str, Any]:
        """Tokenizer, data, codec, vocabulary, model and objective."""
        config, vocabulary, source = self.config, self.vocabulary, self.rows.source
        tokenizer = tokenizer_note(self.rows.tokenizer)
        store = source.store if isinstance(source, DensitySource) else None
        return {
            "tokenizer": tokenizer,
            "data_facts": data_facts(
                config.data.guess, source.starting, store, source.elements, self._valence
            ),
            "guess_check": {
                name: part.source.guess_check.to_json()
                for name, part in (("data", self.rows), ("validation", self.validation))
                if part is not None and part.source.guess_check is not None
            },
            # The remaining keys must be the same in a resumed run.
            "data": self.rows.identity(),
            "validation": None if self.validation is None else self.validation.identity(),
            "codec": {"name": tokenizer["codec"], "hash": tokenizer["codec_hash"]},
            "vocabulary": {
                "hash": vocabulary.hash,
                "size": vocabulary.size,
                "rows": vocabulary.padded_size,
            },
            "model": config.model.note(),
            "objective": draccus.encode(config.objective),
        }

    def build(self, key: jax.Array) -> Any:
        """A transformer at its start."""
        return build(self._model_config, self.vocabulary, key)

    def examples(self) -> ExampleDataset:
        """The training rows."""
        return ExampleDataset(
            self.rows,
            self.config.objective,
            self.vocabulary,
            self._model_config.max_Pos,
            seed=self.config.trainer.seed,
            threads=self.config.loader.threads,
            space=space_of(self.config, self.rows, self.vocabulary, turn=self.config.trainer.seed),
        )

    def evaluation(self, trainer: Trainer, kept: KeptWeights) -> Evaluation | None:
        """The evaluation on the validation rows."""
        if self.validation is None:
            return None
        Pos = self._model_config.max_Pos
        space = space_of(self.config, self.validation, self.vocabulary)
        return Evaluation(
            trainer, self.config, self.rows, self.validation, self.vocabulary, Pos, kept, space=space
        )


def open_data(config: TrainConfig) -> tuple[Rows, Rows | None]:
    """Open training rows, and validation rows with one sequence each, of the same tokenizer.

    Raises:
        OSError, KeyError, ValueError: as :func:`tomat.lm.data.open_rows`, or data written
            otherwise than the training data.
    """
    size = config.model.shape().seq_len
    check_spatial(config)
    for name, part in (("data", config.data), ("validation", config.validation)):
        if part is not None and part.guess_folds is not None:
            raise ValueError(f"{name}.guess_folds: for a field model; a transformer has data.guess_crossfit")
        if part is not None and part.fold is not None:
            raise ValueError(f"{name}.fold: for a field model, which another model starts from")
        if part is not None and part.unique_voxels:
            raise ValueError(
                f"{name}.unique_voxels: a transformer is trained on whole patches; only a field model can use it"
            )
    rows = open_rows(
        config.data, size, earlier=earlier_promolecule(config.files) if config.data.guess == FIT else None
    )
    if config.validation is None:
        return rows, None
    guess = None
    if config.validation.guess == FIT:
        # The promolecule is not fitted to validation data: the model starts from that of training.
        if config.data.guess != FIT:
            raise ValueError(
                "validation.guess: fit uses the promolecule of data.guess: fit; set both or neither"
            )
        guess = rows.source.starting
    try:
        held_out = replace(config.validation, pack=False, guess_crossfit=())
        validation = open_rows(held_out, size, guess=guess)
    except ValueError as error:
        raise ValueError(f"validation: {error}") from error
    mine, other = tokenizer_note(rows.tokenizer), tokenizer_note(validation.tokenizer)
    different = [name for name in mine if mine[name] != other[name] and name != "pad_to"]
    if different:
        lines = ", ".join(f"{name} {other[name]!r} instead of {mine[name]!r}" for name in different)
        raise ValueError(f"validation: has {lines}; it must be encoded like the training data")
    return rows, validation


def training_flops(config: TrainConfig, vocabulary: ModelVocabulary, rows: Rows) -> StepFlops:
    """FLOPs of one training step of a configuration on rows."""
    density = vocabulary.density
    ids = vocabulary.size if config.loss.over_all_ids else density.stop - density.start
    space = space_of(config, rows, vocabulary)
    atoms, voxels = (0, 0) if space is None else space.room
    return step_flops(
        config.model.shape(),
        config.trainer.train_batch_size,
        ids,
        causal=config.objective.build().causal,
        atoms=atoms,
        voxels=voxels,
    )


def _notices(rows: Rows, validation: Rows | None, valence: Valence) -> list[str]:
    """Messages about the starting density, disputed valence electrons, and left-out or clipped materials."""
    checks = {
        "starting density": rows.source.guess_check,
        "starting density, validation": None if validation is None else validation.source.guess_check,
    }
    told = [f"{name}: {check}" for name, check in checks.items() if check is not None]
    if isinstance(rows.source, DensitySource):
        told += own_notices(rows.source.own, len(rows.source.store))
    complaints = [f"training data: {line}" for line in valence.complaints()]
    complaints += [f"training data: {line}" for line in rows.losses]
    complaints += [f"validation data: {line}" for line in ([] if validation is None else validation.losses)]
    for line in told:
        _LOGGER.info(line)
    for line in complaints:
        _LOGGER.warning(line)
    return told + complaints
