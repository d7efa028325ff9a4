"""Threads: how many, and work on several with results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

#: More threads are surely a mistake: each may hold a density.
MAX_THREADS = 1024


def processors() -> int:
    """Number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int | None) -> int:
    """The number of threads; one per processor if None."""
    if threads is None:
        return processors()
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"{threads} threads; give 1 to {MAX_THREADS}, best one per processor")
    return threads


def in_order[S, T](
    work: Callable[[S], T], items: Iterable[S], threads: int | None = None
) -> Iterator[tuple[S, T]]:
    """Each item with the result of ``work``, in order, computed a few items ahead; the first error ends it.

    Args:
        work: called on several threads.
        items: consumed lazily.
        threads: number of threads; one per processor if None.

    Raises:
        ValueError: more threads than :data:`MAX_THREADS`.
    """
    n = check_threads(threads or None)
    with ThreadPoolExecutor(n) as pool:
        waiting: deque[tuple[S, Future[T]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > 2 * n:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
