"""The study as one HTML file that needs no network: the Pareto plot with a choice of category, and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomat.categories import CATEGORIES
from tomat.evaluate.tables import percent
from tomat.report.figures import plain
from tomat.view.page import Figure, Page
from training.studies.fidelity.report import (
    ALL,
    COLOURS,
    LEAST_DRAWN,
    Line,
    count,
    curves,
    panels,
    tables,
)
from training.studies.fidelity.sweep import PROMOLECULE

if TYPE_CHECKING:
    from collections.abc import Sequence

_DASHES = ("solid", "dash", "dashdot", "longdash")


def page(lines: Sequence[Line]) -> str:
    """The page, with plotly's script embedded; needs plotly."""
    made = Page(
        "Cost and accuracy of each representation of a density",
        f"{count(lines, ALL)} materials. NMAE is sum |error| / sum |density|; its mean over materials is shown.",
    )
    made.figures(_figure(lines))
    for table in tables(lines):
        made.section(table.title)
        made.table(table)
    return made.render()


def _figure(lines: Sequence[Line]) -> Figure:
    shown = panels(lines)
    names = [ALL, *(c for c in CATEGORIES if any(x.category == c for x in lines))]
    index = {(x.category, x.representation, x.parameter): x for x in lines}
    codecs = list(dict.fromkeys(x.codec for x in lines if x.codec is not None))
    points = [
        [[index[c, x.representation, x.parameter] for x in curve] for c in names] for curve in curves(lines)
    ]
    data = [_trace(of[0][0], codecs) for of in points]
    for position, trace in enumerate(data):
        trace |= {key: values[0] for key, values in _restyle(points, 0, [position]).items()}
    buttons = [
        {
            "label": f"{c} ({count(lines, c)})",
            "method": "restyle",
            "args": [_restyle(points, i, range(len(points)))],
        }
        for i, c in enumerate(names)
    ]
    layout: dict[str, Any] = {
        "margin": {"l": 10, "r": 10, "t": 90, "b": 60},
        "updatemenus": [{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top"}],
        "legend": {},
        "annotations": [],
    }
    for number, (title, minus) in enumerate(shown):
        axis = _axis(minus)
        left, right = (number + 0.02 * number) / len(shown), (number + 1 - 0.02) / len(shown)
        x = {"type": "log", "title": {"text": "tokens a voxel"}, "dtick": 1, "zeroline": False}
        layout[f"xaxis{axis}"] = x | {"domain": [left, right], "anchor": f"y{axis}"}
        y = {"type": "log", "exponentformat": "power", "zeroline": False, "anchor": f"x{axis}"}
        shared = {"matches": "y", "showticklabels": False} if minus else {"title": {"text": "mean NMAE"}}
        layout[f"yaxis{axis}"] = y | shared
        place = {"xref": "paper", "yref": "paper", "x": (left + right) / 2, "y": 1.0, "yanchor": "bottom"}
        layout["annotations"].append({"text": title, "showarrow": False, **place})
    return Figure(
        "Mean NMAE against tokens per voxel. Dotted: numbers kept as floats, one token each, so that only the "
        f"representation loses accuracy. Errors below {LEAST_DRAWN:g} are drawn at that value.",
        data,
        layout,
        height=720,
    )


def _axis(minus_promolecule: bool) -> str:
    """Plotly's number for the axes of a panel."""
    return "2" if minus_promolecule else ""


def _trace(first: Line, codecs: Sequence[str]) -> dict[str, Any]:
    """A curve without its points."""
    name = plain(first.representation.removeprefix(f"{PROMOLECULE} + "))
    number = None if first.codec is None else codecs.index(first.codec)
    axis = _axis(first.minus_promolecule)
    dash = "dot" if number is None else _DASHES[number % len(_DASHES)]
    return {
        "type": "scatter",
        "name": name,
        "legendgroup": name,
        "showlegend": not first.minus_promolecule,
        "mode": "lines+markers",
        "line": {"color": COLOURS[first.family], "dash": dash, "width": 1.5},
        "marker": {"symbol": 0 if number is None else 1 + number, "size": 8},
        "hovertemplate": "%{text}<extra></extra>",
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
    }


def _restyle(data: list[list[list[Line]]], category: int, traces: Sequence[int]) -> dict[str, list[Any]]:
    """x, y and hover text of some traces for one category."""
    chosen = [data[trace][category] for trace in traces]
    return {
        "x": [[x.tokens_per_voxel for x in curve] for curve in chosen],
        "y": [[max(x.nmae, LEAST_DRAWN) for x in curve] for curve in chosen],
        "text": [[_hover(x) for x in curve] for curve in chosen],
    }


def _hover(x: Line) -> str:
    parameter = "" if x.parameter is None else f"<br>{plain(str(x.parameter_name))}: {x.parameter:g}"
    return (
        f"<b>{plain(x.representation)}</b>{parameter}<br>{x.tokens_per_voxel:.3g} tokens a voxel"
        f"<br>NMAE mean {percent(x.nmae)} %, median {percent(x.nmae_median)} %, max {percent(x.nmae_max)} %"
    )
