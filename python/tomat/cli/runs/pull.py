"""Pull runs from a project of wandb, or from its offline files, into folders for tomat report.

Each run becomes a folder OUT/NAME-ID with metrics.jsonl and run.json (URL, state, hyperparameters, last values);
OUT/runs.csv lists them all. Runs that are there and have ended are not fetched again, so the same command resumes what
was interrupted and updates what went on. wandb's own key is used (WANDB_API_KEY, or wandb login).

\b
Examples:
  tomat runs pull my-team/tomat -o pulled
  tomat runs pull my-team/tomat guess-30M 3f8k2c1x -o pulled
  tomat runs pull --offline wandb/offline-run-* -o pulled
  tomat report pulled/*/ -o report.html

Exit codes: 0 all runs are there; 1 an error, or runs that could not be fetched (runs.csv is not written then).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._shared import AsJson, Quiet


def command(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="ENTITY/PROJECT [RUN...]",
            help="Project, and ids or names of some of its runs; with --offline: folders or files.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write to.")],
    offline: Annotated[bool, typer.Option("--offline", help="Read wandb's offline files.")] = False,
    base_url: Annotated[
        str | None,
        typer.Option(help="Another wandb server.  [default: wandb's settings]", show_default=False),
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait for an answer.", min=1)] = 60,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    from tomat.report.wandb_runs import pull_offline, pull_project

    def tell(text: str) -> None:
        if not quiet:
            print(f"pulling {text}", file=sys.stderr)

    if offline:
        done = pull_offline([Path(path) for path in what], out, tell)
    else:
        done = pull_project(what[0], out, chosen=what[1:], base_url=base_url, timeout=timeout, tell=tell)
    for failure in done.failed.values():
        print(f"failed: {failure}", file=sys.stderr)
    if as_json:
        print(json.dumps({"output": str(out), **asdict(done)}))
    else:
        print(f"{out}: {len(done.new)} pulled, {len(done.there)} there already, {len(done.failed)} failed")
    if done.failed:
        print("run the same command again to fetch the rest", file=sys.stderr)
        raise SystemExit(1)
