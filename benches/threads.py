"""Tokenizing by one thread on one core and by several on as many: wall time, and what threads cost each other.

Each round runs the pipeline over the same materials in memory on 1 core with 1 thread, then on more, in turns. Beside
the wall time, which other work on the machine spoils, stand what it cannot: CPU seconds a material, which grow where
threads wait for one cache line or spin on a lock, and how often a thread gave its core away to wait for another.

    python benches/threads.py [--threads 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bars import Bars
from end_to_end import MATERIALS, WAYS, in_memory, material, run_tomat


class Spent(NamedTuple):
    """What a material took."""

    wall_ms: float
    cpu_ms: float
    waits: float


def spent(files: dict[str, bytes], folder: Path, cores: list[int]) -> Spent:
    """A run with a thread a core, on these cores alone."""
    os.sched_setaffinity(0, cores)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run_tomat(files, folder, MATERIALS, WAYS["tomat"], threads=len(cores))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(
        1e3 * wall / MATERIALS, 1e3 * cpu / MATERIALS, (after.ru_nvcsw - before.ru_nvcsw) / MATERIALS
    )


def middle(rounds: list[Spent]) -> Spent:
    """The median of each figure."""
    return Spent(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < given.threads:
        parser.error(f"{given.threads} threads need as many cores, here are {len(cores)}")
    files = in_memory(material())
    alone: list[Spent] = []
    together: list[Spent] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds + 1):
            alone.append(spent(files, Path(folder), cores[:1]))
            together.append(spent(files, Path(folder), cores[: given.threads]))
    # The first round opens files and fills caches.
    one, many = middle(alone[1:]), middle(together[1:])
    for threads, it in ((1, one), (given.threads, many)):
        print(
            f"{threads} threads: {it.wall_ms:.2f} ms a material, {it.cpu_ms:.2f} ms of CPU, {it.waits:.1f} waits"
        )
    bars = Bars()
    bars.at_least(
        f"{given.threads} threads on as many cores over one on one",
        0.95 * given.threads,
        one.wall_ms / many.wall_ms,
    )
    bars.at_most("CPU seconds a material with them over one", 1.1, many.cpu_ms / one.cpu_ms)
    bars.finish()


if __name__ == "__main__":
    main()
