"""The files of a study: its rows, a picture and a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tomat.storage.files import write_atomically
from training.studies.fidelity.page import page
from training.studies.fidelity.report import pareto_png, summarise
from training.studies.fidelity.sweep import as_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_results(rows: Sequence[dict[str, Any]], directory: Path, *, plots: bool = True) -> list[Path]:
    """Write ``sweep.parquet``, ``sweep.csv``, and with ``plots`` ``pareto.png`` and ``sweep.html``; their paths.

    Raises:
        ValueError: ``plots`` without matplotlib or plotly installed.
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    table = as_table(rows)
    contents: dict[str, bytes] = {}
    for name, write in (("sweep.parquet", pq.write_table), ("sweep.csv", pc.write_csv)):
        buffer = io.BytesIO()
        write(table, buffer)
        contents[name] = buffer.getvalue()
    if plots:
        lines = summarise(rows)
        try:
            contents["pareto.png"] = pareto_png(lines)
            contents["sweep.html"] = page(lines).encode()
        except ImportError as error:
            raise ValueError(f"plots need {error.name}: pip install 'tomat[plot]', or --no-plots") from error
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]
