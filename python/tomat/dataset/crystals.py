"""Exact crystals of a dataset, from the tables that its workers wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomat.dataset.crystal_table import StoredCrystal, read_table
from tomat.dataset.manifest import Dataset, Worker, open_dataset
from tomat.dataset.meta import CRYSTALS, META, changed
from tomat.storage.remote import at_hand
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from tomat.storage.remote import UrlPath


def read_crystals(dataset: Dataset | str | Path | UrlPath) -> dict[str, StoredCrystal]:
    """The crystals of a dataset by material id, those of all its workers: float64 lattices and positions, and grids.

    Raises:
        FileNotFoundError: no such dataset, or one without a table of crystals: of another program, or of tomat before
            it wrote them.
        OSError: the table cannot be read.
        ValueError: not a finished dataset, or a table that is not what was written.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    return {name: stored for worker in opened.workers for name, stored in crystals_of(worker).items()}


def crystals_of(worker: Worker) -> dict[str, StoredCrystal]:
    """The crystals of one worker by material id.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`read_crystals`.
    """
    path, stated = worker.path / CRYSTALS, worker.meta.get("crystals_sha256")
    if stated is None:
        raise FileNotFoundError(f"{path}: {META} states no such table; tokenize again to have one")
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; fetch it again")
    with at_hand(path) as local:
        digest = sha256_of(local)
        if digest != stated:
            raise ValueError(changed(path, digest, stated))
        return read_table(local)
