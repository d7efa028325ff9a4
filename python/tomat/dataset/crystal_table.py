"""The file ``crystals.parquet``: the crystals of a dataset exactly, a row a material; rows of tokens hold them in bins.

Columns: ``task_id`` (string), ``lattice`` (nine float64: rows a, b, c in angstrom), ``atomic_numbers`` (int32),
``frac_coords`` (float64, three an atom), ``grid_shape`` (three int32), ``sha256`` (string: of all of these but the id).
Rows stand in the order of the shards. Each worker writes its own table next to its shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tomat.crystal import Crystal, content_hash
from tomat.storage.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

#: Columns and their types.
COLUMNS = {
    "task_id": pa.string(),
    "lattice": pa.list_(pa.float64(), 9),
    "atomic_numbers": pa.list_(pa.int32()),
    "frac_coords": pa.list_(pa.float64()),
    "grid_shape": pa.list_(pa.int32(), 3),
    "sha256": pa.string(),
}
#: Crystals a row group.
_GROUP = 4096
#: First line of what is hashed.
_KIND = "tomat crystal 1\n"


@dataclass(frozen=True, eq=False)
class StoredCrystal:
    """A crystal of a dataset.

    Attributes:
        crystal: named by its material; lattice and fractional coordinates in float64, as in the source.
        grid_shape: points of its density along a, b and c.
    """

    crystal: Crystal
    grid_shape: tuple[int, int, int]

    @property
    def sha256(self) -> str:
        """Of all of it but the name, in hexadecimal: lattice, atoms and grid."""
        return content_hash(_KIND, self.crystal, np.array(self.grid_shape, dtype="<i4"))

    @classmethod
    def of(cls, material: Mapping[str, Any]) -> StoredCrystal:
        """From the record of a material."""
        stored, (x, y, z) = material["crystal"], material["grid_shape"]
        crystal = Crystal(
            np.array(stored["lattice"], dtype=np.float64),
            np.array(stored["atomic_numbers"]),
            np.array(stored["frac_coords"], dtype=np.float64),
            material["task_id"],
        )
        return cls(crystal, (x, y, z))

    @property
    def row(self) -> dict[str, Any]:
        """Its row in the table."""
        crystal = self.crystal
        return {
            "task_id": crystal.name,
            "lattice": crystal.lattice.ravel(),
            "atomic_numbers": crystal.atomic_numbers,
            "frac_coords": crystal.frac_coords.ravel(),
            "grid_shape": self.grid_shape,
            "sha256": self.sha256,
        }


def write_table(path: Path, materials: Iterable[Mapping[str, Any]]) -> None:
    """Write the table of materials, given by their records; the file appears when it is whole."""
    schema = pa.schema(list(COLUMNS.items()))
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for some in batched(materials, _GROUP):
            writer.write_table(
                pa.Table.from_pylist([StoredCrystal.of(one).row for one in some], schema=schema)
            )


def read_table(path: Path) -> dict[str, StoredCrystal]:
    """The crystals of a table by material id, in its order.

    Raises:
        OSError: it cannot be read.
        ValueError: not such a table, or a row that does not give its SHA-256.
    """
    found: dict[str, StoredCrystal] = {}
    try:
        for stored, digest in _rows(path):
            name = stored.crystal.name
            if name in found:
                raise ValueError(f"{name} is in it twice")
            if stored.sha256 != digest:
                raise ValueError(f"{name}: its content does not give its SHA-256")
            found[name] = stored
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a table of crystals: {error}; fetch it again") from error
    return found


def _rows(path: Path) -> Iterator[tuple[StoredCrystal, str]]:
    with pq.ParquetFile(path) as parquet:
        columns = {name: parquet.schema_arrow.field(name).type for name in parquet.schema_arrow.names}
        if columns != COLUMNS:
            raise ValueError(f"columns are {columns}, expected {COLUMNS}")
        for batch in parquet.iter_batches(_GROUP):
            for row in batch.to_pylist():
                atoms = {
                    "lattice": np.reshape(row["lattice"], (3, 3)),
                    "atomic_numbers": row["atomic_numbers"],
                    "frac_coords": np.reshape(row["frac_coords"], (-1, 3)),
                }
                yield StoredCrystal.of({**row, "crystal": atoms}), row["sha256"]
