"""The columns of a catalogue and its file.

The file holds a checksum of every page and, in its footer, a SHA-256 of every column (values, nulls, name and type),
which are verified whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tomat.storage.files import atomic_file
from tomat.tokenizer import LAYOUTS, PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Columns in order, with descriptions; all but ``id`` may be null.
COLUMNS: dict[str, str] = {
    "id": "the name the material goes by",
    "split": "its list in the split file",
    "path": "file, folder or URL of its density",
    "bytes": "size of that",
    "version": "time or checksum of that: what says whether it has changed",
    "nx": "grid points along a",
    "ny": "grid points along b",
    "nz": "grid points along c",
    "voxels": "nx ny nz",
    "n_atoms": "atoms in the cell",
    "electrons": "the integral of the density over the cell",
    "a": "length of the lattice vector a, angstrom",
    "b": "length of b, angstrom",
    "c": "length of c, angstrom",
    "alpha": "angle between b and c, degrees",
    "beta": "angle between a and c, degrees",
    "gamma": "angle between a and b, degrees",
    "volume": "of the cell, cubic angstrom",
    "formula": "atoms of the cell, in Hill order",
    "reduced_formula": "the same divided by its common factor",
    "chemsys": "its elements, sorted, joined by -",
    "category": "chemical category, see tomat.categories",
    **{
        f"tokens_{name.replace('-', '_')}": f"tokens of a sequence of layout {name}, BOS to EOS, before padding"
        for name in LAYOUTS
    },
}

_TEXT = {"id", "split", "path", "version", "formula", "reduced_formula", "chemsys", "category"}
_REAL = {"electrons", "a", "b", "c", "alpha", "beta", "gamma", "volume"}

#: Arrow types of the columns.
SCHEMA = pa.schema(
    [
        (name, pa.string() if name in _TEXT else pa.float64() if name in _REAL else pa.int64())
        for name in COLUMNS
    ]
)

#: Keys of the footer: format version, and digests of the columns as JSON.
_VERSION, _DIGESTS = b"tomat.catalogue", b"tomat.sha256"

#: Ids listed in an error.
_SHOWN = 5


def load(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a catalogue, or some of its columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a catalogue, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such catalogue; make one with tomat catalogue build")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            wanted = None if columns is None else [name for name in schema.names if name in {*columns}]
            table = file.read(columns=wanted)
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path}: not a catalogue: {error}") from error
    missing = {"id", *(columns or ())} - set(schema.names)
    if missing:
        raise ValueError(f"{path}: not a catalogue: no column {', '.join(sorted(missing))}")
    _check_digests(path, schema, table)
    return table.select(columns) if columns is not None else table


def save(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a catalogue atomically; missing values are null."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    digests = {name: _digest(name, table[name]) for name in table.column_names}
    table = table.replace_schema_metadata({_VERSION: b"1", _DIGESTS: json.dumps(digests).encode()})
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _check_digests(path: str | Path, schema: pa.Schema, table: pa.Table) -> None:
    """Check columns against their digests, which every catalogue written by tomat has."""
    stated = schema.metadata or {}
    if _VERSION not in stated and _DIGESTS not in stated and not set(COLUMNS) <= set(schema.names):
        return  # of another program
    remedy = "remove it and build it again with tomat catalogue build"
    try:
        digests = json.loads(stated[_DIGESTS])
        known = {name: str(digests[name]) for name in table.column_names}
    except (KeyError, ValueError, TypeError, RecursionError):
        raise ValueError(
            f"{path}: no digests of its columns: it is damaged, or of an earlier version; {remedy}"
        ) from None
    for name, digest in known.items():
        is_ours = name in COLUMNS and [f.type for f in table.schema if f.name == name] == [
            SCHEMA.field(name).type
        ]
        if not is_ours or _digest(name, table[name]) != digest:
            raise ValueError(f"{path}: column {name} is not what was written: the file is damaged; {remedy}")


def _digest(name: str, column: pa.ChunkedArray) -> str:
    """SHA-256 of a column, independent of the layout of the file."""
    hasher = hashlib.sha256(f"{name} {column.type} {len(column)}\n".encode())
    hasher.update(column.is_valid().to_numpy().tobytes())
    if pa.types.is_string(column.type):
        texts = [text.encode() for text in pc.fill_null(column, "").to_pylist()]
        hasher.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
        hasher.update(b"".join(texts))
    else:
        kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
        hasher.update(pc.fill_null(column, 0).to_numpy().astype(kind).tobytes())
    return hasher.hexdigest()


@lru_cache(maxsize=4096)
def token_columns(n_atoms: int) -> dict[str, int]:
    """Tokens of a sequence in each layout with its default patch and codec, by column."""
    return {
        f"tokens_{name.replace('-', '_')}": tokenizer.length(n_atoms)
        for name, tokenizer in _tokenizers().items()
    }


@lru_cache(maxsize=1)
def _tokenizers() -> dict[str, PatchTokenizer]:
    return {name: PatchTokenizer(name, layout.default_codec) for name, layout in LAYOUTS.items()}


def electrons_of(path: str | Path, task_ids: Sequence[str]) -> list[float]:
    """Electrons in the cell of each material, from a catalogue.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`; a material is missing from the catalogue or has no electrons.
    """
    table = load(path, ["id", "electrons"])
    of = dict(zip(table["id"].to_pylist(), table["electrons"].to_pylist(), strict=True))
    absent = [name for name in task_ids if name not in of]
    if absent:
        raise ValueError(
            f"{path}: {len(absent)} of {len(task_ids)} materials are not in this catalogue: "
            f"{', '.join(absent[:_SHOWN])}; build it from the same inputs, and list only what could be read"
        )
    unknown = [name for name in task_ids if of[name] is None]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} materials have no electrons in this catalogue: {', '.join(unknown[:_SHOWN])}; "
            "build it from the densities"
        )
    return [float(of[name]) for name in task_ids]
