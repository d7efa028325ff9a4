"""Evaluate a checkpoint on whole held-out materials, with its initial weights, the codec's floor and the promolecule.

CHECKPOINT is what tomat predict takes; ``promolecule`` (or ``promolecule:NAME``) evaluates the baseline alone, without
JAX. For a run, the best weights are evaluated (see --weights) and, in a separate row, the initial ones (step 0; see
--no-start). DATA is what tomat-tokenize takes: densities, folders, globs, list files, a rho_gga root.

--sample draws materials in an order that their names and --sample-seed decide: more materials, or another order of
files, do not reshuffle it. Materials that the model was trained on, and others of their chemical systems, are never
drawn, and counted. --stratify electrons draws evenly over the deciles of the electrons.

RESULT receives materials.parquet (one row per material and mode), result.json (means with intervals, and everything
needed to repeat the evaluation) and small volumes of the best and worst materials for tomat report. To resume an
interrupted evaluation, run the same command again. Materials that fail are listed, and the exit code is then 1.

\b
Examples:
  tomat eval checkpoint tests/data/rho_gga --split test -o result
  tomat eval checkpoint /data/rho_gga --split validation --mode one_pass --mode k_pass -o result
  tomat eval promolecule /data/rho_gga --split test -o baseline
  tomat eval checkpoint /data/rho_gga --split test -o result --workers 8
  tomat eval checkpoint /data/rho_gga --sample 200 --sample-seed 1 --stratify electrons -o result
  tomat eval checkpoint /data/rho_gga --split test -o slid --overlap 4 --window middle
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tomat.cli._eval import bootstrap_options, print_table, report_errors
from tomat.cli._models import decoding_options
from tomat.cli._shared import INTERRUPTED, Limit, Split, SplitFile, grouped, progress
from tomat.cli._workers import crew_options
from tomat.dataset.inputs import resolve_inputs
from tomat.prediction.options import DecodingConfig

if TYPE_CHECKING:
    from tomat.engine.crew import Crew
    from tomat.evaluate.aggregate import Settings
    from tomat.evaluate.result import Result


@grouped(settings=bootstrap_options, decoding=decoding_options(), crew=crew_options)
def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RESULT", help="Folder of the result.")],
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="one_pass, k_pass, free_running or teacher_forced; repeatable.  [default: all it supports]"
        ),
    ] = None,
    overlap: Annotated[int, typer.Option(help="Grid points by which patches overlap.", min=0)] = 0,
    window: Annotated[
        str,
        typer.Option(
            help="Of overlapping patches: blend them, or (a sliding window) take each voxel from the one where it is "
            "in the middle or, for causal models, comes latest: blend, middle, latest."
        ),
    ] = "blend",
    start: Annotated[
        bool,
        typer.Option("--start/--no-start", help="Also evaluate the initial weights (step 0), in one mode."),
    ] = True,
    promolecule: Annotated[
        str | None,
        typer.Option(
            help="Promolecule of the baseline: form, name or file.  [default: the checkpoint's, or qe-sg15]"
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Codec whose floor is shown if CHECKPOINT is promolecule.  [default: v3's]"),
    ] = None,
    split_file: SplitFile = None,
    split: Split = None,
    limit: Limit = None,
    sample: Annotated[
        int | None, typer.Option(help="Evaluate so many materials, drawn by their names.", min=1)
    ] = None,
    sample_seed: Annotated[int, typer.Option(help="Seed of the draw.", min=0)] = 0,
    stratify: Annotated[
        Literal["electrons"] | None, typer.Option(help="Draw evenly over the deciles of the electrons.")
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(help="Catalogue with the electrons, for --stratify; else densities are read."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in tables.  [default: RESULT's name]")] = None,
    pictures: Annotated[
        int, typer.Option(help="Number of best and of worst materials saved for reports.", min=0)
    ] = 2,
    *,
    settings: Settings,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another evaluation in RESULT.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json instead of tables.")] = False,
    decoding: DecodingConfig,
    crew: Crew | None,
) -> None:
    from tomat.evaluate.methods import StartMethod
    from tomat.evaluate.run import Evaluation, called, evaluate
    from tomat.evaluate.sample import Sample, drawn_words, training_of
    from tomat.evaluate.sources import open_methods
    from tomat.evaluate.workers import CrewMeasure, identities
    from tomat.prediction.cover import check_window

    entries = resolve_inputs(data, split_file=split_file, split=split, limit=limit)
    about: dict[str, Any] = {"inputs": list(data), "split_file": split_file, "split": split, "limit": limit}
    if sample is not None:
        chosen = Sample(sample, sample_seed, stratify, catalogue)
        entries, about["sample"] = chosen.draw(entries, training_of(checkpoint, data, split_file))
        if not (quiet or as_json):
            print(drawn_words(about["sample"]), file=sys.stderr)
    elif stratify is not None or sample_seed or catalogue is not None:
        raise typer.BadParameter("--stratify, --sample-seed and --catalogue need --sample")
    opener = partial(
        open_methods,
        checkpoint,
        modes=tuple(mode or ()),
        decoding=decoding,
        overlap=overlap,
        window=check_window(window),
        promolecule=promolecule,
        codec=codec,
    )
    methods, unit = opener(start=start)
    if methods[0].weights and not (quiet or as_json):
        print(methods[0].weights, file=sys.stderr)
    plan = Evaluation(
        methods, entries, unit, about, name or out.name, called(), settings=settings, pictures=pictures
    )
    measure = None
    if crew is not None:
        # Whether there is a start was said above; workers do not say it again.
        has_start = any(isinstance(method, StartMethod) for method in methods)
        measure = CrewMeasure(crew, partial(opener, start=has_start), identities(methods))
    try:
        with progress("evaluating", len(entries), quiet=quiet or as_json) as step:
            result = evaluate(plan, out, overwrite=overwrite, watch=step, measure=measure)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(json.loads((out / "result.json").read_text())))
    elif not quiet:
        show(result)
    report_errors(result.errors)


def show(result: Result) -> None:
    """Print the tables of a result."""
    from tomat.evaluate.tables import group_tables, mean_table

    for table in (mean_table([result]), *group_tables(result)):
        print_table(table)
    print(f"written: {result.path / 'result.json'}, {result.path / 'materials.parquet'}")
