"""Catalogues: parquet files with one row per material, for planning and splitting; docs/catalogue.md."""

from tomat.catalogue.builder import BuildReport, build
from tomat.catalogue.division import split_groups
from tomat.catalogue.sql import query, summary
from tomat.catalogue.table import COLUMNS, electrons_of, load

__all__ = [
    "COLUMNS",
    "BuildReport",
    "build",
    "electrons_of",
    "load",
    "query",
    "split_groups",
    "summary",
]
