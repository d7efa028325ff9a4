"""Floating-point operations of a training step of the brick model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tomat.lm.brick.config import EDGE
from tomat.lm.brick.network import DEGREES, SEEN
from tomat.lm.field.elements import N_FEATURES

if TYPE_CHECKING:
    from tomat.lm.brick.config import BrickShape
    from tomat.lm.field.config import FieldShape


def patch_flops(shape: BrickShape, field: FieldShape, voxels: int, levels: int) -> float:
    """Of the forward pass of a patch after its sums: products of matrices alone, two for each number.

    Args:
        shape: of the model.
        field: of its eyes.
        voxels: whose distributions are read.
        levels: of the codec.
    """
    t, width, bricks, active = shape.positions_per_patch, shape.width, shape.bricks**3, shape.activations
    layer = t * width * (3 * width + width + 3 * shape.heads + 2 * shape.hidden) + 2 * t * t * width
    total = shape.layers * layer
    total += bricks * (EDGE**3 * 3 * DEGREES + 3 * DEGREES * width + width * DEGREES * active)
    total += voxels * active * (DEGREES + 2 + levels)
    if shape.field:
        read = (field.width + 2 + field.fixed, *field.mlp)
        mixing = sum((2 * l + 1) * n * n for l, n in enumerate(field.channels) if l)  # noqa: E741
        total += shape.points * (mixing + sum(a * b for a, b in itertools.pairwise(read)))
        total += shape.points * read[-1] * (SEEN + active) + voxels * active * 8
        total += bricks * SEEN * DEGREES * width
    return 2.0 * total


def row_flops(shape: BrickShape, field: FieldShape, atoms: int, levels: int) -> float:
    """Of one training row, forward and backward.

    Args:
        shape: of the model.
        field: of its eyes, and of the row.
        atoms: largest number of atoms in a crystal, for which sums around atoms have room.
        levels: of the codec.
    """
    sites, crystals = field.sites_per_row, field.crystals_per_row
    total = crystals * patch_flops(shape, field, field.voxels_per_crystal, levels)
    if not shape.field:
        return 3.0 * (total + 2.0 * sites * field.embedding * (N_FEATURES + shape.width))
    of_l = [(2 * l + 1, n) for l, n in enumerate(field.channels)]  # noqa: E741 - the angular momentum

    def sums(points: int) -> float:
        each = sum(m * n * points * sites * (field.functions + crystals) for m, n in of_l)
        return each + sites * field.state * field.functions * field.width

    update = sites * field.message * (field.width + 2 * field.state)
    return 3.0 * (total + 2.0 * (field.rounds * (sums(atoms) + update) + sums(shape.points)))
