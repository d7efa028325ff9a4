"""Workers as tasks of a Ray cluster, existing or started on this machine."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

from tomat._threads import limits
from tomat.engine.items import Ledger, serve
from tomat.engine.job import Engine
from tomat.engine.local import Progress, StoppedError, Summary

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from tomat.engine.items import Lost, Work
    from tomat.engine.job import Job, Part

logger = logging.getLogger("tomat")

#: Seconds to wait for a task to finish.
_POLL_S = 0.5
#: Seconds between progress reports of a worker.
_TELL_S = 1.0
#: Object store of a cluster started here, in bytes; it needs little.
_OBJECT_STORE = 100 << 20
#: Seconds to wait for cancelled tasks.
_STOP_S = 60.0


class RayEngine(Engine):
    """Runs each worker as a Ray task; if its process or node dies, it is restarted elsewhere and resumes.

    Every node needs the same version of tomat, and the same paths or URLs of the inputs and ``out``.

    Args:
        address: of a cluster (``auto``, ``host:port``, ``ray://host:port``); if None, a cluster is started on this
            machine for the run. An existing connection of the process is used as it is.
        max_retries: restarts of a task because its process or node died.
        options: further options of ``ray.init``.
    """

    def __init__(self, address: str | None = None, *, max_retries: int = 10, **options: Any) -> None:
        """Start nothing yet.

        Raises:
            ValueError: Ray is not installed.
        """
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise ValueError("the ray engine needs Ray: pip install 'tomat[ray]'") from error
        self._address = address
        self._max_retries = max_retries
        self._options = options
        super().__init__()

    @override
    def _work(self, job: Job) -> Generator[list[tuple[int, Progress | Summary]]]:
        with self._connected() as ray:
            reports = ray.remote(num_cpus=0)(_Reports).remote()
            threads = job.threads or 1
            task = ray.remote(
                num_cpus=threads,
                max_retries=self._max_retries,
                retry_exceptions=[ConnectionError, TimeoutError],
            )(_work)
            _check_room(ray, threads)
            parts = job.parts(threads)
            running = {task.remote(part, reports): part.config.worker_index for part in parts}
            try:
                while running:
                    self._check_not_cancelled(job)
                    news: list[tuple[int, Progress | Summary]] = []
                    for reference in ray.wait(list(running), timeout=_POLL_S)[0]:
                        index = running.pop(reference)
                        try:
                            news.append((index, ray.get(reference)))
                        except ray.exceptions.RayError as error:
                            raise _own_error(error, index, job.n_workers) from error
                    # Progress reports are optional.
                    with contextlib.suppress(ray.exceptions.RayError):
                        news += ray.get(reports.latest.remote(), timeout=_POLL_S).items()
                    yield news
            finally:
                _stop(ray, list(running))

    @override
    def each[S, R](
        self, work: Work[S, R], items: Sequence[S], workers: int
    ) -> Generator[tuple[int, R | Lost]]:
        with self._connected() as ray:
            workers = min(workers, len(items))
            threads = _share(ray, workers)
            here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=True
            )
            desk = ray.remote(num_cpus=0, scheduling_strategy=here)(_Desk).remote(items, workers)
            task = ray.remote(num_cpus=threads, max_retries=0, runtime_env={"env_vars": limits(threads)})(
                _serve
            )
            shared, numbers, running = ray.put(work), itertools.count(), dict[Any, int]()
            try:
                while True:
                    settled, wanted, is_done = ray.get(desk.news.remote(len(running)))
                    yield from settled
                    if is_done:
                        return
                    for number in itertools.islice(numbers, wanted):
                        running[task.remote(shared, desk, number, Path.cwd())] = number
                    for reference in ray.wait(list(running), timeout=_POLL_S)[0]:
                        _ended(ray, reference, desk, running.pop(reference), workers)
            except ray.exceptions.RayTaskError as error:  # of the desk
                raise error.cause from error
            except ray.exceptions.RayActorError as error:
                raise OSError(f"Ray lost the list of what is left to do; run it again: {error}") from error
            finally:
                _stop(ray, list(running))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        import ray

        if ray.is_initialized():
            yield ray
            return
        handler = signal.getsignal(signal.SIGTERM)
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._address is None:
            options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        try:
            ray.init(address=self._address or "local", **options | self._options)
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise OSError(
                f"no Ray cluster answers at {self._address} (if it requires a token, set RAY_AUTH_MODE=token here, "
                f"too): {error}"
            ) from error
        try:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray installs its own
            yield ray
        finally:
            ray.shutdown()


class _Reports:
    """An actor that stores the latest progress of each worker."""

    def __init__(self) -> None:
        self._latest: dict[int, Progress] = {}

    def tell(self, index: int, progress: Progress) -> None:
        self._latest[index] = progress

    def latest(self) -> dict[int, Progress]:
        return self._latest


def _work(part: Part, reports: Any) -> Summary:
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_S:
            last = time.monotonic()
            reports.tell.remote(part.config.worker_index, progress)

    return part.run(watch=tell)


class _Desk:
    """An actor that hands items to workers, and keeps their results until they are fetched."""

    def __init__(self, items: Sequence[Any], workers: int) -> None:
        self._items = items
        self._ledger = Ledger(len(items), workers)
        self._settled: list[tuple[int, Any]] = []

    def ask(self, worker: int) -> tuple[int, Any] | None:
        item = self._ledger.take(worker)
        return None if item is None else (item, self._items[item])

    def done(self, worker: int, item: int, result: Any) -> None:
        if self._ledger.done(worker, item):
            self._settled.append((item, result))

    def ended(self, worker: int) -> None:
        self._ledger.ended(worker)

    def died(self, worker: int, how: str) -> None:
        self._settled += self._ledger.died(worker, how)

    def news(self, running: int) -> tuple[list[tuple[int, Any]], int, bool]:
        """What was settled since the last call, how many workers to start, and whether all is done."""
        settled, self._settled = self._settled, []
        return settled, self._ledger.wanted(running), self._ledger.is_done


def _serve(work: Work[Any, Any], desk: Any, worker: int, folder: Path) -> None:
    """Take items of the desk in a task; paths are relative to ``folder`` where it is there."""
    import ray

    with contextlib.suppress(OSError):
        os.chdir(folder)

    def ask() -> tuple[int, Any] | None:
        answer: tuple[int, Any] | None = ray.get(desk.ask.remote(worker))
        return answer

    def tell(item: int, result: Any) -> None:
        ray.get(desk.done.remote(worker, item, result))

    serve(work, ask, tell)


def _ended(ray: Any, reference: Any, desk: Any, worker: int, workers: int) -> None:
    """Tell the desk how a task ended; an error of the work is raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise _own_error(error, worker, workers) from error
    except ray.exceptions.RayError as error:
        how = type(error).__name__
        logger.warning("worker %d died with %s; what it held is tried again", worker, how)
        ray.get(desk.died.remote(worker, how))
    else:
        ray.get(desk.ended.remote(worker))


def _share(ray: Any, workers: int) -> int:
    """CPUs of each of so many workers: an equal share of the cluster, but no more than a node has."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(sum(nodes) // workers, max(nodes, default=0)))


def _check_room(ray: Any, threads: int) -> None:
    """Warn if no node has enough CPUs for a worker, whose task would wait forever."""
    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if threads > largest:
        logger.warning(
            "a worker of %d threads asks for as many CPUs, and no node has more than %d: the workers wait until one "
            "joins; give fewer --threads",
            threads,
            largest,
        )


def _stop(ray: Any, running: list[Any]) -> None:
    """Cancel tasks at their next material and wait for them."""
    for reference in running:
        with contextlib.suppress(Exception):
            ray.cancel(reference)
    if running:
        with contextlib.suppress(Exception):
            ray.wait(running, num_returns=len(running), timeout=_STOP_S)


def _own_error(error: Any, index: int, n_workers: int) -> BaseException:
    """The worker's own exception instead of Ray's wrapper."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, OSError | ValueError | KeyError | StoppedError):
        cause.add_note(f"worker {index} of {n_workers}")
        return cause
    return OSError(f"worker {index} of {n_workers}: {error}")
