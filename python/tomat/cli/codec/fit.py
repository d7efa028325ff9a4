"""Fit a codec to a sketch.

l1 and l2 minimise the absolute and the squared error on the sketch exactly; companding places points with the square
root of the density of values (the cube root if bins decode to means); lloyd runs thirty Lloyd iterations from
equal-mass bins.

\b
Examples:
  tomat codec fit train.sketch --bins 16384 -o mine.npz
  tomat codec fit train.sketch --bins 4096 --signed -o signed.npz
  tomat codec fit train.sketch --bins 16384 --signed --tail-min -10 --tail-max 1e4 -o to-1e4.npz
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
from tomat.tail import Tail


def command(
    sketch: Annotated[str, typer.Argument(metavar="SKETCH", show_default=False)],
    bins: Annotated[int, typer.Option(help="Number of bins: tokens of the codec.", min=1)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Codec file to write (.npz).")],
    method: MethodOption = "l1",
    weight: WeightOption = "material",
    signed: Signed = False,
    tail_max: Annotated[
        float | None,
        typer.Option(
            help="Extend the range up to this value, in the unit of the sketch, with bins of equal ratio."
        ),
    ] = None,
    tail_min: Annotated[
        float, typer.Option(help="With --tail-max and --signed: extend it below zero, down to this value.")
    ] = 0.0,
    tail_bins: Annotated[
        int | None, typer.Option(help="Number of --bins used for the extension.  [default: one in 64]", min=1)
    ] = None,
    points: Annotated[
        Literal["mean", "median"] | None,
        typer.Option(help="Value a bin decodes to.  [default: mean for l2 and lloyd, otherwise median]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    if out.suffix != ".npz":
        raise typer.BadParameter(f"--out {out}: the name of a codec file ends in .npz")
    if tail_max is None and (tail_min or tail_bins):
        raise typer.BadParameter("--tail-min and --tail-bins need --tail-max")
    tail = None if tail_max is None else Tail(tail_max, tail_min, tail_bins)
    codec = fit_codec(
        Sketch.load(sketch),
        bins,
        method=method,
        weight=weight,
        signed=signed,
        points=points,
        tail=tail,
        name=out.stem,
    )
    codec.save(out)
    if not quiet:
        print_facts(facts(codec))
