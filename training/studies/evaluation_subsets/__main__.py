"""How far does the mean of a subset lie from that of all materials?

RESULT is a result of tomat eval. For each size, subsets are drawn from its materials for many seeds, as tomat eval
--sample draws them, plain and with --stratify electrons; the spread of their means is what quoting one of them costs.
With --minus, the same for the difference of two modes, which a comparison on one subset has.

\b
Examples:
  tomat eval promolecule /data/rho_gga -o baseline
  python -m training.studies.evaluation_subsets baseline --prefix qe- --prefix qev- -o study.json
  python -m training.studies.evaluation_subsets field --mode one_pass --minus promolecule
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomat.cli import run
from tomat.cli._eval import write_or_print
from tomat.evaluate.aggregate import modes_of
from tomat.evaluate.methods import primary_mode
from tomat.evaluate.result import Result, load_result
from tomat.view.table import Table
from training.studies.evaluation_subsets.study import DRAWS, SIZES, Pool, Row, study

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__, no_args_is_help=True)
def command(
    results: Annotated[list[str], typer.Argument(metavar="RESULT...", show_default=False)],
    mode: Annotated[str | None, typer.Option(help="Which numbers.  [default: the first headline]")] = None,
    minus: Annotated[str | None, typer.Option(help="Also the difference from this mode.")] = None,
    prefix: Annotated[
        list[str] | None, typer.Option(help="Only materials whose id begins so; repeatable.")
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            help=f"Materials of a subset; repeatable.  [default: {' '.join(map(str, SIZES))}]", min=2
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Subsets of each size.", min=10)] = DRAWS,
    seed: Annotated[int, typer.Option(help="Seed of the first subset.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write JSON there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no tables.")] = False,
) -> None:
    """Parse, study, print."""
    pools: dict[str, Pool] = {}
    for path in results:
        result = load_result(path)
        chosen = mode or primary_mode(modes_of(result.rows))
        rows = _rows(result, chosen, prefix)
        pools[f"{result.name}: {chosen}"] = Pool.of(rows)
        if minus is not None:
            pools[f"{result.name}: {chosen} - {minus}"] = Pool.of(rows, _rows(result, minus, prefix))
    content = study(pools, sizes=size or SIZES, draws=draws, seed=seed)
    write_or_print(content, map(Table.from_json, content["tables"]), out, as_json=as_json)


def _rows(result: Result, mode: str, prefix: list[str] | None) -> dict[str, Row]:
    rows = result.of_mode(mode)
    if not rows:
        known = ", ".join(modes_of(result.rows))
        raise ValueError(f"{result.path}: no mode {mode!r} in it; it has {known}")
    return {name: row for name, row in rows.items() if prefix is None or name.startswith(tuple(prefix))}


if __name__ == "__main__":
    run(app, "python -m training.studies.evaluation_subsets")
