"""Damages real files of every format the package reads, and looks at what their readers make of that.

\b
Examples:
  python tests/fuzz.py --cases 100000
  python tests/fuzz.py --cases 10000000 --seed 7 --processes 16
  python tests/fuzz.py --only zarr-gzip --case 4711

A reader may read what it is given, or raise an error of its own kinds (ValueError and OSError for files) that names
the file. It must not raise anything else, take more than 2 GiB of memory or 10 seconds, or end the process. A case
depends on the seed, its target and its number alone: what is found can be seen again with --only and --case.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz_targets import Target

#: Bytes a reader may take beyond what the process has.
MEMORY = 2 << 30
#: Exit code of a worker that found something; any other is an end it did not choose.
FOUND = 99
#: Findings that are printed; all are counted.
SHOWN = 20


class TooSlowError(BaseException):
    """A case took too long; no handler of errors may catch it."""


def main() -> int:
    """Run all cases, and say what was found; the number of findings ends up in the exit code as 0 or 1."""
    arguments = parse()
    if arguments.worker is not None:
        return work(arguments)
    started = time.monotonic()
    # In memory where there is such a place: most of the time of a case is its file.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="tomat-fuzz-", dir=memory if memory.is_dir() else None))
    try:
        workers = [Worker(arguments, index, folder) for index in range(arguments.processes)]
        findings = sum(worker.wait() for worker in workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    print(
        f"{arguments.cases} cases, seed {arguments.seed}: {findings} findings in {seconds:.0f} s ({cpu:.0f} s of CPU)",
        flush=True,
    )
    return 1 if findings else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=100_000, help="how many, over all targets")
    parser.add_argument("--only", default="", help="targets, by comma")
    parser.add_argument("--case", type=int, help="one case of one target, with its traceback")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        arguments.processes = 1
    return arguments


class Worker:
    """A process with a part of the cases; it is started again behind a case that ends it."""

    def __init__(self, arguments: argparse.Namespace, index: int, folder: Path) -> None:
        """Start it."""
        self.place = folder / str(index)
        self.command = [
            sys.executable,
            str(Path(__file__).resolve()),
            *sys.argv[1:],
            "--worker",
            str(index),
            "--place",
            str(self.place),
        ]
        self.place.mkdir()
        (self.place / "at").write_bytes(struct.pack("<qq", 0, 0))
        self.start()

    def start(self) -> None:
        """Start where it is."""
        self.process = subprocess.Popen(self.command)

    def wait(self) -> int:
        """How much it found."""
        crashes = 0
        while True:
            code = self.process.wait()
            step, found = struct.unpack("<qq", (self.place / "at").read_bytes())
            if code in (0, FOUND):
                return crashes + int(found)
            crashes += 1
            name = (self.place / "case").read_text() if (self.place / "case").exists() else "the start"
            print(f"FOUND {name}: the process ended with {code}", flush=True)
            if crashes > SHOWN or not step:
                return crashes + int(found)
            (self.place / "at").write_bytes(struct.pack("<qq", step + 1, found))
            self.start()


def schedule(arguments: argparse.Namespace, targets: dict[str, Target]) -> list[tuple[str, int]]:
    """Target and number of each case of a worker: the shares are kept over any stretch."""
    names = [name for name in targets if not arguments.only or name in arguments.only.split(",")]
    if not names:
        raise SystemExit(f"no such target; there are {', '.join(targets)}")
    if arguments.case is not None:
        return [(names[0], arguments.case)]
    total = sum(targets[name].share for name in names)
    counts = {name: max(1, round(arguments.cases * targets[name].share / total)) for name in names}
    cases = [(name, number) for name in names for number in range(counts[name])]
    return cases[arguments.worker :: arguments.processes]


def work(arguments: argparse.Namespace) -> int:
    """A worker's part."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from fuzz_targets import TARGETS

    cases = schedule(arguments, TARGETS)
    prepared: dict[str, Prepared] = {}
    for name in dict.fromkeys(name for name, _ in cases):
        prepared[name] = Prepared(TARGETS[name], arguments.place / name)
    limit_memory()
    # Of the processor: a machine may be busy with other things.
    signal.signal(signal.SIGPROF, _alarm)
    at = os.open(arguments.place / "at", os.O_RDWR)
    label = os.open(arguments.place / "case", os.O_RDWR | os.O_CREAT)
    start, found = struct.unpack("<qq", os.pread(at, 16, 0))
    kinds: Counter[str] = Counter()
    for step in range(start, len(cases)):
        name, number = cases[step]
        os.pwrite(at, struct.pack("<qq", step, found), 0)
        os.pwrite(label, f"--seed {arguments.seed} --only {name} --case {number}".ljust(120).encode(), 0)
        problem = prepared[name].case(arguments.seed, number, traced=arguments.case is not None)
        if problem:
            found += 1
            kinds[f"{name}: {problem.splitlines()[0][:100]}"] += 1
            if kinds.total() <= SHOWN:
                print(f"FOUND --seed {arguments.seed} --only {name} --case {number}: {problem}", flush=True)
    os.pwrite(at, struct.pack("<qq", len(cases), found), 0)
    return FOUND if found else 0


class Prepared:
    """A target whose files are written."""

    def __init__(self, target: Target, folder: Path) -> None:
        """Write them, and see that they are read."""
        self.target, self.folder = target, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.mutations = target.prepare(folder)
        self.whole = {name: (folder / name).read_bytes() for name in self.mutations}
        target.read(folder)

    def case(self, seed: int, number: int, *, traced: bool = False) -> str:
        """What is wrong with how a case is read; nothing where that is as it should be."""
        luck = random.Random(f"{seed} {self.target.name} {number}")
        name = luck.choice(list(self.mutations))
        (self.folder / name).write_bytes(self.mutations[name](luck, self.whole[name]))
        signal.setitimer(signal.ITIMER_PROF, self.target.seconds)
        try:
            self.target.read(self.folder)
        except TooSlowError:
            return f"takes more than {self.target.seconds:g} s"
        except BaseException as error:
            if traced:
                traceback.print_exc()
            return self.judge(error, name)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            (self.folder / name).write_bytes(self.whole[name])
        return ""

    def judge(self, error: BaseException, name: str) -> str:
        """Why an error is not one that may be raised."""
        kind = f"{type(error).__name__}: {str(error)[:200]}"
        if self.target.silent or not isinstance(error, self.target.kinds):
            return kind
        # Subclasses that say nothing of a file are those of a program gone wrong.
        if isinstance(error, UnicodeError):
            return kind
        label = Path(name).name if self.target.label is None else self.target.label
        parts = (label, *Path(name).parts) if label else ()
        if parts and not any(part in str(error) for part in parts):
            return f"names no file: {kind}"
        return ""


def limit_memory() -> None:
    """What a reader takes beyond this is MemoryError, or the end of the process."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _alarm(_number: int, _frame: Any) -> None:
    raise TooSlowError


if __name__ == "__main__":
    sys.exit(main())
