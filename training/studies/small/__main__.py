"""Run studies at the size that two cores can train: layouts, sampling weights, scaling, sliding windows.

STUDY is one of layouts, weights-1, weights-2 (two phases), scaling-field, scaling-tokens and sliding-window; all by
default. Trainings and evaluations are commands of tomat, printed as they start and kept in DIR/commands.jsonl; what is
finished is not done again. Each study leaves STUDY.json (tomat report takes it), STUDY.md and, of scaling, STUDY.png
and STUDY.html.

\b
Examples:
  python -m training.studies.small scaling-field --data /data/rho_gga -o studies-out
  python -m training.studies.small --data /data/rho_gga -o studies-out --check docs/studies/results
  python -m training.studies.small layouts --data /data/rho_gga -o short --set trainer.num_train_steps=20 --seeds 0
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat.cli import run as run_app
from tomat.cli._eval import print_table
from tomat.storage.files import write_json
from tomat.view.table import Table
from training.studies.small import layouts, scaling, weights, window
from training.studies.small.check import compare
from training.studies.small.lab import Lab
from training.studies.small.output import markdown, write_plots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

type Study = Callable[[Lab, Sequence[int], Mapping[str, object]], dict[str, Any]]


def _weights(phase: int, lab: Lab, seeds: Sequence[int], options: Mapping[str, object]) -> dict[str, Any]:
    return weights.run(lab, phase, seeds, options)


def _scaling(family: str, lab: Lab, seeds: Sequence[int], options: Mapping[str, object]) -> dict[str, Any]:
    del seeds  # one seed; the points are many
    return scaling.run(lab, family, options)


#: The studies by name.
STUDIES: dict[str, Study] = {
    "scaling-field": partial(_scaling, "field"),
    "weights-1": partial(_weights, 1),
    "layouts": layouts.run,
    "scaling-tokens": partial(_scaling, "tokens"),
    "weights-2": partial(_weights, 2),
    "sliding-window": window.run,
}


@app.command(help=__doc__)
def command(
    study: Annotated[list[str] | None, typer.Argument(metavar="[STUDY...]", show_default=False)] = None,
    *,
    data: Annotated[Path, typer.Option(help="A rho_gga root with materials.jsonl and split.json.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of runs and results.")],
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings, but of scaling.")] = "0,1,2",
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of all trainings; repeatable."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Studies to agree with within their intervals; else exit code 1."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no commands.")] = False,
) -> None:
    """Parse, run, print."""
    chosen = study or list(STUDIES)
    unknown = [name for name in chosen if name not in STUDIES]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not a study; known: {', '.join(STUDIES)}")
    options = dict(_pair(text) for text in changed or [])
    lab = Lab(data.resolve(), out.resolve(), quiet=quiet)
    numbers = [int(text) for text in seeds.split(",")]
    apart = []
    for name in chosen:
        content = STUDIES[name](lab, numbers, options)
        write_json(out / f"{name}.json", content)
        (out / f"{name}.md").write_text(markdown(content), encoding="utf-8")
        write_plots(content, out / name)
        for table in map(Table.from_json, content["tables"]):
            print_table(table)
        if check is not None:
            apart += [f"{name}: {line}" for line in _differences(check / f"{name}.json", content)]
    for line in apart:
        print(line, file=sys.stderr)
    if apart:
        raise typer.Exit(1)


def _differences(kept: Path, content: Mapping[str, Any]) -> list[str]:
    if not kept.exists():
        print(f"{kept}: not there, nothing to compare with", file=sys.stderr)
        return []
    return compare(json.loads(kept.read_text(encoding="utf-8")), content)


def _pair(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: give KEY=VALUE, such as trainer.num_train_steps=20")
    return key, value


if __name__ == "__main__":
    run_app(app, "python -m training.studies.small")
