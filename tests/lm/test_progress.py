"""What is shown of a run: numbers beside start and baselines, and the time left."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

pytest.importorskip("levanter")
from rich.console import Console

from tomat.lm.progress import HeldOut, Pace, ProgressConfig, RunProgress, duration, short

EVALUATION = {
    "eval/one_pass/nmae_median": 0.0123,
    "eval/one_pass/bits_per_voxel": 5.5,
    "eval/one_pass/calibrated_bits_per_voxel": 5.1,
    "eval/promolecule/nmae": 0.02,
    "eval/unigram_bits_per_voxel": 9.25,
}


def step(loss: float) -> dict[str, Any]:
    return {"train/loss": loss, "train/bits_per_voxel": 6.5, "throughput/tokens_per_second": 4321.0}


@pytest.mark.parametrize(
    ("total", "steps"), [(1, 1), (25, 1), (40, 2), (100, 5), (1000, 50), (20_000, 1000), (10**6, 50_000)]
)
def test_some_twenty_lines_a_run_at_round_steps(total: int, steps: int) -> None:
    assert ProgressConfig().steps(total) == steps
    assert ProgressConfig(7).steps(total) == 7
    with pytest.raises(ValueError, match=r"progress\.every = 0: give at least 1"):
        ProgressConfig(0)


def test_an_evaluation_stands_beside_what_it_has_to_beat() -> None:
    found = HeldOut.of(EVALUATION)
    assert found is not None
    assert found.words(None) == ("5.500 bits a voxel (unigram 9.250), NMAE 1.230 % (promolecule 2.000 %)")
    start = HeldOut(6.0, 9.25, 0.02, 0.02)
    assert found.words(start) == (
        "5.500 bits a voxel (start 6.000, unigram 9.250), NMAE 1.230 % (start 2.000 %, promolecule 2.000 %)"
    )
    assert HeldOut.of({"train/loss": 3.0, "train/bits_per_voxel": 1.0}) is None


def test_the_time_left_leaves_out_the_compiled_step() -> None:
    pace = Pace(100)
    pace.done(11, 500.0)  # a resumed run, whose first step took long
    assert pace.left is None
    pace.done(12, 502.0)
    pace.done(13, 506.0)
    assert pace.left == pytest.approx(87 * 3.0)


def test_durations_and_rates_are_short() -> None:
    assert [duration(x) for x in (0.4, 59.6, 3723, 90000)] == ["0:00:00", "0:01:00", "1:02:03", "1 d 01 h"]
    assert [short(x) for x in (13.14, 4321, 2.5e6)] == ["13.1", "4.32k", "2.5M"]


def test_a_resumed_run_knows_the_start_from_its_metrics_unless_it_began_anew() -> None:
    out = io.StringIO()
    earlier = [{"step": 0, **EVALUATION, "eval/one_pass/bits_per_voxel": 8.0}]
    progress = RunProgress(Console(file=out), "tiny", 4, every=2, earlier=earlier)
    progress.log(EVALUATION, step=1)
    assert "(start 8.000, unigram 9.250)" in out.getvalue()
    progress.restart()
    progress.log(EVALUATION, step=0)
    assert out.getvalue().splitlines()[-1] == "tiny: held out, step 0: " + HeldOut(
        5.5, 9.25, 0.0123, 0.02
    ).words(None)


def test_a_terminal_shows_a_bar_that_goes_away_and_evaluations_that_stay() -> None:
    out = io.StringIO()
    progress = RunProgress(
        Console(file=out, force_terminal=True, width=60, legacy_windows=False), "tiny", 3, every=1
    )
    for done in range(3):
        progress.log(step(2.0 - done), step=done)
        if done == 1:
            progress.log(EVALUATION, step=done)
        progress.log({"throughput/loading_time": 0.1}, step=done)
    progress.finish()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "3/3 100 %" in text
    assert "loss 0, 6.500 bits a voxel, 4.32k tokens/s, 0:00:00 left" in text
    assert "tiny: held out, step 2: 5.500 bits a voxel" in text
    assert "tiny: step" not in text  # such lines are for logs
    assert out.getvalue().endswith("\x1b[2K")  # the bar is erased


def test_nothing_is_shown_without_a_console() -> None:
    progress = RunProgress(None, "tiny", 3, every=1)
    progress.say("opening the data")
    progress.log(step(1.0), step=0)
    progress.log({"throughput/loading_time": 0.1}, step=0)
    progress.finish()
