"""Test whether a checkpoint uses its inputs: altered crystals, translations, rotations, permuted atoms.

Every material is predicted unchanged and once per probe: with the preamble of another material, with a random one, with
the right atoms in the wrong places, with a false true density (which must change nothing), translated by whole and by
fractional grid steps, rotated, inverted, and with its atoms permuted. RESULT receives probes.parquet and probes.json.

\b
Examples:
  tomat probe checkpoint tests/data/rho_gga --split test -o probes
  tomat probe checkpoint /data/rho_gga --split validation --limit 20 --probe translated --probe permuted_atoms -o p
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomat.cli._eval import bootstrap_options, print_table, report_errors
from tomat.cli._models import decoding_options
from tomat.cli._shared import Limit, Split, SplitFile, grouped, progress
from tomat.dataset.inputs import resolve_inputs
from tomat.prediction.options import DecodingConfig

if TYPE_CHECKING:
    from tomat.evaluate.aggregate import Settings


@grouped(settings=bootstrap_options, decoding=decoding_options())
def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", show_default=False)],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RESULT", help="Folder of the result.")],
    probe: Annotated[list[str] | None, typer.Option(help="Probe to run; repeatable.  [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the alterations.")] = 0,
    overlap: Annotated[int, typer.Option(help="Grid points by which patches overlap.", min=0)] = 0,
    split_file: SplitFile = None,
    split: Split = None,
    limit: Limit = None,
    name: Annotated[str | None, typer.Option(help="Name in tables.  [default: RESULT's name]")] = None,
    *,
    settings: Settings,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another result in RESULT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print probes.json instead of a table.")] = False,
    decoding: DecodingConfig,
) -> None:
    from tomat.evaluate.methods import PatchMethod
    from tomat.evaluate.probes import Probing, probe_table
    from tomat.evaluate.probes import probe as run
    from tomat.evaluate.run import called
    from tomat.lm.decode.opening import open_predictor

    entries = resolve_inputs(data, split_file=split_file, split=split, limit=limit)
    predictor = open_predictor(checkpoint, decoding)
    if predictor.weights and not (quiet or as_json):
        print(predictor.weights, file=sys.stderr)
    about = {"inputs": list(data), "split_file": split_file, "split": split, "limit": limit}
    method = PatchMethod(predictor, overlap)
    plan = Probing(method, entries, tuple(probe or ()), seed, about, name or out.name, called(), settings)
    with progress("probing", len(entries), quiet=quiet or as_json) as step:
        content = run(plan, out, overwrite=overwrite, watch=step)
    if as_json:
        print(json.dumps(content))
    elif not quiet:
        print_table(probe_table(content))
    report_errors(content["errors"])
