"""Compare ways of placing bins: the error floor against the number of bins, fitted on one split and measured on others.

INPUT is a rho_gga root with a split file, or any densities; these are then both fitted to and measured on, which
flatters every method. --out NAME writes NAME.csv, NAME.json, NAME.png and NAME.html (self-contained); figures need
pip install 'tomat[plot]'.

\b
Examples:
  tomat codec compare tests/data/rho_gga
  tomat codec compare /data/rho_gga --fit-split train --test-split validation --test-split test --out floors
  tomat codec compare /data/rho_gga --sketch train.sketch --unit e_per_A3 --bins 1024 --bins 4096
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._shared import AsJson, Inputs, Quiet, SplitFile, Threads, plain_table, progress
from tomat.cli.codec._shared import Signed, UnitOption, WeightOption
from tomat.dataset.inputs import is_rho_gga, resolve_inputs
from tomat.fitting import METHODS, Method, Sketch, sketch_entries
from tomat.floors import BINS, FloorCurves, floor_curves
from tomat.material import Entry
from tomat.storage.files import write_atomically


def command(
    inputs: Inputs,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Name of the files to write, without suffix.")
    ] = None,
    unit: UnitOption = "chgcar",
    split_file: SplitFile = None,
    fit_split: Annotated[str, typer.Option(help="Split to fit to.")] = "train",
    test_split: Annotated[
        list[str] | None,
        typer.Option(help="Split to measure on; repeatable.  [default: validation and test]"),
    ] = None,
    sketch: Annotated[
        str | None, typer.Option(help="Sketch to fit to instead of the densities of --fit-split.")
    ] = None,
    bins: Annotated[
        list[int] | None,
        typer.Option(help="Number of bins; repeatable.  [default: 1024 2048 4096 16384 65536]", min=1),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; repeatable.  [default: all]")
    ] = None,
    weight: WeightOption = "material",
    signed: Signed = False,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    methods = [_method(name) for name in method] if method else METHODS
    if out is not None:
        from tomat.report import codecs as report

        report.check_installed()
    to_fit, to_test = _entries(inputs, split_file, fit_split, test_split, sketch)
    with progress("comparing", len(to_fit) + len(to_test) + 1, quiet=quiet or as_json) as watch:
        fitted = Sketch.load(sketch) if sketch else sketch_entries(to_fit, unit, threads=threads, watch=watch)
        if sketch and fitted.unit != unit:
            raise ValueError(f"{sketch}: a sketch in {fitted.unit}; give --unit {fitted.unit}")
        result = floor_curves(
            fitted,
            to_test,
            bins=sorted(set(bins or BINS)),
            methods=methods,
            weight=weight,
            signed=signed,
            threads=threads,
            watch=watch,
        )
    content = asdict(result)
    if as_json:
        print(json.dumps(content))
    else:
        _print(result)
    if out is not None:
        write_atomically(f"{out}.csv", result.to_csv().encode())
        write_atomically(f"{out}.json", (json.dumps(content, indent=1) + "\n").encode())
        write_atomically(f"{out}.png", report.png(content))
        write_atomically(f"{out}.html", report.html(content).encode())
        if not (quiet or as_json):
            print(", ".join(str(Path(f"{out}.{suffix}")) for suffix in ("csv", "json", "png", "html")))


def _method(name: str) -> Method:
    for known in METHODS:
        if name == known:
            return known
    raise typer.BadParameter(f"--method {name}: known are {', '.join(METHODS)}")


def _entries(
    inputs: list[str],
    split_file: str | None,
    fit_split: str,
    test_splits: list[str] | None,
    sketch: str | None,
) -> tuple[Sequence[Entry], Sequence[Entry]]:
    if not any(is_rho_gga(item) for item in inputs):
        if split_file or test_splits:
            raise ValueError("--split-file and --test-split need a rho_gga root; none was given")
        entries = resolve_inputs(inputs)
        return ([] if sketch else entries), entries
    splits = test_splits or ["validation", "test"]
    tests = [e for split in splits for e in resolve_inputs(inputs, split_file=split_file, split=split)]
    return ([] if sketch else resolve_inputs(inputs, split_file=split_file, split=fit_split)), tests


def _print(result: FloorCurves) -> None:
    from rich.console import Console

    console = Console()
    where = (
        "materials the fit did not see" if result.held_out else "materials of the fit itself: no true floor"
    )
    sign = "signed" if result.signed else "unsigned"
    console.print(
        f"Mean NMAE floor in %, unit {result.unit}, {result.weight} weights, {sign}; fitted to {result.n_fit} "
        f"materials, measured on {result.n_test} {where}",
        highlight=False,
    )
    bins = result.curves[0].bins if result.curves else []
    table = plain_table("method", *(f"{n:,}" for n in bins))
    best = [min(curve.mean[i] for curve in result.curves) for i in range(len(bins))]
    for curve in result.curves:
        cells = [
            f"[green]{100 * v:.4f}[/green]" if v == best[i] else f"{100 * v:.4f}"
            for i, v in enumerate(curve.mean)
        ]
        table.add_row(curve.method, *cells)
    console.print(table)
