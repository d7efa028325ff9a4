"""Check a dataset: read every shard and row back.

\b
Examples:
  tomat verify rows
  tomat verify rows --source /data/rho_gga
  tomat verify rows --json

For every shard: size, SHA-256, columns, and that each row decodes. For every worker: counts, coverage, and that no
material is split or duplicated. With --source (repeatable), each density is read again and must give the same rows,
every voxel must decode to its own bin, and what the codec clips must be what meta.json says and allows; the error is
measured against the unclipped density. Rows of crystals (tomat-tokenize --crystals) must be those of the crystals that
the dataset keeps exactly. The exit code is 1 if there is any problem.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

from tomat.cli._shared import AsJson
from tomat.clipping import ClippedTotals
from tomat.dataset.inputs import resolve_inputs
from tomat.dataset.report import Report
from tomat.dataset.verify import verify_dataset
from tomat.language.dataset import is_crystals, open_crystals

#: Problems printed; --json has all.
_SHOWN = 50


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A dataset: a directory or a URL.")],
    source: Annotated[
        list[str] | None, typer.Option(help="The densities, given as for tomat-tokenize.")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Check what is there if workers are missing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
    as_json: AsJson = False,
) -> None:
    from rich.console import Console

    start = time.monotonic()
    if is_crystals(directory):
        _verify_crystals(directory, quiet=quiet, as_json=as_json)
    entries = resolve_inputs(source) if source else None
    console = Console(stderr=True, quiet=quiet or as_json)
    with console.status("verifying") as status:
        report = verify_dataset(
            directory,
            source=entries,
            allow_partial=allow_partial,
            watch=lambda name: status.update(f"verifying {name}"),
        )
    if as_json:
        print(json.dumps({**asdict(report), "nmae": report.nmae, "is_sound": report.is_sound}))
    else:
        for problem in report.problems[:_SHOWN]:
            print(f"problem: {problem}")
        if len(report.problems) > _SHOWN:
            print(f"and {len(report.problems) - _SHOWN} more")
        for note in report.notes if not quiet else ():
            print(f"note: {note}")
        if not quiet:
            _print_losses(report)
            compared = ""
            if entries is not None:
                compared = (
                    f"; {report.materials_compared:,} densities read again, {report.voxels_compared:,} voxels each "
                    "decode to their own bin"
                )
            print(
                f"{directory}: {_verdict(report)}: {report.rows:,} rows of {report.materials:,} materials in "
                f"{report.shards:,} shards{compared} ({time.monotonic() - start:.1f} s)"
            )
    raise typer.Exit(1 if report.problems else 0)


def _verify_crystals(directory: str, *, quiet: bool, as_json: bool) -> NoReturn:
    dataset = open_crystals(directory)
    problems = dataset.verify()
    rows, crystals = dataset.meta["total_rows"], dataset.meta["n_crystals"]
    if as_json:
        facts = {"rows": rows, "crystals": crystals, "problems": problems, "is_sound": not problems}
        print(json.dumps(facts))
    else:
        for problem in problems[:_SHOWN]:
            print(f"problem: {problem}")
        if len(problems) > _SHOWN:
            print(f"and {len(problems) - _SHOWN} more")
        if not quiet:
            verdict = f"{len(problems)} problems" if problems else "sound"
            print(f"{directory}: {verdict}: {rows:,} rows of {crystals:,} crystals")
    raise typer.Exit(1 if problems else 0)


def _verdict(report: Report) -> str:
    if report.problems:
        return f"{len(report.problems)} problems"
    if report.lossy:
        return f"as written, with the loss that was allowed in {len(report.lossy)} materials"
    return "sound"


def _print_losses(report: Report) -> None:
    """Print what is clipped, and the error against the sources."""
    for name, lost in list(report.lossy.items())[:_SHOWN]:
        print(f"lossy: {name}: {lost}")
    if len(report.lossy) > _SHOWN:
        print(f"and {len(report.lossy) - _SHOWN} more")
    print(f"clipped: {ClippedTotals.from_stored(report.clipped)}")
    if report.nmae is not None:
        electrons = sum(error["electrons"] for error in report.errors.values())
        decoded = sum(error["electrons_decoded"] for error in report.errors.values())
        print(
            f"error: NMAE {report.nmae['mean']:.4%} in the mean material, {report.nmae['worst']:.4%} in the worst "
            f"({report.nmae['task_id']}); the rows hold {electrons:.6g} electrons of the sources, {decoded:.6g} decoded"
        )
