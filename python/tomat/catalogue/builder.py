"""Build a catalogue: read what is new or has changed, keep the rest, replace the file at once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat._seal import check_seal, sealed
from tomat._threads import in_order
from tomat.catalogue.rows import row_of
from tomat.catalogue.table import load, save, token_columns
from tomat.storage.files import filesystem, is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tomat.material import Entry

#: What file systems call the thing that changes with the content, the surest first.
_TAGS = ("crc32c", "md5Hash", "etag", "ETag", "generation", "mtime", "LastModified", "updated", "created")

#: Key of a journal's line that holds its digest.
_SEAL = "sha256"


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        rows: materials in the catalogue.
        read: densities read by this call.
        kept: rows taken over, their files unchanged.
        dropped: rows of the catalogue before that the inputs no longer name.
        errors: why a material is not in the catalogue, by id.
    """

    rows: int = 0
    read: int = 0
    kept: int = 0
    dropped: int = 0
    errors: dict[str, str] = field(default_factory=dict)


def build(
    entries: Sequence[Entry],
    out: str | Path,
    *,
    splits: Mapping[str, str] | None = None,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> BuildReport:
    """The catalogue of ``entries`` in ``out``, in their order.

    A catalogue that is there already gives the rows of files that have not changed since (by path, size and time or
    checksum). What is read goes to a journal beside ``out`` at once, so that a build that was stopped goes on from
    there. A material that cannot be read is named in the report and is not in the catalogue.

    Args:
        entries: the materials.
        out: the parquet file.
        splits: list of each material in the split file, by id.
        threads: that read; one a processor where None.
        watch: called with the id of each density when it was read.

    Raises:
        OSError: ``out`` cannot be written.
        ValueError: ``out`` is there and not a catalogue.
    """
    target = Path(out)
    journal = _Journal(target.with_name(f".{target.name}.unfinished"))
    before = {row["id"]: row for row in load(target).to_pylist()} if target.exists() else {}
    known = before | journal.load()
    report = BuildReport(dropped=len(before.keys() - {entry.task_id for entry in entries}))
    found: dict[str, dict[str, Any]] = {}
    pending: dict[str, dict[str, Any]] = {}
    to_read = []
    for entry, mark in in_order(_mark, entries, threads):
        if isinstance(mark, Exception):
            report.errors[entry.task_id] = str(mark)
            continue
        row = known.get(entry.task_id)
        if row is not None and mark["version"] and all(row.get(k) == v for k, v in mark.items()):
            # What this program makes of the numbers may have changed, the numbers have not.
            found[entry.task_id] = {**row, **token_columns(row["n_atoms"])}
        else:
            pending[entry.task_id] = mark
            to_read.append(entry)
    report.kept = len(found)
    with journal:
        for entry, made in in_order(_row, to_read, threads):
            if isinstance(made, Exception):
                report.errors[entry.task_id] = str(made)
            else:
                found[entry.task_id] = made | pending[entry.task_id]
                journal.add(found[entry.task_id])
                report.read += 1
            if watch is not None:
                watch(entry.task_id)
    save(target, _in_order(entries, found, splits or {}))
    journal.remove()
    report.rows = len(found)
    return report


def _in_order(
    entries: Sequence[Entry], found: Mapping[str, dict[str, Any]], splits: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if entry.task_id in found:
            yield {**found[entry.task_id], "split": splits.get(entry.task_id)}


def _row(entry: Entry) -> dict[str, Any] | Exception:
    try:
        return row_of(entry)
    except (OSError, ValueError) as error:
        return error


def _mark(entry: Entry) -> dict[str, Any] | Exception:
    try:
        return {"path": entry.path, **fingerprint(entry.path)}
    except (OSError, ValueError) as error:
        return error


def fingerprint(path: str) -> dict[str, Any]:
    """``bytes`` and ``version`` of a file or folder: what changes when it does.

    Raises:
        FileNotFoundError: it is not there.
        OSError, ValueError: it cannot be reached.
    """
    if is_url(path):
        return _remote(path)
    place = Path(path)
    if not place.is_dir():
        facts = place.stat()
        return {"bytes": facts.st_size, "version": f"mtime {facts.st_mtime_ns}"}
    size, newest, count = 0, 0, 0
    for folder, _, names in os.walk(place):
        for name in names:
            facts = (Path(folder) / name).stat()
            size, newest, count = size + facts.st_size, max(newest, facts.st_mtime_ns), count + 1
    return {"bytes": size, "version": f"mtime {newest} of {count} files"}


def _remote(url: str) -> dict[str, Any]:
    """Of a URL; no version where its file system says nothing that changes with the content."""
    fs, inner = filesystem(url)
    try:
        is_folder = fs.isdir(inner)
        files = fs.find(inner, detail=True) if is_folder else {inner: fs.info(inner)}
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file or folder") from None
    if not files:
        raise FileNotFoundError(f"{url}: no such file or folder")
    size = sum(int(facts.get("size") or 0) for facts in files.values())
    tags = [(name, _tag(facts)) for name, facts in sorted(files.items())]
    if any(tag is None for _, tag in tags):
        return {"bytes": size, "version": None}
    digest = hashlib.sha256(json.dumps(tags).encode()).hexdigest()
    return {"bytes": size, "version": f"sha256 {digest[:32]} of {len(tags)} names and tags"}


def _tag(facts: Mapping[str, Any]) -> str | None:
    return next((f"{key} {facts[key]}" for key in _TAGS if facts.get(key)), None)


class _Journal:
    """Rows as they are read, a line each, so that nothing is read twice when a build is stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, dict[str, Any]]:
        """What an earlier build left; a line that was cut off or is damaged is left out, and its density read again."""
        rows = {}
        for line in self.path.read_text(errors="replace").splitlines() if self.path.exists() else ():
            try:
                row = json.loads(line)
                check_seal(row, _SEAL, self.path)
                del row[_SEAL]
                rows[row["id"]] = row
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return rows

    def __enter__(self) -> _Journal:
        self._file = self.path.open("a")
        if self.path.stat().st_size:
            self._file.write("\n")  # after a line that was cut off
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        self._file.write(json.dumps(sealed(row, _SEAL)) + "\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def remove(self) -> None:
        """When the catalogue itself holds everything."""
        self.path.unlink(missing_ok=True)
