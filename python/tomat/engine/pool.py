"""Processes on this machine, each with a pipe on which it sends messages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from tomat._threads import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import SpawnProcess

#: Seconds to wait for a message of any process.
_POLL_S = 0.5
#: Seconds a stopped process has to finish what it is doing.
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Died:
    """A process is gone without a last word.

    Attributes:
        code: its exit code; -9 if it was killed.
    """

    code: int | None


class Pool[K]:
    """Running processes, each with a key of type ``K``.

    They are spawned: a forked process may hang in JAX or in the threads of libraries.

    Args:
        threads: processors each is to use; None sets nothing.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._environment = {} if threads is None else limits(threads)
        self._running: dict[Connection, tuple[K, SpawnProcess]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, key: K, name: str, target: Callable[..., None], *arguments: Any) -> None:
        """Start ``target(*arguments, connection)`` in a process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(*arguments, theirs), name=name, daemon=True)
        # Libraries read these while the process imports what it needs to read its arguments.
        with _environment(self._environment):
            process.start()
        theirs.close()
        self._running[ours] = (key, process)

    def messages(self) -> Iterator[tuple[Connection, K, Any]]:
        """Wait for messages; :class:`Died` is that of a process that is gone."""
        for connection in wait(list(self._running), _POLL_S):
            assert isinstance(connection, Connection)
            key, _ = self._running[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = Died(self.reap(connection).exitcode)
            yield connection, key, message

    def reap(self, connection: Connection) -> SpawnProcess:
        """Wait for the end of a process."""
        _, process = self._running.pop(connection)
        connection.close()
        process.join()
        return process

    def stop(self) -> None:
        """Ask all processes to end, and wait for them."""
        for _, process in self._running.values():
            process.terminate()
        for connection, (_, process) in list(self._running.items()):
            process.join(_PATIENCE_S)
            process.kill()  # it may hang in a read; what is finished is kept
            self.reap(connection)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """The environment of what is started in the block."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def leave_to_parent() -> None:
    """Let the parent decide when this process ends; it ends with the parent, too.

    Raises:
        SystemExit: in the main thread, when the parent asks for the end.
    """
    # A terminal sends Ctrl-C to all processes; the parent stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, name="tomat-follow", daemon=True).start()
