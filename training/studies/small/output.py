"""What a study leaves beside its JSON: tables in Markdown, and of scaling a picture for slides and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.report.figures import png_of
from tomat.storage.files import write_atomically
from tomat.view.page import Figure, Page
from tomat.view.table import Table
from training.studies.small.scaling import nmae_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: What the error is drawn against.
AXES = {"crystals": "training crystals", "parameters": "parameters", "flops": "FLOPs of training"}
#: What is drawn against them.
MEASURES = {"nmae": "NMAE, %", "bits_per_voxel": "bits per voxel"}
#: Points of a drawn line.
_DRAWN = 40
#: Two horizontal lines whose values differ by less than this factor have one label.
_APART = 1.08


def markdown(content: Mapping[str, Any]) -> str:
    """The tables of a study."""
    parts = [f"# {content['title']}"]
    for table in map(Table.from_json, content["tables"]):
        lines = [f"## {table.title}", ""]
        lines += ["| " + " | ".join(table.head) + " |", "|" + " --- |" * len(table.head)]
        lines += ["| " + " | ".join(row) + " |" for row in (*table.rows, *table.below)]
        if table.note:
            lines += ["", table.note]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_plots(content: Mapping[str, Any], path: Path) -> None:
    """Write ``PATH.png`` and ``PATH.html`` of a scaling study; nothing of others.

    Raises:
        ValueError: matplotlib or plotly is not installed.
    """
    if content["format"] != "tomat scaling study":
        return
    try:
        write_atomically(path.with_suffix(".png"), _png(content))
        write_atomically(path.with_suffix(".html"), _page(content).encode())
    except ImportError as error:
        raise ValueError(f"plots need {error.name}: pip install 'tomat[plot]'") from error


def curves(content: Mapping[str, Any], axis: str, y: str) -> list[tuple[str, list[float], list[float]]]:
    """The points of each size against an axis, ascending: name, places, values (NMAE in per cent)."""
    found = []
    for size in dict.fromkeys(point["size"] for point in content["points"]):
        of = sorted((point[axis], _value(point, y)) for point in content["points"] if point["size"] == size)
        found.append((size, [x for x, _ in of], [value for _, value in of]))
    return found


def lines(content: Mapping[str, Any], axis: str, y: str) -> list[tuple[str, list[float], list[float]]]:
    """The fitted power laws over an axis: name, places, values (NMAE in per cent)."""
    found = []
    for fit in content["fits"]:
        if (fit["x"], fit["y"]) != (axis, y):
            continue
        places = [point[axis] for point in content["points"]]
        x = np.geomspace(min(places), max([*places, fit["at"] or 0.0]), _DRAWN)
        values = (100 if y == "nmae" else 1) * fit["factor"] * x ** fit["exponent"]["value"]
        found.append((f"{fit['name']}: exponent {fit['exponent']['value']:.2f}", x.tolist(), values.tolist()))
    return found


def _value(point: Mapping[str, Any], y: str) -> float:
    return 100 * nmae_of(point) if y == "nmae" else float(point[y])


def _known(content: Mapping[str, Any], y: str) -> list[tuple[str, float]]:
    """Horizontal lines: what no training is needed for. Lines too close to tell apart share one label."""
    if y != "nmae":
        return [("frequencies of levels", content["points"][0]["unigram_bits_per_voxel"])]
    found: list[tuple[str, float]] = []
    lines = content["lines"] or {"start": content["points"][0]["start_patch_nmae"]}
    for name, value in sorted(lines.items(), key=lambda line: -line[1]):
        words = name.replace("_", " ")
        if found and found[-1][1] < 100 * value * _APART:
            found[-1] = (f"{found[-1][0]}, {words}", found[-1][1])
        else:
            found.append((words, 100 * value))
    return found


def _png(content: Mapping[str, Any]) -> bytes:
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(14, 8), dpi=150, layout="constrained")
    panels: Any = figure.subplots(len(MEASURES), len(AXES), sharey="row", sharex="col")
    for row, (y, of) in zip(panels, MEASURES.items(), strict=True):
        for panel, axis in zip(row, AXES, strict=True):
            _panel(panel, content, axis, y)
        row[0].set_ylabel(of)
    for panel, words in zip(panels[-1], AXES.values(), strict=True):
        panel.set_xlabel(words)
    panels[0][0].legend()
    figure.suptitle(content["title"])
    return png_of(figure)


def _panel(panel: Any, content: Mapping[str, Any], axis: str, y: str) -> None:
    for name, x, values in curves(content, axis, y):
        panel.plot(x, values, "o", label=name)
    for _, x, values in lines(content, axis, y):
        panel.plot(x, values, "-", color="0.6", linewidth=1, zorder=0)
    for name, value in _known(content, y):
        panel.axhline(value, color="0.3", linewidth=0.8, linestyle=":")
        at = (1, value)
        panel.annotate(name, at, xycoords=("axes fraction", "data"), ha="right", va="bottom", size=8)
    panel.set(xscale="log", yscale="log" if y == "nmae" else "linear")


def _page(content: Mapping[str, Any]) -> str:
    page = Page(content["title"], "NMAE is sum |error| / sum |density|; one point a training.")
    page.figures(*(_figure(content, axis, y) for y in MEASURES for axis in AXES))
    for table in map(Table.from_json, content["tables"]):
        page.section(table.title)
        page.table(table)
    return page.render()


def _figure(content: Mapping[str, Any], axis: str, y: str) -> Figure:
    def traces(of: Sequence[tuple[str, list[float], list[float]]], mode: str) -> list[dict[str, Any]]:
        return [
            {"type": "scatter", "mode": mode, "name": name, "x": x, "y": values} for name, x, values in of
        ]

    data = [*traces(curves(content, axis, y), "markers"), *traces(lines(content, axis, y), "lines")]
    layout = {
        "xaxis": {"type": "log", "title": {"text": AXES[axis]}},
        "yaxis": {"type": "log" if y == "nmae" else "linear", "title": {"text": MEASURES[y]}},
    }
    return Figure(f"{MEASURES[y]} against {AXES[axis]}.", data, layout)
