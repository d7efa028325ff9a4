"""The task of a brick model: patches of whole crystals, and the distribution of the density at their voxels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tomat.lm.brick.evaluation import BrickEvaluation
from tomat.lm.brick.flops import row_flops
from tomat.lm.brick.network import BrickModel
from tomat.lm.brick.patches import Patches
from tomat.lm.brick.stream import BrickDataset
from tomat.lm.field.levels import Levels
from tomat.lm.field.task import FieldTask

if TYPE_CHECKING:
    import jax
    from levanter.trainer import Trainer

    from tomat.lm.brick.config import BrickShape
    from tomat.lm.config import TrainConfig
    from tomat.lm.data.opening import OpenStore
    from tomat.lm.kept import KeptWeights


@dataclass(frozen=True, eq=False)
class BrickTask(FieldTask):
    """A brick model; implements :class:`tomat.lm.task.Task`. Data, codec and loss are those of a field model."""

    from_models: ClassVar[bool] = True

    @classmethod
    def open(cls, config: TrainConfig) -> Self:
        """Open the data of a run.

        Raises:
            OSError, KeyError, ValueError: as for a field model, the sizes of the model are out of range, or options of
                voxels drawn one by one, which would be without effect.
        """
        config.model.brick.shape()
        for name, part in (("data", config.data), ("validation", config.validation)):
            if part is not None and (part.unique_voxels or part.guess_folds is not None or part.fold):
                raise ValueError(
                    f"{name}.unique_voxels, {name}.guess_folds and {name}.fold: for a field model; a brick model is "
                    "trained on whole patches of all crystals, leave them out (data.guess_crossfit gives it "
                    "cross-fitted starting densities)"
                )
        return super().open(config)

    @cached_property
    def brick(self) -> BrickShape:
        """The shape of the model; :attr:`shape` is that of its eyes and rows."""
        return self.config.model.brick.shape()

    @property
    def points(self) -> int:
        """Points of a patch at which atoms are summed up."""
        return self.brick.points if self.brick.field else 0

    @property
    def preset(self) -> str:
        """The size of the model by name."""
        return self.config.model.brick.preset

    @property
    def flops(self) -> float:
        """Of a row."""
        atoms = int(self.data.store.arrays["atoms"][self.materials].max())
        return row_flops(self.brick, self.shape, atoms, len(self.codec.levels))

    def note(self) -> dict[str, Any]:
        """As a field model's, with the shape of the model."""
        note = super().note()
        return note | {"model": note["model"] | {"brick": self.brick.to_json()}}

    def build(self, key: jax.Array) -> BrickModel:
        """A model whose median is the starting density."""
        return BrickModel.init(key, self.brick, self.shape, Levels.of(self.codec))

    def examples(self) -> BrickDataset:
        """The training rows."""
        return BrickDataset(
            self._patches(self.data),
            self.brick,
            self.surroundings,
            self.visits,
            seed=self.config.trainer.seed,
            threads=self.config.loader.threads,
        )

    def evaluation(self, trainer: Trainer, kept: KeptWeights) -> BrickEvaluation | None:
        """On patches of the validation crystals."""
        del trainer  # whole patches, with the weights as they are
        if self.validation is None:
            return None
        seed, count = self.config.data.seed, self.shape.voxels_per_crystal
        held_out = range(min(len(self.validation.store), self.config.evaluation.max_rows or 1 << 62))
        drawn, points = self._patches(self.validation).fixed(
            held_out, self.brick.held_out_patches, count, seed=seed
        )
        _, training = self._patches(self.data).fixed(range(len(self.data.store)), 1, count, seed=seed)
        return BrickEvaluation(
            self.brick,
            drawn,
            points,
            training,
            self.surroundings,
            self.codec,
            kept=kept,
            run=self.config.files.root,
        )

    def _patches(self, of: OpenStore) -> Patches:
        if of.starting is None:  # pragma: no cover - refused when the data are opened
            raise ValueError("a brick model needs a starting density; set data.guess")
        guess = of.store.guess(of.starting, self.config.data.threads, of.own)
        return Patches(of.store, guess, self.brick.bricks)
