"""Columns of a catalogue, and the file they are in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tomat._files import atomic_file
from tomat.tokenizer import LAYOUTS, PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["COLUMNS", "SCHEMA", "electrons_of", "load", "save", "token_columns"]

#: What a row says, in order; every column but ``id`` may be null.
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

#: Ids an error names.
_SHOWN = 5


def load(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A catalogue, or some of its columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a catalogue.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such catalogue; make one with tomat catalogue build")
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a catalogue: {error}") from error
    missing = {"id", *(columns or ())} - set(table.column_names)
    if missing:
        raise ValueError(f"{path}: not a catalogue: no column {', '.join(sorted(missing))}")
    return table


def save(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a catalogue, all of it or nothing; what a row does not say is null."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    with atomic_file(path) as file:
        pq.write_table(pa.table(columns, schema=SCHEMA), file, compression="zstd")


@lru_cache(maxsize=4096)
def token_columns(n_atoms: int) -> dict[str, int]:
    """Tokens of a sequence of each layout with its own patch and codec, by column."""
    return {
        f"tokens_{name.replace('-', '_')}": tokenizer.length(n_atoms)
        for name, tokenizer in _tokenizers().items()
    }


@lru_cache(maxsize=1)
def _tokenizers() -> dict[str, PatchTokenizer]:
    return {name: PatchTokenizer(name, layout.default_codec) for name, layout in LAYOUTS.items()}


def electrons_of(path: str | Path, task_ids: Sequence[str]) -> list[float]:
    """Electrons in the cell of each material, by a catalogue.

    Raises:
        FileNotFoundError, ValueError: as :func:`load`; a material it does not have, or has without electrons.
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
