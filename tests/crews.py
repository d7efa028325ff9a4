"""Work for crews, with the accidents that may happen to it; in a module that workers can import."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomat._threads import processors
from tomat.evaluate.methods import Method, PatchMethod
from tomat.lm.decode.opening import open_predictor
from tomat.prediction.predictor import PatchPrediction, PatchRequest, PromoleculePredictor


def worker_processes(parent: int | None = None) -> list[int]:
    """Workers that a process started; this one by default."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent or os.getpid())]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def die() -> None:
    """What becomes of a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Squares:
    """Squares numbers; leaves a file for each worker that opens it, and for each number that is begun.

    Attributes:
        folder: of the files.
        ahead: numbers that are read before the first of them is told.
        deadly: numbers that kill their worker.
        deadly_once: the same, the first time.
        refused: an error is raised for this number.
        pause_s: what a number takes.
        together: workers that have to be there before one begins.
    """

    folder: Path
    ahead: int = 1
    deadly: frozenset[int] = frozenset()
    deadly_once: frozenset[int] = frozenset()
    refused: int | None = None
    pause_s: float = 0.0
    together: int = 1

    def open(self) -> Callable[[Iterator[tuple[int, int]], Callable[[int, int], None]], None]:
        (self.folder / f"opened-{os.getpid()}").touch()
        while len(list(self.folder.glob("opened-*"))) < self.together:
            time.sleep(0.02)
        return self._do

    def _do(self, items: Iterator[tuple[int, int]], tell: Callable[[int, int], None]) -> None:
        for batch in itertools.batched(items, self.ahead):
            for number, item in batch:
                begun = self.folder / f"begun-{number}"
                is_first = not begun.exists()
                begun.touch()
                if item in self.deadly or (item in self.deadly_once and is_first):
                    die()
                if item == self.refused:
                    raise UnportableError(item, "refused")
                time.sleep(self.pause_s)
                tell(number, item * item)


class UnportableError(ValueError):
    """An error that cannot be unpickled."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{number}: {what}")


@dataclass(frozen=True)
class Faulty:
    """Work that goes wrong before or after an item.

    Attributes:
        how: what happens.
    """

    how: str

    def open(self) -> Callable[[Iterator[tuple[int, int]], Callable[[int, Any], None]], None]:
        if self.how == "cannot be opened":
            raise ValueError("no such checkpoint")
        if self.how == "dies as it opens":
            die()

        def do(items: Iterator[tuple[int, int]], tell: Callable[[int, Any], None]) -> None:
            for number, _ in items:
                if self.how != "tells nothing":
                    tell(number, (processors(), os.environ["OMP_NUM_THREADS"], os.environ["NPROC"]))

        return do


@dataclass(frozen=True, kw_only=True)
class Deadly(PromoleculePredictor):
    """The promolecule, which kills its process for crystals of some names.

    Attributes:
        names: of the crystals.
        mark: a file that is written before the first death; from then on, it kills no more. None kills each time.
    """

    names: frozenset[str] = field(default_factory=frozenset)
    mark: Path | None = None

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        if self.names & {request.crystal.name for request in requests} and not (
            self.mark is not None and self.mark.exists()
        ):
            if self.mark is not None:
                self.mark.touch()
            die()
        return super().predict(requests)


def deadly(names: Sequence[str], mark: Path | None = None) -> Deadly:
    """Open such a predictor."""
    plain = open_predictor("promolecule")
    assert isinstance(plain, PromoleculePredictor)
    given = {name: getattr(plain, name) for name in ("tokenizer", "promolecule", "batch_size")}
    return Deadly(**given, names=frozenset(names), mark=mark)


def deadly_methods(names: Sequence[str], mark: Path | None = None) -> tuple[list[Method], str]:
    """An evaluation of it."""
    return [PatchMethod(deadly(names, mark))], "chgcar"
