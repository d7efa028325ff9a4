"""Build a catalogue from densities, or from a CSV file of sizes.

INPUT is what tomat tokenize takes: densities, folders, quoted globs, list files, rho_gga roots, local or by URL; or a
CSV file (.csv, .csv.gz, .csv.xz) with a header: id (or mp_id, task_id, material_id), nx, ny, nz, n_atoms and any other
column of a catalogue; missing columns are null. If the catalogue exists, only new and changed files are read; to resume
an interrupted build, run the same command again. The exit code is 3 if densities could not be read; they are listed and
left out.

\b
Examples:
  tomat catalogue build /data/rho_gga -o catalogue.parquet
  tomat catalogue build 'runs/*/CHGCAR.gz' -o runs.parquet --threads 8
  tomat catalogue build materials.csv -o catalogue.parquet --split train
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tomat.catalogue.builder import BuildReport, build
from tomat.catalogue.rows import is_csv, read_csv
from tomat.catalogue.table import save
from tomat.cli._shared import Inputs, Quiet, Split, SplitFile, Threads, progress
from tomat.dataset.inputs import is_rho_gga, resolve_inputs, splits_of

#: Exit code where materials are missing from the catalogue.
LEFT_OUT = 3
#: Errors printed; --json has all.
_SHOWN = 20


def command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file.")],
    split_file: SplitFile = None,
    split: Split = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    tables = [item for item in inputs if is_csv(item)]
    if tables and len(tables) < len(inputs):
        raise typer.BadParameter("CSV files and densities do not mix: build two catalogues")
    if tables:
        report = _from_csv(tables, out, split)
    else:
        splits: dict[str, str] = {}
        for item in inputs:
            if is_rho_gga(item):
                splits |= splits_of(item, split_file)
        entries = resolve_inputs(inputs, split_file=split_file, split=split)
        with progress("reading", len(entries), quiet=quiet or as_json) as watch:
            report = build(entries, out, splits=splits, threads=threads, watch=watch)
    if as_json:
        print(json.dumps(asdict(report)))
    elif not quiet:
        print(
            f"{out}: {report.rows:,} materials; {report.read:,} read, {report.kept:,} unchanged, "
            f"{report.dropped:,} no longer there"
        )
    if report.errors and not as_json:
        print(f"{len(report.errors):,} could not be read and are left out:", file=sys.stderr)
        for name, message in list(report.errors.items())[:_SHOWN]:
            print(f"  {name}: {message}", file=sys.stderr)
        if len(report.errors) > _SHOWN:
            print(f"  and {len(report.errors) - _SHOWN:,} more (--json names all)", file=sys.stderr)
    if report.errors:
        raise typer.Exit(LEFT_OUT)


def _from_csv(paths: list[str], out: Path, split: str | None) -> BuildReport:
    """Write a catalogue from CSV files; ``split`` is that of rows without one."""
    rows = {}
    for path in paths:
        for row in read_csv(path):
            if row["id"] in rows:
                raise ValueError(f"{path}: {row['id']!r} is in another file already")
            rows[row["id"]] = {"split": split, **{k: v for k, v in row.items() if v is not None}}
    if not rows:
        raise ValueError(f"{paths[0]}: no materials in it")
    save(out, rows.values())
    return BuildReport(rows=len(rows), read=len(rows))
