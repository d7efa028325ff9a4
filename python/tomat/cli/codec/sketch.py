"""Read densities once into a sketch: the histogram that codecs are fitted to.

INPUT is what tomat tokenize takes: densities, folders, quoted globs, list files, rho_gga roots, local or by URL. The
sketch does not depend on the number of threads, and sketches of parts merge into that of the whole.

\b
Examples:
  tomat codec sketch /data/rho_gga --split train -o train.sketch
  tomat codec sketch 'runs/*/CHGCAR.gz' -o runs.sketch.xz --unit e_per_A3
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._shared import Inputs, Quiet, Split, SplitFile, Threads, progress
from tomat.cli.codec._shared import UnitOption, describe_sketch
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import sketch_entries


def command(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Sketch to write; compressed if it ends in .xz.")],
    unit: UnitOption = "chgcar",
    split_file: SplitFile = None,
    split: Split = None,
    threads: Threads = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(
            help="Round material weights to this many significant bits, to make the file five times smaller.",
            min=1,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    entries = resolve_inputs(inputs, split_file=split_file, split=split)
    with progress("sketching", len(entries), quiet=quiet) as watch:
        sketch = sketch_entries(entries, unit, threads=threads, watch=watch)
    if weight_bits is not None:
        sketch = sketch.rounded(weight_bits)
    sketch.save(out)
    if not quiet:
        describe_sketch(out, sketch)
