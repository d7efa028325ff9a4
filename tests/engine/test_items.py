"""Who holds which item: what the ledger gives, takes back and gives up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomat.engine.items import LIVES, Ledger, Lost, portable, serve


@given(
    count=st.integers(0, 40),
    workers=st.integers(1, 5),
    ahead=st.integers(1, 6),
    deadly=st.sets(st.integers(0, 39), max_size=4),
    chance=st.randoms(use_true_random=False),
)
def test_every_item_is_settled_once_and_the_deadly_ones_are_lost(
    count: int, workers: int, ahead: int, deadly: set[int], chance: object
) -> None:
    """Workers that read ahead die of some items: these alone are lost, after as many deaths as an item has lives."""
    ledger = Ledger(count, workers)
    done: list[int] = []
    lost: dict[int, Lost] = {}
    running: dict[int, list[int]] = {}
    numbers = iter(range(10_000))
    while not ledger.is_done:
        for _ in range(ledger.wanted(len(running))):
            running[next(numbers)] = []
        worker = chance.choice(sorted(running))  # type: ignore[attr-defined]
        held = running[worker]
        item = ledger.take(worker) if len(held) < ahead else None
        if item is not None:
            held.append(item)
            continue
        if not held:
            ledger.ended(worker)
            del running[worker]
        elif held[0] in deadly:
            lost.update(ledger.died(worker, "exit code -9"))
            del running[worker]
        else:
            assert ledger.done(worker, held[0])
            done.append(held.pop(0))
    assert sorted(done) == [item for item in range(count) if item not in deadly]
    assert set(lost) == {item for item in deadly if item < count}
    assert all(one.deaths == LIVES for one in lost.values())


def test_an_item_of_a_dead_worker_is_tried_alone() -> None:
    ledger = Ledger(10, 1)
    assert [ledger.take(0) for _ in range(3)] == [0, 1, 2]
    assert ledger.died(0, "exit code -9") == []
    # What nobody died of comes first.
    assert [ledger.take(1) for _ in range(7)] == [3, 4, 5, 6, 7, 8, 9]
    assert ledger.take(1) is None
    for item in range(3, 10):
        assert ledger.done(1, item)
    assert ledger.take(1) == 0
    assert ledger.take(1) is None
    assert ledger.died(1, "exit code -9") == []
    assert ledger.take(2) == 1
    assert ledger.done(2, 1)
    assert not ledger.done(2, 1), "it was told before"


def test_nobody_reads_ahead_what_others_could_do() -> None:
    ledger = Ledger(4, 2)
    assert ledger.wanted(0) == 2
    assert [ledger.take(0) for _ in range(3)] == [0, 1, None]
    assert [ledger.take(1) for _ in range(3)] == [2, 3, None]
    assert ledger.wanted(1) == 0


def test_workers_that_die_before_they_begin() -> None:
    ledger = Ledger(4, 2)
    for worker in range(LIVES - 1):
        assert ledger.died(worker, "exit code -9") == []
    with pytest.raises(OSError, match=r"before they began, at last with exit code -9"):
        ledger.died(LIVES, "exit code -9")
    ledger.take(9)
    with pytest.raises(RuntimeError, match="without a result"):
        ledger.ended(9)


def test_a_worker_comes_again_until_it_is_given_nothing() -> None:
    answers = iter([(0, "a"), (1, "b"), None, (2, "c"), None, None])
    streams: list[list[tuple[int, str]]] = []

    class Remember:
        def open(self) -> Callable[[Iterator[tuple[int, str]], Callable[[int, str], None]], None]:
            return lambda items, tell: streams.append(list(items))

    serve(Remember(), lambda: next(answers), lambda item, result: None)
    assert streams == [[(0, "a"), (1, "b")], [(2, "c")]]
    assert list(answers) == []


def test_errors_that_cannot_travel_are_told_in_words() -> None:
    class LocalError(ValueError):  # cannot be pickled
        pass

    assert str(portable(LocalError("why"))) == "LocalError: why"
    error = KeyError("x")
    assert portable(error) is error
