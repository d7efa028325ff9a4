"""The sampling-weight study: its numbers, its verdicts, and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluations import SMALL, scaled
from runs import invoke
from tomat.cli import run
from tomat.evaluate.aggregate import deciles
from tomat.evaluate.bootstrap import Resampler
from tomat.evaluate.result import Result
from training.studies.arms import Draws
from training.studies.sampling_weight.__main__ import app
from training.studies.sampling_weight.study import ARMS, hypotheses, sampling_weight


def main() -> None:
    run(app, "study")


def test_the_study_shows_what_the_models_began_with(tmp_path: Path) -> None:
    errors, start = dict.fromkeys(SMALL, 0.04), dict.fromkeys(SMALL, 0.05)
    equal, electrons = ([scaled(tmp_path / name, errors, start)] for name in ("equal", "electrons"))
    rows = {row["name"]: row for row in sampling_weight(equal, electrons, "one_pass")["metrics"]}
    for weighed in ("material", "electron"):
        row = rows[f"per {weighed}, start (step 0)"]
        assert row["equal"]["value"] == pytest.approx(0.05, rel=1e-5)
        assert row["difference"]["value"] == pytest.approx(0.0, abs=1e-12)
    bare = _study(tmp_path, 0.01, 0.05)
    assert not [row for row in bare["metrics"] if "start" in row["name"]]


def _study(tmp_path: Path, shift: float, bottom: float, **about: Any) -> dict[str, Any]:
    """Two seeds of each budget; ``electrons`` worse by ``shift``, the smallest material by ``bottom``."""
    rng = np.random.default_rng(0)
    arms: dict[str, list[Result]] = {"equal": [], "electrons": []}
    smallest = "vasp-mp-2300242"
    for seed in range(2):
        base = {name: 0.05 + 0.001 * float(rng.uniform()) for name in SMALL}
        worse = {name: x + (bottom if name == smallest else shift) for name, x in base.items()}
        for arm, errors in (("equal", base), ("electrons", worse)):
            arms[arm].append(scaled(tmp_path / f"{arm}-{seed}-{shift}", errors, **about))
    return sampling_weight(arms["equal"], arms["electrons"], "one_pass")


def test_the_study_says_which_hypotheses_held(tmp_path: Path) -> None:
    got = _study(tmp_path, 0.01, 0.05)
    verdicts = {h["name"]: h["verdict"] for h in got["hypotheses"]}
    assert verdicts == {"H1": "holds", "H2": "fails", "H3": "undecided"}
    assert got["metrics"][0]["difference"]["value"] == pytest.approx(0.018, rel=1e-3)
    assert got["seeds"] == {"equal": 2, "electrons": 2}
    other = _study(tmp_path, -0.02, -0.02)
    verdicts = {h["name"]: h["verdict"] for h in other["hypotheses"]}
    assert verdicts["H1"] == "fails"
    assert verdicts["H2"] == "holds"


@pytest.mark.parametrize(("top", "verdict"), [(0.001, "holds"), (0.03, "fails")])
def test_the_bottom_decile_is_compared_with_the_top_one(top: float, verdict: str) -> None:
    """The gap is 2 points at the fewest electrons, ``top`` at the most, and none between: above that over all."""
    rng = np.random.default_rng(0)
    electrons = np.arange(1.0, 201.0)
    groups = deciles(electrons)
    equal = 0.05 + 0.001 * rng.random((200, 3))
    gap = np.where(groups == 0, 0.02, np.where(groups == 9, top, 0.0))
    other = equal + gap[:, None]
    draws = Draws([equal, other], Resampler(200, resamples=200), 0, ARMS)
    h3 = hypotheses(draws, electrons, groups)[2]
    assert h3["name"] == "H3"
    assert h3["difference"]["value"] == pytest.approx(0.02 - top, abs=1e-9)
    assert h3["verdict"] == verdict


def test_the_study_from_the_command_line(tmp_path: Path) -> None:
    for name, error in (("eq", 0.1), ("el", 0.12)):
        scaled(tmp_path / name, dict.fromkeys(SMALL, error), steps=100)
    scaled(tmp_path / "long", dict.fromkeys(SMALL, 0.1), steps=200)
    out = tmp_path / "study.json"
    done = invoke(main, tmp_path / "eq", "--electrons", tmp_path / "el", "-o", out)
    assert done.code == 0, done.err
    assert "H1" in done.out
    assert "holds" in done.out
    assert "With one seed" in done.out
    assert json.loads(out.read_text())["format"] == "tomat sampling-weight study"
    refused = invoke(main, tmp_path / "eq", "--electrons", tmp_path / "long")
    assert refused.code == 1
    assert "different steps" in refused.err
    taken = invoke(main, tmp_path / "eq", "--electrons", tmp_path / "long", "--unmatched", "--json")
    assert taken.code == 0
