"""Threads: how many, and work on several with results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

#: More threads are surely a mistake: each may hold a density.
MAX_THREADS = 1024

#: What says in the environment how many processors this package is to use.
_OWN = "TOMAT_PROCESSORS"
#: What libraries read as they are loaded: OpenMP, two kinds of BLAS, Rayon, and XLA on CPUs.
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NPROC")


def processors() -> int:
    """Number of processors this process may use: those it was given, or fewer where it shares them with others."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get(_OWN, "")
    return min(found, int(told)) if told.isdigit() and int(told) > 0 else found


def limits(threads: int) -> dict[str, str]:
    """Environment of a process that is to use so many processors; libraries read it as they are loaded."""
    return dict.fromkeys((_OWN, *_LIBRARIES), str(threads))


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
