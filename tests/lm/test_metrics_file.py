"""The metrics file: one line a step, readable after a kill and after a resume."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomat.lm.metrics_file import CutLineWarning, read_metrics
from tomat.report.runs import load_training_run
from tomat.storage.files import open_bytes

pytest.importorskip("levanter")
from tomat.lm.tracking import JsonLines


def test_a_step_is_one_line_whatever_the_number_of_calls(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(path)
    tracker.log({"train/loss": np.float32(2.5)}, step=0)
    tracker.log({"throughput": {"tokens": 7}}, step=0)
    tracker.log({"train/loss": 2.0}, step=1)
    tracker.finish()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[0]["train/loss"] == 2.5
    assert lines[0]["throughput/tokens"] == 7


def test_lines_are_there_before_the_end(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "metrics.jsonl")
    tracker.log({"train/loss": 1.0}, step=0)
    tracker.log({"train/loss": 0.5}, step=1)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0]
    tracker.finish()


def test_a_resumed_run_appends_and_the_later_value_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for values in ({0: 3.0, 1: 2.0, 2: 9.0}, {2: 1.0, 3: 0.5}):
        tracker = JsonLines(path)
        for step, value in values.items():
            tracker.log({"train/loss": value}, step=step)
        tracker.finish()
    assert [line["train/loss"] for line in read_metrics(path)] == [3.0, 2.0, 1.0, 0.5]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "train/loss": 1.0}\n{"step": 1, "trai')
    assert [line["step"] for line in read_metrics(path)] == [0]


def test_what_json_cannot_hold_does_not_break_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(path)
    tracker.log({"nan": float("nan"), "array": np.zeros(3), "one": np.ones(1)}, step=0)
    tracker.finish()
    assert json.loads(path.read_text()) | {"time": 0} == {"time": 0, "step": 0, "nan": "nan", "one": 1.0}


def test_a_line_cut_off_does_not_cost_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "train/loss": 1.0}\n{"step": 1, "trai')
    tracker = JsonLines(path)
    tracker.log({"train/loss": 0.5}, step=1)
    tracker.log({"train/loss": 0.25}, step=2)
    tracker.finish()
    with pytest.warns(CutLineWarning, match=r"metrics\.jsonl: 1 lines cannot be read and are left out: 2"):
        found = read_metrics(path)
    assert [(line["step"], line["train/loss"]) for line in found] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert load_training_run(tmp_path).unreadable == 1
    assert load_training_run(tmp_path).series["train/loss"].values.tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("content", [b"", b'{"step": 0, "a": 1}\n', b"\n"])
def test_appending_adds_nothing_to_whole_lines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    JsonLines(path).finish()
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", range(1, 40))
def test_wherever_the_line_was_cut(tmp_path: Path, cut: int) -> None:
    """Cut after any byte, and in the middle of a letter of two bytes."""
    line = '{"step": 7, "name": "é", "train/loss": 1.0}\n'.encode()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + line.replace(b"7", b"8")[:cut])
    tracker = JsonLines(path)
    tracker.log({"train/loss": 0.5}, step=9)
    tracker.finish()
    with pytest.warns(CutLineWarning, match="2"):
        assert [line["step"] for line in read_metrics(path)] == [7, 9]


def _log(path: Path, mirror: str, steps: range, loss: float) -> None:
    tracker = JsonLines(path, mirror)
    for step in steps:
        tracker.log({"train/loss": loss}, step=step)
    tracker.finish()


def test_a_run_that_changes_machines_keeps_all_lines_in_its_bucket(tmp_path: Path) -> None:
    mirror = f"memory://{tmp_path.name}/metrics.jsonl"
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    _log(first, mirror, range(3), 3.0)
    _log(second, mirror, range(3, 5), 2.0)
    assert [line["train/loss"] for line in read_metrics(mirror)] == [3.0] * 3 + [2.0] * 2
    # Back on the first machine, whose file is older and has a line cut off that the bucket never saw.
    with first.open("a") as file:
        file.write('{"time": 1.0, "step": 3, "tra')
    _log(first, mirror, range(5, 6), 1.0)
    with pytest.warns(CutLineWarning, match="1 lines cannot be read"):
        found = read_metrics(mirror)
    assert [(line["step"], line["train/loss"]) for line in found] == [
        *((step, 3.0) for step in range(3)),
        (3, 2.0),
        (4, 2.0),
        (5, 1.0),
    ]
    assert first.read_bytes() == open_bytes(mirror)
