"""Train a model, or resume a run.

CONFIG is a YAML file; any of its fields can be overridden on the command line as --section.field value. A run with the
same name in the same place resumes from its latest checkpoint. It is an error if data, codec, vocabulary, model,
objective, loss or schedule have changed, unless --allow_change names the part.

\b
Examples:
  tomat train training/configs/demo.yaml
  tomat train training/configs/guess-30M.yaml --dry-run
  tomat train training/configs/guess-30M.yaml --trainer.num_train_steps 20000 --out gs://bucket/runs
  tomat train training/configs/guess-30M.yaml --trainer.num_train_steps 40000 --allow_change '[schedule]'
  tomat train --fields

Exit codes: 0 trained to the end; 1 stopped by an error (if the loss is not finite or jumps, the error names the rows of
the batch); 130 interrupted (SIGINT, SIGTERM): the state is saved; run the same command again to resume.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._models import needs_models
from tomat.cli._shared import INTERRUPTED

#: Fields of the configuration are options unknown to Typer.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def command(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory, FLOPs and times; leave nothing.")
    ] = False,
    mfu: Annotated[float, typer.Option(help="Model FLOPs utilization that --dry-run assumes.")] = 0.4,
    timed: Annotated[
        int,
        typer.Option(
            "--time-steps",
            help="Steps that --dry-run compiles and times on this machine, if they are small enough for it; 0: none.",
            min=0,
        ),
    ] = 5,
    fields: Annotated[bool, typer.Option("--fields", help="List every field with its default.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the last line: no progress bar, no log.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    # Levanter's bar; tomat has its own. It is read when the libraries are first imported.
    os.environ["TQDM_DISABLE"] = "1"
    needs_models()
    from tomat.lm.config import TrainConfig, describe, load

    if fields:
        print("\n".join(describe(TrainConfig)))
        return
    if config is None:
        raise typer.BadParameter("give a configuration, or --fields to list its fields", param_hint="CONFIG")
    run = load(config, ctx.args)
    if dry_run:
        from tomat.lm.tasks import estimate_task

        report = estimate_task(run, mfu=mfu, timed=timed)
        print(json.dumps(report.as_json()) if as_json else str(report))
        return
    from rich.console import Console

    from tomat.lm.callbacks import StoppedError, TrainingLossError
    from tomat.lm.train import train

    try:
        outcome = train(run, None if quiet else Console(stderr=True))
    except StoppedError as stop:
        print(f"{run.name}: {stop}; run the same command again to resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except TrainingLossError as error:
        raise ValueError(f"{run.name}: {error}") from error
    print(json.dumps(outcome.as_json()) if as_json else str(outcome))
