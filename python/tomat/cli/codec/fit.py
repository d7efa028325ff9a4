"""Fit a codec to a sketch.

l1 and l2 place the bins so that no other placement has less absolute (squared) error on the sketch; companding places
points as the square root of the density of values; lloyd runs thirty Lloyd iterations from equal-mass bins.

\b
Examples:
  tomat codec fit train.sketch --bins 16384 -o mine.npz
  tomat codec fit train.sketch --bins 4096 --signed -o signed.npz
  tomat codec fit train.sketch --bins 16384 --method lloyd --weight voxel -o lloyd.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tomat.cli._shared import Quiet, print_facts
from tomat.cli.codec._shared import MethodOption, Signed, WeightOption
from tomat.cli.codec.show import facts
from tomat.fitting import Sketch, fit_codec


def command(
    sketch: Annotated[str, typer.Argument(metavar="SKETCH", show_default=False)],
    bins: Annotated[int, typer.Option(help="Number of bins: tokens of the codec.", min=1)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Codec file to write (.npz).")],
    method: MethodOption = "l1",
    weight: WeightOption = "material",
    signed: Signed = False,
    points: Annotated[
        Literal["mean", "median"] | None,
        typer.Option(help="What a bin decodes to.  [default: mean for l2 and lloyd, otherwise median]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fit, write, say what was fitted."""
    if out.suffix != ".npz":
        raise typer.BadParameter(f"--out {out}: a codec file is called *.npz")
    codec = fit_codec(
        Sketch.load(sketch), bins, method=method, weight=weight, signed=signed, points=points, name=out.stem
    )
    codec.save(out)
    if not quiet:
        print_facts(facts(codec))
