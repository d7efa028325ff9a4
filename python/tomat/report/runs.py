"""Read training runs: folders with ``metrics.jsonl``, one JSON object per line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from draccus.utils import ParsingError
from numpy.typing import NDArray

from tomat.lm.metrics_file import WANDB_URL, records
from tomat.lm.model.presets import ModelConfig, parameter_count
from tomat.lm.record import check_note, is_note
from tomat.report.pulled import read_about
from tomat.storage.files import read_json

#: File of a run with its metrics.
METRICS_FILE = "metrics.jsonl"
#: The main criterion on held-out data.
NMAE = "eval/one_pass/nmae_median"
#: File of a run with its note.
_ABOUT_FILE = "tomat.json"
#: Names of numbers in the metrics; the first one present is used.
_TOKENS = ("throughput/total_tokens", "total_tokens")
_GFLOPS = ("throughput/total_gflops", "total_gflops")
_PARAMETERS = ("parameter_count", "model/parameters", "parameters")
_LOSS = (
    "eval/one_pass/bits_per_voxel",
    "eval/teacher_forced/bits_per_voxel",
    "eval/partly_masked/bits_per_voxel",
    "eval/loss",
    "train/loss",
)


@dataclass(frozen=True, eq=False)
class Series:
    """One logged number of a run.

    Attributes:
        steps: (n,) strictly ascending.
        values: (n,) finite.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def last(self) -> float:
        """The value at the last step."""
        return float(self.values[-1])


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training run.

    Attributes:
        path: its folder.
        name: its name in reports.
        series: logged numbers by name.
        seconds: seconds since the first logged step; None if lines have no time.
        not_finite: steps at which a number was NaN or infinite, by name.
        unreadable: number of lines that are not JSON objects, such as one cut off when the run was killed.
        about: its note ``tomat.json``, or ``run.json`` of a run that was pulled; empty without one.
        summary: numbers and words that concern the whole run, by name.
        url: its page at a tracker; empty if it has none.
    """

    path: Path
    name: str
    series: dict[str, Series]
    seconds: Series | None
    not_finite: dict[str, list[int]]
    unreadable: int
    about: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def last_of(self, names: tuple[str, ...]) -> float | None:
        """The last value of the first of these series that the run has."""
        return next((self.series[name].last for name in names if name in self.series), None)

    @property
    def steps(self) -> int:
        """The last step."""
        return max((int(of.steps[-1]) for of in self.series.values()), default=0)

    @property
    def tokens(self) -> float | None:
        """Total number of tokens seen."""
        return self.last_of(_TOKENS)

    @property
    def flops(self) -> float | None:
        """Total number of floating-point operations."""
        gflops = self.last_of(_GFLOPS)
        return None if gflops is None else gflops * 1e9

    @property
    def parameters(self) -> float | None:
        """Number of parameters of the model."""
        logged = self.last_of(_PARAMETERS)
        if logged is None:
            logged = next(
                (n for key in _PARAMETERS if (n := _number(self.summary.get(key))) is not None), None
            )
        if logged is not None:
            return logged
        try:
            shape = draccus.decode(ModelConfig, dict(self.about["model"])).shape()
            return float(parameter_count(shape, int(self.about["vocabulary"]["rows"])).total)
        except (KeyError, TypeError, ValueError, ParsingError):
            # A run of another program or version.
            return None

    @property
    def loss(self) -> tuple[str, float] | None:
        """Name and last value of the loss, on held-out data if there is one.

        A training loss, which is noisy, is averaged over the last twentieth of its steps.
        """
        for name in _LOSS:
            if name in self.series:
                of = self.series[name]
                n = max(1, len(of.values) // 20) if name.startswith("train") else 1
                return name, float(of.values[-n:].mean())
        return None

    def at_start(self, name: str) -> tuple[int, float] | None:
        """Step and value of a number on held-out data before the first training step.

        None if the first evaluation came after the first step.
        """
        of = self.series.get(name)
        first = min((int(series.steps[0]) for series in self.series.values()), default=0)
        if of is None or not name.startswith("eval/") or int(of.steps[0]) != first:
            return None
        return first, float(of.values[0])


def load_training_run(path: str | Path) -> TrainingRun:
    """Read a run's folder, or its ``metrics.jsonl``.

    Unreadable lines are skipped and counted. If a step occurs twice (the run resumed from an earlier checkpoint), the
    later value of each number counts.
    """
    given = Path(path)
    place = given if given.name == METRICS_FILE else given / METRICS_FILE
    if not place.exists():
        raise FileNotFoundError(f"{place}: not found; give the folder of a training run")
    found: dict[str, dict[int, float]] = {}
    times: dict[int, float] = {}
    summary: dict[str, Any] = {}
    unreadable = 0
    with place.open("rb") as file:
        for record in records(line for line in file if line.strip()):
            if record is None:
                unreadable += 1
                continue
            # Lines without a step concern the whole run.
            if record.get("event") == "summary":
                summary.update(record)
            stated = record.pop("step", None)
            if isinstance(stated, str) or (step := _number(stated)) is None or not math.isfinite(step):
                continue
            for name, value in record.items():
                number = _number(value)
                if number is not None:
                    (times if name == "time" else found.setdefault(name, {}))[int(step)] = number
    if not found:
        raise ValueError(f"{place}: no line is a JSON object with a step and numbers")
    folder = place.parent
    about = read_json(folder / _ABOUT_FILE) if (folder / _ABOUT_FILE).exists() else {}
    if is_note(about):
        check_note(about, folder / _ABOUT_FILE)
    if not about:
        about = read_about(folder)
        summary.update(about.get("summary", {}))
    bad = {
        name: steps
        for name, values in found.items()
        if (steps := sorted(step for step, value in values.items() if not math.isfinite(value)))
    }
    series = {name: of for name, values in found.items() if (of := _series(values)) is not None}
    elapsed = _series(times)
    if elapsed is not None:  # since the first step; pauses of a resumed run are included
        elapsed = Series(elapsed.steps, elapsed.values - elapsed.values[0])
    name = str(about.get("name") or folder.name)
    url = str(about.get("url") or summary.get(WANDB_URL) or "")
    return TrainingRun(folder, name, series, elapsed, bad, unreadable, about, summary, url)


def _number(value: object) -> float | None:
    """A number, also one written as ``nan`` or ``inf``; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    return float(value)


def _series(values: dict[int, float]) -> Series | None:
    steps = [step for step in sorted(values) if math.isfinite(values[step])]
    if not steps:
        return None
    return Series(np.array(steps, dtype=np.int64), np.array([values[step] for step in steps]))
