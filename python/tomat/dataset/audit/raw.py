"""Source densities read again without the core: the second path of an audit.

Zarr groups of the ``rho_gga`` layout are read with NumPy and pyarrow, CHGCARs with pymatgen, cube files with ASE. Other
formats have one reader, the package's own, and the audit says so.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.formats import format_by_name
from tomat.formats.compression import unpacked
from tomat.material import read
from tomat.storage.remote import at_hand, fetch_files, place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomat.material import Entry

_ARRAY = "charge_density_total"
#: The Bohr radius in angstrom, CODATA 2018.
_BOHR = 0.529177210903
_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
).split()
_NUMBERS = {symbol: z for z, symbol in enumerate(_SYMBOLS, 1)}


@dataclass(frozen=True)
class Raw:
    """A density as its file has it.

    Attributes:
        density: (nx, ny, nz) float32 in ``unit``.
        unit: ``chgcar`` or ``e_per_A3``.
        lattice: (3, 3) float64, rows a, b, c in angstrom.
        atomic_numbers: (n,) int64.
        frac_coords: (n, 3) float64.
        reader: what read it: ``numpy``, ``pymatgen``, ``ase``, or ``tomat``, which is no second path.
        n_bytes: of its files on disk.
        is_exact: whether the crystal has the very floats of the file; parsers of text differ in the last bits.
        stated_electrons: what the file says of the number of electrons in the cell, if it does.
    """

    density: NDArray[np.float32]
    unit: str
    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    reader: str
    n_bytes: int
    is_exact: bool = False
    stated_electrons: float | None = None


def read_raw(entry: Entry) -> Raw:
    """Read the density of an entry.

    Raises:
        FileNotFoundError: no such file.
        ImportError: pymatgen or ASE is needed and not installed.
        OSError, ValueError: it cannot be read; the message names the file.
    """
    path = entry.path.rstrip("/")
    form = format_by_name(path, shared=True)
    name = form.name if form is not None else ""
    reader = {"zarr": _zarr, "chgcar": _chgcar, "cube": _cube}.get(name, _by_tomat)
    try:
        raw = reader(path)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}" if path not in str(error) else str(error)) from error
    if not np.isfinite(raw.density).all():
        raise ValueError(f"{path}: the density holds NaN or infinite values")
    return raw


def volume_of(lattice: NDArray[np.float64]) -> float:
    """The cell volume in cubic angstrom: ``|a . (b x c)|``, summed from the left in float64."""
    a, b, c = (tuple(float(x) for x in row) for row in lattice)
    normal = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
    return abs(a[0] * normal[0] + a[1] * normal[1] + a[2] * normal[2])


def in_unit(raw: Raw, unit: str, volume: float) -> NDArray[np.float32]:
    """The density in another unit: the product in float64, rounded once."""
    if raw.unit == unit:
        return raw.density
    factor = volume if unit == "chgcar" else 1.0 / volume
    return (raw.density.astype(np.float64) * factor).astype(np.float32)


def _zarr(path: str) -> Raw:
    import pyarrow as pa

    names = ["zarr.json", f"{_ARRAY}/zarr.json", f"{_ARRAY}/c/0/0/0"]
    files = fetch_files(path, names)
    if names[0] not in files:
        raise FileNotFoundError(f"{path}: no such Zarr group")
    about, array = json.loads(files[names[0]]), json.loads(files[names[1]])
    if not _is_plain(array) or names[2] not in files:
        return _by_tomat(path)
    shape = tuple(array["shape"])
    # The four bytes of crc32c, where it is used, come last.
    packed = files[names[2]][:-4] if array["codecs"][-1]["name"] == "crc32c" else files[names[2]]
    try:
        values = pa.Codec("zstd").decompress(packed, 4 * math.prod(shape), asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"the chunk cannot be unpacked: {error}") from error
    endian = array["codecs"][0].get("configuration", {}).get("endian", "little")
    density = np.frombuffer(values, dtype=">f4" if endian == "big" else "<f4").reshape(shape)
    structure = json.loads(about["attributes"]["structure"])
    symbols = [site["species"][0]["element"].rstrip("0123456789+-.") for site in structure["sites"]]
    return Raw(
        density.astype(np.float32, copy=False),
        "chgcar",
        np.array(structure["lattice"]["matrix"], dtype=np.float64),
        np.array([_NUMBERS[symbol] for symbol in symbols], dtype=np.int64),
        np.array([site["abc"] for site in structure["sites"]], dtype=np.float64).reshape(-1, 3),
        "numpy",
        sum(map(len, files.values())),
        is_exact=True,
        stated_electrons=_stated_electrons(about["attributes"]),
    )


def _stated_electrons(attributes: Mapping[str, Any]) -> float | None:
    try:
        stated = json.loads(attributes["metadata"])["n_electrons"]
        return float(stated) if stated is not None else None
    except (KeyError, TypeError, ValueError):
        return None  # it is not part of the layout


def _is_plain(array: Mapping[str, Any]) -> bool:
    """Whether an array is float32 in one chunk of zstd, as the layout has it; others are read by the package."""
    encoding = array["chunk_key_encoding"]
    return (
        array["data_type"] == "float32"
        and array["chunk_grid"]["configuration"]["chunk_shape"] == array["shape"]
        and [codec["name"] for codec in array["codecs"]] in (["bytes", "zstd"], ["bytes", "zstd", "crc32c"])
        and encoding["name"] == "default"
        and encoding.get("configuration", {}).get("separator", "/") == "/"
    )


def _chgcar(path: str) -> Raw:
    try:
        from pymatgen.io.vasp.outputs import Chgcar
    except ImportError as error:
        raise ImportError(
            f"{path}: a CHGCAR is read again with pymatgen; pip install 'tomat[structures]'"
        ) from error
    with at_hand(place(path)) as local, tempfile.TemporaryDirectory(prefix="tomat-") as folder:
        n_bytes = local.stat().st_size
        # pymatgen takes a file, and knows fewer compressions than the package reads.
        plain = Path(folder) / "CHGCAR"
        plain.write_bytes(unpacked(local.read_bytes(), path))
        poscar, data, _ = Chgcar.parse_file(str(plain))
    structure = poscar.structure
    values = np.ascontiguousarray(data["total"], dtype=np.float64)
    return Raw(values.astype(np.float32), "chgcar", *_of_pymatgen(structure), "pymatgen", n_bytes)


def _of_pymatgen(structure: Any) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return np.array(structure.lattice.matrix), numbers, np.array(structure.frac_coords)


def _cube(path: str) -> Raw:
    try:
        from ase.io.cube import read_cube
    except ImportError as error:
        raise ImportError(
            f"{path}: a cube file is read again with ASE; pip install 'tomat[structures]'"
        ) from error
    parse: Any = read_cube  # carries no types
    with at_hand(place(path)) as local:
        text = unpacked(local.read_bytes(), path).decode()
        found = parse(io.StringIO(text), read_data=True)
        n_bytes = local.stat().st_size
    atoms = found["atoms"]
    density = np.asarray(found["data"], dtype=np.float64) / (_BOHR * _BOHR * _BOHR)
    return Raw(
        density.astype(np.float32),
        "e_per_A3",
        np.array(atoms.cell.array, dtype=np.float64),
        np.array(atoms.numbers, dtype=np.int64),
        atoms.get_scaled_positions(wrap=False),
        "ase",
        n_bytes,
    )


def _by_tomat(path: str) -> Raw:
    material = read(path)
    root = place(path)
    size = root.stat().st_size if root.is_file() else 0
    return Raw(
        material.density,
        material.unit,
        material.lattice,
        material.atomic_numbers.astype(np.int64),
        material.frac_coords,
        "tomat",
        int(size),
        is_exact=True,
    )
