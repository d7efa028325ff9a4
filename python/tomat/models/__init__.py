"""Trained models that come with the package: a folder each, as ``tomat export`` writes it, with their scores.

A model is opened by its name wherever a checkpoint is expected; ``tomat models`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tomat.storage.files import read_json

__all__ = ["DEFAULT", "BundledModel", "bundled", "bundled_models", "shown"]

#: The model that predicts if none is named.
DEFAULT = "sg15-pbe"
_HERE = Path(__file__).parent
_NOTE = "tomat.json"


@dataclass(frozen=True)
class BundledModel:
    """A model of the package.

    Attributes:
        name: by which it is opened.
        folder: its files.
    """

    name: str
    folder: Path

    @cached_property
    def note(self) -> dict[str, Any]:
        """The content of its ``tomat.json``; :func:`tomat.lm.record.read_note` checks it."""
        note: dict[str, Any] = read_json(self.folder / _NOTE)
        return note

    @property
    def dialect(self) -> str:
        """The kind of densities it predicts: program, functional, pseudopotentials."""
        return str(self.note["dialect"])

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers in its training data."""
        return frozenset(int(z) for z in self.note["data_facts"]["elements"])

    @property
    def scores(self) -> dict[str, Any]:
        """What it scores on crystals that it has not seen, and what promolecule, start and codec do there."""
        return dict(self.note["scores"])

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


def bundled_models() -> list[BundledModel]:
    """The models of the package, by name."""
    return [BundledModel(path.parent.name, path.parent) for path in sorted(_HERE.glob(f"*/{_NOTE}"))]


def shown(path: str) -> str:
    """A model's path for people: the name of one of the package, any other as it is."""
    folder = Path(path)
    return f"{folder.name} of the package" if folder.parent == _HERE else path


def bundled(name: str) -> BundledModel | None:
    """The model of the package with this name, or None."""
    return next((model for model in bundled_models() if model.name == name), None)
