"""``tomat predict`` by several workers: the files of one, whatever happens to them."""

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

from crews import deadly, worker_processes
from runs import LABEL, Result, tomat_main, tree, wait_for
from tomat.engine import Crew, ProcessEngine
from tomat.lm.decode.opening import open_predictor
from tomat.prediction.many import predict_many
from tomat.prediction.run import RunOptions, RunSummary, expand

NAMES = sorted(path.stem for path in LABEL.iterdir())
OPTIONS = ("--format", "zarr", "--format", "chgcar", "--spacing", "0.4", "--normalize")


def predict(*arguments: object) -> Result:
    return tomat_main("predict", "promolecule", *arguments)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by name, but for the times."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: untimed(record) for name, record in found.items()}


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not key.startswith("seconds")}


def files(folder: Path) -> dict[str, str]:
    """Digests of all files but the records."""
    return {name: digest for name, digest in tree(folder).items() if not name.endswith(".json")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process writes."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert predict(LABEL, "-o", out, *OPTIONS, "--quiet").code == 0
    return out


def test_the_files_are_those_of_one_worker(alone: Path, tmp_path: Path) -> None:
    for workers in (2, 3):
        out = tmp_path / str(workers)
        done = predict(LABEL, "-o", out, *OPTIONS, "--workers", workers, "--json")
        assert done.code == 0, done.err
        assert files(out) == files(alone)
        assert records(out) == records(alone)
        assert [record["name"] for record in done.json["predicted"]] == NAMES, "not in the order given"
    again = predict(LABEL, "-o", tmp_path / "2", *OPTIONS, "--workers", 2)
    assert "0 predicted, 20 there already" in again.out
    other = predict(LABEL, "-o", tmp_path / "2", *OPTIONS, "--overlap", 4, "--workers", 2)
    assert other.code == 1
    assert "overlap was 0 and is 4" in other.err
    assert "0 predicted, 20 failed" in other.out


def test_the_grid_of_another_density(tmp_path: Path) -> None:
    like = ("--like", LABEL / "qe-0040.zarr", "--format", "zarr", "--quiet")
    given = [LABEL / f"{name}.zarr" for name in NAMES[:3]]
    assert predict(*given, "-o", tmp_path / "one", *like).code == 0
    assert predict(*given, "-o", tmp_path / "two", *like, "--workers", 2).code == 0
    assert files(tmp_path / "two") == files(tmp_path / "one")
    both = predict(*given, "-o", tmp_path / "both", *like, "--grid", "5,5,5", "--workers", 2)
    assert both.code == 1
    assert "grid and like both set the grid" in both.err


def test_failures_are_counted_and_named_and_the_rest_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.vasp").write_text("nothing")
    (folder / "argon.vasp").write_text("Ar\n4.0\n1 0 0\n0 1 0\n0 0 1\nAr\n1\nDirect\n0 0 0\n")
    for name in NAMES[:4]:
        (folder / f"{name}.zarr").symlink_to(LABEL / f"{name}.zarr")
    one = predict(folder, "-o", tmp_path / "one", *OPTIONS, "--json")
    two = predict(folder, "-o", tmp_path / "two", *OPTIONS, "--workers", 2, "--json")
    assert two.code == one.code == 1
    assert two.json["failed"] == one.json["failed"]
    assert [failure["name"] for failure in two.json["failed"]] == ["argon", "broken"]
    assert files(tmp_path / "two") == files(tmp_path / "one")
    told = predict(folder, "-o", tmp_path / "two", *OPTIONS, "--workers", 2)
    assert told.code == 1
    assert "failed: argon: the valence electrons of Ar" in told.err
    assert "0 predicted, 4 there already, 2 failed" in told.out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--mode", "k_pass"], "mode = k_pass: a promolecule has no such option"),
        (["--engine", "rays"], "unknown engine 'rays'; known: local, ray, modal"),
        (["--electrons", "8"], "one number of electrons is given for 20 structures"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, arguments: list[str], match: str) -> None:
    result = predict(LABEL, "-o", tmp_path / "out", "--workers", "2", *arguments)
    assert result.code in (1, 2)
    assert match in result.err
    assert "Traceback" not in result.err


# --- deaths -------------------------------------------------------------------------------------------------


def by_two(opener: Any, out: Path) -> RunSummary:
    options = RunOptions(spacing=0.4, normalize=True)
    suffixes = (".zarr", ".CHGCAR")
    return predict_many(opener, expand([LABEL]), out, suffixes, options, Crew(ProcessEngine(), 2))


def test_a_structure_that_kills_its_worker_each_time_failed(alone: Path, tmp_path: Path) -> None:
    """It is named with the reason; those that were in a batch with it are predicted."""
    out = tmp_path / "out"
    summary = by_two(partial(deadly, NAMES[4:5]), out)
    (failure,) = summary.failed
    assert (failure.name, failure.path) == (NAMES[4], str(LABEL / f"{NAMES[4]}.zarr"))
    assert failure.error.startswith("its worker process died 3 times, at last with exit code -9")
    assert [record["name"] for record in summary.predicted] == [n for n in NAMES if n != NAMES[4]]
    # With a worker that lives, the same command makes what is left.
    again = by_two(partial(open_predictor, "promolecule"), out)
    assert [record["name"] for record in again.predicted] == [NAMES[4]]
    assert records(out) == records(alone)
    assert {name: digest for name, digest in files(out).items() if ".tmp" not in name} == files(alone)


def test_what_a_dead_worker_held_is_predicted_by_another(alone: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "out", tmp_path / "mark"
    summary = by_two(partial(deadly, NAMES[2:12:3], mark), out)
    assert mark.exists()
    assert summary.failed == []
    assert [record["name"] for record in summary.predicted] == NAMES
    assert records(out) == records(alone)
    assert files(out) == files(alone)


def started(out: Path) -> subprocess.Popen[str]:
    """``tomat predict`` by two workers, in a process of its own."""
    program = "from tomat.cli import main\nmain()"
    arguments = ["predict", "promolecule", str(LABEL), "-o", str(out), *OPTIONS, "--workers", "2", "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def whole(folder: Path) -> dict[str, str]:
    """Without what a killed process was writing."""
    return {name: digest for name, digest in files(folder).items() if ".tmp" not in name}


def test_a_worker_is_killed(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(out)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 2, process)
    os.kill(worker_processes(process.pid)[0], signal.SIGKILL)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "died with exit code -9; what it held is tried again" in errors
    told = json.loads(printed)
    assert (told["failed"], told["skipped"]) == ([], [])
    assert records(out) == records(alone)
    assert whole(out) == files(alone)


def test_a_killed_run_goes_on(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(out)
    wait_for(lambda: len(list(out.glob("*.json"))) >= 3, process)
    workers = worker_processes(process.pid)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    finished = {path.stem: path.stat().st_mtime_ns for path in out.glob("*.json")}
    result = predict(LABEL, "-o", out, *OPTIONS, "--workers", "2", "--json")
    assert result.code == 0, result.err
    # A worker may have finished one more before it saw that it was alone.
    assert {record["name"] for record in result.json["skipped"]} >= set(finished)
    assert len(result.json["predicted"]) + len(result.json["skipped"]) == len(NAMES)
    assert len(result.json["predicted"]) > 0
    assert {name: (out / f"{name}.json").stat().st_mtime_ns for name in finished} == finished
    assert records(out) == records(alone)
    assert whole(out) == files(alone)
