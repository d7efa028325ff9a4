"""Codec floors against the number of bins: figure and table of ``tomat codec compare``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from tomat.evaluate.tables import percent
from tomat.report.figures import colour, plain, png_of
from tomat.view.page import Figure, Page
from tomat.view.table import Table


def check_installed() -> None:
    """Check that the package for figures is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("figures need matplotlib: pip install 'tomat[plot]'")


def png(content: Mapping[str, Any]) -> bytes:
    """Mean NMAE floor in per cent against the number of bins, both logarithmic; 1,200 x 900 pixels.

    Args:
        content: :class:`tomat.floors.FloorCurves` as a dict.
    """
    from matplotlib.figure import Figure as Drawn

    figure = Drawn(figsize=(8, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(content["curves"]):
        mean = [100 * v for v in curve["mean"]]
        axes.plot(curve["bins"], mean, "o-", color=colour(number), label=curve["method"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    bins = _all_bins(content)
    axes.set_xticks(bins, [f"{n:,}" for n in bins], rotation=30)
    axes.set_xlabel("bins")
    axes.set_ylabel(f"mean NMAE floor, % ({content['unit']})")
    axes.set_title(_lead(content), fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return png_of(figure)


def html(content: Mapping[str, Any]) -> str:
    """The floors as an HTML page."""
    page = Page("Codec floors", f"Sketch {content['sketch_hash']}.")
    show(page, content)
    return page.render()


def show(page: Page, content: Mapping[str, Any]) -> None:
    """Add a section with an interactive figure and a table."""
    page.section(f"Codec floors, {content['unit']}")
    bins = _all_bins(content)
    data, lines = [], []
    for number, curve in enumerate(content["curves"]):
        of = dict(zip(curve["bins"], curve["mean"], strict=True))
        lines.append((curve["method"], *(percent(of.get(n)) for n in bins)))
        beside = [[100 * v for v in curve[key]] for key in ("median", "largest", "clipped")]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain(curve["method"]),
                "x": curve["bins"],
                "y": [100 * value for value in curve["mean"]],
                "line": {"color": colour(number)},
                "customdata": list(zip(*beside, strict=True)),
                "hovertemplate": "%{x:,} bins<br>mean %{y:.4f} %<br>median %{customdata[0]:.4f} %<br>"
                "worst %{customdata[1]:.3f} %<br>%{customdata[2]:.1f} % of it clipped",
            }
        )
    ticks = {"tickvals": bins, "ticktext": [f"{n:,}" for n in bins]}
    layout = {
        "xaxis": {"type": "log", "title": {"text": "bins"}, **ticks},
        "yaxis": {"type": "log", "title": {"text": "mean NMAE floor, %"}},
    }
    page.figures(Figure("Mean NMAE of encoding and decoding against the number of bins.", data, layout))
    head = ("method", *(f"{n:,}" for n in bins))
    page.table(Table("Mean NMAE floor, %", head, tuple(lines), (), _lead(content)))


def _all_bins(content: Mapping[str, Any]) -> list[int]:
    return sorted({n for curve in content["curves"] for n in curve["bins"]})


def _lead(content: Mapping[str, Any]) -> str:
    where = "held-out materials" if content["held_out"] else "materials of the fit"
    sign = "signed" if content["signed"] else "unsigned"
    return (
        f"{content['weight']} weights, {sign}, unit {content['unit']}; fitted to {content['n_fit']} materials, "
        f"measured on {content['n_test']} {where}"
    )
