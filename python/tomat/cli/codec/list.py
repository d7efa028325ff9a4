"""List the bundled codecs with unit, range, and error floor (mean NMAE) on crystals they were not fitted to.

\b
Examples:
  tomat codec list
"""

from __future__ import annotations

import json

from tomat.cli._shared import AsJson
from tomat.cli.codec.show import facts
from tomat.codec import (
    ALIASES,
    LOG_CODECS,
    bundled_codecs,
    bundled_floor,
    bundled_relative_codecs,
    load_codec,
)


def command(as_json: AsJson = False) -> None:
    codecs = {name: load_codec(name) for name in [*bundled_codecs(), *bundled_relative_codecs(), *LOG_CODECS]}
    rows = {name: {**facts(codec), "floor": bundled_floor(codec)} for name, codec in codecs.items()}
    if as_json:
        print(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "bins", "unit", "method", "range", "floor %"):
        right = column in ("bins", "floor %")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for name, row in rows.items():
        method = f"= {ALIASES[name]}" if name in ALIASES else row.get("method", "log")
        lost = row["floor"]
        shown = "" if lost is None else f"{100 * lost:.2g}"
        table.add_row(name, row["bins"], row["unit"], method, row["range"], shown)
    # Never cut names, even on a narrow terminal.
    Console(width=max(Console().width, 110)).print(table)
