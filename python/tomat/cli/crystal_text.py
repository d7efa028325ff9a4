"""Write crystals as text with prompts, to fine-tune language models of words.

INPUT is what tomat-tokenize --crystals takes. FILE is a parquet file with a prompt and a response a row: to write a
crystal, to write one that meets conditions, or to say which element was replaced by [MASK] (a third of the rows).

\b
Examples:
  tomat crystal-text structures/ --out train.parquet
  tomat crystal-text train.parquet --out text.parquet --frames 16 --formula --space-group
  tomat crystal-text mp.csv --out text.parquet --column band_gap --infill 0

Exit codes: 0 all crystals were written; 1 stopped by an error; 2 invalid options; 3 finished, but crystals that cannot
be read or written were left out (0 with --on-error skip).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from tomat.cli.tokenize_crystals import say_left_out


def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Parquet file to write.")],
    *,
    frames: Annotated[int, typer.Option(help="Rows of each crystal, each in a random frame.", min=1)] = 1,
    infill: Annotated[
        float, typer.Option(help="Share of the rows that ask for an element.", min=0.0, max=1.0)
    ] = 1 / 3,
    formula: Annotated[bool, typer.Option("--formula", help="The formula is a condition.")] = False,
    space_group: Annotated[
        bool, typer.Option("--space-group", help="The number of the space group is a condition.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(help="A number that stands beside each crystal is a condition; repeatable."),
    ] = None,
    keep: Annotated[
        float, typer.Option(help="Probability with which a row keeps each condition.", min=0.0, max=1.0)
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of frames, conditions and masks.")] = 0,
    on_error: Annotated[
        Literal["fail", "skip"], typer.Option(help="Exit code if crystals are left out: 3, or 0.")
    ] = "fail",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    from tomat.language.instructions import InstructionConfig, write_instructions

    config = InstructionConfig(frames, infill, keep, formula, space_group, tuple(column or ()), seed)
    summary = write_instructions(inputs, out, config, overwrite=overwrite)
    if as_json:
        facts = {"crystals": summary.n_crystals, "listed": summary.n_listed, "rows": summary.kinds}
        print(json.dumps({"file": str(summary.path), **facts, "left_out": summary.left_out}))
    elif not quiet:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in summary.kinds.items())
        print(f"{summary.path}: {summary.n_crystals:,} of {summary.n_listed:,} crystals; rows: {kinds}")
    say_left_out(summary.left_out, fail=on_error == "fail")
