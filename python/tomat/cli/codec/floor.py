"""Measure the error floor of a codec: what encoding and decoding alone loses.

Every voxel is encoded and decoded; no model can have a smaller error with this codec. Measure on materials the codec
was not fitted to. A fitted codec is measured in its own unit; --unit is for log codecs.

\b
Examples:
  tomat codec floor l1-16k-e_per_A3-1e4 tests/data/rho_gga --split test
  tomat codec floor rel-256 tests/data/rho_gga --split test
  tomat codec floor lmq-16k tests/data/rho_gga --supercell 2
  tomat codec floor mine.npz /data/rho_gga --split-file split.json --split validation --json
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tomat.cli._shared import Inputs, Quiet, Split, SplitFile, Threads, plain_table, progress
from tomat.cli._tokenizer import LogUnit
from tomat.codec import load_codec
from tomat.dataset.inputs import resolve_inputs
from tomat.floors import Floor, floor
from tomat.metrics import FRACTION, UNITS
from tomat.promolecule import UnscaledPromolecule


def command(
    codec: Annotated[str, typer.Argument(metavar="CODEC", help="Name, path or URL.", show_default=False)],
    inputs: Inputs,
    unit: LogUnit = None,
    supercell: Annotated[
        int, typer.Option(help="Repeat each crystal this many times along a, b and c.", min=1)
    ] = 1,
    guess: Annotated[
        str | None,
        typer.Option(
            help="Starting density of a relative codec: promolecule by name or file.  [default: the codec's]"
        ),
    ] = None,
    split_file: SplitFile = None,
    split: Split = None,
    threads: Threads = None,
    worst: Annotated[int, typer.Option(help="Number of worst materials to list.", min=0)] = 5,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with all materials.")] = False,
) -> None:
    loaded = load_codec(codec)
    entries = resolve_inputs(inputs, split_file=split_file, split=split)
    start = None if guess is None else UnscaledPromolecule.load(guess)
    with progress("measuring", len(entries), quiet=quiet or as_json) as watch:
        result = floor(
            loaded, entries, unit=unit, supercell=supercell, guess=start, threads=threads, watch=watch
        )
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        _print(result, worst)


def _print(result: Floor, worst: int) -> None:
    from rich.console import Console

    console = Console()
    bins = " x ".join(f"{n:,}" for n in result.bins)
    console.print(
        f"{result.codec}: {bins} bins, {result.unit}, {len(result.task_ids)} materials", highlight=False
    )
    table = plain_table("error", "mean", "median", "p99", "max")
    for name, of in result.summary().items():
        unit = UNITS[name]
        label = f"{name.replace('_', ' ')} {unit.name if unit is FRACTION else f'({unit.name})'}"
        table.add_row(label, *(f"{unit.factor * v:.3g}" for v in (of.mean, of.median, of.p99, of.max)))
    console.print(table)
    by_error = sorted(range(len(result.task_ids)), key=lambda i: -result.metrics[i].nmae)[:worst]
    if not by_error:
        return
    table = plain_table("worst", "nmae %", "of it clipped")
    for i in by_error:
        table.add_row(result.task_ids[i], f"{100 * result.metrics[i].nmae:.3g}", f"{result.clipped[i]:.0%}")
    console.print(table)
