"""Merge sketches; the result is exactly the sketch of all their materials.

\b
Examples:
  tomat codec merge part-*.sketch -o train.sketch
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._shared import Quiet
from tomat.cli.codec._shared import describe_sketch
from tomat.fitting import merge_sketches


def command(
    sketches: Annotated[list[str], typer.Argument(metavar="SKETCH...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Sketch to write; compressed if it ends in .xz.")],
    quiet: Quiet = False,
) -> None:
    sketch = merge_sketches(sketches)
    sketch.save(out)
    if not quiet:
        describe_sketch(out, sketch)
