"""Workers as processes on this machine."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

from tomat._threads import processors
from tomat.engine.items import Ledger, portable, serve
from tomat.engine.job import Engine
from tomat.engine.local import Progress, Run, Summary
from tomat.engine.pool import Died, Pool, leave_to_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from multiprocessing.connection import Connection

    from tomat.engine.items import Lost, Work
    from tomat.engine.job import Job, Part

logger = logging.getLogger("tomat")

#: Deaths of a worker after which the job fails.
_LIVES = 4


class ProcessEngine(Engine):
    """Runs each worker in a process, several at once; one that dies is restarted and resumes.

    Args:
        processes: concurrent workers of a tokenization; one per processor by default.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or processors()
        super().__init__()

    @override
    def _work(self, job: Job) -> Generator[list[tuple[int, Progress | Summary]]]:
        at_once = min(self._processes, job.n_workers)
        parts = _Parts(job.parts(max(1, processors() // at_once)), at_once)
        try:
            while parts.is_busy:
                self._check_not_cancelled(job)
                yield parts.step()
        finally:
            parts.stop()

    @override
    def each[S, R](
        self, work: Work[S, R], items: Sequence[S], workers: int
    ) -> Generator[tuple[int, R | Lost]]:
        crew = _Crew(work, items, min(workers, len(items)))
        try:
            while crew.is_busy:
                yield from crew.step()
        finally:
            crew.stop()


class _Parts:
    """The parts of a tokenization, a process each."""

    def __init__(self, parts: Iterable[Part], at_once: int) -> None:
        self._waiting: deque[Part] = deque(parts)
        self._at_once = at_once
        self._pool: Pool[Part] = Pool()
        self._deaths: Counter[int] = Counter()

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or len(self._pool))

    def step(self) -> list[tuple[int, Progress | Summary]]:
        """Start waiting parts, and return what workers say; the first error of one is raised."""
        while self._waiting and len(self._pool) < self._at_once:
            part = self._waiting.popleft()
            self._pool.start(part, f"tomat-worker-{part.config.worker_index:02d}", _work, part)
        told = []
        for connection, part, message in self._pool.messages():
            if isinstance(message, Died):
                self._died(part, message)
                continue
            if not isinstance(message, Progress):
                self._pool.reap(connection)
            if isinstance(message, BaseException):
                message.add_note(f"worker {part.config.worker_index} of {part.config.n_workers}")
                raise message
            told.append((part.config.worker_index, message))
        return told

    def _died(self, part: Part, end: Died) -> None:
        index = part.config.worker_index
        self._deaths[index] += 1
        if self._deaths[index] == _LIVES:
            raise OSError(f"worker {index} died {_LIVES} times, at last with exit code {end.code}")
        logger.warning(
            "worker %d died with exit code %s; it is restarted and resumes its part", index, end.code
        )
        self._waiting.appendleft(part)

    def stop(self) -> None:
        """Stop all processes at their next material, and wait for them."""
        self._waiting.clear()
        self._pool.stop()


def _work(part: Part, connection: Connection) -> None:
    """Run a part in a worker's process; progress and the result go to the pipe.

    It stops if the pipe is closed, as when the parent is killed.
    """

    def begin(run: Run) -> None:
        signal.signal(signal.SIGTERM, lambda _number, _frame: run.cancel())

    # A terminal sends Ctrl-C to all processes; the parent stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result: Summary | BaseException
    try:
        result = part.run(watch=connection.send, begin=begin)
    except Exception as error:
        result = error
    connection.send(result)


class _Crew[S, R]:
    """Processes that take items one by one, and the ledger of who holds which."""

    def __init__(self, work: Work[S, R], items: Sequence[S], workers: int) -> None:
        self._work, self._items = work, items
        self._ledger = Ledger(len(items), workers)
        self._pool = Pool[int](max(1, processors() // max(workers, 1)))
        self._numbers = itertools.count()
        self._answers: dict[str, Callable[[Connection, int, Any], list[tuple[int, R | Lost]]]] = {
            "ask": self._ask,
            "done": self._done,
            "failed": self._failed,
            "ended": self._ended,
        }

    @property
    def is_busy(self) -> bool:
        return not self._ledger.is_done

    def step(self) -> list[tuple[int, R | Lost]]:
        """Start workers as long as there are items for them, answer them, and return what is done."""
        for _ in range(self._ledger.wanted(len(self._pool))):
            number = next(self._numbers)
            self._pool.start(number, f"tomat-worker-{number:02d}", _serve, self._work, Path.cwd())
        settled: list[tuple[int, R | Lost]] = []
        for connection, worker, message in self._pool.messages():
            if isinstance(message, Died):
                settled += self._died(worker, message)
                continue
            kind, content = message
            settled += self._answers[kind](connection, worker, content)
        return settled

    def _ask(self, connection: Connection, worker: int, _content: None) -> list[tuple[int, R | Lost]]:
        item = self._ledger.take(worker)
        with contextlib.suppress(OSError):  # it died meanwhile, as the next message says
            connection.send(None if item is None else (item, self._items[item]))
        return []

    def _done(
        self, _connection: Connection, worker: int, content: tuple[int, R]
    ) -> list[tuple[int, R | Lost]]:
        return [content] if self._ledger.done(worker, content[0]) else []

    def _failed(self, connection: Connection, worker: int, error: Exception) -> list[tuple[int, R | Lost]]:
        self._pool.reap(connection)
        error.add_note(f"worker {worker}")
        raise error

    def _ended(self, connection: Connection, worker: int, _content: None) -> list[tuple[int, R | Lost]]:
        self._pool.reap(connection)
        self._ledger.ended(worker)
        return []

    def _died(self, worker: int, end: Died) -> list[tuple[int, R | Lost]]:
        how = f"exit code {end.code}"
        logger.warning("worker %d died with %s; what it held is tried again", worker, how)
        return [*self._ledger.died(worker, how)]

    def stop(self) -> None:
        """Stop all processes, and wait for them."""
        self._pool.stop()


def _serve(work: Work[Any, Any], folder: Path, connection: Connection) -> None:
    """Take items in a worker's process, by questions and answers on the pipe; paths are relative to ``folder``."""
    leave_to_parent()
    os.chdir(folder)  # a spawned process begins where its parent began

    def ask() -> tuple[int, Any] | None:
        connection.send(("ask", None))
        answer: tuple[int, Any] | None = connection.recv()
        return answer

    try:
        serve(work, ask, lambda item, result: connection.send(("done", (item, result))))
    except Exception as error:
        connection.send(("failed", portable(error)))
    else:
        connection.send(("ended", None))
