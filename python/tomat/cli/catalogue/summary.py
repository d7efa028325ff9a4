"""Summarise a catalogue: materials by split and category, totals, distributions of sizes.

\b
Examples:
  tomat catalogue summary catalogue.parquet
  tomat catalogue summary catalogue.parquet --json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tomat.catalogue.sql import summary
from tomat.cli._shared import AsJson, plain_table


def command(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="Parquet file.")],
    as_json: AsJson = False,
) -> None:
    facts = summary(catalogue)
    if as_json:
        print(json.dumps(facts))
        return
    from rich.console import Console

    console = Console()
    console.print(f"{facts['materials']:,} materials", highlight=False)
    for name in ("split", "category"):
        counts = ", ".join(f"{count:,} {key}" for key, count in facts[name].items())
        console.print(f"by {name}: {counts or 'unknown'}", highlight=False)
    for name, words in (("n_reduced_formulas", "reduced formulas"), ("n_chemsys", "chemical systems")):
        if facts[name]:
            console.print(f"{facts[name]:,} {words}", highlight=False)
    if "grid_axes" in facts:
        axes = facts["grid_axes"]
        console.print(f"grid axes from {axes['min']} to {axes['max']}", highlight=False)
    columns = ("sum", "mean", "min", "p10", "p50", "p90", "p99", "max", "unknown")
    table = plain_table("", *columns)
    for name, values in facts["distributions"].items():
        table.add_row(name, *(f"{values[column]:.4g}" for column in columns))
    console.print(table)
