"""Turn crystals into rows for models that write crystals.

INPUT is a CIF, a POSCAR or another file of one crystal (densities, too); a table (.parquet or .csv) with an id and
lattice, atomic_numbers and frac_coords, or cif; pymatgen's JSON (.json, .jsonl); a folder, a quoted glob or a list file
(*.txt) of them; local, or any URL that fsspec opens. Numbers that stand beside a crystal can be conditions.

\b
Examples:
  tomat-tokenize --crystals structures/ --out rows
  tomat-tokenize --crystals train.parquet --out rows --formula --frames 16 --order shuffled
  tomat-tokenize --crystals mp.csv --out rows --positions 4096 --column band_gap --space-group

Positions are rounded to 1,024 or 4,096 steps an axis, cells to 0.01 angstrom and 0.1 degrees; crystals.parquet in the
dataset keeps them exactly. Exit codes: 0 all crystals were written; 1 stopped by an error; 2 invalid options; 3
finished, but crystals that cannot be read or written were left out (0 with --on-error skip).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

#: Exit code of a run that finished but left crystals out.
LEFT_OUT = 3
#: Crystals left out that are printed.
_SHOWN = 20


def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the dataset.")],
    *,
    crystals: Annotated[bool, typer.Option("--crystals", hidden=True)] = True,
    positions: Annotated[
        int, typer.Option(help="Values that a coordinate can take: 1024 (a token) or 4096 (two).")
    ] = 1024,
    order: Annotated[
        Literal["sorted", "given", "shuffled"],
        typer.Option(help="Order of the atoms: by atomic number, as in the file, or random."),
    ] = "sorted",
    frames: Annotated[
        int, typer.Option(help="Rows of each crystal; all but the first in random frames.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of frames and orders.")] = 0,
    formula: Annotated[bool, typer.Option("--formula", help="Put the formula before each crystal.")] = False,
    n_atoms: Annotated[
        bool, typer.Option("--n-atoms", help="Put the number of atoms before each crystal.")
    ] = False,
    space_group: Annotated[
        bool, typer.Option("--space-group", help="Put the space group before each crystal.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Put a number that stands beside each crystal before it, in bins; repeatable."),
    ] = None,
    bins: Annotated[int, typer.Option(help="Bins of each column, with as many crystals in each.")] = 32,
    pad_to: Annotated[
        int | None, typer.Option(help="Length of the rows.  [default: that of the longest]", min=1)
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"], typer.Option(help="Exit code if crystals are left out: 3, or 0.")
    ] = "fail",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset of crystals.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    del crystals  # says which command this is
    from rich.progress import Progress

    from tomat.language.dataset import CrystalConfig, write_crystals

    config = CrystalConfig(
        positions, order, frames, seed, formula, n_atoms, space_group, tuple(column or ()), bins, pad_to
    )
    with Progress(disable=quiet or as_json or not sys.stderr.isatty()) as progress:
        task = progress.add_task("crystals", total=None)
        summary = write_crystals(
            inputs,
            out,
            config,
            overwrite=overwrite,
            watch=lambda done, total: progress.update(task, completed=done, total=total),
        )
    facts = {
        "directory": str(summary.directory),
        "crystals": summary.n_crystals,
        "listed": summary.n_listed,
        "left_out": summary.left_out,
        "rows": summary.rows,
        "pad_to": summary.pad_to,
        "longest": summary.longest,
    }
    if as_json:
        print(json.dumps(facts))
    elif not quiet:
        print(
            f"{summary.directory}: {summary.rows:,} rows of {summary.pad_to} tokens, {summary.n_crystals:,} of "
            f"{summary.n_listed:,} crystals; the longest has {summary.longest} tokens"
        )
    say_left_out(summary.left_out, fail=on_error == "fail")


def say_left_out(problems: dict[str, str], *, fail: bool) -> None:
    """Print why crystals were left out, and exit if any were and that is a failure."""
    for problem in list(problems.values())[:_SHOWN]:
        print(f"left out: {problem}", file=sys.stderr)
    if len(problems) > _SHOWN:
        print(f"and {len(problems) - _SHOWN} more; --json names all", file=sys.stderr)
    if problems and fail:
        raise typer.Exit(LEFT_OUT)
