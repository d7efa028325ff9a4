"""The catalogue: one row a material, as a parquet file to plan, choose and divide by; docs/catalogue.md."""

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
