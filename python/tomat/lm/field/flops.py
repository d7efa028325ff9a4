"""Floating-point operations of a training step of the field model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomat.lm.field.config import FieldShape


def row_flops(shape: FieldShape, atoms: int, levels: int) -> float:
    """Of one row, forward and backward: products of matrices alone, a multiplication and an addition each.

    Args:
        shape: of the model and the row.
        atoms: largest number of atoms in a crystal, for which sums around atoms have room.
        levels: of the codec.
    """
    sites, crystals = shape.sites_per_row, shape.crystals_per_row
    width, mlp = shape.width, (shape.width + 2 + shape.fixed, *shape.mlp, levels)
    of_l = [(2 * l + 1, n) for l, n in enumerate(shape.channels)]  # noqa: E741 - the angular momentum

    def environment(points: int) -> float:
        sums = sum(m * n * points * sites * (shape.functions + crystals) for m, n in of_l)
        mixing = sum(m * n * n * points * crystals for m, n in of_l[1:])
        return sums + mixing + sites * shape.state * shape.functions * width

    update = sites * shape.message * (width + 2 * shape.state)
    readout = sum(a * b for a, b in itertools.pairwise(mlp))
    forward = (
        shape.rounds * (environment(atoms) + update)
        + environment(shape.voxels_per_crystal)
        + crystals * shape.voxels_per_crystal * readout
    )
    return 6.0 * forward
