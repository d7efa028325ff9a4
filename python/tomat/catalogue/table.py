"""Columns of a catalogue, and the file they are in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["electrons_of", "load"]

#: Ids an error names.
_SHOWN = 5


def load(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A catalogue, or some of its columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a catalogue.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such catalogue; make one with tomat catalogue build")
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a catalogue: {error}") from error
    missing = {"id", *(columns or ())} - set(table.column_names)
    if missing:
        raise ValueError(f"{path}: not a catalogue: no column {', '.join(sorted(missing))}")
    return table


def electrons_of(path: str | Path, task_ids: Sequence[str]) -> list[float]:
    """Electrons in the cell of each material, by a catalogue.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`; a material it does not have, or has without electrons.
    """
    table = load(path, ["id", "electrons"])
    of = dict(zip(table["id"].to_pylist(), table["electrons"].to_pylist(), strict=True))
    absent = [name for name in task_ids if name not in of]
    if absent:
        raise ValueError(
            f"{path}: {len(absent)} of {len(task_ids)} materials are not in this catalogue: "
            f"{', '.join(absent[:_SHOWN])}; build it from the same inputs, and list only what could be read"
        )
    unknown = [name for name in task_ids if of[name] is None]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} materials have no electrons in this catalogue: {', '.join(unknown[:_SHOWN])}; "
            "build it from the densities"
        )
    return [float(of[name]) for name in task_ids]
