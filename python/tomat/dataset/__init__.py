"""Datasets of rows: resolving inputs, writing, opening, copying, exporting and verifying."""

from tomat.dataset.config import TokenizeConfig
from tomat.dataset.crystals import read_crystals
from tomat.dataset.inputs import resolve_inputs
from tomat.dataset.manifest import Dataset, open_dataset
from tomat.dataset.sync import SyncReport, sync_dataset
from tomat.dataset.verify import verify_dataset
from tomat.material import Entry

__all__ = [
    "Dataset",
    "Entry",
    "SyncReport",
    "TokenizeConfig",
    "open_dataset",
    "read_crystals",
    "resolve_inputs",
    "sync_dataset",
    "verify_dataset",
]
