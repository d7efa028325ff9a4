"""Turn electron densities into training rows.

INPUT is a density (CHGCAR, CHG, AECCAR or cube, plain or compressed; a .zarr folder; a PREFIX.save folder of Quantum
ESPRESSO), a folder or quoted glob of them, a list file (*.txt: one path or URL per line), or a rho_gga root; local, or
any URL that fsspec opens. With --crystals, rows are crystals without densities: tomat-tokenize --crystals --help.

\b
Examples:
  tomat-tokenize CHGCAR --out rows
  tomat-tokenize 'runs/*/CHGCAR.gz' --out rows --patches-per-material 128
  tomat-tokenize /data/rho_gga --split train --out rows --threads 8
  tomat-tokenize gs://bucket/rho_gga --split-file split.json --split train --out rows --workers 16 --worker-index 3
  tomat-tokenize --config tokenize.yaml --out rows --resume
  tomat-tokenize /data/rho_gga --split train --out gs://bucket/rows --engine ray --ray-address auto --workers 64
  tomat-tokenize /data/rho_gga --out rows --sampler tiling
  tomat-tokenize /data/rho_gga --out rows --sampler electrons --budget electrons --catalogue catalogue.parquet

A YAML file given with --config holds the same options under their long names without leading dashes (inputs, layout,
patch-size, ...); the command line takes precedence. Exit codes: 0 all materials were written; 1 stopped by an error;
2 invalid options; 3 finished, but materials that the format or the codec cannot represent were left out (0 with
--on-error skip); 130 interrupted, continue with --resume.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from tomat._threads import MAX_THREADS
from tomat.cli._shared import INTERRUPTED, Limit, Split, SplitFile, grouped, print_facts
from tomat.cli._tokenizer import LogUnit, Workers, row_options, shape_options
from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, ClippedTotals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tomat.dataset.config import TokenizeConfig
    from tomat.engine import Progress, Summary

#: Exit code of a run that finished but left materials out.
LEFT_OUT = 3


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Use the values of a YAML file as defaults of the other options."""
    if path is None:
        return None
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path}: not a mapping of options")
    names = _option_names(ctx)
    options = {}
    for key, value in values.items():
        name = str(key).replace("_", "-")
        if name not in names:
            raise typer.BadParameter(f"{path}: unknown option {key!r}; known: {', '.join(sorted(names))}")
        options[names[name]] = value
    if options.get("inputs") is not None:
        inputs = options["inputs"]
        options["inputs"] = [str(item) for item in (inputs if isinstance(inputs, list) else [inputs])]
    if options.get("fallback_shape") is not None:
        options["fallback_shape"] = shape_options(options["fallback_shape"])
    ctx.default_map = {**(ctx.default_map or {}), **options}
    return path


def _option_names(ctx: typer.Context) -> dict[str, str]:
    names = {"inputs": "inputs"}
    for parameter in ctx.command.params:
        for option in parameter.opts:
            if option.startswith("--") and parameter.name not in (None, "config", "help"):
                names[option.removeprefix("--")] = str(parameter.name)
    return names


@grouped(rows=row_options)
def command(
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT...", show_default=False)] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory or URL of the dataset.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with options.", is_eager=True, callback=_read_config, exists=True),
    ] = None,
    split_file: SplitFile = None,
    split: Split = None,
    *,
    rows: dict[str, Any],
    unit: LogUnit = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    epoch: Annotated[int, typer.Option(help="Epoch of the sampler; each draws different patches.")] = 0,
    catalogue: Annotated[
        str | None,
        typer.Option(help="Catalogue with the electrons of each material, for --budget electrons."),
    ] = None,
    workers: Workers = None,
    worker_index: Annotated[
        int | None, typer.Option(help="Write only this part, counted from 0.  [default: all]")
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Parquet encoding of tokens: plain, byte_stream_split or delta_binary_packed.")
    ] = "byte_stream_split",
    compression_level: Annotated[int, typer.Option(help="Compression level of zstd.")] = 1,
    engine: Annotated[
        str,
        typer.Option(
            help="Where workers run: local (processes on this machine), ray (Ray tasks), modal (Modal functions)."
        ),
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster: auto or host:port.  [default: start one]")
    ] = None,
    modal_app: Annotated[
        str, typer.Option(help="Name under which training/modal_tokenize.py was deployed.")
    ] = "tomat-tokenize",
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads per worker.  [default: local: all processors; ray, modal: 1]",
            min=1,
            max=MAX_THREADS,
        ),
    ] = None,
    limit: Limit = None,
    on_error: Annotated[
        Literal["fail", "skip"], typer.Option(help="What to do with missing and damaged files.")
    ] = "fail",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset.")] = False,
    max_clipped: Annotated[
        float,
        typer.Option(
            help="Largest share of a material's electrons above the codec's range; beyond it the material is left out."
        ),
    ] = MAX_CLIPPED,
    max_negative: Annotated[
        float,
        typer.Option(help="The same below the range, for the negative voxels of PAW densities."),
    ] = MAX_NEGATIVE,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Treat implausible densities as unreadable instead of warning."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON, without progress.")
    ] = False,
) -> None:
    if not inputs:
        raise typer.BadParameter("give at least one INPUT (or inputs: in the --config file)")
    if out is None:
        raise typer.BadParameter("give --out DIR")
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other")
    if engine != "local" and (workers is None or worker_index is not None):
        raise typer.BadParameter(f"--engine {engine} runs all parts: give --workers, without --worker-index")
    from tomat.dataset.config import TokenizeConfig
    from tomat.dataset.inputs import resolve_inputs
    from tomat.engine import Job, Run, StoppedError
    from tomat.engine.named import engine_of

    settings = TokenizeConfig(
        **rows,
        seed=seed,
        epoch=epoch,
        catalogue=catalogue,
        worker_index=worker_index or 0,
        n_workers=1 if workers is None else workers,
        unit=unit,
        split=split or "all",
        encoding=encoding,
        compression_level=compression_level,
        max_clipped=max_clipped,
        max_negative=max_negative,
        strict=strict,
    )
    if workers is None or worker_index is not None:
        entries = resolve_inputs(inputs, split_file=split_file, split=split, limit=limit)
        run = Run(settings, entries, out, on_error=on_error, threads=threads)
        execute: Callable[..., Summary] = run.execute
        cancel, described = run.cancel, f"{run.threads} threads"
    else:
        by = engine_of(engine, ray_address, modal_app)
        entries = by.resolve_inputs(inputs, split_file=split_file, split=split, limit=limit)
        job = Job.of(settings, entries, out, on_error=on_error, threads=threads)
        execute = partial(by.run, job)
        cancel, described = by.cancel, f"{job.n_workers} workers"
    try:
        # No progress bar in log files.
        show_progress = sys.stderr.isatty() and not (quiet or as_json)
        summary = _execute(
            partial(execute, resume=resume, overwrite=overwrite), cancel, show_progress=show_progress
        )
    except StoppedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        facts = {"directory": str(summary.directory), "n_left_out": summary.n_left_out}
        print(json.dumps(asdict(summary) | facts))
    elif not quiet:
        _print_summary(summary, settings, described)
    if not quiet:
        _report_warnings(summary)
    _report_left_out(summary)
    if summary.left_out and on_error == "fail":
        raise typer.Exit(LEFT_OUT)


def _execute(execute: Callable[..., Summary], cancel: Callable[[], None], *, show_progress: bool) -> Summary:
    """Run with a progress bar; SIGINT and SIGTERM stop it cleanly."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        cancel()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        start = time.monotonic()
        summary = _execute_with_bar(execute) if show_progress else execute()
        return replace(summary, seconds=time.monotonic() - start)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _execute_with_bar(execute: Callable[..., Summary]) -> Summary:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("tokenizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, rate="")

        def watch(now: Progress) -> None:
            seconds = max(now.seconds, 1e-9)
            rate = f"{now.materials / seconds:.1f} materials/s, {now.rows / seconds:,.0f} rows/s"
            if now.left_out:
                rate += f", {now.left_out} left out"
            bar.update(task, total=now.n_materials, completed=now.materials, rate=rate)

        return execute(watch=watch)


def _print_summary(summary: Summary, config: TokenizeConfig, described: str) -> None:
    tokenizer = config.tokenizer
    per_token = summary.bytes / summary.tokens if summary.tokens else 0.0
    facts = {
        "dataset": str(summary.directory),
        "layout": f"{config.layout}, patch {tokenizer.patch_size}, {tokenizer.density_codec.name} ({tokenizer.unit})",
        "materials": f"{summary.n_materials:,} of {summary.n_listed:,}",
        "rows": f"{summary.rows:,} of {config.pad_to:,} tokens, in {summary.shards:,} shards",
        "size": f"{summary.bytes / 1e6:,.1f} MB, {per_token:.2f} bytes a token",
        "clipped": str(ClippedTotals.from_stored(summary.clipped)),
    }
    if summary.resumed_shards:
        facts["resumed"] = f"{summary.resumed_shards:,} shards were there already"
    facts["time"] = f"{summary.seconds:.1f} s, {described}"
    if summary.stage_seconds:
        stages = (f"{stage} {seconds:.1f} s" for stage, seconds in summary.stage_seconds.items())
        facts["thread time"] = ", ".join(stages)
    print_facts(facts)


def _report_warnings(summary: Summary) -> None:
    if not summary.n_warned:
        return
    print(
        f"warning: {summary.n_warned} of {summary.n_materials} materials are implausible (--strict leaves them out)",
        file=sys.stderr,
    )
    _list({name: "; ".join(problems) for name, problems in summary.warnings.items()}, summary.n_warned)


def _report_left_out(summary: Summary) -> None:
    if not summary.left_out:
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in summary.left_out.items())
    print(f"left out {summary.n_left_out} of {summary.n_listed} materials: {counts}", file=sys.stderr)
    _list(summary.left_out_first, summary.n_left_out)


def _list(details: dict[str, str], total: int) -> None:
    for task_id, detail in details.items():
        print(f"  {task_id}: {detail}", file=sys.stderr)
    if total > len(details):
        print(f"  and {total - len(details)} more", file=sys.stderr)
