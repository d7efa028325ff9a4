"""The base class of objectives, and their configuration."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import draccus
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from tomat.lm.data.rows import RowArrays
    from tomat.lm.vocabulary import ModelVocabulary
    from tomat.prediction.options import Mode
    from tomat.prediction.predictor import PatchRequest

#: Each voxel is predicted from the true ones before it: a diagnostic, not a prediction of a density.
TEACHER_FORCED = "teacher_forced"
#: All voxels are predicted at once from the structure and the starting density, if any.
ONE_PASS = "one_pass"
#: Some voxels are predicted from the true values of the others.
PARTLY_MASKED = "partly_masked"
LABELS = (TEACHER_FORCED, ONE_PASS, PARTLY_MASKED)

type Schedule = Literal["all", "cosine", "uniform"]
type VoxelWeights = Literal["equal", "nmae"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective of a training run.

    Attributes:
        kind: name of a class registered in :mod:`tomat.lm.objective`, such as ``masked``.
        schedule: for ``masked``, the fraction of masked voxels, drawn per sequence: ``all``, ``uniform`` u in [0, 1),
            or ``cosine`` cos(u pi / 2) (MaskGIT, Chang et al., CVPR 2022).
        preamble_weight: for ``next_token``, the weight of tokens other than density tokens; the other kinds do not
            predict them.
        voxel_weights: ``equal``: 1 each; ``nmae``: 1 / mean \\|density\\| of the material, so that the weighted mean
            absolute error over its voxels is its NMAE.
    """

    # Flat, as in the files and notes of existing runs; draccus' choice types would need the key ``type``.
    kind: str = "masked"
    schedule: str = "cosine"
    preamble_weight: float = 0.0
    voxel_weights: str = "equal"

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", tuple(Objective.get_known_choices())),
            ("schedule", get_args(Schedule.__value__)),
            ("voxel_weights", get_args(VoxelWeights.__value__)),
        ):
            if getattr(self, name) not in known:
                choices = ", ".join(known)
                raise ValueError(f"objective.{name} = {getattr(self, name)!r}; choose one of {choices}")
        if not (np.isfinite(self.preamble_weight) and self.preamble_weight >= 0):
            raise ValueError(f"objective.preamble_weight = {self.preamble_weight} must be 0 or above")
        if self.preamble_weight and not self.build().asks_preamble:
            raise ValueError(
                f"objective.preamble_weight = {self.preamble_weight}, but {self.kind} does not predict the "
                "preamble; set it to 0"
            )

    def build(self) -> Objective:
        """The objective of this kind."""
        made: Objective = Objective.get_choice_class(self.kind)(self)
        return made

    def for_evaluation(self) -> ObjectiveConfig:
        """The objective of evaluation: all voxels masked if any are, and weighted equally."""
        return replace(self, schedule="all", voxel_weights="equal", preamble_weight=0.0)


class Objective(draccus.ChoiceRegistry):
    """A training objective, which also determines the input of predictions.

    Attributes:
        causal: whether attention is causal; otherwise it is full.
        modes: supported prediction modes; the first is the default.
        needs_guess: whether density positions hold the tokens of a starting density.
        asks_preamble: whether tokens other than density tokens can be predicted.
    """

    causal: ClassVar[bool] = False
    modes: ClassVar[tuple[Mode, ...]] = ("one_pass", "k_pass")
    needs_guess: ClassVar[bool] = False
    asks_preamble: ClassVar[bool] = False

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config

    @property
    def label(self) -> str:
        """The label of numbers on its examples, one of :data:`LABELS`."""
        return ONE_PASS if self.config.schedule == "all" else PARTLY_MASKED

    def examples(
        self, batch: RowArrays, vocabulary: ModelVocabulary, keys: ArrayLike
    ) -> dict[str, NDArray[Any]]:
        """The arrays of examples, aligned with the model's activations.

        Args:
            batch: the rows (n, L).
            vocabulary: of the model.
            keys: (n,) uint64, random keys of the mask, one per row.

        Returns:
            ``tokens`` int32 (inputs), ``targets`` int32, ``values`` float32 (the truth where the target is the last
            token of a voxel), ``loss_weight`` float32 (0 where nothing is predicted), ``pos_ids`` int32, ``segments``
            int32 (-1 at padding), all of the shape of the rows.

        Raises:
            ValueError: rows lack the starting density, or weights ``nmae`` the mean density of a material.
        """
        arrays = {
            "tokens": np.empty_like(batch.tokens),
            "targets": batch.tokens.copy(),
            "values": batch.values.copy(),
            "loss_weight": batch.weight.copy(),
            "pos_ids": batch.positions,
            "segments": batch.segments,
        }
        self.ask(arrays, batch.guess, vocabulary, keys)
        return arrays

    def ask(
        self,
        arrays: Mapping[str, NDArray[Any]],
        guess: NDArray[np.int32] | None,
        vocabulary: ModelVocabulary,
        keys: ArrayLike,
    ) -> None:
        """Make examples of rows in the same arrays, as fast as memory.

        Args:
            arrays: as those of :meth:`examples`, but that ``targets``, ``values`` and ``loss_weight`` are ``tokens``,
                ``values`` and ``weight`` of the rows, and ``tokens`` is free.
            guess: tokens of the starting density, as those of the rows.
            vocabulary: of the model.
            keys: (n,).

        Raises:
            ValueError: as for :meth:`examples`.
        """
        if not self.equal and not np.isfinite(arrays["loss_weight"]).all():
            raise ValueError(
                "objective.voxel_weights = nmae needs the mean density of every material; these rows have no cell and "
                "their unit is e_per_A3: use equal, or rows of v2-lat or v3"
            )
        self.asked(arrays, guess, vocabulary, np.asarray(keys, dtype=np.uint64))

    @property
    def equal(self) -> bool:
        """Whether every voxel weighs 1, whatever the rows say."""
        return self.config.voxel_weights == "equal"

    @abc.abstractmethod
    def asked(
        self,
        arrays: Mapping[str, NDArray[Any]],
        guess: NDArray[np.int32] | None,
        vocabulary: ModelVocabulary,
        keys: NDArray[np.uint64],
    ) -> None:
        """Do the work of :meth:`ask`, which has checked the weights."""

    @abc.abstractmethod
    def fill(
        self, tokens: NDArray[np.int32], request: PatchRequest, mode: Mode, vocabulary: ModelVocabulary
    ) -> None:
        """Write the input at the density positions of a row to predict.

        Args:
            tokens: ids at these positions, overwritten.
            request: the patch.
            mode: the prediction mode.
            vocabulary: of the model.

        Raises:
            ValueError: the request lacks a density.
        """


def density_ids(request: PatchRequest, name: str, vocabulary: ModelVocabulary) -> NDArray[np.int32]:
    """Tokens of the ``guess`` or ``truth`` of a request.

    Raises:
        ValueError: it has none.
    """
    values = getattr(request, name)
    if values is None:
        raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no {name}")
    return vocabulary.tokenizer.density_ids(values)
