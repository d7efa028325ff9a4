"""``tomat eval`` by several workers: the result of one, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crews import deadly_methods, worker_processes
from evaluations import ENTRIES, SMALL
from runs import LABEL, ROOT, farm, tomat_main, tree, wait_for
from tomat.engine import Crew, ProcessEngine
from tomat.evaluate.result import Result, load_result
from tomat.evaluate.run import Evaluation, evaluate
from tomat.evaluate.workers import CrewMeasure, identities

#: What tells of the run and not of the densities.
TIMED = ("command", "parquet_sha256", "seconds")
OPTIONS = ("--codec", "lmq-16k", "--limit", 6, "--name", "x")


def numbers(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """``result.json`` and the rows, in order, but for times and the command line."""
    rows = load_result(folder).rows
    kept = [{key: value for key, value in row.items() if key not in TIMED} for row in rows]
    return without_times(json.loads((folder / "result.json").read_text())), kept


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMED}
    return [without_times(one) for one in content] if isinstance(content, list) else content


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process measures."""
    out = tmp_path_factory.mktemp("alone") / "r"
    assert tomat_main("eval", "promolecule", ROOT, *OPTIONS, "-o", out, "-q").code == 0
    return out


def test_the_result_is_that_of_one_worker(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = tomat_main("eval", "promolecule", ROOT, *OPTIONS, "-o", out, "-q", "--workers", 2)
    assert done.code == 0, done.err
    assert numbers(out) == numbers(alone)
    assert len(numbers(out)[1]) == 12
    assert tree(out / "volumes") == tree(alone / "volumes")


def test_failures_are_counted_named_and_tried_again(tmp_path: Path) -> None:
    root = farm(tmp_path / "data", ["m-1", "m-2", "m-3", "m-4"])
    (tmp_path / "data" / "label" / "m-2.zarr").unlink()
    command = ("eval", "promolecule", root, "-o", tmp_path / "r", "-q", "--workers", 2)
    done = tomat_main(*command)
    assert done.code == 1
    assert "failed: m-2:" in done.err
    assert "1 materials failed" in done.err
    assert [error["task_id"] for error in load_result(tmp_path / "r").errors] == ["m-2"]
    (tmp_path / "data" / "label" / "m-2.zarr").symlink_to(LABEL / "qe-0211.zarr")
    again = tomat_main(*command)
    assert again.code == 0, again.err
    assert load_result(tmp_path / "r").aggregates["promolecule"]["n"] == 4


def measured(out: Path, names: list[str], mark: Path | None = None) -> Result:
    methods, unit = deadly_methods([])
    plan = Evaluation(methods, ENTRIES, unit, {}, "x", pictures=1)
    opener = partial(deadly_methods, names, mark)
    measure = CrewMeasure(Crew(ProcessEngine(), 2), opener, identities(methods))
    return evaluate(plan, out, measure=measure)


def test_materials_of_workers_that_die(tmp_path: Path) -> None:
    """One that kills each time is named with the reason, and tried again by the next call."""
    methods, unit = deadly_methods([])
    evaluate(Evaluation(methods, ENTRIES, unit, {}, "x", pictures=1), tmp_path / "alone")
    result = measured(tmp_path / "r", [SMALL[1]])
    (error,) = result.errors
    assert (error["task_id"], error["mode"]) == (SMALL[1], None)
    assert error["error"].startswith("its worker process died 3 times, at last with exit code -9")
    assert [row["task_id"] for row in result.rows] == [name for name in SMALL if name != SMALL[1]]
    assert measured(tmp_path / "r", []).errors == []
    assert measured(tmp_path / "once", [SMALL[0], SMALL[3]], tmp_path / "mark").errors == []
    assert (tmp_path / "mark").exists()
    for name in ("r", "once"):
        assert numbers(tmp_path / name) == numbers(tmp_path / "alone")
        assert tree(tmp_path / name / "volumes") == tree(tmp_path / "alone" / "volumes")


def test_a_checkpoint_that_changes_meanwhile(tmp_path: Path) -> None:
    methods, unit = deadly_methods([])
    began = {"one_pass": identities(methods)["one_pass"] | {"step": 1000}}
    measure = CrewMeasure(Crew(ProcessEngine(), 1), partial(deadly_methods, []), began)
    with pytest.raises(ValueError, match="the checkpoint has changed since the evaluation began"):
        evaluate(Evaluation(methods, ENTRIES, unit, {}, "x"), tmp_path / "r", measure=measure)


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_or_one_of_its_workers_is_killed(alone: Path, tmp_path: Path, whole: bool) -> None:
    out = tmp_path / "r"
    arguments = ["eval", "promolecule", ROOT, *OPTIONS, "-o", out, "-q", "--workers", 2]
    process = subprocess.Popen(
        [sys.executable, "-c", "from tomat.cli import main\nmain()", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(out.glob("parts/*.json"))) >= 2, process)
    os.kill(process.pid if whole else worker_processes(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (-signal.SIGKILL if whole else 0), errors
    if whole:
        finished = {path.name: path.stat().st_mtime_ns for path in out.glob("parts/*.json")}
        assert 2 <= len(finished) < 6
        done = tomat_main(*arguments)
        assert done.code == 0, done.err
        assert {name: (out / "parts" / name).stat().st_mtime_ns for name in finished} == finished
    assert numbers(out) == numbers(alone)
