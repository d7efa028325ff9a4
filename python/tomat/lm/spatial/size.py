"""Parameters of the eyes of a transformer and their floating-point operations; needs no JAX."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tomat.lm.field.elements import N_FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.lm.field.config import FieldShape


def eyes_parameters(field: FieldShape, hidden: int) -> int:
    """Parameters of :class:`tomat.lm.spatial.eyes.Eyes`.

    Args:
        field: their shape.
        hidden: width of the transformer.
    """
    width, state = field.width, field.state
    environment = _with_biases((state, field.functions * width)) + sum(n * n for n in field.channels[1:])
    update = _with_biases((width + state, field.message, state))
    return (
        _with_biases((N_FEATURES, field.embedding, state))
        + field.rounds * (environment + update)
        + environment
        + _with_biases((width + 2 + field.fixed, *field.mlp))
        + _with_biases((field.mlp[-1], hidden))
        + _with_biases((state, hidden))
    )


def eyes_flops(field: FieldShape, hidden: int, voxels: int, atoms: int) -> float:
    """FLOPs of the forward pass of a row: products of matrices alone, a multiplication and an addition each.

    Args:
        field: shape of the eyes.
        hidden: width of the transformer.
        voxels: of a patch.
        atoms: places for atoms of a row.
    """
    width, state = field.width, field.state
    of_l = [(2 * l + 1, n) for l, n in enumerate(field.channels)]  # noqa: E741 - the angular momentum

    def environment(points: int) -> float:
        sums = sum(m * n * points * atoms * (field.functions + 1) for m, n in of_l)
        mixing = sum(m * n * n * points for m, n in of_l[1:])
        return sums + mixing + atoms * state * field.functions * width

    embedding = atoms * _products((N_FEATURES, field.embedding, state))
    update = atoms * _products((width + state, field.message, state))
    readout = voxels * _products((width + 2 + field.fixed, *field.mlp, hidden))
    rounds = field.rounds * (environment(atoms) + update)
    return 2.0 * (embedding + rounds + environment(voxels) + readout + atoms * state * hidden)


def _products(widths: Sequence[int]) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))


def _with_biases(widths: Sequence[int]) -> int:
    return _products(widths) + sum(widths[1:])
