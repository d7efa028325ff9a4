"""Processes that take items one by one: what happens to the items when processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crews import Faulty, Squares, worker_processes
from tomat._threads import processors
from tomat.engine import Crew, Lost, ProcessEngine
from tomat.engine.modal import ModalEngine
from tomat.engine.named import engine_of


def crew(workers: int) -> Crew:
    return Crew(engine_of("local"), workers)


def made(folder: Path, what: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{what}-*"))


def test_every_item_is_done_and_each_worker_opens_its_work_once(tmp_path: Path) -> None:
    results = list(crew(2).each(Squares(tmp_path, ahead=3, together=2), list(range(30))))
    assert sorted(results) == [(n, n * n) for n in range(30)]
    assert len(made(tmp_path, "opened")) == 2
    assert not worker_processes()


def test_no_more_workers_than_items(tmp_path: Path) -> None:
    assert list(crew(4).each(Squares(tmp_path), [3])) == [(0, 9)]
    assert len(made(tmp_path, "opened")) == 1
    assert list(crew(4).each(Squares(tmp_path), [])) == []


def test_an_item_that_kills_its_workers_is_lost_and_no_other(tmp_path: Path) -> None:
    work = Squares(tmp_path, ahead=4, deadly=frozenset({5}), deadly_once=frozenset({2, 11}))
    results = dict(crew(2).each(work, list(range(12))))
    lost = results.pop(5)
    assert isinstance(lost, Lost)
    assert str(lost).startswith("its worker process died 3 times, at last with exit code -9")
    assert results == {n: n * n for n in range(12) if n != 5}


def test_processes_that_are_killed_from_outside(tmp_path: Path) -> None:
    results, killed = {}, 0
    for number, result in crew(2).each(Squares(tmp_path, pause_s=0.02), list(range(60))):
        results[number] = result
        if len(results) in (5, 20):
            os.kill(worker_processes()[0], signal.SIGKILL)
            killed += 1
    assert killed == 2
    assert results == {n: n * n for n in range(60)}


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ("cannot be opened", ValueError, "no such checkpoint"),
        ("dies as it opens", OSError, "before they began, at last with exit code -9"),
        ("tells nothing", RuntimeError, "without a result"),
    ],
)
def test_work_that_cannot_be_done(how: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        list(crew(2).each(Faulty(how), [1, 2]))
    assert not worker_processes()


def test_an_error_of_the_work_ends_it_for_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="UnportableError: 7: refused"):
        list(crew(2).each(Squares(tmp_path, refused=7), list(range(1000))))
    assert not worker_processes()


def test_workers_share_the_processors() -> None:
    own = max(1, processors() // 2)
    before = dict(os.environ)
    assert dict(crew(2).each(Faulty("not at all"), [1, 2])) == dict.fromkeys(
        (0, 1), (own, str(own), str(own))
    )
    assert dict(os.environ) == before


def test_paths_are_relative_to_where_the_parent_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(crew(1).each(Squares(Path()), [3])) == [(0, 9)]
    assert len(made(tmp_path, "opened")) == 1


def test_closing_stops_the_workers(tmp_path: Path) -> None:
    results = crew(2).each(Squares(tmp_path, pause_s=0.05), list(range(1000)))
    next(results)
    assert len(worker_processes()) == 2
    results.close()
    assert not worker_processes()
    assert len(made(tmp_path, "begun")) < 1000


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from crews import Squares; from tomat.engine import Crew, ProcessEngine\n"
        f"list(Crew(ProcessEngine(), 2).each(Squares(Path({str(tmp_path)!r}), pause_s=60), [1, 2]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment)
    end = time.monotonic() + 120
    while len(made(tmp_path, "begun")) < 2:
        assert time.monotonic() < end
        assert parent.poll() is None
        time.sleep(0.02)
    workers = [int(name.removeprefix("opened-")) for name in made(tmp_path, "opened")]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers):
        assert time.monotonic() < end, "workers outlive their parent"
        time.sleep(0.02)


def test_an_engine_that_only_tokenizes_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ModalEngine can only tokenize; take the engine local or ray"):
        ModalEngine(functions={}).each(Squares(tmp_path), [1], 2)
    assert isinstance(crew(1).engine, ProcessEngine)
