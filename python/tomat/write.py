"""Densities to files that other programs read: Zarr in the ``rho_gga`` layout, VASP's CHGCAR, Gaussian cube.

What is written here reads back with :func:`tomat.read`. Files appear whole or not at all.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from tomat import _core
from tomat.storage.files import open_bytes, write_atomically, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.material import Material

__all__ = [
    "AUGMENTATION_NOTE",
    "FORMATS",
    "Format",
    "format_of",
    "read_augmentation",
    "structure_dict",
    "write",
]

type Format = Literal["zarr", "chgcar", "cube"]

#: Formats by name.
FORMATS: tuple[Format, ...] = get_args(Format.__value__)

#: What a reader of a written CHGCAR must know.
AUGMENTATION_NOTE = (
    "CHGCAR holds no PAW augmentation occupancies, since a density on a grid does not determine them, and no "
    "magnetisation. VASP warns of that and starts from the density all the same with ICHARG = 1, with less gained; "
    "--augmentation takes them from a CHGCAR of the same crystal. Do not use it with ICHARG = 11"
)

_ARRAY = "charge_density_total"
_ZSTD_LEVEL = 9
#: CODATA 2018, in angstrom.
_BOHR = 0.529177210903
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, compresslevel=6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}
_EXPANDERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
)
_AUGMENTATION = b"augmentation occupancies"
_VASP_NAME = re.compile(r"^(CHGCAR|CHG)([._].*)?$", re.IGNORECASE)


def write(
    material: Material,
    path: str | Path,
    format: Format | None = None,  # noqa: A002
    *,
    augmentation: bytes = b"",
) -> None:
    """Write a density.

    ``NAME.zarr``: Zarr v3 group in the ``rho_gga`` layout, one chunk, zstd and crc32c, so
    that a flipped bit is an error. ``CHGCAR``, ``NAME.CHGCAR``, ``NAME.vasp``: VASP's format, first axis fastest,
    ``rho * V_cell``, 11 digits; see :data:`AUGMENTATION_NOTE`. ``NAME.cube``: Gaussian cube in electrons per cubic
    bohr, 6 digits. Text is compressed by a suffix .gz, .bz2, .xz or .zst.

    Args:
        material: what to write; its unit is brought to the format's.
        path: where; what is there is replaced.
        format: where the name does not say.
        augmentation: lines that follow the density in a CHGCAR, see :func:`read_augmentation`.

    Raises:
        ValueError: a name that says no format, or values the format cannot hold.
        OSError: it cannot be written.
    """
    target = Path(path)
    kind = format or format_of(target)
    if kind == "zarr":
        _write_zarr(material, target)
        return
    if kind not in FORMATS:
        raise ValueError(f"format {kind!r} is not one of {', '.join(FORMATS)}")
    text = _chgcar(material) + augmentation if kind == "chgcar" else _cube(material)
    compress = _COMPRESSORS.get(target.suffix.lower())
    write_atomically(target, compress(text) if compress else text)


def format_of(path: str | Path) -> Format:
    """The format a name says.

    Raises:
        ValueError: it says none.
    """
    name = Path(path).name
    stem = name.rsplit(".", 1)[0] if Path(name).suffix.lower() in _COMPRESSORS else name
    suffix = Path(stem).suffix.lower()
    if suffix == ".zarr" and stem == name:
        return "zarr"
    if suffix in (".cube", ".cub"):
        return "cube"
    if suffix in (".chgcar", ".chg", ".vasp") or _VASP_NAME.match(stem):
        return "chgcar"
    raise ValueError(
        f"{path}: the name says no format; end it in .zarr, .CHGCAR, .vasp or .cube (with .gz, .bz2, .xz or .zst "
        "where text is to be compressed), or give the format"
    )


def read_augmentation(path: str | Path, n_atoms: int) -> bytes:
    """The PAW augmentation occupancies of the total density in a CHGCAR, as they stand there.

    They come from a run of VASP itself on the same atoms in the same order with the same POTCAR.

    Raises:
        ValueError: none there, cut off, or of another number of atoms.
        OSError: it cannot be read.
    """
    text = _expanded(path)
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


def _expanded(path: str | Path) -> bytes:
    data = open_bytes(path)
    try:
        for magic, expand in _EXPANDERS:
            if data.startswith(magic):
                return expand(data)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut off: {error}") from error
    return data


def structure_dict(material: Material) -> dict[str, Any]:
    """The crystal as a pymatgen ``Structure`` dict."""
    symbols = _core.elements()
    a, b, c, alpha, beta, gamma = _core.lattice_parameters(material.lattice)
    positions = material.frac_coords @ material.lattice
    sites = [
        {
            "species": [{"element": symbols[z - 1], "occu": 1}],
            "abc": frac.tolist(),
            "properties": {},
            "label": symbols[z - 1],
            "xyz": xyz.tolist(),
        }
        for z, frac, xyz in zip(
            material.atomic_numbers.tolist(), material.frac_coords, positions, strict=True
        )
    ]
    lattice = {
        "matrix": material.lattice.tolist(),
        "pbc": [True, True, True],
        **{"a": a, "b": b, "c": c, "alpha": alpha, "beta": beta, "gamma": gamma, "volume": material.volume},
    }
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0.0,
        "lattice": lattice,
        "properties": {},
        "sites": sites,
    }


def _write_zarr(material: Material, target: Path) -> None:
    """The group in a folder beside its place, renamed there when it is whole."""
    density = material.in_unit("chgcar").density
    values = np.ascontiguousarray(density, dtype="<f4")
    metadata = {
        "task_id": material.task_id,
        "n_electrons": float(values.mean(dtype=np.float64)),
        "units": "electrons: rho(r)*V_cell (mean over grid = n_electrons)",
        "source": material.source,
    }
    attributes = {"structure": json.dumps(structure_dict(material)), "metadata": json.dumps(metadata)}
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        folder.chmod(0o755)
        chunk = folder / _ARRAY / "c" / "0" / "0" / "0"
        chunk.parent.mkdir(parents=True)
        write_json(folder / "zarr.json", {"attributes": attributes, "zarr_format": 3, "node_type": "group"})
        write_json(folder / _ARRAY / "zarr.json", _array_metadata(values.shape))
        write_atomically(chunk, _core.zarr_chunk(values.tobytes(), _ZSTD_LEVEL))
        _replace_folder(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _replace_folder(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    old = folder.with_name(folder.name + ".old")
    target.rename(old)
    folder.rename(target)
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def _array_metadata(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": True}},
            {"name": "crc32c"},
        ],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _chgcar(material: Material) -> bytes:
    """VASP's layout: POSCAR, grid, five values a line as ``E17.11``."""
    symbols = _core.elements()
    runs = [(z, len(list(same))) for z, same in itertools.groupby(material.atomic_numbers.tolist())]
    rows = ["".join(f"{x:12.6f}" for x in row) for row in material.lattice]
    lines = [
        _comment(material),
        "   1.00000000000000     ",
        *(f" {row}" for row in rows),
        "".join(f"   {symbols[z - 1]:<2}" for z, _ in runs),
        "".join(f"{count:6d}" for _, count in runs),
        "Direct",
        *("".join(f"{x:10.6f}" for x in row) for row in material.frac_coords),
        "",
        "".join(f"{n:5d}" for n in material.grid_shape),
    ]
    values = material.in_unit("chgcar").density.ravel(order="F").astype(np.float64)
    return "\n".join(lines).encode() + b"\n" + _table(_fortran(values), 5)


def _cube(material: Material) -> bytes:
    """Gaussian's layout: two comments, origin, axes and atoms in bohr, six values a line; each z line starts anew."""
    lattice = material.lattice / _BOHR
    shape = material.grid_shape
    lines = [
        _comment(material),
        f"Electron density in electrons per cubic bohr, {material.n_electrons:.6f} electrons",
        f"{len(material.atomic_numbers):5d}{0.0:12.6f}{0.0:12.6f}{0.0:12.6f}",
    ]
    # More digits than Gaussian's 12.6 of each voxel vector: the cell is a multiple of it.
    lines += [
        f"{n:5d}" + "".join(f"{x / n:18.12f}" for x in row) for n, row in zip(shape, lattice, strict=True)
    ]
    positions = material.frac_coords @ lattice
    lines += [
        f"{z:5d}{0.0:12.6f}" + "".join(f"{x:16.10f}" for x in xyz)
        for z, xyz in zip(material.atomic_numbers.tolist(), positions, strict=True)
    ]
    values = material.in_unit("e_per_A3").density.astype(np.float64) * _BOHR**3
    text = _table(_scientific(values.ravel()).reshape(-1, shape[2], 13), 6)
    return "\n".join(lines).encode() + b"\n" + text


def _comment(material: Material) -> str:
    """The name, on one line of ASCII text."""
    name = material.task_id.encode("ascii", "replace").decode()
    return re.sub(r"[^ -~]", " ", name)[:60] or "density"


def _digits(values: NDArray[np.float64], n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decimal digits (len, n) of the mantissas 0.d1 d2 ... dn, as ASCII, and exponents (len,); zeros are all 0."""
    magnitude = np.abs(values)
    # What float32 cannot tell from zero; keeps exponents at two digits.
    magnitude[magnitude < 1e-90] = 0.0
    filled = np.where(magnitude > 0, magnitude, 1.0)
    exponents = np.floor(np.log10(filled)).astype(np.int64) + 1
    mantissas = np.rint(filled * 10.0 ** (n - exponents)).astype(np.int64)
    # log10 may be off by one at a power of ten, and rounding may carry into a new digit.
    for _ in range(2):
        low, high = mantissas < 10 ** (n - 1), mantissas >= 10**n
        if not (low.any() or high.any()):
            break
        exponents += high.astype(np.int64) - low.astype(np.int64)
        mantissas = np.rint(filled * 10.0 ** (n - exponents)).astype(np.int64)
    mantissas[magnitude == 0] = 0
    exponents[magnitude == 0] = 0
    if exponents.size and int(np.abs(exponents).max()) > 99:
        raise ValueError("the density holds values that need more than two digits of exponent")
    out = np.empty((len(values), n), dtype=np.uint8)
    table = _four_digits()
    last = n
    while last > 0:
        mantissas, part = np.divmod(mantissas, 10000)
        first = max(last - 4, 0)
        out[:, first:last] = table[part][:, 4 - (last - first) :]
        last = first
    return out, exponents


def _fortran(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`` 0.12345678901E+01`` as Fortran's ``1X,E17.11`` writes it, (len, 18) ASCII; negative ones lose their zero."""
    digits, exponents = _digits(values, 11)
    out = np.empty((len(values), 18), dtype=np.uint8)
    negative = np.signbit(values) & (values != 0)
    out[:, 0] = ord(" ")
    out[:, 1] = np.where(negative, ord("-"), ord("0"))
    out[:, 2] = ord(".")
    out[:, 3:14] = digits
    _put_exponents(out[:, 14:18], exponents)
    return out


def _scientific(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """``  1.23457E+01`` as C's ``%13.5E``, (len, 13) ASCII."""
    digits, exponents = _digits(values, 6)
    out = np.full((len(values), 13), ord(" "), dtype=np.uint8)
    out[np.signbit(values) & (values != 0), 1] = ord("-")
    out[:, 2] = digits[:, 0]
    out[:, 3] = ord(".")
    out[:, 4:9] = digits[:, 1:]
    _put_exponents(out[:, 9:13], np.where(values != 0, exponents - 1, 0))
    return out


def _put_exponents(out: NDArray[np.uint8], exponents: NDArray[np.int64]) -> None:
    """``E+01`` into (len, 4)."""
    out[:, 0] = ord("E")
    out[:, 1] = np.where(exponents < 0, ord("-"), ord("+"))
    out[:, 2:4] = _four_digits()[np.abs(exponents)][:, 2:]


def _four_digits() -> NDArray[np.uint8]:
    """The numbers 0 to 9999 as four ASCII digits each."""
    numbers = np.arange(10000)
    return np.stack([numbers // 1000, numbers // 100 % 10, numbers // 10 % 10, numbers % 10], axis=1).astype(
        np.uint8
    ) + np.uint8(ord("0"))


def _table(cells: NDArray[np.uint8], columns: int) -> bytes:
    """Cells (..., n, width) as lines of ``columns``; each row of n begins a new line."""
    n, width = cells.shape[-2:]
    rows = cells.reshape(-1, n * width)
    whole = n // columns * columns * width
    lines = []
    for part, length in ((rows[:, :whole], columns * width), (rows[:, whole:], n * width - whole)):
        if part.size:
            split = part.reshape(len(rows), -1, length)
            ends = np.full((*split.shape[:2], 1), ord("\n"), dtype=np.uint8)
            lines.append(np.concatenate([split, ends], axis=2).reshape(len(rows), -1))
    return np.concatenate(lines, axis=1).tobytes()
