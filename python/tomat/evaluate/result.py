"""A result on disk: ``materials.parquet`` (one row per material and mode) and ``result.json`` (the rest).

During an evaluation ``parts/`` holds one complete file per finished material, so a stopped evaluation can resume.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomat.evaluate.measure import COLUMNS
from tomat.storage.files import read_json, write_atomically
from tomat.workplace import plain

#: Version of the format; readers accept all versions up to it.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Result:
    """A finished evaluation.

    Attributes:
        path: its folder.
        rows: one per material and mode, see :data:`tomat.evaluate.measure.COLUMNS`.
        identity: everything it depends on.
        aggregates: a summary of each mode, see :func:`tomat.evaluate.aggregate.aggregate`.
        errors: materials that failed: ``task_id``, ``mode`` (None is all), ``error``.
        settings: of the intervals.
    """

    path: Path
    rows: list[dict[str, Any]]
    identity: dict[str, Any]
    aggregates: dict[str, Any]
    errors: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return str(self.identity.get("name") or self.path.name)

    def of_mode(self, mode: str) -> dict[str, dict[str, Any]]:
        """Rows of a mode by material."""
        return {row["task_id"]: row for row in self.rows if row["mode"] == mode}

    def save(self) -> None:
        """Write both files, ``result.json`` last: its presence marks a complete result."""
        content: dict[str, Any] = {
            "format": "tomat result",
            "version": FORMAT_VERSION,
            "n_materials": len({row["task_id"] for row in self.rows}),
            "n_errors": len(self.errors),
            "identity": self.identity,
            "intervals": self.settings,
            "aggregates": self.aggregates,
            "errors": self.errors,
        }
        content["parquet_sha256"] = write_rows(self.path / "materials.parquet", self.rows, COLUMNS)
        text = json.dumps(plain(content), indent=1, allow_nan=False)
        write_atomically(self.path / "result.json", (text + "\n").encode())


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Write ``rows`` as Parquet with these columns and Arrow types; returns the SHA-256 of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def arrow(kind: str) -> Any:
        return pa.list_(arrow(kind[5:-1])) if kind.startswith("list<") else pa.type_for_alias(kind)

    schema = pa.schema([(name, arrow(kind)) for name, kind in columns.items()])
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([dict(row) for row in rows], schema=schema), buffer, compression="zstd"
    )
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_result(path: str | Path) -> Result:
    """Read a result from its folder or its ``result.json``.

    Raises:
        FileNotFoundError: there is none, or the evaluation was not finished.
        ValueError: it is damaged, of a newer version, or its two files are from different evaluations.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = Path(path)
    folder = given.parent if given.name == "result.json" else given
    place = folder / "result.json"
    if not place.exists():
        why = "the evaluation was not finished" if (folder / "parts").is_dir() else "no result"
        raise FileNotFoundError(f"{place}: not found: {why}; run tomat eval")
    content = read_json(place)
    if content.get("format") != "tomat result":
        raise ValueError(f"{place}: not a result of tomat eval")
    if content.get("version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"{place}: format version {content['version']} is newer than {FORMAT_VERSION}; update tomat"
        )
    data = (folder / "materials.parquet").read_bytes()
    if content.get("parquet_sha256") != hashlib.sha256(data).hexdigest():
        raise ValueError(
            f"{folder}: materials.parquet and result.json are from different evaluations; evaluate again"
        )
    try:
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        return Result(
            folder,
            rows,
            dict(content["identity"]),
            dict(content["aggregates"]),
            list(content["errors"]),
            dict(content["intervals"]),
        )
    except (KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ValueError(f"{folder}: damaged: {error}") from error
