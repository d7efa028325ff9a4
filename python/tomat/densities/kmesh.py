"""Meshes of k points by their spacing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: A share of a step by which an axis may be longer without another point: axes that are equal get equal numbers.
_SLACK = 1e-4


def mesh(lattice: NDArray[np.float64], spacing: float) -> tuple[int, int, int]:
    """Points along b1, b2, b3 of a mesh through Gamma, no two neighbours farther apart than ``spacing``.

    Args:
        lattice: (3, 3), rows a, b, c in angstrom.
        spacing: 1/angstrom, with the factor 2 pi.

    A mesh through Gamma, with equal numbers along equal axes, has the symmetry of the lattice; one that is shifted
    off Gamma breaks that of hexagonal and face-centred ones.
    """
    lengths = np.linalg.norm(2.0 * np.pi * np.linalg.inv(lattice), axis=0)
    n1, n2, n3 = (max(1, math.ceil(length / spacing - _SLACK)) for length in lengths.tolist())
    return n1, n2, n3


def parse_mesh(text: str) -> tuple[int, int, int]:
    """Parse ``4,4,2``, ``4x4x2``, or ``4`` for all three axes.

    Raises:
        ValueError: anything else.
    """
    parts = text.lower().replace("x", ",").split(",")
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in parts]
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(f"k points {text!r}: give three whole numbers from 1, such as 4,4,2")
    n1, n2, n3 = numbers
    return n1, n2, n3
