"""Do budgets of patches by electrons make better models than equal ones?

EQUAL are results of tomat eval, one a seed, of models trained with training/configs/sampling-weight/equal.yaml; those
of electrons.yaml beside it come with --electrons. Prints the three metrics (per material, per electron, by decile of
electrons), and which of the hypotheses held that were written down beforehand. tomat report takes the JSON.

\b
Examples:
  python -m training.studies.sampling_weight eq-0 eq-1 --electrons el-0 --electrons el-1 -o study.json
  tomat report study.json -o study.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomat.cli import run
from tomat.cli._eval import bootstrap_options, write_or_print
from tomat.cli._shared import grouped
from tomat.evaluate.aggregate import Settings, modes_of
from tomat.evaluate.methods import primary_mode
from tomat.evaluate.result import load_result
from tomat.view.table import Table
from training.studies.sampling_weight.study import sampling_weight

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__, no_args_is_help=True)
@grouped(drawn=bootstrap_options)
def command(
    equal: Annotated[list[str], typer.Argument(metavar="EQUAL...", show_default=False)],
    electrons: Annotated[list[str], typer.Option(help="Result of a model trained by electrons; repeatable.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write JSON there.")] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Which numbers.  [default: the first headline mode of the first result]"),
    ] = None,
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Take models that were trained for different lengths.")
    ] = False,
    *,
    drawn: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no tables.")] = False,
) -> None:
    """Parse, study, print."""
    arms = [[load_result(path) for path in paths] for paths in (equal, electrons)]
    chosen = mode or primary_mode(modes_of(arms[0][0].rows))
    content = sampling_weight(arms[0], arms[1], chosen, drawn, unmatched=unmatched)
    write_or_print(content, map(Table.from_json, content["tables"]), out, as_json=as_json)


if __name__ == "__main__":
    run(app, "python -m training.studies.sampling_weight")
