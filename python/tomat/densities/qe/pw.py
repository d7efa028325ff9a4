"""Running ``pw.x``, and what it prints."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from tomat.densities.base import KilledError, StoppedError

#: Files of a run in its folder: its input, and what it printed.
INPUT, OUTPUT = "pw.in", "pw.out"
#: File with the last words of a run that gave up.
CRASH = "CRASH"
#: Seconds between looks at a run.
_POLL_S = 0.05
#: Seconds that a run which is told to stop has before it is killed.
_PATIENCE_S = 2.0
_ITERATIONS = re.compile(r"convergence has been achieved in\s+(\d+) iterations")
_UNCONVERGED = re.compile(r"convergence NOT achieved after\s+\d+ iterations")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_ENERGY = re.compile(r"^!\s+total energy\s+=\s+(\S+) Ry", re.MULTILINE)
_FIRST_ENERGY = re.compile(r"^!?\s+total energy\s+=\s+(\S+) Ry", re.MULTILINE)
_K_POINTS = re.compile(r"number of k points=\s*(\d+)")
_VERSION = re.compile(r"Program PWSCF v\.(\S+) starts")
#: What pw.x prints when it gives up, and writes to CRASH.
_FRAMED = re.compile(r"^ *%{20,} *\n(.*?)\n *%{20,} *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Run:
    """What a run of ``pw.x`` printed; numbers that it did not print are None.

    Attributes:
        seconds: wall time.
        iterations: of the self-consistent cycle, None if it did not converge or there was none.
        first_accuracy: the first estimated accuracy in Ry.
        accuracy: the last one.
        energy: the total energy of the cell, Ry.
        first_energy: that of the first iteration: from the density it starts from, with an error of second order.
        k_points: irreducible ones.
        version: of the program.
    """

    seconds: float
    iterations: int | None
    first_accuracy: float | None
    accuracy: float | None = None
    energy: float | None = None
    k_points: int | None = None
    version: str | None = None
    first_energy: float | None = None


def run(
    command: str, folder: Path, text: str, timeout: float | None = None, stop: Event | None = None
) -> Run:
    """Run ``pw.x`` on an input in a folder, with one thread.

    Args:
        command: the program, with the words before it (``mpirun -np 4 pw.x``).
        folder: gets ``pw.in``, ``pw.out`` and what the program writes.
        text: the input.
        timeout: seconds that it may take.
        stop: ends the program when it is set.

    Raises:
        KilledError: a signal ended it.
        StoppedError: ``stop`` was set.
        ValueError: it failed, or took too long; the message has what it printed.
    """
    (folder / INPUT).write_text(text, encoding="utf-8")
    started = time.monotonic()
    with (folder / OUTPUT).open("wb") as printed:
        process = subprocess.Popen(
            [*shlex.split(command), "-in", INPUT],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C in a terminal stops it through this process alone, and mpirun's go with it.
            start_new_session=True,
        )
        try:
            _wait(process, folder, timeout, stop)
        finally:
            _end(process)
    seconds = time.monotonic() - started
    shown = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    if process.returncode < 0:
        number = -process.returncode
        raise KilledError(
            f"{folder}: pw.x was killed by signal {number} ({_signal(number)}); if memory ran out, take fewer --workers"
        )
    if _UNCONVERGED.search(shown) is None and "JOB DONE" not in shown:
        raise ValueError(f"{folder}: pw.x failed:\n{cause(folder)}")
    return _parse(shown, seconds)


def _wait(process: subprocess.Popen[bytes], folder: Path, timeout: float | None, stop: Event | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
        if stop is not None and stop.is_set():
            raise StoppedError(f"{folder}: stopped")
        if deadline is not None and time.monotonic() > deadline:
            raise ValueError(f"{folder}: pw.x took more than {timeout:g} s; give a longer --timeout")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _parse(shown: str, seconds: float) -> Run:
    iterations, version = _ITERATIONS.search(shown), _VERSION.search(shown)
    first = _FIRST_ENERGY.search(shown)
    accuracies, energy, k_points = (
        _ACCURACY.findall(shown),
        _ENERGY.search(shown),
        _K_POINTS.search(shown),
    )
    return Run(
        seconds,
        None if iterations is None else int(iterations[1]),
        float(accuracies[0]) if accuracies else None,
        float(accuracies[-1]) if accuracies else None,
        None if energy is None else float(energy[1]),
        None if k_points is None else int(k_points[1]),
        None if version is None else version[1],
        None if first is None else float(first[1]),
    )


def cause(folder: Path) -> str:
    """Why a run failed, in its own words: what it framed, the file CRASH, or else the end of what it printed."""
    shown = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    crash = folder / CRASH
    texts = [shown] + ([crash.read_text(encoding="utf-8", errors="replace")] if crash.exists() else [])
    for text in texts:
        framed = _FRAMED.findall(text)
        if framed:
            return "\n".join(dict.fromkeys(line.strip() for one in framed for line in one.splitlines()))
    return shown.strip()[-1500:] or "it printed nothing"
