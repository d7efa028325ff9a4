"""Whether steps are timed, and what is said of steps that are not; the command's dry run times real ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("levanter")
import tiny
from tomat.lm import timing
from tomat.lm.timing import time_here


@pytest.mark.parametrize(
    ("flops", "memory", "how", "seconds"),
    [
        (1e9, 0.0, "steps", 0.5),  # 4 rows a step at 1e9 FLOP/s
        (10e9, 0.0, "rows", 2.0),
        (1e9, 20.0, "rows", 2.0),  # a batch does not fit the memory, a row does
        (30e9, 0.0, "products", 120.0),
        (1e9, 1e9, "products", 4.0),
    ],
)
def test_only_what_takes_seconds_is_timed(
    flops: float, memory: float, how: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def time_steps(_config: Any, _task: Any, rows: int, timed: int) -> tuple[float, int]:
        asked.append(rows)
        return 0.5, timed

    monkeypatch.setattr(timing, "_time_steps", time_steps)
    monkeypatch.setattr(timing, "_rate_of_products", lambda _dtype: 1e9)
    monkeypatch.setattr(timing, "_free_memory", lambda: 10.0)
    task: Any = SimpleNamespace(flops=flops)
    found = time_here(tiny.config(tmp_path, steps=7200), task, 3, memory)
    assert found is not None
    assert (found.how, found.seconds) == (how, seconds)
    assert found.hours == 2 * seconds
    assert asked == {"steps": [4], "rows": [1], "products": []}[how]
    assert (">= " in str(found)) == (how == "products")


def test_nothing_is_timed_if_no_steps_are_asked_for(tmp_path: Path) -> None:
    task: Any = SimpleNamespace(flops=1.0)
    assert time_here(tiny.config(tmp_path), task, 0, 0.0) is None
