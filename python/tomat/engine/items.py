"""Items that workers take one by one, so that each is done whoever dies; engines run them (:meth:`Engine.each`)."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Does items as they come, a few at a time if it likes, and tells the result of each by its number.
    type Do[S, R] = Callable[[Iterator[tuple[int, S]], Callable[[int, R], None]], None]

#: Deaths of its worker after which an item is lost; also deaths in a row of workers that hold nothing.
LIVES = 3


class Work[S, R](Protocol):
    """What is to be done with items of type ``S``; it is pickled, and so are items and results of type ``R``."""

    def open(self) -> Do[S, R]:
        """Open what all items need, once for each worker.

        What this function or the one it returns raises ends the whole work; the failure of an item is a result.
        """


@dataclass(frozen=True)
class Lost:
    """The outcome of an item whose worker died each time.

    Attributes:
        deaths: how often.
        how: what is known of the last time.
    """

    deaths: int
    how: str

    def __str__(self) -> str:
        return f"its worker process died {self.deaths} times, at last with {self.how}; is there enough memory for it?"


class Ledger:
    """Which items wait and which worker holds which.

    The items of a worker that died are given out again, each to a worker that holds nothing else: so the one that
    kills workers is told from those that were with it.

    Args:
        count: number of items, which are numbered from 0.
        workers: number of workers at a time.
    """

    def __init__(self, count: int, workers: int) -> None:
        self._waiting = deque(range(count))
        self._suspects: deque[int] = deque()
        self._held: dict[int, set[int]] = {}
        self._deaths: Counter[int] = Counter()
        self._idle_deaths = 0
        self._workers = workers

    @property
    def free(self) -> int:
        """Number of items that no worker holds."""
        return len(self._waiting) + len(self._suspects)

    def wanted(self, running: int) -> int:
        """Number of workers to start beside those that run: none that would find nothing to do."""
        idle = max(0, running - sum(1 for held in self._held.values() if held))
        return max(0, min(self._workers - running, self.free - idle))

    @property
    def is_done(self) -> bool:
        """Whether every item is done or lost."""
        return not self.free and not any(self._held.values())

    def take(self, worker: int) -> int | None:
        """The next item for a worker; None if it is to finish those it holds, or to end if it holds none."""
        held = self._held.setdefault(worker, set())
        if any(item in self._deaths for item in held):
            return None
        if self._waiting:
            # Nobody reads ahead what others could do: near the end, everybody holds the same number of items.
            share = -(-(len(self._waiting) + sum(map(len, self._held.values()))) // self._workers)
            chosen = self._waiting.popleft() if len(held) < share else None
        else:
            chosen = self._suspects.popleft() if self._suspects and not held else None
        if chosen is not None:
            held.add(chosen)
        return chosen

    def done(self, worker: int, item: int) -> bool:
        """Note that a worker did an item; False if it did not hold it."""
        held = self._held.get(worker, set())
        if item not in held:
            return False
        held.remove(item)
        self._idle_deaths = 0
        return True

    def ended(self, worker: int) -> None:
        """Note that a worker ended, as it was told to.

        Raises:
            RuntimeError: it did not tell the result of an item.
        """
        held = self._held.pop(worker, set())
        if held:
            raise RuntimeError(f"worker {worker} ended without a result of its items {sorted(held)}")

    def died(self, worker: int, how: str) -> list[tuple[int, Lost]]:
        """Take back the items of a worker that died; returns those that are lost.

        Raises:
            OSError: workers die before they take any item.
        """
        held = sorted(self._held.pop(worker, set()))
        self._idle_deaths = 0 if held else self._idle_deaths + 1
        if self._idle_deaths >= LIVES:
            raise OSError(
                f"{LIVES} workers died one after the other before they began, at last with {how}; is there enough "
                "memory for so many?"
            )
        self._deaths.update(held)
        lost = [item for item in held if self._deaths[item] >= LIVES]
        self._suspects.extend(item for item in held if item not in lost)
        return [(item, Lost(self._deaths[item], how)) for item in lost]


def serve[S, R](
    work: Work[S, R], ask: Callable[[], tuple[int, S] | None], tell: Callable[[int, R], None]
) -> None:
    """Be a worker: do what ``ask`` gives until it gives None to a worker that holds nothing."""
    do = work.open()
    while (first := ask()) is not None:
        do(itertools.chain([first], iter(ask, None)), tell)


def portable(error: Exception) -> Exception:
    """The error, or its words where it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is made again
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
