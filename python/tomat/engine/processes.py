"""Workers as processes on this machine."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, override

from tomat._threads import processors
from tomat.engine.job import Engine
from tomat.engine.local import Progress, Run, Summary

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.context import SpawnProcess

    from tomat.engine.job import Job, Part

logger = logging.getLogger("tomat")

#: Seconds to wait for a message of any worker.
_POLL_S = 0.5
#: Seconds a stopped worker has to finish its material.
_PATIENCE_S = 30.0
#: Deaths of a worker after which the job fails.
_LIVES = 4


class ProcessEngine(Engine):
    """Runs each worker in a process, several at once; one that dies is restarted and resumes.

    Args:
        processes: concurrent workers; one per processor by default.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or processors()
        super().__init__()

    @override
    def _work(self, job: Job) -> Generator[list[tuple[int, Progress | Summary]]]:
        at_once = min(self._processes, job.n_workers)
        pool = _Pool(job.parts(max(1, processors() // at_once)), at_once)
        try:
            while pool.is_busy:
                self._check_not_cancelled(job)
                yield pool.step()
        finally:
            pool.stop()


class _Pool:
    def __init__(self, parts: Any, at_once: int) -> None:
        self._waiting: deque[Part] = deque(parts)
        self._at_once = at_once
        self._running: dict[Connection, tuple[Part, SpawnProcess]] = {}
        self._deaths: dict[int, int] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or self._running)

    def step(self) -> list[tuple[int, Progress | Summary]]:
        """Start waiting parts, and return what workers say; the first error of one is raised."""
        while self._waiting and len(self._running) < self._at_once:
            self._start(self._waiting.popleft())
        told = []
        for connection in wait(list(self._running), _POLL_S):
            assert isinstance(connection, Connection)
            part, _ = self._running[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                self._died(connection)
                continue
            if not isinstance(message, Progress):
                self._reap(connection)
            if isinstance(message, BaseException):
                message.add_note(f"worker {part.config.worker_index} of {part.config.n_workers}")
                raise message
            told.append((part.config.worker_index, message))
        return told

    def _start(self, part: Part) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        name = f"tomat-worker-{part.config.worker_index:02d}"
        process = context.Process(target=_work, args=(part, theirs), name=name, daemon=True)
        process.start()
        theirs.close()
        self._running[ours] = (part, process)

    def _reap(self, connection: Connection) -> SpawnProcess:
        _, process = self._running.pop(connection)
        connection.close()
        process.join()
        return process

    def _died(self, connection: Connection) -> None:
        part, _ = self._running[connection]
        code = self._reap(connection).exitcode
        index = part.config.worker_index
        self._deaths[index] = self._deaths.get(index, 0) + 1
        if self._deaths[index] == _LIVES:
            raise OSError(f"worker {index} died {_LIVES} times, at last with exit code {code}")
        logger.warning("worker %d died with exit code %s; it is restarted and resumes its part", index, code)
        self._waiting.appendleft(part)

    def stop(self) -> None:
        """Stop all processes at their next material, and wait for them."""
        self._waiting.clear()
        for _, process in self._running.values():
            process.terminate()
        for connection, (_, process) in list(self._running.items()):
            process.join(_PATIENCE_S)
            process.kill()  # it may hang in a read; finished shards are kept
            self._reap(connection)


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
