"""Options of the tokenizer, shared by tokenize and plan."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tomat.tokenizer import FALLBACK_SHAPES, PAD_TO

LogUnit = Annotated[
    Literal["chgcar", "e_per_A3"] | None,
    typer.Option(
        help="What a log codec encodes: rho * V_cell (electrons), or electrons per cubic angstrom.  [default: chgcar]"
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", "--n-workers", help="Number of parts the materials are split into.")
]


def row_options(
    layout: Annotated[str, typer.Option(help="v1, v2, v2-lat or v3.")] = "v3",
    codec: Annotated[
        str | None, typer.Option(help="Name, path or URL of the density codec.  [default: the layout's]")
    ] = None,
    patch_size: Annotated[
        int | None, typer.Option(help="Edge of the patch in grid points.  [default: the layout's]")
    ] = None,
    patches_per_material: Annotated[
        int | None, typer.Option(help="Rows per material, on average.  [default: the layout's]")
    ] = None,
    pad_to: Annotated[int, typer.Option(help="Tokens per row.")] = PAD_TO,
    fallback_shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Patch shape to try where the cube does not fit; repeatable.  [default: "
            f"{' '.join(','.join(map(str, shape)) for shape in FALLBACK_SHAPES)}]"
        ),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="How patches are placed: uniform, electrons, tiling or a sampler of another package; options follow "
            "the name (uniform:replacement=false)."
        ),
    ] = "uniform",
    budget: Annotated[
        str,
        typer.Option(
            help="Rows per material: equal, or electrons (proportional to its electrons, same mean)."
        ),
    ] = "equal",
    rows_per_shard: Annotated[int, typer.Option(help="Maximum rows per parquet file.")] = 2048,
) -> dict[str, Any]:
    """Options of the rows, for :func:`tomat.cli._shared.grouped`: fields of a tokenization's configuration."""
    fields = dict(locals())
    shapes = fields.pop("fallback_shape")
    return fields | {"fallback_shapes": tuple(map(_shape, shapes)) if shapes else FALLBACK_SHAPES}


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
