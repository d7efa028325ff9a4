"""The task of a field model: voxels of whole crystals, and the distribution of the density at each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tomat.budget import check_budget, patches_of
from tomat.codec.relative import RelativeCodec
from tomat.lm.data.config import DataConfig
from tomat.lm.data.facts import data_facts, store_valence
from tomat.lm.data.folds import own_identities, own_notices
from tomat.lm.data.guess_fit import FIT, CrossFit
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
    from collections.abc import Mapping

    import jax
    from levanter.trainer import Trainer
    from numpy.typing import NDArray

    from tomat.lm.config import TrainConfig
    from tomat.lm.data.opening import OpenStore
    from tomat.lm.field.config import FieldShape
    from tomat.lm.kept import KeptWeights
    from tomat.material import Unit
    from tomat.valence import Valence

#: The default codec.
DEFAULT_CODEC = "rel-256"
#: Unit of the densities.
UNIT: Unit = "e_per_A3"
#: Visits of a crystal in an epoch, on average, where crystals are not visited equally often.
_VISITS = 16
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
                held_out = replace(config.validation, guess_crossfit=(), fold=None)
                validation = open_store(held_out, UNIT, guess=data.starting)
            except ValueError as error:
                raise ValueError(f"validation: {error}") from error
        materials = _fitting(data, shape, skip=config.data.on_error == "skip")
        if data.left_out is not None:
            materials = materials[~data.left_out.within(data.store)[materials]]
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
        left = int((self.data.store.arrays["atoms"] > self.shape.sites_per_row).sum())
        told += own_notices(self.data.own, len(self.data.store))
        if self.data.left_out is not None:
            fold, systems = self.data.left_out.fold, len(self.data.left_out.systems)
            count = int(self.data.left_out.within(self.data.store).sum())
            told.append(
                f"training data: without fold {fold}, {count} materials of {systems} chemical systems"
            )
        if self._cross_fit is not None and self._cross_fit.alone.any():
            count = int(self._cross_fit.alone.sum())
            told.append(
                f"training data: {count} materials have elements that no other fold has; they start from the "
                "promolecule of all"
            )
        if left:
            told.append(f"training data: {left} materials with more atoms than a row holds are left out")
        if self.validation is not None:
            told += _unseen(self._elements, self.validation)
        return told

    @cached_property
    def visits(self) -> NDArray[np.int64]:
        """Places in ``data`` of the crystals of an epoch, (visits,), each as often as the budget says.

        Raises:
            ValueError: a crystal has no electrons, and the budget goes by them.
        """
        budget = check_budget(self.config.data.budget)
        if budget == "equal":
            return self.materials
        store = self.data.store
        ids = [store.task_ids[index] for index in self.materials.tolist()]
        electrons = np.asarray(store.n_electrons)[self.materials].tolist()
        return np.repeat(self.materials, patches_of(budget, _VISITS, ids, electrons))

    @property
    def positions(self) -> int:
        """Voxels of a row."""
        return self.shape.crystals_per_row * self.shape.voxels_per_crystal

    @property
    def unit(self) -> str:
        """What :attr:`positions` counts."""
        return "voxels"

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

    @cached_property
    def _elements(self) -> list[int]:
        """Atomic numbers of the materials that are trained on, sorted."""
        store = self.data.store
        return sorted({z for index in self.materials.tolist() for z in store.atomic_numbers(index)})

    def note(self) -> dict[str, Any]:
        """Data, codec and model."""
        parts = {"data": self.data, "validation": self.validation}
        folds = self.config.data.guess_folds
        configs = {"data": self.config.data, "validation": self.config.validation or self.config.data}
        counts = {"data": self.shape.points_per_material, "validation": self.shape.held_out_points}
        return {
            "data_facts": data_facts(
                self.config.data.guess, self.data.starting, self.data.store, self._elements, self._valence
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
                    **({} if configs[name].budget == "equal" else {"budget": configs[name].budget}),
                    **({"guess_folds": folds} if folds is not None and name == "data" else {}),
                    **({"guess_crossfit": own_identities(part.own)} if part.own else {}),
                    **({} if part.left_out is None else {"fold": part.left_out.to_json()}),
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
            self.visits,
            own={material: Surroundings(self.shape, one) for material, one in self._own.items()},
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
        return self._points(self.data, self.config.data, self.shape.points_per_material, self._own)

    @cached_property
    def _cross_fit(self) -> CrossFit | None:
        folds, threads = self.config.data.guess_folds, self.config.data.threads
        return None if folds is None else CrossFit.of(self.data.store, folds, threads=threads)

    @cached_property
    def _own(self) -> dict[int, UnscaledPromolecule]:
        """The promolecules of training materials that do not start from that of all."""
        if self._cross_fit is None:
            return {}
        loaded = [UnscaledPromolecule.load(promolecule) for promolecule in self._cross_fit.promolecules]
        return {
            material: loaded[fold]
            for material, fold in enumerate(self._cross_fit.fold.tolist())
            if not self._cross_fit.alone[material]
        }

    def _points(
        self,
        of: OpenStore,
        config: DataConfig,
        count: int,
        own: Mapping[int, UnscaledPromolecule] | None = None,
    ) -> DrawnPoints:
        seed, threads = self.config.data.seed, self.config.data.threads
        unique = config.unique_voxels
        return DrawnPoints.of(
            of.store, self.promolecule, count, seed=seed, unique=unique, own=own, threads=threads
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
    if config.sampler != DataConfig.sampler:
        names.append(f"{section}.sampler = {config.sampler}")
    if config.unit not in (None, UNIT):
        names.append(f"{section}.unit = {config.unit}")
    if names:
        raise ValueError(f"{', '.join(names)}: for rows of tokens; a field model has none, leave them out")
    if config.guess is None:
        raise ValueError(f"{section}.guess: a field model starts from a promolecule; set it to fit")
    check_budget(config.budget)
    if section != "data" and config.budget != "equal":
        raise ValueError(
            f"{section}.budget = {config.budget}: every validation crystal counts once; set it to equal"
        )


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


def _unseen(seen: list[int], validation: OpenStore) -> list[str]:
    store = validation.store
    known = set(seen)
    names = [store.task_ids[i] for i in range(len(store)) if set(store.atomic_numbers(i)) - known]
    if not names:
        return []
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return [f"validation data: {len(names)} materials have elements that the training data lack: {shown}"]
