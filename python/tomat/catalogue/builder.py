"""Building catalogues incrementally: only new and changed densities are read."""

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
    from collections.abc import Callable, Mapping, Sequence

    from tomat.material import Entry

#: Metadata of remote files that change with the content, the most reliable first.
_TAGS = ("crc32c", "md5Hash", "etag", "ETag", "generation", "mtime", "LastModified", "updated", "created")

#: Key of the digest in a line of the journal.
_SEAL = "sha256"


@dataclass
class BuildReport:
    """The outcome of a build.

    Attributes:
        rows: materials in the catalogue.
        read: densities read by this call.
        kept: rows kept, with unchanged files.
        dropped: rows dropped, of materials no longer in the inputs.
        errors: messages for materials that could not be read, by id.
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
    """Write the catalogue of ``entries`` to ``out``, in their order.

    Rows of files unchanged since an earlier build (by path, size and time or checksum) are kept. New rows also go to a
    journal next to ``out``, from which an interrupted build resumes. Materials that cannot be read are listed in the
    report and left out.

    Args:
        entries: the materials.
        out: the parquet file.
        splits: split of each material by id.
        threads: number of threads; one per processor by default.
        watch: called with the id of each density once it is read.

    Raises:
        OSError: ``out`` cannot be written.
        ValueError: ``out`` exists and is not a catalogue.
    """
    target = Path(out)
    journal = target.with_name(f".{target.name}.unfinished")
    before = {row["id"]: row for row in load(target).to_pylist()} if target.exists() else {}
    known = before | _journal_rows(journal)
    report = BuildReport(dropped=len(before.keys() - {entry.task_id for entry in entries}))
    found: dict[str, dict[str, Any]] = {}
    pending: dict[str, dict[str, Any]] = {}
    marked = _or_error(lambda entry: {"path": entry.path, **fingerprint(entry.path)})
    for entry, mark in in_order(marked, entries, threads):
        if isinstance(mark, Exception):
            report.errors[entry.task_id] = str(mark)
            continue
        row = known.get(entry.task_id)
        if row is not None and mark["version"] and all(row.get(k) == v for k, v in mark.items()):
            # The tokenizers may have changed.
            found[entry.task_id] = {**row, **token_columns(row["n_atoms"])}
        else:
            pending[entry.task_id] = mark
    report.kept = len(found)
    to_read = [entry for entry in entries if entry.task_id in pending]
    with journal.open("a") as file:
        file.write("\n" if file.tell() else "")  # the last line may be cut off
        for entry, made in in_order(_or_error(row_of), to_read, threads):
            if isinstance(made, Exception):
                report.errors[entry.task_id] = str(made)
            else:
                found[entry.task_id] = made | pending[entry.task_id]
                file.write(json.dumps(sealed(found[entry.task_id], _SEAL)) + "\n")
                file.flush()
                report.read += 1
            if watch is not None:
                watch(entry.task_id)
    ids = [entry.task_id for entry in entries if entry.task_id in found]
    save(target, ({**found[name], "split": (splits or {}).get(name)} for name in ids))
    journal.unlink(missing_ok=True)
    report.rows = len(found)
    return report


def _or_error(work: Callable[[Entry], dict[str, Any]]) -> Callable[[Entry], dict[str, Any] | Exception]:
    def run(entry: Entry) -> dict[str, Any] | Exception:
        try:
            return work(entry)
        except (OSError, ValueError) as error:
            return error

    return run


def fingerprint(path: str) -> dict[str, Any]:
    """``bytes`` and ``version`` of a file or folder, by which changes are detected.

    Raises:
        FileNotFoundError: it does not exist.
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
    """The fingerprint of a URL; the version is None if its store has nothing that changes with the content."""
    fs, inner = filesystem(url)
    try:
        is_folder = fs.isdir(inner)
        files = fs.find(inner, detail=True) if is_folder else {inner: fs.info(inner)}
    except FileNotFoundError:
        files = {}
    if not files:
        raise FileNotFoundError(f"{url}: no such file or folder")
    size = sum(int(facts.get("size") or 0) for facts in files.values())
    tags = [
        (name, next((f"{key} {facts[key]}" for key in _TAGS if facts.get(key)), None))
        for name, facts in sorted(files.items())
    ]
    if any(tag is None for _, tag in tags):
        return {"bytes": size, "version": None}
    digest = hashlib.sha256(json.dumps(tags).encode()).hexdigest()
    return {"bytes": size, "version": f"sha256 {digest[:32]} of {len(tags)} names and tags"}


def _journal_rows(journal: Path) -> dict[str, dict[str, Any]]:
    """The rows of an interrupted build, without damaged lines."""
    rows = {}
    for line in journal.read_text(errors="replace").splitlines() if journal.exists() else ():
        try:
            row = json.loads(line)
            check_seal(row, _SEAL, journal)
            del row[_SEAL]
            rows[row["id"]] = row
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return rows
