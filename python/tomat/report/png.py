"""Figures of runs and results as PNG, for slides: scaling and learning curves, with matplotlib."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tomat.report.figures import SIZES, colour, png_of
from tomat.report.learning import QUANTITIES, learning_lines
from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tomat.report.runs import TrainingRun

#: Inches of a slide's half, and dots an inch.
_SIZE, _DPI = (8.0, 4.5), 200
_STYLE: dict[str, dict[str, Any]] = {
    "training": {"lw": 0.8, "alpha": 0.6},
    "held out": {"lw": 2.0, "marker": "o", "ms": 5},
    "baseline": {"lw": 1.2, "ls": "--"},
}


def write_pngs(
    folder: Path, runs: Sequence[TrainingRun], scaling: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Path]:
    """Write ``scaling-NAME.png`` and ``learning-NAME.png`` into a folder.

    Args:
        folder: made if it is not there.
        runs: with learning curves.
        scaling: points as :func:`tomat.report.figures.scaling` takes them, by the title of their value.

    Returns:
        The files; none if nothing can be drawn.

    Raises:
        ValueError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    drawn = {f"scaling-{_word(title)}": scaling_png(points, title) for title, points in scaling.items()}
    drawn |= {f"learning-{_word(of.title)}": learning_png(runs, of) for of in QUANTITIES}
    found = []
    for name, content in drawn.items():
        if content is not None:
            folder.mkdir(parents=True, exist_ok=True)
            found.append(folder / f"{name}.png")
            write_atomically(found[-1], content)
    return found


def _word(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _canvas(columns: int = 1) -> tuple[Any, Any]:
    """A figure with panels side by side."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"PNG needs matplotlib: pip install 'tomat[plot]' ({error})") from error
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False, sharey=True)[0]


def scaling_png(points: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Loss or error against tokens, FLOPs and parameters on logarithmic axes; None if no point has any of them."""
    axes = [(key, words) for key, words in SIZES.items() if any(point.get(key) for point in points)]
    if not axes:
        return None
    figure, panels = _canvas(len(axes))
    shown: dict[int, Any] = {}
    for panel, (key, words) in zip(panels, axes, strict=True):
        for number, point in enumerate(points):
            if point.get(key):
                marker = "osD^vP*X"[number % 8]
                (shown[number],) = panel.plot(point[key], point["value"], marker, color=colour(number), ms=8)
        panel.set(xscale="log", yscale="log", xlabel=words)
        _label_ticks(panel)
        panel.grid(visible=True, alpha=0.25)
    panels[0].set_ylabel(title.removeprefix("eval/").replace("_", " ").replace("/", ", "))
    if len(points) > 1:
        names = [points[number]["name"] for number in shown]
        figure.legend(shown.values(), names, loc="outside upper center", ncols=4, fontsize=8)
    return png_of(figure)


def _label_ticks(panel: Any) -> None:
    """Few round numbers on logarithmic axes, also where they span less than a decade."""
    from matplotlib import ticker

    panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
    panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    panel.yaxis.set_major_locator(ticker.MaxNLocator(6))
    panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(ticker.NullLocator())


def learning_png(runs: Sequence[TrainingRun], of: Any) -> bytes | None:
    """Training and held-out values of a quantity with start and baselines; None if no run has any."""
    lines = learning_lines(runs, of)
    if not lines:
        return None
    figure, (panel,) = _canvas()
    for order, line in enumerate(lines):
        tint = colour(line.run if len(runs) > 1 else order)
        panel.plot(line.steps, line.values, color=tint, label=line.name, **_STYLE[line.kind])
    panel.set(xlabel="steps", ylabel=of.title)
    panel.grid(visible=True, alpha=0.25)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return png_of(figure)
