"""Compare results of tomat eval, material by material.

A contender is [NAME=]RESULT, or [NAME=]RESULT,RESULT,... for several seeds of one training, which are averaged for each
material; @MODE at the end selects a mode. Differences are relative to the first contender. Results over different
materials or in different units are an error unless --common is given.

\b
Examples:
  tomat compare result-a result-b
  tomat compare equal=eq-0,eq-1,eq-2 electrons=el-0,el-1,el-2 -o comparison.json
  tomat compare result@promolecule result@one_pass result@k_pass
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomat.cli._eval import bootstrap_options, write_or_print
from tomat.cli._shared import grouped

if TYPE_CHECKING:
    from tomat.evaluate.aggregate import Settings


@grouped(settings=bootstrap_options)
def command(
    results: Annotated[list[str], typer.Argument(metavar="RESULT...", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSON file to write.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Mode of contenders that name none.  [default: their first headline mode]"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric to compare, a column of the results.")] = "nmae",
    common: Annotated[
        bool, typer.Option("--common", help="Compare over the materials all results share; units may differ.")
    ] = False,
    *,
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> None:
    from tomat.evaluate.compare import compare, comparison_table, contender

    contenders = [contender(text, mode) for text in results]
    content = compare(contenders, metric=metric, common=common, settings=settings)
    write_or_print(content, [comparison_table(content)], out, as_json=as_json)
