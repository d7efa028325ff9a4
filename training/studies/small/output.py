"""What a study leaves beside its JSON: tables in Markdown, and of scaling a picture for slides and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.report.figures import png_of
from tomat.storage.files import write_atomically
from tomat.view.page import Figure, Page
from tomat.view.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: What the error is drawn against.
AXES = {"crystals": "training crystals", "parameters": "parameters", "flops": "FLOPs of training"}
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


def curves(content: Mapping[str, Any], axis: str) -> list[tuple[str, list[float], list[float]]]:
    """The points of each size against an axis, ascending: name, places, NMAE in per cent."""
    found = []
    for size in dict.fromkeys(point["size"] for point in content["points"]):
        of = sorted((point[axis], _nmae(point)) for point in content["points"] if point["size"] == size)
        found.append((size, [x for x, _ in of], [y for _, y in of]))
    return found


def lines(content: Mapping[str, Any], axis: str) -> list[tuple[str, list[float], list[float]]]:
    """The fitted power laws over an axis: name, places, NMAE in per cent."""
    found = []
    for fit in content["fits"]:
        if fit["x"] != axis:
            continue
        places = [point[axis] for point in content["points"]]
        x = np.geomspace(min(places), max([*places, fit["at"] or 0.0]), _DRAWN)
        y = 100 * fit["factor"] * x ** fit["exponent"]["value"]
        found.append((f"{fit['name']}: exponent {fit['exponent']['value']:.2f}", x.tolist(), y.tolist()))
    return found


def _nmae(point: Mapping[str, Any]) -> float:
    return 100 * float(point["nmae"]["mean"]["value"] if "nmae" in point else point["patch_nmae"])


def _known(content: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Horizontal lines: what no training is needed for. Lines too close to tell apart share one label."""
    found: list[tuple[str, float]] = []
    for name, value in sorted(content["lines"].items(), key=lambda line: -line[1]):
        words = name.replace("_", " ")
        if found and found[-1][1] < 100 * value * _APART:
            found[-1] = (f"{found[-1][0]}, {words}", found[-1][1])
        else:
            found.append((words, 100 * value))
    return found


def _png(content: Mapping[str, Any]) -> bytes:
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(14, 4.5), dpi=150, layout="constrained")
    panels: Any = figure.subplots(1, len(AXES), sharey=True)
    for panel, (axis, words) in zip(panels, AXES.items(), strict=True):
        for name, x, y in curves(content, axis):
            panel.plot(x, y, "o", label=name)
        for _, x, y in lines(content, axis):
            panel.plot(x, y, "-", color="0.6", linewidth=1, zorder=0)
        for name, value in _known(content):
            panel.axhline(value, color="0.3", linewidth=0.8, linestyle=":")
            panel.annotate(
                name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=8
            )
        panel.set(xscale="log", yscale="log", xlabel=words)
    panels[0].set_ylabel("NMAE, %")
    panels[0].legend()
    figure.suptitle(content["title"])
    return png_of(figure)


def _page(content: Mapping[str, Any]) -> str:
    page = Page(content["title"], "NMAE is sum |error| / sum |density|; one point a training.")
    page.figures(*(_figure(content, axis, words) for axis, words in AXES.items()))
    for table in map(Table.from_json, content["tables"]):
        page.section(table.title)
        page.table(table)
    return page.render()


def _figure(content: Mapping[str, Any], axis: str, words: str) -> Figure:
    def traces(of: Sequence[tuple[str, list[float], list[float]]], mode: str) -> list[dict[str, Any]]:
        return [{"type": "scatter", "mode": mode, "name": name, "x": x, "y": y} for name, x, y in of]

    data = [*traces(curves(content, axis), "markers"), *traces(lines(content, axis), "lines")]
    layout = {
        "xaxis": {"type": "log", "title": {"text": words}},
        "yaxis": {"type": "log", "title": {"text": "NMAE, %"}},
    }
    return Figure(f"NMAE against {words}.", data, layout)
