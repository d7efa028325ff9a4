"""Copying datasets: all files are verified, and ``meta.json`` is copied last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tomat._threads import in_order
from tomat.dataset.manifest import Worker, differing, open_dataset
from tomat.dataset.meta import BUDGET, CODEC, COVERAGE, CRYSTALS, META, changed, read_meta
from tomat.storage.remote import UrlPath, at_hand, place
from tomat.storage.retry import retried
from tomat.storage.transfer import DamagedError, Sums, is_same, put, sha256_of, sums_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tomat.storage.remote import Place

#: Files copied at once.
THREADS = 8


@dataclass
class SyncReport:
    """The outcome of a copy.

    Attributes:
        workers: workers in the copy.
        n_workers: workers of the dataset.
        rows: rows in the copy.
        copied, present: files copied, and files that were already there.
        bytes: bytes copied.
        missing: indices of the workers that are not in the copy.
    """

    workers: int = 0
    n_workers: int = 0
    rows: int = 0
    copied: int = 0
    present: int = 0
    bytes: int = 0
    missing: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """A file to copy; the SHA-256 is None if ``meta.json`` does not have it."""

    source: Place
    target: Place
    sha256: str | None


def sync_dataset(
    source: str | Path,
    target: str | Path,
    *,
    allow_partial: bool = False,
    overwrite: bool = False,
    threads: int = THREADS,
    watch: Callable[[int, int], None] | None = None,
) -> SyncReport:
    """Copy a dataset, or resume an interrupted copy.

    Shards are checked against the SHA-256 in ``meta.json`` at the source and at the target. A worker's ``meta.json`` is
    copied after its shards, so that an incomplete copy does not open.

    Args:
        source: a dataset, local or at a URL.
        target: a directory or URL; it is an error if it holds another dataset.
        allow_partial: copy what is there if workers are missing.
        overwrite: replace another dataset at the target.
        threads: files copied at once.
        watch: called after each file with the numbers of files done and in all.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_dataset`; another dataset at the target.
        OSError: a file is damaged at the source, or cannot be copied.
    """
    dataset = open_dataset(source, allow_partial=allow_partial)
    root = place(target)
    if str(root) == str(dataset.path):
        raise ValueError(f"{root}: source and target are the same")
    folders = [
        (worker, root if worker.path == dataset.path else root / worker.path.name)
        for worker in dataset.workers
    ]
    _check_target(root, folders, overwrite=overwrite)
    report = SyncReport(len(dataset.workers), int(dataset.meta.get("n_workers", len(dataset.workers))))
    total = sum(len(list(_files(worker, folder))) + 1 for worker, folder in folders)
    for worker, folder in folders:
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        last = _File(worker.path / META, folder / META, None)
        for files in (list(_files(worker, folder)), [last]):
            for _, size in in_order(_copy, files, threads):
                report.copied += size is not None
                report.present += size is None
                report.bytes += size or 0
                if watch is not None:
                    watch(report.copied + report.present, total)
    copy = open_dataset(target, allow_partial=allow_partial)
    there = {int(worker.meta.get("worker_index", index)) for index, worker in enumerate(copy.workers)}
    report.workers, report.rows = len(copy.workers), copy.total_rows
    report.missing = sorted(set(range(report.n_workers)) - there)
    return report


def _files(worker: Worker, folder: Place) -> Iterator[_File]:
    """All files of a worker but ``meta.json``."""
    for shard in worker.shards:
        yield _File(worker.path / shard["name"], folder / shard["name"], shard.get("sha256"))
    stated = {
        BUDGET: worker.meta.get("budget_sha256"),
        COVERAGE: worker.meta.get("coverage_sha256"),
        CODEC: worker.meta.get("codec_sha256"),
        CRYSTALS: worker.meta.get("crystals_sha256"),
    }
    codec = worker.meta.get("lmq_path")
    if codec and "/" not in codec:  # of another writer, under another name
        stated.setdefault(codec, None)
    for name, digest in sorted(stated.items()):
        # What the manifest states must be there; other writers state nothing.
        if digest is not None or (worker.path / name).exists():
            yield _File(worker.path / name, folder / name, digest)


def _check_target(root: Place, folders: list[tuple[Worker, Place]], *, overwrite: bool) -> None:
    """Check that the target holds no other dataset."""
    if root.is_file():
        raise ValueError(f"{root}: a file; the target is a directory")
    there: list[Place] = [root, *(root.glob("worker-*") if root.is_dir() else [])]
    ours = {str(folder): worker for worker, folder in folders}
    for folder in there:
        if not (folder / META).exists():
            continue
        worker = ours.get(str(folder))
        try:
            meta = read_meta(folder)
        except ValueError:
            meta = {}  # damaged: of another dataset
        if worker is not None and meta == worker.meta:
            continue
        if worker is None and folder != root and differing(meta, folders[0][0].meta) is None:
            continue  # a worker that the source lacks
        if not overwrite:
            raise ValueError(
                f"{folder}: another dataset is there; choose another target, or give --overwrite"
            )
        if isinstance(folder, UrlPath):
            folder.remove([META])
        else:
            (folder / META).unlink()


def _copy(file: _File) -> int | None:
    """Copy and verify a file; its size, or None if it was already there."""
    if _is_there(file):
        return None

    def fetch_and_put() -> int:
        with at_hand(file.source) as local:
            sums = sums_of(local)
            if file.sha256 is not None and file.sha256 != sums.sha256:
                raise DamagedError(changed(file.source, sums.sha256, file.sha256))
            put(local, file.target, sums)
        return sums.size

    if isinstance(file.source, UrlPath):
        return retried(fetch_and_put, str(file.source))
    return fetch_and_put()


def _is_there(file: _File) -> bool:
    """Whether the target already has the file, by its SHA-256 or by checksums that both stores keep."""
    try:
        if file.sha256 is not None and isinstance(file.target, Path):
            return sha256_of(file.target) == file.sha256
        if isinstance(file.source, UrlPath) and isinstance(file.target, UrlPath):
            ours, theirs = file.source.info(), file.target.info()
            keys = [key for key in ("md5Hash", "crc32c") if key in ours and key in theirs]
            if keys and ours["size"] == theirs["size"]:
                return all(ours[key] == theirs[key] for key in keys)
        if not file.target.exists():
            return False
        with at_hand(file.source) as local:
            sums: Sums = sums_of(local)
        return file.sha256 in (None, sums.sha256) and is_same(file.target, sums)
    except FileNotFoundError:
        return False
