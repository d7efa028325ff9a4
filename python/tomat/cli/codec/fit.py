"""Fit a codec to a sketch, or a relative codec to densities.

l1 and l2 minimise the absolute and the squared error on the sketch exactly; companding places points with the square
root of the density of values (the cube root if bins decode to means); lloyd runs thirty Lloyd iterations from
equal-mass bins.

With --kind relative, give densities: bins are those of (rho - g) / s(g) with the least mean NMAE, where g is the
starting density --guess and s(g) = --offset + --scale-factor sqrt(g), all in electrons per cubic angstrom.

\b
Examples:
  tomat codec fit train.sketch --bins 16384 -o mine.npz
  tomat codec fit train.sketch --bins 4096 --signed -o signed.npz
  tomat codec fit train.sketch --bins 16384 --signed --tail-min -10 --tail-max 1e4 -o to-1e4.npz
  tomat codec fit train.sketch --bins 16384 --method lloyd --weight voxel -o lloyd.npz
  tomat codec fit /data/rho_gga --kind relative --split train --bins 256 --guess qe-sg15 -o mine.rel.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomat.cli._shared import Quiet, Split, SplitFile, Threads, grouped, print_facts, progress
from tomat.cli.codec._shared import MethodOption, Signed, WeightOption
from tomat.cli.codec.show import facts
from tomat.codec import KINDS, LloydMaxCodec, RelativeCodec
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import Sketch, fit_codec
from tomat.fitting_relative import Scale, fit_relative, relative_sketch
from tomat.promolecule import UnscaledPromolecule
from tomat.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.codec import Codec


type _Fit = Callable[[list[str], int, str, bool], Codec]


def _lloyd_max(
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
) -> _Fit:
    """How bins are fitted to a sketch."""
    if tail_max is None and (tail_min or tail_bins):
        raise typer.BadParameter("--tail-min and --tail-bins need --tail-max")
    tail = None if tail_max is None else Tail(tail_max, tail_min, tail_bins)

    def fit(sources: list[str], bins: int, name: str, _quiet: bool) -> Codec:
        if len(sources) != 1:
            raise typer.BadParameter("give one sketch; tomat codec merge makes one of several")
        return fit_codec(
            Sketch.load(sources[0]),
            bins,
            method=method,
            weight=weight,
            signed=signed,
            points=points,
            tail=tail,
            name=name,
        )

    return fit


def _relative(
    guess: Annotated[
        str, typer.Option(help="Starting density of a relative codec: promolecule by name or file.")
    ] = "qe-sg15",
    offset: Annotated[float, typer.Option(help="Of s(g), in electrons per cubic angstrom.")] = Scale.offset,
    scale_factor: Annotated[float, typer.Option(help="Of s(g), times the root of g.")] = Scale.factor,
    split_file: SplitFile = None,
    split: Split = None,
    threads: Threads = None,
) -> _Fit:
    """How bins of differences are fitted to densities."""

    def fit(sources: list[str], bins: int, name: str, quiet: bool) -> Codec:
        scale = Scale(offset, scale_factor)
        start = UnscaledPromolecule.load(guess)
        entries = resolve_inputs(sources, split_file=split_file, split=split)
        with progress("sketching", len(entries), quiet=quiet) as watch:
            sketch = relative_sketch(entries, start, scale, threads=threads, watch=watch)
        return fit_relative(sketch, bins, scale, guess=guess, name=name)

    return fit


@grouped(lmq=_lloyd_max, relative=_relative)
def command(
    source: Annotated[list[str], typer.Argument(metavar="SKETCH|INPUT...", show_default=False)],
    bins: Annotated[int, typer.Option(help="Number of bins: tokens of the codec.", min=1)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Codec file to write (.npz).")],
    lmq: _Fit,
    relative: _Fit,
    kind: Annotated[
        Literal["lmq", "relative"],
        typer.Option(help="lmq: bins of a sketch. relative: bins of differences from a starting density."),
    ] = "lmq",
    quiet: Quiet = False,
) -> None:
    """Fit, write, print the codec."""
    fits: dict[str, tuple[type[Codec], _Fit]] = {
        LloydMaxCodec.kind: (LloydMaxCodec, lmq),
        RelativeCodec.kind: (RelativeCodec, relative),
    }
    made, fit = fits[kind]
    # The file must be loaded as what it is.
    if next(one for one in KINDS if one.knows(f"./{out.name}")) is not made or out.suffix != ".npz":
        raise typer.BadParameter(
            f"--out {out}: the name of a codec file of kind {kind} ends in {made.suffix}"
        )
    codec = fit(source, bins, out.name.removesuffix(made.suffix), quiet)
    codec.save(out)
    if not quiet:
        print_facts(facts(codec))
