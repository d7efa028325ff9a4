"""Measure how much of the densities a dataset covers, compare it with the expectation, and plot both.

Adds up the coverage histograms of all workers. The expectation follows from the grids, the patches and the sampler
(docs/catalogue.md). Datasets written by other programs do not store the grids: give --catalogue.

\b
Examples:
  tomat coverage rows
  tomat coverage rows --html coverage.html --png coverage.png
  tomat coverage rows --catalogue catalogue.parquet --json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tomat.cli._shared import AsJson, plain_table
from tomat.dataset.manifest import open_dataset
from tomat.plan.measured import Coverage, measured_coverage
from tomat.storage.files import write_atomically

#: Counts printed one by one.
_SHOWN = 12


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A dataset: directory or URL.")],
    catalogue: Annotated[
        Path | None, typer.Option(help="Catalogue with the grids, for datasets that do not store them.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="HTML page to write; needs plotly.")] = None,
    png: Annotated[Path | None, typer.Option(help="Figure to write; needs matplotlib.")] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Add up what is there when workers are missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    if html is not None or png is not None:
        from tomat.report.codecs import check_installed

        check_installed()
        from tomat.report import coverage as figures
    dataset = open_dataset(directory, allow_partial=allow_partial)
    coverage = measured_coverage(dataset, None if catalogue is None else _grids(catalogue))
    if html is not None:
        write_atomically(html, figures.html(coverage).encode())
    if png is not None:
        write_atomically(png, figures.png(coverage))
    if as_json:
        print(json.dumps(coverage.facts))
    else:
        _print(coverage)


def _grids(path: Path) -> dict[str, tuple[int, int, int]]:
    from tomat.catalogue.table import load

    rows = load(path, ["id", "nx", "ny", "nz"]).to_pylist()
    return {row["id"]: (row["nx"], row["ny"], row["nz"]) for row in rows if None not in row.values()}


def _print(coverage: Coverage) -> None:
    from rich.console import Console

    facts: dict[str, Any] = coverage.facts
    console = Console()
    measured, planned = facts["measured"], facts["planned"]
    console.print(
        f"{facts['materials']:,} materials, {facts['voxels']:,} voxels, {facts['rows']:,} patches",
        highlight=False,
    )
    most = "at most " if planned and planned["is_upper_bound"] else ""
    for key, words in (("mean_material", "the mean material"), ("of_all_voxels", "all voxels")):
        expected = "" if planned is None else f" ({most}{planned[key]:.2%} planned)"
        console.print(f"covered of {words}: {measured[key]:.2%}{expected}", highlight=False)
    table = plain_table("times covered", "voxels", "share", "planned")
    total = max(facts["voxels"], 1)
    for times, voxels in enumerate(coverage.histogram[:_SHOWN]):
        expected = ""
        if coverage.planned is not None:
            n = coverage.planned[times] if times < len(coverage.planned) else 0.0
            expected = f"{n / total:.3%}"
        table.add_row(str(times), f"{voxels:,}", f"{voxels / total:.3%}", expected)
    console.print(table)
    if len(coverage.histogram) > _SHOWN:
        console.print(f"and up to {len(coverage.histogram) - 1} times")
    for note in coverage.notes:
        console.print(f"note: {note}", highlight=False)
