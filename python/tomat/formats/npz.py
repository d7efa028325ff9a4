"""``.npz`` of NumPy: a density and its crystal as plain arrays.

===========  ======================  ===========================================================================
key          type and shape          content
===========  ======================  ===========================================================================
lattice      float64 (3, 3)          rows a, b, c in angstrom
species      int32 (n,), or text     atomic numbers; symbols of elements are read as well
positions    float64 (n, 3)          Cartesian, in angstrom
density      float32 (nx, ny, nz)    point (i, j, k) at i/nx a + j/ny b + k/nz c
unit         text                    ``chgcar`` (density times cell volume, in electrons), or ``e_per_A3``
===========  ======================  ===========================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat._npz import Npz, npz_bytes
from tomat.crystal import Crystal
from tomat.formats.contents import Contents

_KEYS = ("lattice", "species", "positions", "density", "unit")
#: Units as :data:`tomat.UNITS` has them; the first is written.
_UNITS = ("chgcar", "e_per_A3")
#: Most bytes that a file may unpack to, for each of its own, and at all.
_RATIO, _FREE = 100, 64 << 20


def encode(
    crystal: Crystal, density: NDArray[np.float32], _n_electrons: float, _source: dict[str, Any]
) -> bytes:
    """The content of a file, uncompressed; the density is in the unit ``chgcar`` and kept to the last bit."""
    return npz_bytes(
        {
            "lattice": crystal.lattice,
            "species": crystal.atomic_numbers.astype(np.int32),
            "positions": crystal.frac_coords @ crystal.lattice,
            "density": np.ascontiguousarray(density, dtype=np.float32),
            "unit": np.str_(_UNITS[0]),
        }
    )


def decode(data: bytes, name: str) -> Contents:
    """What the content of a file holds; ``name`` is for messages.

    Raises:
        ValueError: damaged, a key that is missing, or a value that makes no sense.
    """
    try:
        return _decode(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _decode(data: bytes) -> Contents:
    archive = Npz(data, _FREE + _RATIO * len(data))
    missing = [key for key in _KEYS if key not in archive]
    if missing:
        raise ValueError(
            f"no {', '.join(missing)} in it, but {', '.join(archive.names)[:200]}; a density has {', '.join(_KEYS)}"
        )
    (unit,) = [one for one in archive.texts("unit") if one in _UNITS][:1] or [""]
    if not unit:
        raise ValueError(f"the unit is {archive.texts('unit')}, and not {' or '.join(_UNITS)}")
    lattice, positions = (archive[key].astype(np.float64) for key in ("lattice", "positions"))
    density = archive["density"]
    if lattice.shape != (3, 3) or positions.ndim != 2 or positions.shape[1:] != (3,) or density.ndim != 3:
        raise ValueError(
            f"lattice {lattice.shape}, positions {positions.shape} and density {density.shape}, where (3, 3), (n, 3) "
            "and (nx, ny, nz) are expected"
        )
    if density.dtype.kind not in "fiu" or not all(1 <= n <= _core.MAX_GRID_AXIS for n in density.shape):
        raise ValueError(
            f"the density is {density.dtype} {density.shape}: give real numbers, at most {_core.MAX_GRID_AXIS} points "
            "along an axis"
        )
    volume = abs(float(np.linalg.det(lattice)))
    if not (math.isfinite(volume) and volume > 0.0):
        raise ValueError(f"the lattice {lattice.tolist()} spans no volume")
    coordinates = positions @ np.linalg.inv(lattice)
    source = {"format": "npz", "has_spin": False}
    return Contents(lattice, _numbers(archive), coordinates, density.astype(np.float32), unit, source)


def _numbers(archive: Npz) -> list[int]:
    try:
        species = archive["species"]
    except ValueError:
        symbols = _core.elements()
        names = archive.texts("species")
        unknown = [one for one in names if one not in symbols]
        if unknown:
            raise ValueError(f"species {unknown[0]!r} is no symbol of an element") from None
        return [symbols.index(one) + 1 for one in names]
    if species.ndim != 1 or species.dtype.kind not in "iu":
        raise ValueError(f"species are {species.dtype} {species.shape}: give atomic numbers (n,), or symbols")
    return [int(z) for z in species.tolist()]
