"""The demo's training: it says what the model began with, and fails where training made that worse."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from places import REPOSITORY

pytest.importorskip("levanter")
pytest.importorskip("matplotlib")

SCRIPT = REPOSITORY / "scripts" / "demo_train.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("demo_train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def evaluated(step: int, nmae: float, bits: float = 5.0) -> dict[str, Any]:
    numbers = {"nmae_median": nmae, "bits_per_voxel": bits}
    named = {f"eval/one_pass/{name}": value for name, value in numbers.items()}
    return {"step": step, "eval/unigram_bits_per_voxel": 9.5, **named}


def test_the_demo_fails_where_training_made_the_held_out_numbers_worse() -> None:
    course = script().Course
    good = course.of([evaluated(0, 0.0143), {"step": 5}, evaluated(39, 0.0142), evaluated(79, 0.0143)])
    assert good.steps == [0, 40, 80]
    assert good.worse() is None
    worse = course.of([evaluated(0, 0.0143), evaluated(39, 0.0100), evaluated(79, 0.0387)]).worse()
    assert worse == "training made the held-out NMAE worse: 1.430 % at step 0, 3.870 % after 80 steps"
    assert "no step 0" in course.of([evaluated(39, 0.02)]).worse()
    assert "unigram" in course.of([evaluated(0, 0.02), evaluated(39, 0.02, bits=9.6)]).worse()


def test_a_harmful_learning_rate_fails_the_demo_which_shows_start_and_end(tmp_path: Path) -> None:
    small = ["--trainer.num_train_steps", "4", "--data.limit", "2", "--evaluation.max_rows", "8"]
    harmful = ["--optimizer.learning_rate", "0.3", "--optimizer.warmup", "0"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path / "out"), *small, *harmful],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error: training made the held-out NMAE worse:" in done.stderr
    assert "after 4 steps" in done.stderr
    for row in (
        "promolecule",
        "start (step 0)",
        "trained, last (step 4)",
        "trained, best (step 0)",
        "codec floor",
    ):
        assert f"\n{row}" in done.stdout, row
    # What predicts is the start: the whole crystals are as good as with it.
    lines = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    begun = lines["start (step 0)"][-1]
    assert lines["trained, best (step 0): what predicts"][-1] == begun
    assert (tmp_path / "out" / "curve.png").exists()
