"""Options of commands that write rows, or say what rows would be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tomat.tokenizer import FALLBACK_SHAPES

Layout = Annotated[str, typer.Option(help="v1, v2, v2-lat or v3.")]
CodecName = Annotated[
    str | None, typer.Option(help="Name, path or URL of the density codec.  [default: the layout's]")
]
PatchSize = Annotated[
    int | None, typer.Option(help="Edge of the patch in grid points.  [default: the layout's]")
]
Patches = Annotated[int | None, typer.Option(help="Rows a material, on average.  [default: the layout's]")]
PadTo = Annotated[int, typer.Option(help="Tokens a row.")]
FallbackShape = Annotated[
    list[str] | None,
    typer.Option(
        help="Patch shape where the cube does not fit; repeatable.  [default: "
        f"{' '.join(','.join(map(str, shape)) for shape in FALLBACK_SHAPES)}]"
    ),
]
LogUnit = Annotated[
    Literal["chgcar", "e_per_A3"] | None,
    typer.Option(
        help="What a log codec encodes: rho * V_cell (electrons), or electrons per cubic angstrom.  [default: chgcar]"
    ),
]
Sampler = Annotated[
    str,
    typer.Option(
        help="Where patches are cut: uniform, electrons, tiling or one of another package, with its options "
        "(uniform:replacement=false)."
    ),
]
Budget = Annotated[
    str, typer.Option(help="Rows of each material: equal, or electrons (in proportion, the same on average).")
]
RowsPerShard = Annotated[int, typer.Option(help="Rows a parquet file, at most.")]
Workers = Annotated[
    int | None, typer.Option("--workers", "--n-workers", help="Into how many parts the materials are split.")
]


def shapes(options: list[str] | None) -> tuple[tuple[int, int, int], ...]:
    """Fallback shapes as the options say them.

    Raises:
        typer.BadParameter: not three numbers each.
    """
    return tuple(_shape(text) for text in options) if options else FALLBACK_SHAPES


def shape_options(value: Any) -> list[str]:
    """Fallback shapes of a YAML file as on the command line: ``18,19,19``, ``[18, 19, 19]``, or a list of either."""
    is_one = isinstance(value, str) or (isinstance(value, list) and all(isinstance(n, int) for n in value))
    items = [value] if is_one else value
    if not isinstance(items, list):
        items = [items]
    return [",".join(map(str, item)) if isinstance(item, list) else str(item) for item in items]


def _shape(text: str) -> tuple[int, int, int]:
    try:
        x, y, z = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"--fallback-shape {text!r}: give three numbers, 18,19,19") from None
    return x, y, z
