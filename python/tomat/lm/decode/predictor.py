"""A trained model as a patch predictor; needs JAX and Levanter."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from levanter.utils.jax_utils import parameter_count

from tomat.lm.checkpoint import Trained, open_checkpoint
from tomat.lm.data.shuffle import key_of
from tomat.lm.decode.base import TrainedPredictor
from tomat.lm.decode.decoding import Decoder, OpenRows
from tomat.lm.field.starting import starting_of
from tomat.lm.record import kept_promolecule, spent_flops
from tomat.lm.spatial.view import View
from tomat.prediction.predictor import ByTokenizer, PatchPrediction, PatchRequest, TrainingFacts
from tomat.promolecule import Promolecule, UnscaledPromolecule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.prediction.options import DecodingConfig, Mode

#: Short rows are padded to multiples of this many tokens.
_STEP = 128


@dataclass(frozen=True, eq=False)
class Layout:
    """A row (length,) without padding; its first column with a density token, and their number."""

    tokens: NDArray[np.int32]
    first: int
    count: int


class ModelPredictor(ByTokenizer, TrainedPredictor[Trained]):
    """Predicts patches with a trained model; implements :class:`tomat.prediction.predictor.PatchPredictor`.

    Args:
        trained: the model; its weights are placed on the devices.
        decoding: decoding options.

    Raises:
        ValueError: the model does not support the mode, or the codec the estimate.
    """

    def __init__(self, trained: Trained, decoding: DecodingConfig) -> None:
        self.modes = trained.objective.modes
        self.mode: Mode = decoding.mode or self.modes[0]  # the first is the objective's default
        if self.mode not in self.modes:
            raise ValueError(
                f"{trained.path}: a model of objective {trained.objective.config.kind} predicts in mode "
                f"{' or '.join(self.modes)}, not {self.mode}"
            )
        self.trained, self.decoding = trained, replace(decoding, mode=self.mode)
        self.vocabulary = trained.vocabulary
        self.tokenizer = trained.vocabulary.tokenizer
        self.needs_guess = trained.objective.needs_guess or trained.config.field is not None
        self.batch_size = decoding.batch_size
        self.decoder = Decoder(trained, self.decoding)
        self._view = View.of(trained) if trained.config.spatial else None
        #: Whether requests have the truth: as neighbours, or for the ``expected_error`` of predictions.
        self.sees_truth = self.decoder.components == 1 or self.mode in ("free_running", "teacher_forced")

    @staticmethod
    def load(path: str, weights: str) -> Trained:
        """See :func:`tomat.lm.checkpoint.open_checkpoint`."""
        return open_checkpoint(path, weights=weights)

    @functools.cached_property
    def facts(self) -> TrainingFacts:
        """Facts about the training data."""
        stored = self.trained.note.get("data_facts", {})
        facts = TrainingFacts.from_json(stored)
        if not self.needs_guess:
            return facts
        promolecule = kept_promolecule(self.trained.note, self.trained.path)
        name = stored.get("guess")
        if promolecule is None and name is None:
            raise ValueError(
                f"{self.trained.path}: it does not say which starting density it was trained with"
            )
        # The starting density of training; old checkpoints hold only its name.
        promolecule = promolecule or Promolecule.load(name)
        start = starting_of(self.trained.note, self.trained.path) or UnscaledPromolecule.load(promolecule)
        return replace(facts, promolecule=promolecule, guess=start)

    def identity(self) -> dict[str, Any]:
        """Checkpoint, step and decoding."""
        note = self.trained.note
        batch = note.get("schedule", {}).get("train_batch_size")
        return {
            "predictor": "model",
            "run": note["name"],
            "step": self.trained.step,
            "weights": self.trained.fingerprint,
            "parameters": parameter_count(self.trained.model),
            "tokens": batch and self.trained.step * batch * self.trained.config.max_seq_len,
            "flops": spent_flops(note, self.trained.step),
            "codec": self.vocabulary.codec.hash,
            "vocabulary": self.vocabulary.hash,
            "objective": note["objective"],
            **self.decoding.identity(),
        }

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order.

        Raises:
            ValueError: a request lacks the guess or truth it needs, or its patch shape is not that of the crystal.
        """
        layouts = self.layouts(requests)
        out: list[PatchPrediction | None] = [None] * len(requests)
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, layout in enumerate(layouts):
            by_shape[self._padded(layout.tokens.size), layout.count].append(index)
        for (length, _), chosen in by_shape.items():
            for start in range(0, len(chosen), self.batch_size):
                part = chosen[start : start + self.batch_size]
                predicted = self._batch([requests[i] for i in part], [layouts[i] for i in part], length)
                for index, prediction in zip(part, predicted, strict=True):
                    out[index] = prediction
        return [prediction for prediction in out if prediction is not None]

    def _padded(self, length: int) -> int:
        """The padded row length for ``length`` tokens, one of few so that few programs are compiled.

        Attention by blocks wants whole blocks: rows of more than 512 tokens come in multiples of 512, of more than
        1024 in multiples of 1024, or of the block that is configured.
        """
        limit = int(self.trained.config.max_seq_len)
        if length > limit:
            raise ValueError(f"a row of {length} tokens does not fit the model's {limit}")
        step = _STEP if length <= 512 else 512 if length <= 1024 else 1024
        step = max(step, self.trained.config.flash_attention_block_size or 0) if length > 512 else step
        return min(-(-length // step) * step, limit)

    def layouts(self, requests: Sequence[PatchRequest]) -> list[Layout]:
        """The row of each request; rows of one crystal on one grid are encoded together."""
        groups: dict[tuple[int, tuple[int, int, int]], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[id(request.crystal), request.grid_shape].append(index)
        made: dict[int, Layout] = {}
        for chosen in groups.values():
            first = requests[chosen[0]]
            crystal = first.crystal
            shape = self.tokenizer.shape_for(len(crystal.atomic_numbers))
            wrong = [requests[i].patch_shape for i in chosen if tuple(requests[i].patch_shape) != shape]
            if wrong:
                raise ValueError(
                    f"{crystal.name}: a patch of {wrong[0]} points was requested, but the rows hold {shape}"
                )
            rows = self.tokenizer.encode(
                np.zeros(first.grid_shape, np.float32),
                crystal.lattice,
                crystal.atomic_numbers,
                crystal.frac_coords,
                np.array([requests[i].offset for i in chosen]),
            )
            density = self.vocabulary.density
            columns = np.flatnonzero((rows[0] >= density.start) & (rows[0] < density.stop))
            length = self.tokenizer.length(len(crystal.atomic_numbers), shape)
            for row, index in zip(rows, chosen, strict=True):
                made[index] = Layout(row[:length], int(columns[0]), len(columns))
                span = made[index].tokens[made[index].first : made[index].first + made[index].count]
                self.trained.objective.fill(span, requests[index], self.mode, self.vocabulary)
        return [made[index] for index in range(len(requests))]

    def _batch(
        self, requests: list[PatchRequest], layouts: list[Layout], length: int
    ) -> list[PatchPrediction]:
        size = self.batch_size
        tokens = np.full((size, length), self.vocabulary.pad, np.int32)
        segments = np.full((size, length), -1, np.int32)
        first = np.zeros(size, np.int32)
        # The random keys of samples are independent of the batch.
        keys = np.zeros(size, np.uint64)
        for row, (request, layout) in enumerate(zip(requests, layouts, strict=True)):
            tokens[row, : layout.tokens.size] = layout.tokens
            segments[row, : layout.tokens.size] = 0
            first[row] = layout.first
            keys[row] = key_of(self.decoding.seed, request.crystal.name, *request.offset)
        count = layouts[0].count
        truth = None
        if all(request.truth is not None for request in requests):
            truth = np.zeros((size, count // self.decoder.components), np.float32)
            for row, request in enumerate(requests):
                truth[row] = np.asarray(request.truth).ravel()
        space = None
        if self._view is not None:
            columns = [slice(layout.first, layout.first + count) for layout in layouts]
            space = self._view.space(requests, tokens, columns)
        found = self.decoder.decode(OpenRows(tokens, segments, first, count, keys, truth, space))
        return [
            PatchPrediction(
                density=found.density[i].reshape(request.patch_shape),
                spread=None if found.spread is None else found.spread[i].reshape(request.patch_shape),
                expected_error=None if found.error is None else found.error[i].reshape(request.patch_shape),
                pit=None if found.pit is None else found.pit[i].reshape(request.patch_shape),
            )
            for i, request in enumerate(requests)
        ]
