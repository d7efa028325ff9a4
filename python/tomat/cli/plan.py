"""Predict what a tokenization will write: rows, tokens, padding, coverage, bytes, hours, and what is left out.

CATALOGUE is made by tomat catalogue build; a CSV file (id, nx, ny, nz, n_atoms) works too. The options are those of
tomat tokenize. Bytes and hours come from a short measurement on this machine, on synthetic densities of median size or
on those given with --measure-on, or from --rate. The last table compares the patches per material under the budgets
equal and electrons, and says whether they differ enough for a study of sampling weights.

\b
Examples:
  tomat plan catalogue.parquet
  tomat plan catalogue.parquet --layout v2 --split train --workers 16
  tomat plan catalogue.parquet --sampler tiling --patches-per-material 128 --rate 2000 --threads 1 --json
  tomat plan catalogue.parquet --out plan.parquet
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tomat.catalogue.rows import is_csv, read_csv
from tomat.catalogue.table import load
from tomat.cli._shared import AsJson, grouped
from tomat.cli._tokenizer import Workers, row_options
from tomat.dataset.config import TokenizeConfig
from tomat.dataset.inputs import resolve_inputs
from tomat.plan.planner import Plan, plan
from tomat.plan.rate import Rate, measure

_GIB = 2**30


@grouped(rows=row_options)
def command(
    catalogue: Annotated[str, typer.Argument(metavar="CATALOGUE", help="Parquet or CSV file.")],
    split: Annotated[str | None, typer.Option(help="Plan for this split only.")] = None,
    *,
    rows: dict[str, Any],
    workers: Workers = None,
    threads: Annotated[int, typer.Option(help="Threads per worker.", min=1)] = 1,
    rate: Annotated[
        float | None, typer.Option(help="Rows per second and thread; skips the measurement.")
    ] = None,
    bytes_a_token: Annotated[float | None, typer.Option(help="Bytes per token, with --rate.")] = None,
    measure_on: Annotated[
        list[str] | None, typer.Option(help="Densities to measure with, as for tomat tokenize.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Parquet file to write: rows and coverage of each material."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    if rate is not None and not rate > 0:
        raise typer.BadParameter("--rate must be above 0")
    if rate is not None and measure_on:
        raise typer.BadParameter("--rate and --measure-on exclude each other")
    config = TokenizeConfig(
        **rows,
        catalogue=catalogue,
        n_workers=1 if workers is None else workers,
    )
    materials = _rows(catalogue, split)
    if rate is not None:
        cost = Rate(1 / rate, 0.0, bytes_a_token, threads, "given")
    else:
        cost = _measured(config, materials, measure_on, threads)
    made = plan(config, materials, rate=cost)
    if out is not None:
        _save(out, made)
    if as_json:
        print(json.dumps(made.facts))
    else:
        _print(made.facts)


def _rows(path: str, split: str | None) -> list[dict[str, Any]]:
    rows = list(read_csv(path)) if is_csv(path) else load(path).to_pylist()
    if split is None:
        return rows
    chosen = [row for row in rows if row.get("split") == split]
    if not chosen:
        known = sorted({str(row["split"]) for row in rows if row.get("split") is not None})
        raise ValueError(f"{path}: no materials of split {split!r}; known: {', '.join(known) or 'none'}")
    return chosen


def _measured(
    config: TokenizeConfig, rows: list[dict[str, Any]], inputs: list[str] | None, threads: int
) -> Rate:
    known = [row for row in rows if row.get("voxels") is not None and row.get("n_atoms") is not None]
    like: dict[str, Any] = {}
    if inputs:
        like["entries"] = resolve_inputs(inputs, limit=8)
    elif known:
        median = sorted(known, key=lambda row: (row["voxels"], str(row["id"])))[len(known) // 2]
        grid = (int(median["nx"]), int(median["ny"]), int(median["nz"]))
        like = {"grid": grid, "n_atoms": int(median["n_atoms"])}
    return replace(measure(config, **like), threads=threads)


def _save(out: Path, made: Plan) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tomat.storage.files import atomic_file

    names = ("id", "rows", "tokens", "coverage", "reason", "voxels")
    columns = {name: [m[name] for m in made.materials] for name in names}
    columns["patch_shape"] = [
        None if m["patch_shape"] is None else list(m["patch_shape"]) for m in made.materials
    ]
    with atomic_file(out) as file:
        pq.write_table(pa.table(columns), file, compression="zstd")


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_what(facts), *_cost(facts)):
        table.add_row(name, value)
    console.print(table)
    effect = facts["study"]
    console.print(
        "\npatches of a material by budget"
        + (" (electrons estimated from the atoms)" if effect["estimated"] else "")
    )
    columns = ("min", "p10", "p50", "p90", "max", "mean", "max_to_min")
    budgets = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", *columns):
        budgets.add_column(column.replace("_to_", ":"), justify="right" if column else "left")
    for name, values in effect["budgets"].items():
        budgets.add_row(name, *(f"{values[column]:,.4g}" for column in columns))
    console.print(budgets)
    console.print(
        f"sampling-weight study: {effect['verdict']}: {'; '.join(effect['reasons'])}", highlight=False
    )
    for warning in effect["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def _what(facts: dict[str, Any]) -> list[tuple[str, str]]:
    config, materials = facts["configuration"], facts["materials"]
    lines = [
        (
            "run",
            f"{config['layout']}, patch {config['patch_size']}, M {config['patches_per_material']}, "
            f"{config['codec']}, sampler {config['sampler']}, budget {config['budget']}",
        ),
        ("materials", f"{materials['written']:,} of {materials['listed']:,}"),
        ("rows", f"{facts['rows']:,} of {config['pad_to']:,} tokens"),
        ("tokens", f"{facts['tokens']:,}, {facts['padding']:.1%} of them padding"),
    ]
    coverage = facts["coverage"]
    if coverage is None:
        lines.append(("coverage", f"not known for the sampler {config['sampler']}"))
    else:
        most = "at most " if coverage["is_upper_bound"] else ""
        lines.append(
            (
                "coverage",
                f"{most}{coverage['mean_material']:.1%} of the mean material, {most}{coverage['of_all_voxels']:.1%} of "
                f"all {facts['voxels']:,} voxels (p10 {coverage['p10']:.1%}, median {coverage['p50']:.1%}, p90 "
                f"{coverage['p90']:.1%})",
            )
        )
    for shape, entry in facts["fallback"]["shapes"].items():
        lines.append((f"fallback {shape}", _named(entry["count"], entry["first"])))
    for reason, entry in materials["left_out"].items():
        lines.append((f"left out, {reason}", _named(entry["count"], entry["first"])))
    clipping = facts["clipping"]
    lines.append(
        (
            "left out, clipped",
            f"known when the densities are read: those with more than {clipping['max_clipped']:.2%} of their electrons "
            f"above {clipping['range'][1]:,.6g} {clipping['unit']}",
        )
    )
    return lines


def _named(count: int, first: Any) -> str:
    names = list(first)[:5]
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return f"{count:,}: {', '.join(names)}{more}"


def _cost(facts: dict[str, Any]) -> list[tuple[str, str]]:
    cost = facts.get("cost")
    if cost is None:
        return []
    size = "unknown (give --bytes-a-token)"
    if cost["bytes"] is not None:
        size = f"{cost['bytes'] / _GIB:,.1f} GiB, {cost['bytes_a_token']:.2f} bytes a token"
    workers = facts["configuration"]["n_workers"]
    return [
        ("size", f"{size}, about {cost['shards']:,} shards"),
        (
            "time",
            f"{cost['hours_of_a_worker']:.2g} hours of each of {workers} workers with {cost['threads']} threads, "
            f"{cost['rows_a_second_of_a_worker']:,.0f} rows/s ({cost['source']})",
        ),
    ]
