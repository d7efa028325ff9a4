"""Train a model, or go on with a run that was stopped.

CONFIG is a YAML file; every field of it can be given on the command line, too, as --section.field value, and wins
there. A run of the same name in the same place is the same run: it goes on from its latest checkpoint, and refuses
where data, codec, vocabulary, model, objective, loss or schedule have changed, unless --allow_change names the part.

\b
Examples:
  tomat train training/configs/demo.yaml
  tomat train training/configs/guess-30M.yaml --dry-run
  tomat train training/configs/guess-30M.yaml --trainer.num_train_steps 20000 --out gs://bucket/runs
  tomat train training/configs/guess-30M.yaml --trainer.num_train_steps 40000 --allow_change '[schedule]'
  tomat train --fields

Exit codes: 0 trained to the end; 1 stopped by an error (a loss that is not finite or jumps names the rows of its
batch); 130 interrupted (SIGINT, SIGTERM), the state is saved, and the same command goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._models import needs_models

#: Fields of the configuration are options that the command itself does not know.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}

#: Exit code of an interrupted run.
INTERRUPTED = 130


def command(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory, FLOPs and times; train nothing.")
    ] = False,
    mfu: Annotated[float, typer.Option(help="Share of the peak FLOP/s that --dry-run reckons with.")] = 0.4,
    fields: Annotated[bool, typer.Option("--fields", help="List every field with its default.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar, no log; the last line only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Read the configuration, train, and say how it ended."""
    needs_models()
    from tomat.lm.config import TrainConfig, describe, load

    if fields:
        print("\n".join(describe(TrainConfig)))
        return
    if config is None:
        raise typer.BadParameter(
            "give a configuration, or --fields to see what one may hold", param_hint="CONFIG"
        )
    run = load(config, ctx.args)
    if dry_run:
        from tomat.lm.dry_run import estimate

        report = estimate(run, mfu=mfu)
        print(json.dumps(report.as_json()) if as_json else str(report))
        return
    if quiet:
        _be_quiet()
    from tomat.lm.callbacks import StoppedError, TrainingLossError
    from tomat.lm.train import train

    try:
        outcome = train(run)
    except StoppedError as stop:
        print(f"{run.name}: {stop}; the same command goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except TrainingLossError as error:
        raise ValueError(f"{run.name}: {error}") from error
    print(json.dumps(outcome.as_json()) if as_json else str(outcome))


def _be_quiet() -> None:
    import logging
    import os

    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
