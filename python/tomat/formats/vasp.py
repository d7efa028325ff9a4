"""VASP CHGCAR: ``rho * V_cell``, first axis fastest, 11 digits; and the PAW augmentation occupancies."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats.text import comment, fortran, table
from tomat.storage.files import open_bytes

#: A note for users of a written CHGCAR.
AUGMENTATION_NOTE = (
    "CHGCAR holds no PAW augmentation occupancies, since a density on a grid does not determine them, and no "
    "magnetisation. With ICHARG = 1, VASP warns and still starts from the density, but gains less; --augmentation "
    "copies the occupancies from a CHGCAR of the same crystal. Do not use it with ICHARG = 11"
)

_EXPANDERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
)
_AUGMENTATION = b"augmentation occupancies"


def encode(
    crystal: Crystal, density: NDArray[np.float32], _n_electrons: float, _source: dict[str, Any]
) -> bytes:
    """The content of a CHGCAR: POSCAR, grid, five values per line as ``E17.11``; ``density`` in ``chgcar`` units."""
    symbols = _core.elements()
    runs = [(z, len(list(same))) for z, same in itertools.groupby(crystal.atomic_numbers.tolist())]
    rows = ["".join(f"{x:12.6f}" for x in row) for row in crystal.lattice]
    lines = [
        comment(crystal),
        "   1.00000000000000     ",
        *(f" {row}" for row in rows),
        "".join(f"   {symbols[z - 1]:<2}" for z, _ in runs),
        "".join(f"{count:6d}" for _, count in runs),
        "Direct",
        *("".join(f"{x:10.6f}" for x in row) for row in crystal.frac_coords),
        "",
        "".join(f"{n:5d}" for n in density.shape),
    ]
    values = density.ravel(order="F").astype(np.float64)
    return "\n".join(lines).encode() + b"\n" + table(fortran(values), 5)


def read_augmentation(path: str | Path, n_atoms: int) -> bytes:
    """The lines with the PAW augmentation occupancies of the total density in a CHGCAR.

    They are valid for the same atoms in the same order with the same POTCAR.
    """
    text = expanded(open_bytes(path), path)
    start = text.find(_AUGMENTATION)
    lines = text[start:].splitlines() if start >= 0 else []
    at = blocks = 0
    while at < len(lines) and lines[at].startswith(_AUGMENTATION) and blocks < n_atoms:
        blocks += 1
        words = lines[at][len(_AUGMENTATION) :].split()
        left = int(words[1]) if len(words) == 2 and words[1].isdigit() else 0
        end = at + 1
        while left > 0 and end < len(lines):
            left -= len(lines[end].split())
            end += 1
        if left != 0 or end == at + 1:
            raise ValueError(f"{path}: the augmentation occupancies of atom {blocks} are damaged or cut off")
        at = end
    more = at < len(lines) and lines[at].startswith(_AUGMENTATION)
    if blocks != n_atoms or more:
        raise ValueError(
            f"{path}: augmentation occupancies of {'more' if more else blocks} atoms, where the crystal has {n_atoms}; "
            "give the CHGCAR of a VASP run on the same atoms in the same order"
        )
    return b"\n".join(lines[:at]) + b"\n"


def expanded(data: bytes, path: str | Path) -> bytes:
    """The content of a file that may be compressed with gzip, bzip2 or xz; ``path`` is named in errors.

    Raises:
        ValueError: damaged or cut off.
    """
    try:
        for magic, expand in _EXPANDERS:
            if data.startswith(magic):
                return expand(data)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut off: {error}") from error
    return data
