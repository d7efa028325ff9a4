"""Jobs: tokenizations in parts, one per worker, that any engine can run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from tomat._threads import check_threads
from tomat.clipping import ClippedTotals
from tomat.dataset.bucket_directory import run_directory
from tomat.dataset.inputs import resolve_inputs
from tomat.dataset.manifest import open_dataset
from tomat.engine.local import Progress, Run, StoppedError, Summary
from tomat.storage.files import is_url
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from tomat.budget import Shares
    from tomat.dataset.config import TokenizeConfig
    from tomat.engine.items import Lost, Work
    from tomat.material import Entry

#: Numbers of a summary that add up over workers.
_SUMMED = ("n_materials", "n_listed", "rows", "shards", "bytes", "tokens", "n_warned", "resumed_shards")

#: Seconds a part waits for an earlier run of itself that an engine believed dead.
LOCK_WAIT_S = 600.0


@dataclass(frozen=True)
class Part:
    """The work of one worker, self-contained so that it can be sent to another process or machine.

    Running a part again, later or concurrently, gives the same result.

    Attributes:
        config: with this worker's index.
        entries: this worker's materials.
        out: the dataset directory or a URL.
        on_error, threads: as for :class:`tomat.engine.Run`.
        shares: patches of the entries.
        codec_file: name and content of the codec if it is a local file, which other machines may not have.
    """

    config: TokenizeConfig
    entries: tuple[Entry, ...]
    out: str
    on_error: Literal["fail", "skip"]
    threads: int | None
    shares: Shares
    codec_file: tuple[str, bytes] | None = None

    def run(
        self, watch: Callable[[Progress], None] | None = None, begin: Callable[[Run], None] | None = None
    ) -> Summary:
        """Run the part, or resume it.

        Args:
            watch: called with the progress several times per second.
            begin: called with the run before it starts, so that it can be cancelled.

        Raises:
            FileNotFoundError, OSError, ValueError, StoppedError: as :meth:`tomat.engine.Run.execute`.
        """
        with tempfile.TemporaryDirectory(prefix="tomat-") as folder:
            config = self.config
            if self.codec_file is not None:
                name, content = self.codec_file
                Path(folder, name).write_bytes(content)
                config = replace(config, codec=str(Path(folder, name)))
            run = Run(
                config,
                self.entries,
                self.out,
                on_error=self.on_error,
                threads=self.threads,
                is_part=True,
                shares=self.shares,
            )
            if begin is not None:
                begin(run)
            try:
                return run.execute(resume=True, watch=watch, wait_s=LOCK_WAIT_S)
            except OSError:
                if not run.directory.is_finished:
                    raise
                # Without a lock, another run of this part may have finished first.
                return run.execute(resume=True)


@dataclass(frozen=True)
class Job:
    """The tokenization of a whole dataset in ``config.n_workers`` parts.

    Attributes:
        config: ``worker_index`` is ignored.
        entries: all materials.
        out: the dataset directory or a URL.
        on_error: ``fail`` stops at the first material that is missing or unreadable; ``skip`` leaves it out.
        threads: threads per worker; by default the engine's choice.
    """

    config: TokenizeConfig
    entries: Sequence[Entry]
    out: str
    on_error: Literal["fail", "skip"] = "fail"
    threads: int | None = None

    @classmethod
    def of(
        cls,
        config: TokenizeConfig,
        entries: Sequence[Entry],
        out: str | Path,
        *,
        on_error: Literal["fail", "skip"] = "fail",
        threads: int | None = None,
    ) -> Self:
        """A job with absolute paths, which are valid in any process.

        Raises:
            KeyError, OSError, ValueError: the codec cannot be read or has another unit; too many threads.
        """
        check_threads(threads)
        _ = config.tokenizer  # fail here rather than in every worker
        everywhere = [
            entry if _is_absolute(entry.path) else replace(entry, path=_absolute(entry.path))
            for entry in entries
        ]
        return cls(config, everywhere, _absolute(str(out)), on_error, threads)

    @property
    def n_workers(self) -> int:
        """Number of parts."""
        return self.config.n_workers

    def parts(self, threads: int) -> Iterable[Part]:
        """The parts, each with ``threads`` threads unless the job sets them."""
        codec_file = None
        codec = self.config.codec
        if codec is not None and not is_url(codec) and Path(codec).is_file():
            codec_file = (Path(codec).name, Path(codec).read_bytes())
        shares = self.config.shares(self.entries)
        for index in range(self.n_workers):
            config = replace(self.config, worker_index=index)
            own = tuple(config.own(self.entries))
            patches = replace(shares, patches=tuple(config.own(shares.patches)))
            yield Part(config, own, self.out, self.on_error, self.threads or threads, patches, codec_file)


def prepare(out: str, *, resume: bool, overwrite: bool) -> None:
    """Prepare ``out`` for parts that all resume; with ``overwrite``, clear it.

    Raises:
        FileExistsError: there is a dataset, finished or not, and neither ``resume`` nor ``overwrite`` is set.
    """
    root = place(out)
    folders = [root, *root.glob("worker-*")] if root.is_dir() else []
    for directory in map(run_directory, folders):
        if overwrite:
            if directory.is_finished or directory.is_started or directory.strays():
                with directory.locked():
                    directory.clear()
        elif not resume:
            directory.check_vacant()


def check(out: str) -> None:
    """Check that the parts of all workers are in one place.

    Raises:
        ValueError: parts are missing.
    """
    try:
        open_dataset(out)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{error} (every worker has finished: if they run on several machines, --out must be a URL or a directory "
            "that all of them share)"
        ) from error


class Engine(ABC):
    """A way to run the parts of a job, and other work on many items."""

    def __init__(self) -> None:
        self._is_cancelled = threading.Event()

    def resolve_inputs(
        self, inputs: Sequence[str], *, split_file: str | None, split: str | None, limit: int | None
    ) -> list[Entry]:
        """:func:`tomat.dataset.resolve_inputs`, run where the workers see the inputs."""
        return resolve_inputs(inputs, split_file=split_file, split=split, limit=limit)

    def run(
        self,
        job: Job,
        *,
        resume: bool = False,
        overwrite: bool = False,
        watch: Callable[[Progress], None] | None = None,
    ) -> Summary:
        """Write the dataset, or resume it; every engine writes the same bytes.

        Raises:
            FileExistsError: as :func:`prepare`.
            FileNotFoundError, OSError, ValueError: the first error of a worker; the others are stopped.
            StoppedError: :meth:`cancel` was called.
        """
        self._prepare(job.out, resume=resume, overwrite=overwrite)
        board, summaries = Board(job), []
        with contextlib.closing(self._work(job)) as steps:
            for news in steps:
                for index, told in news:
                    if isinstance(told, Summary):
                        summaries.append(told)
                    else:
                        board.post(index, told)
                if watch is not None:
                    watch(board.total)
        self._check(job.out)
        return add_up(job.out, summaries)

    def each[S, R](
        self, work: Work[S, R], items: Sequence[S], workers: int
    ) -> Generator[tuple[int, R | Lost]]:
        """Do ``work`` on items by several workers at a time, and give each result with its item's number as it comes.

        A worker takes items one by one. If it dies, others try those that it held; an item whose worker dies each time
        is :class:`tomat.engine.items.Lost`. Closing this, and the first error that ``work`` raises, stop all workers.

        Raises:
            ValueError: the engine only tokenizes.
            OSError: workers die before they take any item.
        """
        raise ValueError(f"{type(self).__name__} can only tokenize; take the engine local or ray")

    def cancel(self) -> None:
        """Stop all workers at their next material; finished shards are kept."""
        self._is_cancelled.set()

    def _prepare(self, out: str, *, resume: bool, overwrite: bool) -> None:
        """:func:`prepare`, run where the workers see the directory."""
        prepare(out, resume=resume, overwrite=overwrite)

    def _check(self, out: str) -> None:
        """:func:`check`, run where the workers see the directory."""
        check(out)

    @abstractmethod
    def _work(self, job: Job) -> Generator[list[tuple[int, Progress | Summary]]]:
        """Run every part, and give what the workers say, by index: their progress, and a summary of each at its end.

        The first error of a worker is raised after the others have stopped, as they also are when this is closed.
        """

    def _check_not_cancelled(self, job: Job) -> None:
        if self._is_cancelled.is_set():
            raise StoppedError(f"{job.out}: stopped; go on with --resume")


def add_up(out: str, summaries: Iterable[Summary]) -> Summary:
    """The summary of several workers: sums, and the time of the slowest."""
    parts = sorted(summaries, key=lambda summary: str(summary.directory))
    left_out: Counter[str] = Counter()
    stages: defaultdict[str, float] = defaultdict(float)
    clipped = ClippedTotals()
    for part in parts:
        clipped.merge(part.clipped)
        left_out.update(part.left_out)
        for stage, seconds in part.stage_seconds.items():
            stages[stage] += seconds
    return Summary(
        directory=place(out),
        left_out=dict(left_out),
        left_out_first={name: why for part in parts for name, why in part.left_out_first.items()},
        clipped=clipped.stored,
        warnings={name: why for part in parts for name, why in part.warnings.items()},
        seconds=max((part.seconds for part in parts), default=0.0),
        stage_seconds=dict(stages),
        **{name: sum(getattr(part, name) for part in parts) for name in _SUMMED},
    )


class Board:
    """The progress of the workers of a job."""

    def __init__(self, job: Job) -> None:
        self._waiting = {
            index: len(range(index, len(job.entries), job.n_workers)) for index in range(job.n_workers)
        }
        self._latest: dict[int, Progress] = {}

    def post(self, index: int, progress: Progress) -> None:
        """Set the progress of worker ``index``."""
        self._latest[index] = progress

    @property
    def total(self) -> Progress:
        """The progress of all workers, including those that have not begun."""
        told = self._latest.values()
        waiting = sum(count for index, count in self._waiting.items() if index not in self._latest)
        return Progress(
            n_materials=waiting + sum(progress.n_materials for progress in told),
            seconds=max((progress.seconds for progress in told), default=0.0),
            **{
                name: sum(getattr(progress, name) for progress in told)
                for name in ("materials", "left_out", "rows", "bytes")
            },
        )


def _is_absolute(path: str) -> bool:
    return path.startswith(os.sep) or is_url(path)  # much faster than pathlib for many materials


def _absolute(path: str) -> str:
    return path if _is_absolute(path) else str(Path(path).absolute())
