"""Measure tokens and accuracy of different representations of densities.

INPUT is what tomat-tokenize takes: densities, folders, globs, list files, a rho_gga root. Every material is
written down directly, through codecs, as its largest voxels, as Fourier coefficients up to a length of G,
and on coarser grids, and read back. DIR gets sweep.parquet and sweep.csv (one row a material,
representation and parameter), pareto.png and sweep.html. A run that was stopped goes on with the same
command.

\b
Examples:
  python -m training.studies.fidelity tests/data/rho_gga -o study
  python -m training.studies.fidelity /data/rho_gga --split test -o study --jobs 8 --promolecule slater
  python -m training.studies.fidelity 'runs/*/CHGCAR' -o study --codec l1-16k --codec my-codec.npz --g-max 15
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tomat.cli import run
from tomat.cli._eval import print_table
from tomat.cli._shared import Inputs, Limit, Quiet, Split, SplitFile, progress
from tomat.dataset.inputs import resolve_inputs
from training.studies.fidelity.promolecules import NamedPromolecule
from training.studies.fidelity.report import as_json as summary
from training.studies.fidelity.report import summarise, tables
from training.studies.fidelity.results import write_results
from training.studies.fidelity.sweep import SweepConfig, run_sweep

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

#: Exit code of an interrupted run.
INTERRUPTED = 130


@app.command(help=__doc__, no_args_is_help=True)
def command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the results.")],
    split_file: SplitFile = None,
    split: Split = None,
    limit: Limit = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            help="Codec of voxels: name, path or URL; repeatable.  [default: every codec of the package]"
        ),
    ] = None,
    transform_codec: Annotated[
        list[str] | None,
        typer.Option(help="Codec of Fourier coefficients and of coarse grids; repeatable."),
    ] = None,
    unit: Annotated[
        Literal["chgcar", "e_per_A3"], typer.Option(help="Convention that log codecs encode.")
    ] = "chgcar",
    fraction: Annotated[
        list[float] | None, typer.Option(help="Share of voxels and of coefficients kept; repeatable.")
    ] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Keep voxels of at least this many e/A^3; repeatable.")
    ] = None,
    mass: Annotated[
        list[float] | None,
        typer.Option(help="Share of the electrons kept by the largest voxels; repeatable."),
    ] = None,
    g_max: Annotated[
        list[float] | None, typer.Option(help="Fourier coefficients up to |G| in 1/A; repeatable.")
    ] = None,
    factor: Annotated[
        list[float] | None, typer.Option(help="Coarser grids, by this factor along each axis; repeatable.")
    ] = None,
    promolecule: Annotated[
        str | None,
        typer.Option(help="Also write the difference from this promolecule: a form (slater), name or file."),
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(help="Form for elements that the promolecule lacks.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes.", min=1)] = 1,
    plots: Annotated[bool, typer.Option(help="Draw pareto.png and sweep.html.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure again if DIR holds another configuration.")
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON instead of tables.")
    ] = False,
) -> None:
    """Parse, run, report."""
    chosen = {
        "codecs": codec,
        "transform_codecs": transform_codec,
        "fractions": fraction,
        "thresholds": threshold,
        "masses": mass,
        "g_max": g_max,
        "factors": factor,
    }
    given: dict[str, Any] = {key: tuple(value) for key, value in chosen.items() if value}
    config = SweepConfig(unit=unit, **given)
    reference = None if promolecule is None else NamedPromolecule(promolecule, fallback)
    entries = resolve_inputs(inputs, split_file=split_file, split=split, limit=limit)
    try:
        with progress("materials", len(entries), quiet=quiet or as_json) as watch:
            rows = run_sweep(
                config,
                entries,
                out,
                promolecule=reference,
                promolecule_name=None if reference is None else reference.identity,
                jobs=jobs,
                overwrite=overwrite,
                watch=watch,
            )
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    paths = write_results(rows, out, plots=plots)
    if as_json:
        print(json.dumps({"files": [str(path) for path in paths], "summary": summary(rows)}))
    elif not quiet:
        for table in tables(summarise(rows)):
            print_table(table)
        print("written: " + ", ".join(str(path) for path in paths))


if __name__ == "__main__":
    run(app, "python -m training.studies.fidelity")
