"""Training data: two sources, rows of the model, and their order. NumPy only."""

from tomat.lm.data.config import DataConfig
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.data.opening import open_rows
from tomat.lm.data.parquet import ParquetSource
from tomat.lm.data.rows import RowArrays, RowBatch, Rows, Source
from tomat.lm.data.store import DensityStore

__all__ = [
    "DataConfig",
    "DensitySource",
    "DensityStore",
    "ParquetSource",
    "RowArrays",
    "RowBatch",
    "Rows",
    "Source",
    "open_rows",
]
