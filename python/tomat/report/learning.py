"""Learning curves: training and held-out numbers of runs in one figure, with what they have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomat.evaluate.tables import label
from tomat.report.figures import colour, plain, thinned
from tomat.view.page import Figure, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.report.runs import TrainingRun

type Kind = Literal["training", "held out", "baseline"]

#: Largest number of training steps that are averaged to one point.
_SMOOTH = 25


@dataclass(frozen=True)
class Quantity:
    """What is drawn.

    Attributes:
        name: ending of the names in the metrics.
        title: of the axis.
        factor: to the unit of the axis.
        training: name of the training metric with all voxels weighted equally, as in evaluations.
        baselines: names of metrics that do not depend on the model, with their words.
    """

    name: str
    title: str
    factor: float
    training: str
    baselines: tuple[tuple[str, str], ...]


QUANTITIES = (
    Quantity(
        "bits_per_voxel",
        "bits per voxel",
        1.0,
        "train/bits_per_voxel",
        (("eval/unigram_bits_per_voxel", "unigram: frequencies of levels alone"),),
    ),
    Quantity(
        "nmae_median",
        "NMAE, %",
        100.0,
        "train/nmae_median",
        (("eval/promolecule/nmae", "promolecule"),),
    ),
)


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a figure.

    Attributes:
        run: number of its run.
        name: in the legend.
        kind: training, held out, or a number that does not change.
        steps: (n,) steps done before each value.
        values: (n,) in the unit of the axis.
    """

    run: int
    name: str
    kind: Kind
    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def learning_lines(runs: Sequence[TrainingRun], of: Quantity) -> list[Line]:
    """The lines of a quantity: of each run training, held out, its start, and what knows less."""
    found: list[Line] = []
    for number, run in enumerate(runs):
        named = f"{run.name}: " if len(runs) > 1 else ""
        whole = np.array([0, run.steps + 1])

        def level(
            words: str, value: float, number: int = number, whole: Any = whole, named: str = named
        ) -> None:
            found.append(Line(number, f"{named}{words}", "baseline", whole, np.full(2, of.factor * value)))

        if of.training in run.series:
            steps, values = thinned(run.series[of.training], _SMOOTH)
            found.append(Line(number, f"{named}training", "training", steps + 1, of.factor * values))
        for name in sorted(run.series):
            if not name.startswith("eval/") or not name.endswith(f"/{of.name}"):
                continue
            mode, series = name.split("/")[1], run.series[name]
            # Step 0 is evaluated before it is done, all others after.
            steps = np.where(series.steps == 0, 0, series.steps + 1)
            found.append(
                Line(number, f"{named}held out, {label(mode)}", "held out", steps, of.factor * series.values)
            )
            start = run.at_start(name)
            if start is not None and len(series.values) > 1:
                level("start", start[1])
        for name, words in of.baselines:
            if name in run.series:
                level(words, run.series[name].last)
    return found if any(line.kind != "baseline" for line in found) else []


#: Dashes by the kind of a line, for plotly.
_DASH: dict[Kind, str] = {"training": "solid", "held out": "solid", "baseline": "dash"}
_WIDTH: dict[Kind, float] = {"training": 0.8, "held out": 2.2, "baseline": 1.2}


def learning(runs: Sequence[TrainingRun], of: Quantity) -> Figure | None:
    """Training and held-out values of a quantity against the step, with start and baselines; None without any."""
    lines = learning_lines(runs, of)
    if not lines:
        return None
    data = []
    for order, line in enumerate(lines):
        # With one run the lines have colours of their own, with several each run has one.
        tint = colour(line.run if len(runs) > 1 else order)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers" if line.kind == "held out" else "lines",
            "name": plain(line.name),
            "x": packed(line.steps.astype(np.int32)),
            "y": packed(line.values),
            "line": {"color": tint, "width": _WIDTH[line.kind], "dash": _DASH[line.kind]},
            "opacity": 0.6 if line.kind == "training" else 1.0,
        }
        data.append(trace)
    layout = {
        "xaxis": {"title": {"text": "steps"}},
        "yaxis": {"title": {"text": of.title}},
        "showlegend": True,
    }
    words = "all voxels weighted equally; dashed: the start and what knows less than the model"
    return Figure(f"{of.title}: training and held-out data, {words}.", data, layout)
