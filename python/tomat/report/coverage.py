"""Coverage, measured against planned: voxels covered 0, 1, 2, ... times, and how much of each material."""

from __future__ import annotations

import html as escaping
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.plan.measured import Coverage

__all__ = ["html", "png"]

_MEASURED, _PLANNED = "#0072B2", "#D55E00"
#: Counts drawn one by one; more are drawn as one bar.
_MOST_BARS = 24

_CONFIG = {"responsive": True, "displaylogo": False}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#ffffff, #16181c); color: light-dark(#1c1e21, #dfe2e6); }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid light-dark(#e3e5e8, #30343a); }
th:first-child, td:first-child { text-align: left; }
"""
_THEME = """
const dark = window.matchMedia('(prefers-color-scheme: dark)');
function paint() {
  const ink = dark.matches ? '#dfe2e6' : '#1c1e21', grid = dark.matches ? '#30343a' : '#e3e5e8';
  for (const id of ['histogram', 'materials']) {
    const plot = document.getElementById(id), change = {'font.color': ink};
    if (!plot) continue;
    for (const axis of ['xaxis', 'yaxis']) { change[axis + '.gridcolor'] = grid; change[axis + '.linecolor'] = grid; }
    Plotly.relayout(plot, change);
  }
}
dark.addEventListener('change', paint); paint();
"""


def png(coverage: Coverage) -> bytes:
    """Both histograms, and the materials by how much of them is covered; 1,800 x 750 pixels."""
    from matplotlib.figure import Figure

    labels, measured, planned = _bars(coverage)
    figure = Figure(figsize=(12, 5), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(labels))
    left.bar([x - 0.2 for x in places], measured, 0.4, color=_MEASURED, label="measured")
    if planned is not None:
        left.bar([x + 0.2 for x in places], planned, 0.4, color=_PLANNED, label="planned")
    left.set_yscale("log")
    left.set_xticks(list(places), labels)
    left.set_xlabel("times covered")
    left.set_ylabel("share of voxels, %")
    left.legend()
    left.grid(visible=True, axis="y", alpha=0.3)
    right.hist([100 * m.covered for m in coverage.materials], bins=50, range=(0, 100), color=_MEASURED)
    if coverage.is_planned:
        expected = [100 * m.planned for m in coverage.materials if m.planned is not None]
        right.hist(expected, bins=50, range=(0, 100), histtype="step", color=_PLANNED)
    right.set_xlabel("of a material covered, %")
    right.set_ylabel("materials")
    figure.suptitle(_title(coverage), fontsize=11)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def html(coverage: Coverage) -> str:
    """The same as a page to point into; plotly is inlined, nothing is fetched."""
    import plotly.graph_objects as go

    labels, measured, planned = _bars(coverage)
    histogram = go.Figure()
    histogram.add_bar(x=labels, y=measured, name="measured", marker_color=_MEASURED)
    if planned is not None:
        histogram.add_bar(x=labels, y=planned, name="planned", marker_color=_PLANNED)
    histogram.update_yaxes(type="log", title="share of voxels, %")
    histogram.update_xaxes(type="category", title="times covered")
    materials = go.Figure()
    bins = {"start": 0, "end": 100.0001, "size": 2}
    covered = [100 * m.covered for m in coverage.materials]
    materials.add_histogram(x=covered, xbins=bins, name="measured", marker_color=_MEASURED)
    if coverage.is_planned:
        expected = [100 * m.planned for m in coverage.materials if m.planned is not None]
        materials.add_histogram(x=expected, xbins=bins, name="planned", marker_color=_PLANNED)
    materials.update_xaxes(title="of a material covered, %", range=[0, 100])
    materials.update_yaxes(title="materials")
    for figure in (histogram, materials):
        figure.update_layout(
            height=420,
            margin={"t": 20},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            legend={"orientation": "h", "y": 1.08},
        )
    plots = [
        figure.to_html(
            full_html=False,
            include_plotlyjs=first,
            div_id=name,
            config={"responsive": True, "displaylogo": False},
        )
        for figure, name, first in ((histogram, "histogram", True), (materials, "materials", False))
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Coverage</title><style>{_STYLE}</style></head>
<body><h1>Coverage</h1><p>{escaping.escape(_title(coverage))}</p>
{plots[0]}
{plots[1]}
{_table(labels, measured, planned)}
<script>{_THEME}</script></body></html>
"""


def _table(labels: list[str], measured: list[float], planned: list[float] | None) -> str:
    expected: Sequence[float | None] = planned or [None] * len(labels)
    rows = "".join(
        f"<tr><td>{label}</td><td>{got:.4f}</td><td>{'' if want is None else f'{want:.4f}'}</td></tr>"
        for label, got, want in zip(labels, measured, expected, strict=True)
    )
    head = "<tr><th>times covered</th><th>measured, % of voxels</th><th>planned, %</th></tr>"
    return f"<table>{head}{rows}</table>"


def _bars(coverage: Coverage) -> tuple[list[str], list[float], list[float] | None]:
    """Labels and shares in per cent; the last bar holds all larger counts."""
    width = max(len(coverage.histogram), len(coverage.planned or ()))
    shown = min(width, _MOST_BARS)

    def shares(counts: list[float] | list[int]) -> list[float]:
        total = sum(counts)
        padded = [*counts, *[0] * (width - len(counts))]
        return [100 * n / total for n in (*padded[: shown - 1], sum(padded[shown - 1 :]))]

    labels = [str(k) for k in range(shown)]
    if width > shown:
        labels[-1] += " and more"
    planned = None if coverage.planned is None else shares(coverage.planned)
    return labels, shares(coverage.histogram), planned


def _title(coverage: Coverage) -> str:
    facts = coverage.facts
    words = [
        f"{facts['materials']:,} materials, {facts['voxels']:,} voxels, {facts['rows']:,} patches",
        f"{facts['measured']['of_all_voxels']:.2%} of the voxels covered",
    ]
    if facts["planned"] is not None:
        words.append(f"{facts['planned']['of_all_voxels']:.2%} planned")
    return ", ".join(words)
