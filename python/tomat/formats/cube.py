"""Gaussian cube: electrons per cubic bohr, 6 significant digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.formats.text import comment, scientific, table

#: CODATA 2018, in angstrom.
_BOHR = 0.529177210903


def encode(
    crystal: Crystal, density: NDArray[np.float32], n_electrons: float, _source: dict[str, Any]
) -> bytes:
    """The content of a cube file; lengths in bohr, six values per line, a new line for each z column."""
    lattice = crystal.lattice / _BOHR
    shape = density.shape
    lines = [
        comment(crystal),
        f"Electron density in electrons per cubic bohr, {n_electrons:.6f} electrons",
        f"{len(crystal.atomic_numbers):5d}{0.0:12.6f}{0.0:12.6f}{0.0:12.6f}",
    ]
    # More digits than Gaussian's 12.6, since the cell is a multiple of the voxel vectors.
    lines += [
        f"{n:5d}" + "".join(f"{x / n:18.12f}" for x in row) for n, row in zip(shape, lattice, strict=True)
    ]
    positions = crystal.frac_coords @ lattice
    lines += [
        f"{z:5d}{0.0:12.6f}" + "".join(f"{x:16.10f}" for x in xyz)
        for z, xyz in zip(crystal.atomic_numbers.tolist(), positions, strict=True)
    ]
    values = density.astype(np.float64) * _BOHR**3
    text = table(scientific(values.ravel()).reshape(-1, shape[2], 13), 6)
    return "\n".join(lines).encode() + b"\n" + text
