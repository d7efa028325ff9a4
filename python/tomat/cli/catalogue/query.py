"""Query a catalogue with SQL (DuckDB), as the table catalogue.

\b
Examples:
  tomat catalogue query c.parquet "SELECT category, count(*) n, avg(voxels) FROM catalogue GROUP BY 1 ORDER BY n DESC"
  tomat catalogue query c.parquet "SELECT id FROM catalogue WHERE tokens_v3 > 8192" --csv
  tomat catalogue query c.parquet "DESCRIBE catalogue" --json
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tomat.catalogue.sql import query


def command(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="Parquet file.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="The query.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    columns, rows = query(catalogue, sql)
    if as_json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str))
        return
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _text(value) for value in row))
    Console().print(table)


def _text(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
