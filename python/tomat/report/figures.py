"""Plotly figures of results and runs; the page sets the colours of text and background."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tomat.evaluate.aggregate import modes_of
from tomat.evaluate.measure import UNITS
from tomat.evaluate.methods import DIAGNOSTICS
from tomat.evaluate.result import Result
from tomat.evaluate.tables import TITLES, label, shared_baselines
from tomat.evaluate.volumes import Picture
from tomat.report.runs import Series, TrainingRun
from tomat.view.colours import COLOURS
from tomat.view.density import compared, surfaces
from tomat.view.page import Figure, packed
from tomat.view.plane import Raster, rectangle_atoms, slice_figure

#: Largest number of points of a curve.
_DRAWN = 2000


def colour(number: int) -> str:
    """One of :data:`COLOURS`, in cyclic order."""
    return COLOURS[number % len(COLOURS)]


def png_of(figure: Any) -> bytes:
    """A matplotlib figure as PNG, without the version of matplotlib."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def plain(text: str) -> str:
    """Escape ``text``, in which plotly would interpret tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mean_errors(results: Sequence[Result], metric: str = "nmae") -> Figure | None:
    """Mean of a metric with intervals, of every result and mode except diagnostics; None if no result has it."""
    unit, title = UNITS[metric], TITLES[metric]
    lines: dict[str, dict[str, Any]] = {}
    shared = shared_baselines(results)
    for result in results:
        for mode in (mode for mode in modes_of(result.rows) if mode not in DIAGNOSTICS):
            bare = mode in shared or len(results) == 1
            name = label(mode) if bare else f"{plain(result.name)}, {label(mode)}"
            measured = result.aggregates[mode]["metrics"]
            if metric in measured:
                lines[name] = measured[metric]["mean"]
    if not lines:
        return None
    names = list(lines)[::-1]
    values = [unit.factor * lines[name]["value"] for name in names]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": names,
        "marker": {"size": 11, "color": COLOURS[0]},
        "error_x": _errors([lines[name] for name in names], unit.factor),
        "hovertemplate": f"%{{y}}<br>%{{x:.4g}} {unit.name}<extra></extra>",
    }
    layout = {
        "xaxis": {"type": "log", "title": {"text": f"mean {title}, {unit.name}"}},
        "yaxis": {"type": "category"},
        "margin": {"l": 10, "r": 20, "t": 34, "b": 50},
        "showlegend": False,
    }
    return Figure(
        f"Mean {title} over materials with bootstrap intervals.", [trace], layout, 120 + 34 * len(names)
    )


def _errors(intervals: Sequence[dict[str, Any]], factor: float = 100) -> dict[str, Any]:
    """Error bars in per cent, or times ``factor``; zero without an interval."""
    up = [factor * ((x["high"] or x["value"]) - x["value"]) for x in intervals]
    down = [factor * (x["value"] - (x["low"] if x["low"] is not None else x["value"])) for x in intervals]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4}


#: Groupings of the error: key in the aggregates, axis title, axis type.
_WHERE = (
    ("by_decile", "decile of electrons per cell", "linear"),
    ("by_category", "chemical category", "category"),
    ("by_distance", "distance to the nearest atom, Å", "linear"),
    ("by_depth", "grid points to the nearest face of the patch", "linear"),
    ("by_order", "decile of the voxel order in the patch", "linear"),
)


def where(result: Result) -> list[Figure]:
    """NMAE by groups of materials and bins of voxels, one curve per mode except diagnostics."""
    found = []
    for key, title, kind in _WHERE:
        data = []
        for number, mode in enumerate(m for m in modes_of(result.rows) if m not in DIAGNOSTICS):
            groups = result.aggregates[mode][key]
            if not groups:
                continue
            x = [_place(key, group) for group in groups]
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers" if kind == "category" else "lines+markers",
                    "name": label(mode),
                    "x": x,
                    "y": [100 * group["nmae"]["value"] or None for group in groups],
                    "error_y": _errors([group["nmae"] for group in groups]),
                    "line": {"color": colour(number)},
                    "marker": {"color": colour(number), "size": 8, "symbol": number},
                }
            )
        if data:
            layout = {
                "xaxis": {"title": {"text": title}, "type": kind},
                "yaxis": {"type": "log", "title": {"text": "NMAE, %"}},
            }
            found.append(Figure(f"NMAE by {title}.", data, layout))
    return found


def _place(key: str, group: dict[str, Any]) -> Any:
    if key in ("by_decile", "by_category"):
        return group[key.removeprefix("by_")]
    if key == "by_order":
        return group["from"] + 1
    end = group["to"]
    return group["from"] if key == "by_depth" or end is None else 0.5 * (group["from"] + end)


def curves(
    runs: Sequence[TrainingRun], name: str, title: str, *, logarithmic: bool = False, smooth: int = 1
) -> Figure | None:
    """One logged number of several runs against the step; None if no run has it."""
    data: list[dict[str, Any]] = []
    for number, run in enumerate(runs):
        series = run.series.get(name)
        if series is None:
            continue
        steps, values = thinned(series, smooth)
        data.append(
            {
                "type": "scatter",
                "mode": "lines" if len(values) > 1 else "markers",
                "name": plain(run.name),
                "x": packed(steps.astype(np.int32)),
                "y": packed(values),
                "line": {"color": colour(number), "width": 1.5},
            }
        )
    if not data:
        return None
    layout = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": title}, "type": "log" if logarithmic else "linear"},
        "showlegend": len(runs) > 1,
    }
    mean = f", mean over up to {smooth} logged steps" if smooth > 1 else ""
    return Figure(f"{title} ({name}){mean}.", data, layout)


def thinned(series: Series, smooth: int) -> tuple[Any, Any]:
    """At most :data:`_DRAWN` points, each the mean of its neighbourhood."""
    n = len(series.steps)
    # Smooth short runs less.
    width = max(min(smooth, n // 40), -(-n // _DRAWN))
    starts = np.arange(0, n, width)
    counts = np.diff(np.append(starts, n))
    # Each mean is drawn at its last step, so no point precedes its data.
    return series.steps[starts + counts - 1], np.add.reduceat(series.values, starts) / counts


#: Sizes of runs and models: key of a point, and words.
SIZES = {"tokens": "tokens seen", "flops": "FLOPs spent", "parameters": "parameters"}


def scaling(points: Sequence[dict[str, Any]], title: str) -> Figure | None:
    """Loss or error against tokens, FLOPs and parameters, one panel each, on logarithmic axes.

    Args:
        points: ``name``, ``value`` and any of ``tokens``, ``flops``, ``parameters``.
        title: of the value.
    """
    axes = [(key, words) for key, words in SIZES.items() if any(point.get(key) for point in points)]
    if not axes:
        return None
    data = []
    grid = {"rows": 1, "columns": len(axes), "pattern": "independent"}
    layout: dict[str, Any] = {"showlegend": len(points) > 1, "grid": grid}
    for panel, (key, words) in enumerate(axes, start=1):
        suffix = "" if panel == 1 else str(panel)
        layout[f"xaxis{suffix}"] = {"type": "log", "title": {"text": words}, "exponentformat": "power"}
        layout[f"yaxis{suffix}"] = {"type": "log", "title": {"text": title if panel == 1 else ""}}
        for number, point in enumerate(points):
            if point.get(key):
                data.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": plain(point["name"]),
                        "legendgroup": point["name"],
                        "showlegend": panel == 1,
                        "x": [point[key]],
                        "y": [point["value"]],
                        "xaxis": f"x{suffix}",
                        "yaxis": f"y{suffix}",
                        "marker": {"color": colour(number), "size": 11, "symbol": number % 8},
                    }
                )
    return Figure(f"{title} against {', '.join(words for _, words in axes)}.", data, layout)


def planes(picture: Picture) -> list[Figure]:
    """Predicted, true and their difference in one plane of a material, with the atoms near it."""
    true, predicted = picture.planes.astype(np.float64)
    crystal = picture.crystal
    width, height = picture.about["size"]
    atoms = rectangle_atoms(crystal, 2, picture.about["fraction"])
    where = f"plane of a and b at {picture.about['fraction']:.3f} c"
    found = []
    for shown in compared(predicted, true):
        raster = Raster(shown.values, (0.0, 0.0), (width, height), atoms, np.empty((0, 2)))
        says = f"{crystal.name}, {shown.name}: {where}."
        found.append(slice_figure(raster, shown.scale, ("a", "b"), shown.title, says))
    return found


def solids(picture: Picture) -> list[Figure]:
    """Rotatable isosurfaces of the predicted and the true density and of their difference, with atoms and cell."""
    true, predicted = picture.volumes
    nx, ny, nz = true.shape
    return surfaces(picture.crystal, compared(predicted, true), (nx, ny, nz))
