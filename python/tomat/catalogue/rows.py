"""Rows of a catalogue, from densities or from CSV files."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from tomat import _core
from tomat.catalogue.table import _REAL, _TEXT, COLUMNS, token_columns
from tomat.categories import category, chemical_system, reduced_formula
from tomat.material import read
from tomat.storage.files import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tomat.material import Entry

#: Accepted names of the id column.
_IDS = ("id", "task_id", "mp_id", "material_id")

_OPENERS = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}

_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*)")


def row_of(entry: Entry) -> dict[str, Any]:
    """The row of a material, from its density.

    Raises:
        OSError, ValueError: as :func:`tomat.read`.
    """
    material = read(entry.path)
    symbols = _core.elements()
    atoms = Counter(symbols[int(z) - 1] for z in material.atomic_numbers)
    lattice = _core.lattice_parameters(material.lattice)
    row: dict[str, Any] = {"id": entry.task_id, "electrons": material.n_electrons, "volume": material.volume}
    row |= dict(zip(("nx", "ny", "nz"), material.grid_shape, strict=True))
    row |= dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), lattice, strict=True))
    return row | _chemistry(atoms) | _derived(row | {"n_atoms": atoms.total()})


def _derived(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"n_atoms": row.get("n_atoms")}
    axes = [row.get(name) for name in ("nx", "ny", "nz")]
    if None not in axes:
        found["voxels"] = math.prod(axes)
    if found["n_atoms"] is not None:
        found |= token_columns(found["n_atoms"])
    return found


def _chemistry(atoms: Counter[str]) -> dict[str, Any]:
    first = [symbol for symbol in ("C", "H") if "C" in atoms and symbol in atoms]
    order = first + sorted(set(atoms) - set(first))
    return {
        "formula": "".join(s + (str(atoms[s]) if atoms[s] > 1 else "") for s in order),
        "reduced_formula": reduced_formula(atoms.elements()),
        "chemsys": chemical_system(atoms),
        "category": category(atoms),
    }


def is_csv(path: str) -> bool:
    """Whether an input is a CSV file, by its name."""
    return path.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz").endswith(".csv")


def read_csv(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file with a header: columns of a catalogue, ``id`` also as ``task_id``, ``mp_id``, ``material_id``.

    Missing columns are null; unknown ones are ignored. The other chemical columns are derived from ``formula``. The
    file may be compressed (.gz, .bz2, .xz).

    Raises:
        OSError: it cannot be read.
        ValueError: no id column, an invalid value (the message names the line), or two lines with one id.
    """
    data = open_bytes(path)
    opener = _OPENERS.get(path.rsplit(".", 1)[-1])
    try:
        text = (opener(data) if opener else data).decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = list(reader.fieldnames or ())
    ids = [name for name in _IDS if name in names]
    if not ids:
        raise ValueError(
            f"{path}: no column of ids; call it one of {', '.join(_IDS)} (found: {', '.join(names)})"
        )
    columns = [name for name in names if name in COLUMNS and name != "id"]
    seen: dict[str, int] = {}
    for line in reader:
        place = f"{path}, line {reader.line_num}"
        row = {"id": _value("id", line[ids[0]], place)}
        if row["id"] is None:
            raise ValueError(f"{place}: no id")
        if row["id"] in seen:
            raise ValueError(f"{place}: {row['id']!r} is in line {seen[row['id']]} already")
        seen[row["id"]] = reader.line_num
        row |= {name: _value(name, line[name], place) for name in columns}
        if row.get("formula"):
            row = _chemistry(_atoms(row["formula"], place)) | row
        yield row | _derived(row)


def _value(name: str, text: str | None, place: str) -> Any:
    text = (text or "").strip()
    if not text or name in _TEXT:
        return text or None
    try:
        number = float(text) if name in _REAL else int(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{place}: {name} = {text!r} is not a number above zero")
    return number


def _atoms(formula: str, place: str) -> Counter[str]:
    """Atoms of a plain formula (``Fe2O3``)."""
    parts = _ELEMENT.findall(formula)
    known = set(_core.elements())
    if "".join(s + n for s, n in parts) != formula or not {s for s, _ in parts} <= known:
        raise ValueError(f"{place}: formula {formula!r} is not elements with whole numbers (Fe2O3)")
    atoms: Counter[str] = Counter()
    for symbol, number in parts:
        atoms[symbol] += int(number or 1)
    return atoms
