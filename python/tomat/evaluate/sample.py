"""Evaluation subsets: materials drawn by name, evenly by electrons on request, and never of the training data.

What a model was trained on is taken from the configuration of its run, or, where that is not at hand (an export, data
on another machine), from the split file of the materials that are evaluated. As the splits are, disjoint means by
chemical system: a polymorph of a training material is not drawn either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tomat import _core
from tomat.catalogue.table import electrons_of
from tomat.categories import chemical_system
from tomat.dataset.crystals import read_crystals
from tomat.dataset.inputs import is_rho_gga, resolve_inputs, splits_of
from tomat.dataset.subset import draw_names, draw_stratified
from tomat.lm.record import NOTE
from tomat.material import Entry
from tomat.prediction.predictor import PROMOLECULE
from tomat.storage.files import is_url, open_bytes
from tomat.storage.remote import Place, place

#: Folders from a checkpoint up to its run: ``RUN/checkpoints/step-N``.
_UP = 2
_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Training:
    """The materials a model was trained on.

    Attributes:
        systems: chemical systems by the names of the materials.
        source: where that is known from.
    """

    systems: Mapping[str, str]
    source: str

    @property
    def hash(self) -> str:
        """SHA-256 of the sorted names."""
        return hashlib.sha256("\0".join(sorted(self.systems)).encode()).hexdigest()


@dataclass(frozen=True)
class Sample:
    """Which materials are drawn.

    Attributes:
        n: how many.
        seed: of the order.
        stratify: draw evenly over the deciles of the electrons in the cell.
        catalogue: has the electrons; without it the densities are read.

    Raises:
        ValueError: fewer than one.
    """

    n: int
    seed: int = 0
    stratify: Literal["electrons"] | None = None
    catalogue: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a sample of {self.n} materials; give at least 1")

    def draw(self, entries: Sequence[Entry], training: Training | None) -> tuple[list[Entry], dict[str, Any]]:
        """Draw from ``entries``, which may come in any order.

        Returns:
            the materials in the order of the draw, and its identity as JSON: what was asked for, how many there were
            to draw from, and how many were excluded, as training materials or as others of their chemical systems.

        Raises:
            OSError, ValueError: a material cannot be read, is missing from the catalogue, or all were training
                materials.
        """
        by_name = {entry.task_id: entry for entry in entries}
        own = set(training.systems) if training is not None else set()
        seen = set(training.systems.values()) if training is not None else set()
        named = [name for name in by_name if name in own]
        others = [name for name in by_name if name not in own]
        related = [name for name in others if seen and system_of(by_name[name]) in seen]
        left = sorted(set(others) - set(related))
        if not left:
            raise ValueError(
                f"all {len(by_name)} materials are training data of the model, or of their chemical systems; give "
                "materials that were held out (--split validation)"
            )
        if self.stratify is None:
            drawn = draw_names(left, self.n, self.seed)
        else:
            drawn = draw_stratified(
                left, self.n, self._electrons([by_name[name] for name in left]), self.seed
            )
        about = {
            "n": self.n,
            "seed": self.seed,
            "stratify": self.stratify,
            "drawn": len(drawn),
            "candidates": len(left),
            "excluded_training": len(named),
            "excluded_systems": len(related),
            "training": None if training is None else training.source,
            "training_sha256": None if training is None else training.hash,
        }
        return [by_name[name] for name in drawn], about

    def _electrons(self, entries: Sequence[Entry]) -> dict[str, float]:
        names = [entry.task_id for entry in entries]
        if self.catalogue is not None:
            return dict(zip(names, electrons_of(self.catalogue, names), strict=True))
        return {entry.task_id: entry.read().n_electrons for entry in entries}


def training_of(checkpoint: str, inputs: Sequence[str], split_file: str | None = None) -> Training | None:
    """The materials that a model was trained on; None for the promolecule, which is no trained model.

    Args:
        checkpoint: a run, checkpoint, export or name, as ``tomat eval`` takes it.
        inputs: the densities that are evaluated, whose split file is asked where the run cannot be.
        split_file: of the ``rho_gga`` root among them; by default its only ``split*.json``.

    Raises:
        ValueError: it is not known.
    """
    if checkpoint.partition(":")[0] == PROMOLECULE:
        return None
    reason = f"there is no {_CONFIG} of a run there"
    run = _run_of(checkpoint)
    if run is not None:
        try:
            return _of_run(run)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"the data that its {_CONFIG} names cannot be opened ({error})"
    entries: list[Entry] = []
    for item in inputs:
        if is_rho_gga(item):
            splits = splits_of(item, split_file)
            if "train" in splits.values():
                found = resolve_inputs([item])
                entries += [entry for entry in found if splits.get(entry.task_id) == "train"]
    if not entries:
        raise ValueError(
            f"{checkpoint}: it is not known which materials it was trained on: {reason}, and the densities have no "
            "split file with a split 'train'. A sample must be disjoint from them: give the run, or a rho_gga root "
            "with its split file"
        )
    return Training(_systems(entries), "split train of the densities that are evaluated")


def drawn_words(about: Mapping[str, Any]) -> str:
    """The identity of a draw in words."""
    evenly = f" evenly by {about['stratify']}" if about["stratify"] else ""
    words = f"drew {about['drawn']} of {about['candidates']} materials{evenly}, seed {about['seed']}"
    if about["drawn"] < about["n"]:
        words += f" (there are no {about['n']})"
    if about["training"] is None:
        return words
    return (
        f"{words}; {about['excluded_training']} training materials excluded, and {about['excluded_systems']} others of "
        f"their chemical systems ({about['training']})"
    )


def system_of(entry: Entry) -> str:
    """The chemical system of a material; of a Zarr group only the structure is read.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    path = entry.path.rstrip("/")
    if path.endswith(".zarr"):
        try:
            attributes = json.loads(open_bytes(f"{path}/zarr.json"))["attributes"]
            sites = json.loads(attributes["structure"])["sites"]
            return chemical_system(_symbol(site["species"][0]["element"]) for site in sites)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: no structure in it: {error}") from error
    return chemical_system(int(z) for z in entry.read().atomic_numbers)


def _symbol(text: str) -> str:
    """``Fe`` of ``Fe3+``."""
    return text.rstrip("0123456789+-.")


def _systems(entries: Iterable[Entry]) -> dict[str, str]:
    """Chemical systems by name; of materials that are not there, their names alone count."""
    found = {}
    for entry in entries:
        try:
            found[entry.task_id] = system_of(entry)
        except FileNotFoundError:
            found[entry.task_id] = f"unknown: {entry.task_id}"
    return found


def _run_of(checkpoint: str) -> Place | None:
    """The folder of the run of a checkpoint."""
    folder = place(checkpoint)
    if not folder.is_dir():  # a name of a model in the package
        return None
    for _ in range(_UP + 1):
        if (folder / _CONFIG).exists() and (folder / NOTE).exists():
            return folder
        folder = folder.parent
        if is_url(str(folder)) and str(folder).endswith(":/"):
            break
    return None


def _of_run(run: Place) -> Training:
    """The materials of a run, from the densities or the dataset of its configuration."""
    content = yaml.safe_load(open_bytes(str(run / _CONFIG)))
    data = content["data"]
    if data.get("path"):
        symbols = _core.elements()
        crystals = read_crystals(str(data["path"]))
        systems = {
            name: chemical_system(symbols[int(z) - 1] for z in stored.crystal.atomic_numbers)
            for name, stored in crystals.items()
        }
        return Training(systems, f"the dataset of {run.name}")
    entries = resolve_inputs(data["densities"], split_file=data.get("split_file"), split=data.get("split"))
    prefix = tuple(data.get("prefix") or ())
    kept = [entry for entry in entries if not prefix or entry.task_id.startswith(prefix)]
    return Training(_systems(kept[: data.get("limit")]), f"the densities of {run.name}")
