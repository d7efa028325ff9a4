"""Options and output that the evaluation commands share."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tomat.evaluate.aggregate import Settings
    from tomat.view.table import Table

#: Tables with more columns than this are transposed in the terminal.
_MANY = 10


def bootstrap_options(
    intervals_by: Annotated[
        Literal["chemsys", "material"],
        typer.Option(help="What is resampled: whole chemical systems, or single materials."),
    ] = "chemsys",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=10)] = 2000,
    level: Annotated[
        float, typer.Option(help="Confidence level of the intervals.", min=0.5, max=0.999)
    ] = 0.95,
    bootstrap_seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> Settings:
    """Options of the bootstrap, for :func:`tomat.cli._shared.grouped`."""
    from tomat.evaluate.aggregate import Settings

    return Settings(intervals_by, resamples, level, bootstrap_seed)


def write_or_print(
    content: Mapping[str, Any], tables: Iterable[Table], out: Path | None, *, as_json: bool
) -> None:
    """Write a comparison as JSON to ``out``, if given, and print it as JSON or as tables."""
    text = json.dumps(content, indent=1)
    if out is not None:
        write_atomically(out, (text + "\n").encode())
    if as_json:
        print(text)
        return
    for table in tables:
        print_table(table)


def print_table(table: Table) -> None:
    """Print a table and its note; diagnostics go below a line, or in the last columns of a transposed table."""
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    lines, below = [table.head, *table.rows, *table.below], len(table.below)
    if len(table.head) > _MANY:
        marks = ["", *("" for _ in table.rows), *("(diagnostic)" for _ in table.below)]
        lines = list(
            zip(*(_marked(line, mark) for line, mark in zip(lines, marks, strict=True)), strict=True)
        )
        below = 0
    drawn = Drawn(box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(lines[0]):
        drawn.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for i, line in enumerate(lines[1:]):
        drawn.add_row(*line)
        if below and i == len(lines) - below - 2:
            drawn.add_row("—" * 12)
    console.print(table.title, style="bold", highlight=False)
    console.print(drawn)
    if table.note:
        console.print(f"  {table.note}\n", highlight=False, soft_wrap=True)


def _marked(line: Sequence[str], mark: str) -> tuple[str, ...]:
    return (f"{line[0]} {mark}".strip(), *line[1:])


def report_errors(errors: Sequence[Mapping[str, Any]]) -> None:
    """List failed materials on standard error; exit with 1 if there are any."""
    for error in errors:
        where = "" if error["mode"] is None else f" ({error['mode']})"
        print(f"failed: {error['task_id']}{where}: {error['error']}", file=sys.stderr)
    if errors:
        n = len({error["task_id"] for error in errors})
        print(f"error: {n} materials failed; the numbers cover the others", file=sys.stderr)
        raise typer.Exit(1)
