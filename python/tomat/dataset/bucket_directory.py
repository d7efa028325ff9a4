"""A worker's directory in a bucket: shards are written locally and uploaded one by one, ``meta.json`` last."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

from tomat._threads import in_order
from tomat.dataset.meta import META, check_shard_name
from tomat.dataset.run_directory import BESIDE, PROGRESS, RUN, RunDirectory, is_current
from tomat.storage.remote import UrlPath, fetch_files
from tomat.storage.transfer import Sums, is_same, put
from tomat.workplace import identity_hash, parse_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from tomat.storage.remote import Place

#: Shards per batch; one batch is written while another is uploaded.
_BATCH = 8
#: Concurrent uploads.
_UPLOADS = 4


def run_directory(place: Place) -> RunDirectory:
    """The directory of a worker, local or in a bucket."""
    return BucketDirectory(place) if isinstance(place, UrlPath) else RunDirectory(place)


class BucketDirectory(RunDirectory):
    """A directory in a bucket, with a local folder for unfinished files.

    A shard is finished when its record is in ``.progress/``; the record is uploaded after the shard was verified. There
    is no lock: two runs of one worker upload equal bytes under equal names.
    """

    def __init__(self, url: UrlPath) -> None:
        super().__init__(Path())
        self.place: UrlPath = url
        self._pool: ThreadPoolExecutor | None = None
        self._uploads: list[Future[None]] = []

    @override
    @contextmanager
    def locked(self, wait_s: float = 0.0) -> Iterator[None]:
        with (
            tempfile.TemporaryDirectory(prefix="tomat-", ignore_cleanup_errors=True) as folder,
            ThreadPoolExecutor(_UPLOADS, "tomat-upload") as pool,
        ):
            self.path, self._pool = Path(folder), pool
            self.progress.mkdir()
            try:
                yield
            finally:
                pool.shutdown(cancel_futures=True)

    @override
    def clear(self) -> None:
        self.place.remove([META])
        self.place.remove([*BESIDE[1:], *self.strays()])
        self.clear_progress()

    @override
    def clear_progress(self) -> None:
        progress = self.place / PROGRESS
        names = progress.list_files()
        # Last, since it marks the run as started.
        progress.remove([name for name in names if name != RUN])
        progress.remove([RUN] if RUN in names else [])

    @override
    def start(self, identity: dict[str, Any]) -> None:
        super().start(identity)
        put(self.progress / RUN, self.place / PROGRESS / RUN)

    @override
    def finished(self, identity: dict[str, Any]) -> set[str]:
        expected = identity_hash(identity)
        names = [name for name in (self.place / PROGRESS).list_files() if name.startswith("shard-")]
        there = self.place.list_files()
        records = {}
        for name, content in fetch_files(str(self.place / PROGRESS), names).items():
            record = parse_record(content, self.place / PROGRESS / name)
            shard = str(record.get("shard")) if record else ""
            if record and shard in there and is_current(record, expected):
                check_shard_name(shard, self.place / PROGRESS)
                # The record of a local run, copied here, has no MD5.
                if all(key in record for key in ("bytes", "sha256", "md5")):
                    records[shard] = record

        def is_whole(name: str) -> bool:
            return is_same(self.place / name, _sums(records[name]), there[name])

        whole = {name for name, answer in in_order(is_whole, records) if answer}
        for name in whole:
            write_record(self.progress / f"{name}.json", records[name])
        return whole

    @override
    def missing(self, identity: dict[str, Any], shards: Sequence[str]) -> list[str]:
        if not self.is_finished and self.stored_identity() != identity:
            raise OSError(f"{self}: another run has begun here while this one went on; choose another --out")
        there = self.place.list_files()
        records = dict(self._records(identity))
        return [
            name
            for name in shards
            if name not in there
            or name not in records
            or not is_same(self.place / name, _sums(records[name]), there[name])
        ]

    @override
    def batches[T](self, pending: Sequence[T]) -> Iterable[Sequence[T]]:
        return batched(pending, _BATCH)

    @override
    def publish(self, names: Sequence[str]) -> None:
        self.settle()
        assert self._pool is not None, "publish is called while locked"
        finished = [name for name in names if (self.progress / f"{name}.json").exists()]
        self._uploads = [self._pool.submit(self._upload, name) for name in finished]

    @override
    def settle(self) -> None:
        uploads, self._uploads = self._uploads, []
        for upload in uploads:
            upload.result()

    def _upload(self, name: str) -> None:
        record_path = self.progress / f"{name}.json"
        record = self._record(name)
        sums = put(self.path / name, self.place / name)
        write_record(record_path, record | {"md5": sums.md5, "crc32c": sums.crc32c})
        put(record_path, self.place / PROGRESS / record_path.name)
        (self.path / name).unlink()

    @override
    def _publish_beside(self) -> None:
        for name in reversed(BESIDE):
            if (self.path / name).exists():
                put(self.path / name, self.place / name)


def _sums(record: dict[str, Any]) -> Sums:
    return Sums(record["bytes"], record["sha256"], record["md5"], record.get("crc32c"))
