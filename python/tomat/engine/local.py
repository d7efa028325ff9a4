"""Tokenization on this machine: the Rust pipeline runs in its own thread."""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomat import _core
from tomat._threads import check_threads
from tomat.dataset.bucket_directory import run_directory
from tomat.dataset.meta import REASONS, read_meta
from tomat.dataset.run_directory import clipped_totals
from tomat.material import fetch, is_read_by_core
from tomat.sampling import draw, native_arguments
from tomat.storage.remote import place
from tomat.workplace import differences, identity_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tomat.budget import Shares
    from tomat.dataset.config import TokenizeConfig
    from tomat.dataset.run_directory import RunDirectory, Totals
    from tomat.material import Entry
    from tomat.storage.remote import Place

#: Seconds between progress reports.
_POLL_S = 0.1

#: Keys of the identity that differ between the workers of one dataset.
_OWN = frozenset({"worker_index", "n_materials_listed", "materials_hash"})

#: Keys missing from identities of earlier versions. Such unfinished runs can be resumed; their shards are rewritten.
_ADDED = frozenset({"max_clipped", "max_negative", "strict"})

#: Number of other workers' parts whose identity is compared with this one's.
_NEIGHBOURS = 3

#: Counters that are nanoseconds summed over threads.
_STAGES = ("read", "encode", "compress", "write")


class StoppedError(RuntimeError):
    """The run was stopped; finished shards are kept, and ``--resume`` continues it."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run in this call."""

    materials: int
    n_materials: int
    left_out: int
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """The outcome of a finished run.

    Attributes:
        directory: of the dataset.
        n_materials: materials with rows.
        n_listed: materials given to this worker.
        rows, shards, bytes: in the whole directory, including earlier runs.
        tokens: rows times their length.
        left_out: number of materials left out, by reason.
        left_out_first: the first of them by id, with messages.
        clipped: what the codec clips, as :attr:`tomat.clipping.ClippedTotals.stored`.
        n_warned: number of implausible materials with rows.
        warnings: the first of them by id, with messages.
        resumed_shards: shards that existed already.
        seconds: duration of this call.
        stage_seconds: seconds by stage, summed over threads, of this call.
    """

    directory: Place
    n_materials: int
    n_listed: int
    rows: int
    shards: int
    bytes: int
    tokens: int
    left_out: dict[str, int]
    left_out_first: dict[str, str]
    clipped: dict[str, Any]
    n_warned: int
    warnings: dict[str, list[str]]
    resumed_shards: int
    seconds: float
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Materials without rows."""
        return sum(self.left_out.values())


class Run:
    """The tokenization of one worker's materials.

    Args:
        config: of the dataset.
        entries: all materials, of which the worker takes its part.
        out: the dataset directory or a URL; if there are several workers, each has a folder in it.
        on_error: ``fail`` stops at the first material that is missing or unreadable; ``skip`` leaves it out.
        threads: number of encoding threads (and as many reading ones), at most 1024; one per processor by default.
        is_part: ``entries`` are already this worker's part.
        shares: patches of ``entries``; by default from the configuration's budget.
    """

    def __init__(
        self,
        config: TokenizeConfig,
        entries: Sequence[Entry],
        out: str | Path,
        *,
        on_error: Literal["fail", "skip"] = "fail",
        threads: int | None = None,
        is_part: bool = False,
        shares: Shares | None = None,
    ) -> None:
        self.config = config
        self.entries = list(entries) if is_part else config.own(entries)
        shares = shares or config.shares(entries)
        self.patches = list(shares.patches) if is_part else config.own(shares.patches)
        self.identity = config.identity(self.entries, shares.digest)
        self.root = place(out)
        own = f"worker-{config.worker_index:02d}"
        self.directory = run_directory(self.root / own if config.n_workers > 1 else self.root)
        self.on_error = on_error
        self.threads = check_threads(threads or None)
        self._native: _core.ShardRun | None = None
        self._is_cancelled = False

    @property
    def plan(self) -> list[tuple[str, int, int]]:
        """Name, first material and end of each shard."""
        return self.config.shards(self.patches)

    def execute(
        self,
        *,
        resume: bool = False,
        overwrite: bool = False,
        watch: Callable[[Progress], None] | None = None,
        wait_s: float = 0.0,
    ) -> Summary:
        """Write the dataset, or resume it; wait up to ``wait_s`` seconds for another run in the same place.

        Raises:
            FileExistsError: there is a dataset, finished or not, and neither ``resume`` nor ``overwrite`` is set.
            FileNotFoundError, OSError, ValueError: a material that cannot be read (``on_error="fail"``), or a
                directory that cannot be written.
            StoppedError: :meth:`cancel` was called.
        """
        start = time.monotonic()
        self._check_place()
        try:
            with self.directory.locked(wait_s):
                directory = self.directory
                if self._prepare(resume=resume, overwrite=overwrite):
                    directory.clear_progress()
                    return self._summary(None, len(self.plan), start, {})
                there = directory.finished(self.identity)
                names = [name for name, _, _ in self.plan]
                native = self._pipeline()
                self._drive(native, [shard for shard in self.plan if shard[0] not in there], watch, start)
                vanished = directory.missing(self.identity, names)
                if vanished:
                    raise OSError(f"{directory}: shards vanished while the run went on: {vanished[:5]}")
                rows = dict(zip((entry.task_id for entry in self.entries), self.patches, strict=True))
                totals = directory.finish(self.config, self.identity, names, rows)
                counters = dict(native.progress())
                stages = {stage: counters[f"{stage}_ns"] / 1e9 for stage in _STAGES}
                return self._summary(totals, len(there), start, stages)
        finally:
            self._remove_empty_root()

    def cancel(self) -> None:
        """Stop at the next material; :meth:`execute` then raises :class:`StoppedError`."""
        self._is_cancelled = True
        if self._native is not None:
            self._native.cancel()

    def _check_place(self) -> None:
        """Check that ``out`` does not mix datasets of one worker and of several."""
        root = self.root
        if root.is_file():
            raise FileExistsError(f"{root}: is a file; --out must be a directory")
        parts: Iterable[Place] = root.glob("worker-*") if root.is_dir() else []
        if self.config.n_workers == 1:
            if any(parts):
                raise FileExistsError(f"{root}: holds the parts of several workers; choose another --out")
            return
        whole = run_directory(root)
        if whole.is_finished or whole.is_started:
            raise FileExistsError(f"{root}: holds a dataset of one worker; choose another --out")
        others = (run_directory(path) for path in sorted(parts, key=str) if path != self.directory.place)
        begun = (part for part in others if part.is_finished or part.is_started)
        for part in islice(begun, _NEIGHBOURS):
            self._check_identity(part, ignore=_OWN)

    def _remove_empty_root(self) -> None:
        if isinstance(self.root, Path) and self.root.is_dir() and not any(self.root.iterdir()):
            with contextlib.suppress(OSError):  # another worker has removed it or just begun
                self.root.rmdir()

    def _prepare(self, *, resume: bool, overwrite: bool) -> bool:
        """Prepare the directory; True if it is finished already."""
        directory = self.directory
        if overwrite:
            directory.clear()
        is_finished = directory.is_finished
        if not resume:
            directory.check_vacant()
        if is_finished or directory.is_started:
            added = frozenset() if is_finished else _ADDED - directory.stored_identity().keys()
            self._check_identity(directory, ignore=added)
            if added:
                directory.start(self.identity)
            return is_finished
        strays = directory.strays()
        if strays:
            raise FileExistsError(
                f"{directory}: holds {len(strays)} shards of an unknown run; give --overwrite to replace them"
            )
        directory.start(self.identity)
        return False

    def _check_identity(self, directory: RunDirectory, ignore: frozenset[str] = frozenset()) -> None:
        """Check that the run in ``directory`` differs from this one in no key but ``ignore``."""
        stored = directory.stored_identity()
        keys = differences(stored, self.identity, free=ignore)
        if keys:
            changes = (f"{key} was {stored.get(key)!r}, is {self.identity.get(key)!r}" for key in keys)
            remedy = "--overwrite" if directory is self.directory else "another --out"
            raise ValueError(
                f"{directory}: the run there has other options ({'; '.join(changes)}); give the same, or {remedy}"
            )

    def _pipeline(self) -> _core.ShardRun:
        config = self.config
        described = {
            "tomat_version": _core.__version__,
            "layout": config.layout,
            "codec_hash": self.identity["codec_hash"],
            "vocabulary_hash": self.identity["vocabulary_hash"],
            "unit": config.tokenizer.unit,
        }
        sampler = config.origins.sampler
        native = native_arguments(sampler)
        self._native = _core.ShardRun(
            config.tokenizer._core,
            [(entry.task_id, entry.path) for entry in self.entries],
            self._fetch if not all(is_read_by_core(entry.path) for entry in self.entries) else None,
            seed=config.seed,
            epoch=config.epoch,
            patches=self.patches,
            sampler=native,
            draw=None if native[0] else (self._draw, sampler.needs_density),
            directory=self.directory.path,
            metadata=[(f"tomat.{key}", value) for key, value in described.items()],
            encoding=config.encoding,
            compression_level=config.compression_level,
            skip_errors=self.on_error == "skip",
            max_clipped=config.max_clipped,
            max_negative=config.max_negative,
            strict=config.strict,
            threads=self.threads,
            identity=identity_hash(self.identity),
            run_id=uuid.uuid4().hex,
        )
        if self._is_cancelled:  # before the pipeline existed
            self._native.cancel()
        return self._native

    def _draw(
        self,
        task_id: str,
        grid_shape: tuple[int, int, int],
        patch_shape: tuple[int, int, int],
        density: NDArray[np.float32] | None,
        n: int,
    ) -> NDArray[np.int64]:
        """Origins by a sampler that is not built in; called from the pipeline's threads."""
        config, shapes = self.config, (grid_shape, patch_shape)
        seed, epoch = config.seed, config.epoch
        drawn = draw(config.origins.sampler, *shapes, density, n, seed=seed, task_id=task_id, epoch=epoch)
        return drawn.astype(np.int64)

    def _fetch(self, index: int) -> dict[str, bytes] | bytes | None:
        """The content of a material, called from the pipeline's reading threads; None for a local path."""
        return fetch(self.entries[index].path)

    def _drive(
        self,
        native: _core.ShardRun,
        pending: list[tuple[str, int, int]],
        watch: Callable[[Progress], None] | None,
        start: float,
    ) -> None:
        """Run the pipeline to its end; an exception in this thread (Ctrl-C) stops it first."""
        total = sum(end - first for _, first, end in pending)
        with ThreadPoolExecutor(1, "tomat-pipeline") as pool:
            written = pool.submit(self._write, native, pending)
            try:
                while not written.done():
                    wait([written], _POLL_S)
                    if watch is not None:
                        counters = dict(native.progress())
                        told = {name: counters[name] for name in ("materials", "left_out", "rows", "bytes")}
                        watch(Progress(n_materials=total, seconds=time.monotonic() - start, **told))
            finally:
                native.cancel()
        if not written.result():
            raise StoppedError(f"{self.directory}: stopped; go on with --resume")

    def _write(self, native: _core.ShardRun, pending: list[tuple[str, int, int]]) -> bool:
        """Write and publish the shards; False if the run was cancelled."""
        for batch in self.directory.batches(pending):
            is_whole = False
            try:
                is_whole = native.run(list(batch))
            finally:
                # Including the shards finished before an error or Ctrl-C.
                self.directory.publish([name for name, _, _ in batch])
                if not is_whole:
                    self.directory.settle()
            if not is_whole:
                return False
        self.directory.settle()
        return True

    def _summary(
        self, totals: Totals | None, resumed: int, start: float, stages: dict[str, float]
    ) -> Summary:
        """The summary from ``meta.json``, with this run's messages for materials left out."""
        meta = read_meta(self.directory.place)
        words = {} if totals is None else totals.first_left_out
        return Summary(
            directory=self.directory.place,
            n_materials=meta["n_materials"],
            n_listed=meta["n_materials_listed"],
            rows=meta["total_rows"],
            shards=meta["n_shards"],
            bytes=sum(shard["bytes"] for shard in meta["shards"]),
            tokens=meta["total_rows"] * meta["pad_to"],
            left_out={r: n for r in REASONS if (n := meta.get(f"n_materials_{r}", 0))},
            left_out_first={
                task_id: f"{reason}: {words.get(reason, {}).get(task_id, 'in an earlier run')}"
                for reason in REASONS
                for task_id in meta.get(f"first_materials_{reason}", [])
            },
            clipped=clipped_totals(meta).stored,
            n_warned=meta["n_materials_warned"],
            warnings=meta["warnings"],
            resumed_shards=resumed,
            seconds=time.monotonic() - start,
            stage_seconds=stages,
        )


def tokenize(
    config: TokenizeConfig,
    entries: Sequence[Entry],
    out: str | Path,
    *,
    on_error: Literal["fail", "skip"] = "fail",
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Summary:
    """Tokenize materials into a dataset directory; see :class:`Run`."""
    return Run(config, entries, out, on_error=on_error, threads=threads).execute(
        resume=resume, overwrite=overwrite
    )
