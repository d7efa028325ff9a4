"""Options of the tokenizer, shared by tokenize and plan."""

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
Patches = Annotated[int | None, typer.Option(help="Rows per material, on average.  [default: the layout's]")]
PadTo = Annotated[int, typer.Option(help="Tokens per row.")]
FallbackShape = Annotated[
    list[str] | None,
    typer.Option(
        help="Patch shape to try where the cube does not fit; repeatable.  [default: "
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
        help="How patches are placed: uniform, electrons, tiling or a sampler of another package; options follow the "
        "name (uniform:replacement=false)."
    ),
]
Budget = Annotated[
    str,
    typer.Option(help="Rows per material: equal, or electrons (proportional to its electrons, same mean)."),
]
RowsPerShard = Annotated[int, typer.Option(help="Maximum rows per parquet file.")]
Workers = Annotated[
    int | None, typer.Option("--workers", "--n-workers", help="Number of parts the materials are split into.")
]


def shapes(options: list[str] | None) -> tuple[tuple[int, int, int], ...]:
    """The fallback shapes given on the command line."""
    return tuple(_shape(text) for text in options) if options else FALLBACK_SHAPES


def shape_options(value: Any) -> list[str]:
    """Fallback shapes of a YAML file (``18,19,19``, ``[18, 19, 19]`` or a list of either) as on the command line."""
    is_one = isinstance(value, str) or (isinstance(value, list) and all(isinstance(n, int) for n in value))
    items = [value] if is_one else value
    if not isinstance(items, list):
        items = [items]
    return [",".join(map(str, item)) if isinstance(item, list) else str(item) for item in items]


def _shape(text: str) -> tuple[int, int, int]:
    try:
        x, y, z = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"--fallback-shape {text!r}: give three numbers, such as 18,19,19") from None
    return x, y, z
