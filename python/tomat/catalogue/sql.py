"""Queries of a catalogue: SQL with DuckDB, and a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.catalogue.table import load

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

#: Columns whose distribution a summary gives.
_NUMBERS = ("voxels", "n_atoms", "electrons", "volume")
_QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def query(path: str | Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of an SQL query on the table ``catalogue``.

    Raises:
        FileNotFoundError: no such catalogue.
        ValueError: a damaged catalogue, an invalid query, or DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ValueError("queries need DuckDB: pip install 'tomat[catalogue]'") from error
    table = load(path)
    with duckdb.connect(":memory:") as connection:
        try:
            connection.register("catalogue", table)
            result = connection.execute(sql)
            if result.description is None:
                return [], []
            return [column[0] for column in result.description], result.fetchall()
        except duckdb.Error as error:
            raise ValueError(f"{path}: {error}") from error


def summary(path: str | Path) -> dict[str, Any]:
    """Counts by split and category, totals, and distributions of the sizes.

    Raises:
        FileNotFoundError, ValueError: as :func:`tomat.catalogue.load`.
    """
    table = load(path)
    facts: dict[str, Any] = {"materials": table.num_rows}
    for name in ("split", "category"):
        facts[name] = _counts(table, name)
    for name, key in (("reduced_formula", "n_reduced_formulas"), ("chemsys", "n_chemsys")):
        values = set(table[name].to_pylist()) - {None} if name in table.column_names else set()
        facts[key] = len(values) or None
    tokens = [name for name in table.column_names if name.startswith("tokens_")]
    facts["distributions"] = {
        name: _distribution(table, name) for name in (*_NUMBERS, *tokens) if _known(table, name).size
    }
    axes = [_known(table, name) for name in ("nx", "ny", "nz")]
    if all(axis.size for axis in axes):
        facts["grid_axes"] = {"min": int(min(map(np.min, axes))), "max": int(max(map(np.max, axes)))}
    return facts


def _known(table: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if name not in table.column_names:
        return np.empty(0)
    return np.asarray(table[name].drop_null().to_numpy(), dtype=np.float64)


def _counts(table: pa.Table, name: str) -> dict[str, int]:
    if name not in table.column_names:
        return {}
    counted = table[name].value_counts().to_pylist()
    return {row["values"] or "unknown": row["counts"] for row in sorted(counted, key=lambda r: -r["counts"])}


def _distribution(table: pa.Table, name: str) -> dict[str, float]:
    values = _known(table, name)
    quantiles = {key: float(np.quantile(values, q, method="inverted_cdf")) for key, q in _QUANTILES.items()}
    return {
        "sum": float(values.sum()),
        "mean": float(values.mean()),
        **quantiles,
        "unknown": table.num_rows - len(values),
    }
