"""Crystals from files: CIF, POSCAR and whatever else holds one, tables in parquet or CSV, pymatgen's JSON."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.crystal import Crystal
from tomat.dataset.inputs import LIST_SUFFIXES, is_rho_gga, listed, matching, resolve_inputs
from tomat.formats.compression import unpacked
from tomat.prediction.structures import as_crystal, crystal_of_cif, name_of
from tomat.storage.files import open_bytes
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tomat.storage.remote import Place

__all__ = ["Found", "named_problem", "read_crystals"]

#: Names that a column, or a key, of ids has elsewhere.
_IDS = ("id", "task_id", "material_id", "name")
#: Columns that are no condition.
_STRUCTURE = ("lattice", "atomic_numbers", "frac_coords", "cif", "structure")
#: Endings of files that are searched in folders.
_SEARCHED = (".cif", ".vasp", ".poscar", ".parquet", ".csv", ".json", ".jsonl")
_NAMELESS = ("poscar", "contcar")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Found:
    """A crystal that was found, or why it is none.

    Attributes:
        name: its id.
        source: the file, and the row in a table.
        crystal: None if it cannot be read.
        values: numbers that stand beside it, by column.
        problem: why there is no crystal.
    """

    name: str
    source: str
    crystal: Crystal | None
    values: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


def read_crystals(inputs: Sequence[str | Path]) -> Iterator[Found]:
    """All crystals of files, folders and globs, in the order of the inputs, and by name within a folder or glob.

    A crystal that cannot be read is given with its problem; a table that cannot be read is an error.

    Args:
        inputs: local paths or URLs of CIF, POSCAR and other files of one crystal (densities and ``rho_gga`` roots,
            too); list files (``.txt``); tables (``.parquet``, ``.csv``) with an id and either ``lattice`` (six lengths
            and angles, or nine numbers: rows a, b, c), ``atomic_numbers`` and ``frac_coords``, or ``cif``; pymatgen's
            JSON (``.json``, ``.jsonl``): a structure, a list of them, or a mapping of ids to them. Numbers beside a
            crystal become :attr:`Found.values`.

    Raises:
        FileNotFoundError: an input does not exist, or a glob matches nothing.
        ValueError: a table that holds no crystals, or two crystals of one id.
    """
    seen: dict[str, str] = {}
    for path in _files(inputs):
        for found in _read(path):
            if found.name in seen:
                raise ValueError(
                    f"{found.source}: the id {found.name} is that of {seen[found.name]}, too; rename one of them"
                )
            seen[found.name] = found.source
            yield found


def named_problem(source: str, problem: str) -> str:
    """A problem behind its source, which some readers name themselves."""
    return problem if problem.startswith(source) else f"{source}: {problem}"


def _files(inputs: Iterable[str | Path]) -> Iterator[str]:
    for item in inputs:
        text, root = str(item), place(item)
        if any(character in text for character in "*?[") and not root.exists():
            matches = matching(text)
            if not matches:
                raise FileNotFoundError(f"{text}: nothing matches")
            yield from matches
        elif is_rho_gga(item):
            yield from (entry.path for entry in resolve_inputs([item]))
        elif root.is_dir():
            below = list(_search(root))
            if not below:
                raise FileNotFoundError(
                    f"{text}: no crystals in this folder (by name: {', '.join(_SEARCHED)}, POSCAR, CONTCAR)"
                )
            yield from below
        elif not root.exists():
            raise FileNotFoundError(f"{text}: no such file or folder")
        elif text.endswith(LIST_SUFFIXES):
            yield from listed(text)
        else:
            yield text


def _search(folder: Place) -> Iterator[str]:
    below: Iterable[Place] = folder.iterdir()
    for path in sorted(below, key=str):
        name = _plain(path.name)
        if name.startswith(_NAMELESS) or name.endswith(_SEARCHED):
            yield str(path)
        elif not name.startswith(".") and path.is_dir():
            yield from _search(path)


def _plain(name: str) -> str:
    """A file name in lower case without the suffix of a compression."""
    name = name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _read(path: str) -> Iterable[Found]:
    name = _plain(Path(path).name)
    for suffix, reader in _TABLES.items():
        if name.endswith(suffix):
            return reader(path)
    return [_one(path, name_of(path), lambda: as_crystal(path))]


def _one(
    source: str, name: str, make: Callable[[], Crystal], values: Mapping[str, float] | None = None
) -> Found:
    try:
        crystal = make()
    except Exception as error:  # parsers raise anything for what is not theirs
        problem = str(error) or type(error).__name__
        return Found(name, source, None, values or {}, problem)
    return Found(name, source, crystal.renamed(name), values or {})


def _parquet(path: str) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = open_bytes(path)
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a parquet file: {error}") from error
    yield from _rows(path, table)


def _csv(path: str) -> Iterator[Found]:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ParseOptions(newlines_in_values=True)  # a CIF is many lines
    content = unpacked(open_bytes(path), path)
    try:
        table = csv.read_csv(io.BytesIO(content), parse_options=options)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error
    yield from _rows(path, table)


def _rows(path: str, table: Any) -> Iterator[Found]:
    """The crystals of an arrow table."""
    try:
        names, rows = set(table.column_names), table.to_pylist()
    except ValueError as error:  # text that is none
        raise ValueError(f"{path}: damaged: {error}") from error
    arrays, text = {"lattice", "atomic_numbers", "frac_coords"} <= names, "cif" in names
    if not (arrays or text):
        raise ValueError(
            f"{path}: its columns are {', '.join(table.column_names)}; a table of crystals has lattice, "
            "atomic_numbers and frac_coords, or cif"
        )
    key = next((name for name in _IDS if name in names), None)
    stem = name_of(path)
    for number, row in enumerate(rows, 1):
        name = f"{stem}-{number}" if key is None else str(row[key])

        def make(row: Mapping[str, Any] = row) -> Crystal:
            return _of_arrays(row) if arrays else crystal_of_cif(row["cif"], "cif")

        yield _one(f"{path}, row {number}", name, make, _values(row))


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """Numbers that stand beside a crystal."""
    found = {}
    for key, value in row.items():
        if key not in (*_IDS, *_STRUCTURE) and isinstance(value, int | float):
            with contextlib.suppress(OverflowError):  # an int that no float holds
                found[key] = float(value)
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _of_arrays(row: Mapping[str, Any]) -> Crystal:
    lattice = np.asarray(row["lattice"], np.float64)
    numbers = np.asarray(row["atomic_numbers"])
    places = np.asarray(row["frac_coords"], np.float64)
    if places.size != 3 * numbers.size:
        raise ValueError(
            f"{numbers.size} atomic numbers and {places.size} coordinates; three an atom are needed"
        )
    places = places.reshape(-1, 3)
    if lattice.size == 6:
        return Crystal.from_parameters(lattice.ravel(), numbers, places)
    if lattice.size != 9:
        raise ValueError(
            f"a lattice of {lattice.size} numbers; give six (lengths, angles) or nine (rows a, b, c)"
        )
    return Crystal.of(lattice.reshape(3, 3), numbers, places)


def _json(path: str) -> Iterator[Found]:
    data = unpacked(open_bytes(path), path)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if isinstance(content, dict) and "lattice" in content and "sites" in content:
        yield _of_json(path, name_of(path), content)
    elif isinstance(content, dict):
        for key, value in content.items():
            yield _of_json(f"{path}, {key}", key, value)
    elif isinstance(content, list):
        yield from _list(path, content)
    else:
        raise ValueError(f"{path}: a {type(content).__name__}, not a structure, a list or a mapping of them")


def _jsonl(path: str) -> Iterator[Found]:
    lines = unpacked(open_bytes(path), path).splitlines()
    content = []
    for number, line in enumerate(lines, 1):
        try:
            content.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
    yield from _list(path, content)


def _list(path: str, content: Sequence[Any]) -> Iterator[Found]:
    for number, value in enumerate(content, 1):
        named = next((value[key] for key in _IDS if key in value), None) if isinstance(value, dict) else None
        name = f"{name_of(path)}-{number}" if named is None else str(named)
        yield _of_json(f"{path}, entry {number}", name, value)


def _of_json(source: str, name: str, value: Any) -> Found:
    """A structure of pymatgen, or a mapping with one under ``structure`` or ``cif`` and numbers beside it."""
    if not isinstance(value, dict):
        return Found(name, source, None, problem=f"a {type(value).__name__}, not a structure")
    if "cif" in value:
        return _one(source, name, lambda: crystal_of_cif(value["cif"], "cif"), _values(value))
    structure = value.get("structure", value)
    if {"atomic_numbers", "frac_coords"} <= value.keys():
        return _one(source, name, lambda: _of_arrays(value), _values(value))

    def make() -> Crystal:
        from pymatgen.core.structure import Structure

        return Crystal.from_pymatgen(Structure.from_dict(structure))

    return _one(source, name, make, _values(value) if structure is not value else {})


_TABLES: dict[str, Callable[[str], Iterator[Found]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
}
