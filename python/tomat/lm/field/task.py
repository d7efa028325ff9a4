"""The task of a field model: voxels of whole crystals, and the distribution of the density at each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tomat.codec.relative import RelativeCodec
from tomat.lm.data.facts import data_facts, store_valence
from tomat.lm.data.guess_fit import FIT
from tomat.lm.data.opening import open_store
from tomat.lm.field.evaluation import FieldEvaluation
from tomat.lm.field.flops import row_flops
from tomat.lm.field.levels import Levels
from tomat.lm.field.loss import FieldLoss
from tomat.lm.field.network import FieldModel
from tomat.lm.field.points import DrawnPoints
from tomat.lm.field.stream import FieldDataset
from tomat.lm.field.surroundings import Surroundings
from tomat.lm.record import earlier_promolecule
from tomat.promolecule import Promolecule, UnscaledPromolecule

if TYPE_CHECKING:
    import jax
    from levanter.trainer import Trainer
    from numpy.typing import NDArray

    from tomat.lm.config import TrainConfig
    from tomat.lm.data.config import DataConfig
    from tomat.lm.data.opening import OpenStore
    from tomat.lm.field.config import FieldShape
    from tomat.lm.kept import KeptWeights
    from tomat.material import Unit
    from tomat.valence import Valence

#: The default codec.
DEFAULT_CODEC = "rel-256"
#: Unit of the densities.
UNIT: Unit = "e_per_A3"
#: Names in a message.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class FieldTask:
    """A field model; implements :class:`tomat.lm.task.Task`.

    Attributes:
        config: of the run.
        shape: of the model.
        codec: of the densities.
        data: training densities with their promolecule.
        validation: held-out densities with the same promolecule, or None.
        materials: places in ``data`` of the materials to train on.
    """

    config: TrainConfig
    shape: FieldShape
    codec: RelativeCodec
    data: OpenStore
    validation: OpenStore | None
    materials: NDArray[np.int64]

    @classmethod
    def open(cls, config: TrainConfig) -> Self:
        """Open the data of a run.

        Raises:
            OSError, KeyError: data or codec are not found.
            ValueError: the data contradict the configuration, or crystals do not fit a row.
        """
        shape = config.model.field.shape()
        codec = RelativeCodec.load(config.data.codec or DEFAULT_CODEC)
        earlier = earlier_promolecule(config.files) if config.data.guess == FIT else None
        _check("data", config.data)
        data = open_store(config.data, UNIT, earlier=earlier)
        validation = None
        if config.validation is not None:
            _check("validation", config.validation)
            try:
                # The model starts from the promolecule of training on all data.
                validation = open_store(config.validation, UNIT, guess=data.starting)
            except ValueError as error:
                raise ValueError(f"validation: {error}") from error
        materials = _fitting(data, shape, skip=config.data.on_error == "skip")
        return cls(config, shape, codec, data, validation, materials)

    #: Whether the starting density may be that of a model.
    from_models: ClassVar[bool] = False

    @cached_property
    def promolecule(self) -> UnscaledPromolecule:
        """The starting density, or the promolecule of the model that predicts it.

        Raises:
            ValueError: it has none, or is of a model where that cannot be.
        """
        starting = self.data.starting
        kept = None if starting is None else starting.kept()
        if starting is None or kept is None:
            raise ValueError("the model needs a promolecule; set data.guess: fit, or a promolecule")
        if starting.model() is not None and not self.from_models:
            raise ValueError(
                f"data.guess: {starting.model()} is a model; a field model starts from a promolecule"
            )
        return UnscaledPromolecule.load(Promolecule.from_bytes(kept, starting.name))

    @cached_property
    def surroundings(self) -> Surroundings:
        """What the model sees."""
        return Surroundings(self.shape, self.promolecule)

    @cached_property
    def notices(self) -> list[str]:
        """Messages about the starting density, disputed valence electrons, and what is left out or unseen."""
        parts = {"data": self.data, "validation": self.validation}
        told = [
            f"starting density, {name}: {part.check}"
            for name, part in parts.items()
            if part is not None and part.check is not None
        ]
        told += [f"training data: {line}" for line in self._valence.complaints()]
        left = len(self.data.store) - len(self.materials)
        if left:
            told.append(f"training data: {left} materials with more atoms than a row holds are left out")
        if self.validation is not None:
            told += _unseen(self.data.store.arrays["numbers"], self.validation)
        return told

    @property
    def positions(self) -> int:
        """Voxels of a row."""
        return self.shape.crystals_per_row * self.shape.voxels_per_crystal

    @property
    def points(self) -> int:
        """Points of a crystal in a row at which atoms are summed up."""
        return self.shape.voxels_per_crystal

    @property
    def preset(self) -> str:
        """The size of the model by name."""
        return self.config.model.field.preset

    @property
    def flops(self) -> float:
        """Of a row."""
        atoms = int(self.data.store.arrays["atoms"][self.materials].max())
        return row_flops(self.shape, atoms, len(self.codec.levels))

    @cached_property
    def loss(self) -> FieldLoss:
        """Over the levels."""
        return FieldLoss(self.config.loss, self.codec)

    @cached_property
    def _valence(self) -> Valence:
        return store_valence(self.data.store)

    def note(self) -> dict[str, Any]:
        """Data, codec and model."""
        elements = np.unique(self.data.store.arrays["numbers"]).tolist()
        parts = {"data": self.data, "validation": self.validation}
        configs = {"data": self.config.data, "validation": self.config.validation or self.config.data}
        counts = {"data": self.shape.points_per_material, "validation": self.shape.held_out_points}
        return {
            "data_facts": data_facts(
                self.config.data.guess, self.data.starting, self.data.store, elements, self._valence
            ),
            "guess_check": {
                name: part.check.to_json()
                for name, part in parts.items()
                if part is not None and part.check is not None
            },
            # The remaining keys must be the same in a resumed run.
            **{
                name: None
                if part is None
                else {
                    "densities_hash": part.store.hash,
                    "unit": UNIT,
                    "guess": None if part.starting is None else part.starting.identity,
                    "points": counts[name],
                    "seed": self.config.data.seed,
                    # Notes of earlier versions do not say false.
                    **({"unique_voxels": True} if configs[name].unique_voxels else {}),
                }
                for name, part in parts.items()
            },
            "codec": {"name": self.codec.name, "hash": self.codec.hash, "file": self.codec.file_name},
            "model": {"kind": self.config.model.kind, "field": self.shape.to_json()},
        }

    def build(self, key: jax.Array) -> Any:
        """A model whose median is the promolecule."""
        return FieldModel.init(key, self.shape, Levels.of(self.codec))

    def examples(self) -> FieldDataset:
        """Rows of crystals."""
        return FieldDataset(
            self._training,
            self.surroundings,
            self.materials,
            seed=self.config.trainer.seed,
            threads=self.config.loader.threads,
        )

    def evaluation(self, trainer: Trainer, kept: KeptWeights) -> FieldEvaluation | None:
        """On voxels of the validation crystals."""
        del trainer  # whole crystals, with the weights as they are
        if self.validation is None or self.config.validation is None:
            return None
        points = self._points(self.validation, self.config.validation, self.shape.held_out_points)
        limit = self.config.evaluation.max_rows
        return FieldEvaluation(
            points,
            self._training,
            self.surroundings,
            self.codec,
            limit=limit,
            kept=kept,
            run=self.config.files.root,
        )

    @cached_property
    def _training(self) -> DrawnPoints:
        return self._points(self.data, self.config.data, self.shape.points_per_material)

    def _points(self, of: OpenStore, config: DataConfig, count: int) -> DrawnPoints:
        seed, threads = self.config.data.seed, self.config.data.threads
        return DrawnPoints.of(
            of.store, self.promolecule, count, seed=seed, unique=config.unique_voxels, threads=threads
        )


def _check(section: str, config: DataConfig) -> None:
    """Refuse options of token rows, which would be without effect."""
    if config.path is not None:
        raise ValueError(
            f"{section}.path: a field model is trained on whole densities; give {section}.densities"
        )
    given = {"layout": config.layout, "patch_size": config.patch_size, "pad_to": config.pad_to}
    given |= {"patches_per_material": config.patches_per_material}
    names = [f"{section}.{name}" for name, value in given.items() if value is not None]
    if config.unit not in (None, UNIT):
        names.append(f"{section}.unit = {config.unit}")
    if names:
        raise ValueError(f"{', '.join(names)}: for rows of tokens; a field model has none, leave them out")
    if config.guess is None:
        raise ValueError(f"{section}.guess: a field model starts from a promolecule; set it to fit")


def _fitting(data: OpenStore, shape: FieldShape, *, skip: bool) -> NDArray[np.int64]:
    atoms = np.asarray(data.store.arrays["atoms"], np.int64)
    large = np.flatnonzero(atoms > shape.sites_per_row)
    if len(large) == len(atoms) or (len(large) and not skip):
        names = ", ".join(f"{data.store.task_ids[i]} ({atoms[i]})" for i in large[:_NAMED].tolist())
        raise ValueError(
            f"{len(large)} materials have more than {shape.sites_per_row} atoms: {names}; set "
            "model.field.sites_per_row, or data.on_error = skip to leave them out"
        )
    return np.flatnonzero(atoms <= shape.sites_per_row)


def _unseen(seen: NDArray[np.uint8], validation: OpenStore) -> list[str]:
    store = validation.store
    known = set(np.unique(seen).tolist())
    names = [store.task_ids[i] for i in range(len(store)) if set(store.atomic_numbers(i)) - known]
    if not names:
        return []
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return [f"validation data: {len(names)} materials have elements that the training data lack: {shown}"]
