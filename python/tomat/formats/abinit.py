"""``NAME_DEN`` of ABINIT 9 and later: a header and a density in electrons per cubic bohr, as Fortran records.

Records of a little-endian machine, each between two four-byte counts of its bytes, in the order of
``m_hdr.F90: hdr_fort_write`` (header form 80, file form 52). Lengths are in bohr, energies in hartree; the density is
(nx, ny, nz) float64, the first index fastest, the total before what belongs to spins. A written header has one k point,
one band and no symmetry: ABINIT compares it with its input, warns, and takes cell, electrons and everything else but
the density from its input.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats.contents import Contents
from tomat.formats.records import content_at, record

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The Bohr radius in angstrom (CODATA 2006), as in ABINIT 9.6; that of CODATA 2018 is 4e-9 of it larger.
BOHR = 0.52917720859
_RYDBERG = 0.5  # hartree
_VERSION = b"9.6.2   "
_HEADER_FORM, _DENSITY_FORM = 80, 52
_TITLE, _CHECKSUM = 132, 32
#: Records of a header without those of the pseudopotentials.
_FEWEST = 5
#: bantot, date, intxc, ixc, natom, ngfft, nkpt, nspden, nspinor, nsppol, nsym, npsp, ntypat, occopt, pertcase, usepaw;
#: ecut, ecutdg, ecutsm, ecut_eff, qptn, rprimd, stmbias, tphysel, tsmear; usewvl, nshiftk_orig, nshiftk, mband.
_SECOND = struct.Struct("<18i19d4i")
#: Most of what is counted in a header.
_MOST = 1 << 20
#: Largest difference between the electrons of the density and those in the header, as a share.
_ELECTRONS = 1e-3


def encode(
    crystal: Crystal, density: NDArray[np.float32], n_electrons: float, source: dict[str, Any]
) -> bytes:
    """The content of the file, on the grid of the density, which is in electrons per cubic angstrom.

    ABINIT interpolates a density on another grid than its own linearly: give the run the grid (``ngfft``), or the
    density that of the run. The ``source`` may have ``ecutwfc_Ry``, which ABINIT compares with its own.
    """
    numbers = crystal.atomic_numbers.tolist()
    species = list(dict.fromkeys(numbers))
    ecut = float(source.get("ecutwfc_Ry") or 1.0) * _RYDBERG
    lattice = crystal.lattice / BOHR
    n_atoms, n_types = len(numbers), len(species)
    whole = np.eye(3, dtype="<i4").ravel().tolist()
    counts = (1, 20000101, 0, 1, n_atoms, *density.shape, 1, 1, 1, 1, 1, n_types, n_types, 1, 0, 0)
    energies = (ecut, ecut, 0.0, ecut)
    records = [
        _VERSION + _ints(_HEADER_FORM, _DENSITY_FORM),
        _SECOND.pack(*counts, *energies, *[0.0] * 3, *lattice.ravel(), *[0.0] * 3, 0, 1, 1, 1),
        _ints(1, 1, 1, *[0] * n_types, 1, *whole, *(species.index(z) + 1 for z in numbers))
        + _floats([0.0] * 3, [2.0], [0.0] * 3, species, [1.0]),
        _floats([0.0], crystal.frac_coords, [0.0, 0.0], [0.0] * n_types),
        _ints(1, 1) + _floats([n_electrons, 0.0]) + _ints(0, *whole, *whole) + _floats([0.0] * 6),
    ]
    for z in species:
        title = f"{_core.elements()[z - 1]}, written by tomat".encode().ljust(_TITLE)
        records.append(title + _floats([z, 0.0]) + _ints(0, 0, 0, 0, -1) + b" " * _CHECKSUM)
    values = density.astype("<f8") * BOHR**3
    records.append(values.tobytes(order="F"))
    return b"".join(map(record, records))


def _ints(*values: int) -> bytes:
    return np.array(values, dtype="<i4").tobytes()


def _floats(*parts: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"".join(np.asarray(part, dtype="<f8").tobytes() for part in parts)


@dataclass(frozen=True)
class _Counts:
    """The whole numbers of the second record that are needed."""

    n_atoms: int
    grid_shape: tuple[int, int, int]
    n_kpoints: int
    n_components: int
    n_spins: int
    n_symmetries: int
    n_pseudos: int
    n_types: int
    n_bands: int

    @property
    def n_records(self) -> int:
        """Records of the file: the header, one for each pseudopotential, the density and what belongs to spins."""
        return _FEWEST + self.n_pseudos + self.n_components

    @property
    def third(self) -> tuple[int, int]:
        """How many whole numbers and others the third record has."""
        k, bands = self.n_kpoints, self.n_kpoints * self.n_spins
        whole = 2 * k + bands + self.n_pseudos + 10 * self.n_symmetries + self.n_atoms
        return whole, 3 * k + bands * self.n_bands + 3 * self.n_symmetries + self.n_types + k


def decode(data: bytes, name: str) -> Contents:
    """What the content of a file holds; ``name`` is for messages.

    Raises:
        ValueError: damaged or cut off, of another version or kind, or of a PAW run.
    """
    records = _records(data, name)
    _check_kind(records[0], name)
    fields = _SECOND.unpack(_sized(records[1], _SECOND.size, name, "the second record"))
    counts = _counts(fields, name)
    if len(records) != counts.n_records:
        raise ValueError(
            f"{name}: {len(records)} records, where the header asks for {counts.n_records}; the file is cut off or "
            "damaged: copy it again, or run ABINIT again"
        )
    lattice = np.array(fields[25:34]).reshape(3, 3)
    if not np.isfinite(lattice).all() or not abs(float(np.linalg.det(lattice))) > 0.0:
        raise ValueError(f"{name}: the cell spans no volume; the file is damaged")
    numbers = _numbers(records[2], counts, name)
    fourth = _sized(records[3], 8 * (3 + 3 * counts.n_atoms + counts.n_types), name, "the fourth record")
    positions = np.frombuffer(fourth, "<f8")[1 : 1 + 3 * counts.n_atoms].reshape(-1, 3)
    (electrons,) = struct.unpack_from("<d", records[4].ljust(16, b"\xff"), 8)
    values = _density(records[5 + counts.n_pseudos :], counts, name)
    held = float(values.mean()) * abs(float(np.linalg.det(lattice)))
    if not abs(held - electrons) <= _ELECTRONS * abs(electrons):
        raise ValueError(
            f"{name}: the density holds {held:.6g} electrons and the header says {electrons:.6g}; the file is damaged"
        )
    source = {
        "format": "abinit",
        "has_spin": counts.n_components > 1,
        "ecutwfc_Ry": fields[18] / _RYDBERG,
        "electrons": electrons,
    }
    density = (values / BOHR**3).astype(np.float32)
    return Contents(lattice * BOHR, numbers, positions.copy(), density, "e_per_A3", source)


def _records(data: bytes, name: str) -> list[bytes]:
    """The content of all records, at least five."""
    records: list[bytes] = []
    at = 0
    while at < len(data):
        what = f"record {len(records) + 1} (or this is no _DEN of ABINIT)"
        content, at = content_at(data, at, name, what, "ABINIT")
        records.append(content)
    if len(records) < _FEWEST:
        raise ValueError(
            f"{name}: {len(records)} records, which are not the header of a _DEN of ABINIT; cut off?"
        )
    return records


def _check_kind(head: bytes, name: str) -> None:
    if len(head) != len(_VERSION) + 8:
        raise ValueError(
            f"{name}: the first record has {len(head)} bytes and not 16: no _DEN of ABINIT 9 or later; run it again"
        )
    forms = struct.unpack("<2i", head[-8:])
    if forms != (_HEADER_FORM, _DENSITY_FORM):
        raise ValueError(
            f"{name}: header form {forms[0]} and file form {forms[1]}, where the density of ABINIT 9 has "
            f"{_HEADER_FORM} and {_DENSITY_FORM}; give a file whose name ends in _DEN"
        )


def _sized(record: bytes, size: int, name: str, what: str) -> bytes:
    if len(record) != size:
        raise ValueError(f"{name}: {what} has {len(record)} bytes and not {size}; the file is damaged")
    return record


def _counts(fields: tuple[Any, ...], name: str) -> _Counts:
    bands = fields[-1]
    n_atoms, nx, ny, nz, n_kpoints, n_components, _, n_spins, n_symmetries, n_pseudos, n_types = fields[4:15]
    counted = (n_atoms, n_kpoints, n_symmetries, n_pseudos, n_types, bands)
    if (
        not all(1 <= n <= _MOST for n in counted)
        or not all(1 <= n <= _core.MAX_GRID_AXIS for n in (nx, ny, nz))
        or n_components not in (1, 2, 4)
        or n_spins not in (1, 2)
    ):
        raise ValueError(
            f"{name}: the header counts {n_atoms} atoms of {n_types} kinds, {nx} x {ny} x {nz} points, {n_components} "
            f"components and {n_kpoints} k points; the file is damaged, or the grid has more than "
            f"{_core.MAX_GRID_AXIS} points along an axis"
        )
    if fields[17]:
        raise ValueError(
            f"{name}: of a PAW run, whose occupancies are not read; run ABINIT with norm-conserving pseudopotentials"
        )
    return _Counts(
        n_atoms, (nx, ny, nz), n_kpoints, n_components, n_spins, n_symmetries, n_pseudos, n_types, bands
    )


def _numbers(record: bytes, counts: _Counts, name: str) -> list[int]:
    """The atomic numbers of atoms: their kinds stand behind the other whole numbers, charges before the weights."""
    n_whole, n_others = counts.third
    third = _sized(record, 4 * n_whole + 8 * n_others, name, "the third record")
    types = np.frombuffer(third, "<i4", n_whole)[-counts.n_atoms :]
    end = n_others - counts.n_kpoints
    charges = np.frombuffer(third, "<f8", n_others, 4 * n_whole)[end - counts.n_types : end]
    known = len(_core.elements())
    if not all(1 <= z <= known and z == round(z) for z in charges.tolist()):
        raise ValueError(
            f"{name}: nuclear charges {charges.tolist()[:8]} of no elements; the file is damaged"
        )
    if types.min() < 1 or types.max() > len(charges):
        raise ValueError(
            f"{name}: atoms of kinds {types.tolist()[:8]} of {len(charges)}; the file is damaged"
        )
    return [int(charges[kind - 1]) for kind in types.tolist()]


def _density(records: list[bytes], counts: _Counts, name: str) -> NDArray[np.float64]:
    """The total density, (nx, ny, nz) in electrons per cubic bohr; what belongs to spins follows it."""
    size = 8 * math.prod(counts.grid_shape)
    values, *_ = [_sized(record, size, name, "the density") for record in records]
    density = np.frombuffer(values, "<f8").reshape(counts.grid_shape, order="F")
    if not np.isfinite(density).all():
        raise ValueError(f"{name}: the density holds NaN or infinite values; run ABINIT again")
    return density
