"""Training runs as they lie on disk: a folder with ``metrics.jsonl``, one JSON object a line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.metrics_file import records
from tomat.lm.model.presets import ModelConfig, parameter_count
from tomat.lm.record import check_note, is_note
from tomat.storage.files import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The file of a run that its numbers stand in.
METRICS_FILE = "metrics.jsonl"
#: The held-out number that models are judged by.
NMAE = "eval/one_pass/nmae_median"
#: What a run is made of, where it wrote it down.
_ABOUT_FILE = "tomat.json"
#: Where numbers of a run stand; the first that is there counts.
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
    """One number of a run over its steps.

    Attributes:
        steps: (n,) ascending, each once.
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
        name: what reports call it.
        series: numbers by name.
        seconds: time since the first line at each step there is, where lines say the time.
        not_finite: steps at which a number was NaN or infinite, by name.
        unreadable: lines that are no JSON objects with a step: cut off when the run was stopped.
        about: facts the run wrote about itself.
    """

    path: Path
    name: str
    series: dict[str, Series]
    seconds: Series | None
    not_finite: dict[str, list[int]]
    unreadable: int
    about: dict[str, Any] = field(default_factory=dict)

    def first_of(self, names: tuple[str, ...]) -> Series | None:
        """The first series there is."""
        return next((self.series[name] for name in names if name in self.series), None)

    @property
    def steps(self) -> int:
        """The last step."""
        return max((int(of.steps[-1]) for of in self.series.values()), default=0)

    @property
    def tokens(self) -> float | None:
        """Tokens seen in all."""
        series = self.first_of(_TOKENS)
        return None if series is None else series.last

    @property
    def flops(self) -> float | None:
        """Floating-point operations spent in all."""
        series = self.first_of(_GFLOPS)
        return None if series is None else series.last * 1e9

    @property
    def parameters(self) -> float | None:
        """Parameters of the model."""
        series = self.first_of(_PARAMETERS)
        if series is not None:
            return series.last
        try:
            shape = ModelConfig(**self.about["model"]).shape()
            return float(parameter_count(shape, int(self.about["vocabulary"]["rows"])).total)
        except (KeyError, TypeError, ValueError):
            # A run of another program, or of another version: it says nothing that is known here.
            return None

    @property
    def loss(self) -> tuple[str, float] | None:
        """The last loss, that on held-out data where there is one, and its name.

        Of a training loss, which is noisy, the mean over the last twentieth of its steps.
        """
        for name in _LOSS:
            if name in self.series:
                of = self.series[name]
                n = max(1, len(of.values) // 20) if name.startswith("train") else 1
                return name, float(of.values[-n:].mean())
        return None

    def at_start(self, name: str) -> tuple[int, float] | None:
        """Step and value of a number on held-out data as the run began, before its first step.

        None where the run says nothing of it: its first evaluation came after its first step.
        """
        of = self.series.get(name)
        first = min((int(series.steps[0]) for series in self.series.values()), default=0)
        if of is None or not name.startswith("eval/") or int(of.steps[0]) != first:
            return None
        return first, float(of.values[0])


def load_training_run(path: str | Path) -> TrainingRun:
    """Read a run's folder, or its ``metrics.jsonl``.

    A line that was cut off is left out and counted. Where a step comes again (the run went on from an earlier
    checkpoint) the later line counts, number by number.

    Raises:
        FileNotFoundError: no metrics there.
        ValueError: not one line that can be read.
    """
    given = Path(path)
    place = given if given.name == METRICS_FILE else given / METRICS_FILE
    if not place.exists():
        raise FileNotFoundError(f"{place}: not there; give the folder of a training run")
    found: dict[str, dict[int, float]] = {}
    times: dict[int, float] = {}
    unreadable = 0
    with place.open("rb") as file:
        for record in records(line for line in file if line.strip()):
            if record is None:
                unreadable += 1
                continue
            # Lines without a step are facts about the whole run.
            step = int(record["step"]) if _is_number(record.get("step")) else None
            for name, value in record.items():
                number = _number(value)
                if step is None or number is None or name == "step":
                    continue
                if name == "time":
                    times[step] = number
                else:
                    found.setdefault(name, {})[step] = number
    if not found:
        raise ValueError(f"{place}: not one line is a JSON object with a step and numbers")
    folder = place.parent
    about = read_json(folder / _ABOUT_FILE) if (folder / _ABOUT_FILE).exists() else {}
    if is_note(about):
        check_note(about, folder / _ABOUT_FILE)
    bad = {
        name: steps
        for name, values in found.items()
        if (steps := sorted(step for step, value in values.items() if not math.isfinite(value)))
    }
    series = {name: of for name, values in found.items() if (of := _series(values)) is not None}
    return TrainingRun(
        folder, str(about.get("name") or folder.name), series, _elapsed(times), bad, unreadable, about
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: object) -> float | None:
    """A number, those among them that JSON knows only as words: ``nan``, ``inf``."""
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


def _elapsed(times: dict[int, float]) -> Series | None:
    """Seconds since the first step; a pause between two lives of a run counts as it passed."""
    series = _series(times)
    if series is None:
        return None
    return Series(series.steps, series.values - series.values[0])
