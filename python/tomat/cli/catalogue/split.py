"""Divide the materials of a catalogue into splits, with no formula (or chemical system) in more than one.

The output is a file for --split-file of tomat tokenize: a list of ids for each split. The same catalogue, fractions and
seed give the same file, in whatever order the rows are.

\b
Examples:
  tomat catalogue split catalogue.parquet -o split.json
  tomat catalogue split catalogue.parquet --by chemsys --fractions train=0.9,validation=0.05,test=0.05 -o split.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tomat.catalogue.division import parse_fractions, split_groups
from tomat.catalogue.table import load
from tomat.storage.files import write_json


def command(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="Parquet file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file to write.")],
    by: Annotated[
        Literal["reduced_formula", "chemsys"], typer.Option(help="What must not be in two splits.")
    ] = "reduced_formula",
    fractions: Annotated[
        str, typer.Option(help="Shares of the materials.")
    ] = "train=0.8,validation=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="Seed of the division.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    table = load(catalogue, ["id", by])
    groups = table[by].to_pylist()
    unknown = groups.count(None)
    if unknown:
        raise ValueError(
            f"{catalogue}: {unknown} materials have no {by}: build the catalogue from densities, or from a CSV file "
            "with a column formula"
        )
    try:
        shares = parse_fractions(fractions)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error
    found = split_groups(table["id"].to_pylist(), groups, shares, seed)
    write_json(out, {name: found[name] for name in shares})
    counts = {name: len(ids) for name, ids in found.items()}
    if as_json:
        print(json.dumps({"by": by, "groups": len(set(groups)), "materials": counts}))
        return
    total = sum(counts.values())
    shown = ", ".join(f"{n:,} {name} ({n / total:.1%})" for name, n in counts.items())
    print(f"{out}: {shown}; {len(set(groups)):,} groups by {by}, none on two sides")
