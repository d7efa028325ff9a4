"""Options and output shared by the codec commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomat.cli._shared import print_facts

if TYPE_CHECKING:
    from pathlib import Path

    from tomat.fitting import Sketch

Signed = Annotated[bool, typer.Option("--signed", help="Place bins below zero, too.")]
UnitOption = Annotated[
    Literal["chgcar", "e_per_A3"],
    typer.Option(help="rho * V_cell (electrons), or electrons per cubic angstrom."),
]
MethodOption = Annotated[
    Literal["l1", "l2", "companding", "lloyd", "equal-mass"], typer.Option(help="How bins are placed.")
]
WeightOption = Annotated[
    Literal["voxel", "material"],
    typer.Option(
        help="Weight of a voxel: 1 (voxel), or 1 / sum|rho| of its material (material: the mean NMAE)."
    ),
]


def describe_sketch(path: Path, sketch: Sketch) -> None:
    """Print what a sketch contains."""
    low, high = sketch.range or (0.0, 0.0)
    print_facts(
        {
            "sketch": str(path),
            "unit": sketch.unit,
            "materials": len(sketch.ids),
            "voxels": sketch.n_voxels,
            "below_zero": sketch.n_negative,
            "exactly_zero": sketch.n_zero,
            "cells": sketch.n_cells,
            "range": f"{low:.6g} to {high:.6g}",
            "bytes": path.stat().st_size,
            "hash": sketch.hash,
        }
    )
