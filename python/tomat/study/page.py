"""The study as one HTML file that needs no network: the Pareto plot with a choice of category, and the tables."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from tomat.categories import CATEGORIES
from tomat.study.report import (
    ALL,
    COLOURS,
    LEAST_DRAWN,
    Line,
    by_category,
    curves,
    panels,
    pareto_front,
    percent,
)
from tomat.study.sweep import PROMOLECULE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["page"]

_DASHES = ("solid", "dash", "dashdot", "longdash")

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  background: light-dark(#ffffff, #16181c); color: light-dark(#1c1e21, #dfe2e6); }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid light-dark(#e3e5e8, #30343a);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.front { font-weight: 600; background: light-dark(#eef6f2, #1d2b26); }
"""

#: Colours that plotly takes as values, set again when the reader's theme changes.
_THEME = """
const plot = document.getElementById('{plot_id}');
const dark = window.matchMedia('(prefers-color-scheme: dark)');
function paint() {
  const ink = dark.matches ? '#dfe2e6' : '#1c1e21', grid = dark.matches ? '#30343a' : '#e3e5e8';
  const change = {'font.color': ink, 'updatemenus[0].font.color': ink,
    'updatemenus[0].bgcolor': dark.matches ? '#16181c' : '#ffffff', 'updatemenus[0].bordercolor': grid};
  for (const key of Object.keys(plot.layout)) if (/^[xy]axis/.test(key)) {
    change[key + '.gridcolor'] = grid; change[key + '.linecolor'] = grid; }
  Plotly.relayout(plot, change);
}
dark.addEventListener('change', paint); paint();
"""


def page(lines: Sequence[Line]) -> str:
    """The page; needs plotly, whose script is in it."""
    whole = [x for x in lines if x.category == ALL]
    n = max((x.n for x in whole), default=0)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Fidelity of density representations</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            "<h1>What each way of writing a density down costs and loses</h1>",
            f"<p>{n} materials. NMAE is sum |error| / sum |density|; its mean over materials is shown. Dotted: "
            "numbers kept as floats, one token each, so that only the way of writing loses something. Bold rows: "
            "no other row whose tokens are those of a vocabulary has fewer tokens and a smaller error. "
            f"Errors below {LEAST_DRAWN:g} are drawn there.</p>",
            _figure(lines),
            "<h2>All materials</h2>",
            _whole_table(whole),
            "<h2>By chemical category</h2>",
            "<p>Mean NMAE of the bold rows, in per cent; in brackets the number of materials.</p>",
            _category_table(lines),
            "</body></html>",
        ]
    )


def _figure(lines: Sequence[Line]) -> str:
    import plotly.graph_objects as go
    from plotly.io import to_html
    from plotly.subplots import make_subplots

    shown = panels(lines)
    figure = make_subplots(
        rows=1,
        cols=len(shown),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[title for title, _ in shown],
    )
    names = [ALL, *(c for c in CATEGORIES if any(x.category == c for x in lines))]
    index = {(x.category, x.representation, x.parameter): x for x in lines}
    columns = {minus: number for number, (_, minus) in enumerate(shown, start=1)}
    codecs = list(dict.fromkeys(x.codec for x in lines if x.codec is not None))
    data: list[list[list[Line]]] = []
    for curve in curves(lines):
        first = curve[0]
        name = first.representation.removeprefix(f"{PROMOLECULE} + ")
        dash = "dot" if first.codec is None else _DASHES[codecs.index(first.codec) % len(_DASHES)]
        symbol = 0 if first.codec is None else 1 + codecs.index(first.codec)
        trace = go.Scatter(
            name=name,
            legendgroup=name,
            showlegend=not first.minus_promolecule,
            mode="lines+markers",
            line={"color": COLOURS[first.family], "dash": dash, "width": 1.5},
            marker={"symbol": symbol, "size": 8},
            hovertemplate="%{text}<extra></extra>",
        )
        figure.add_trace(trace, row=1, col=columns[first.minus_promolecule])
        data.append([[index[c, x.representation, x.parameter] for x in curve] for c in names])
    for position, trace in enumerate(figure.data):
        trace.update(**{key: values[0] for key, values in _restyle(data, 0, [position]).items()})
    buttons = [
        {
            "label": f"{c} ({_count(lines, c)})",
            "method": "restyle",
            "args": [_restyle(data, i, range(len(data)))],
        }
        for i, c in enumerate(names)
    ]
    figure.update_xaxes(type="log", title_text="tokens a voxel", dtick=1, zeroline=False)
    figure.update_yaxes(type="log", exponentformat="power", zeroline=False)
    figure.update_yaxes(title_text="mean NMAE", col=1)
    figure.update_layout(
        height=720,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)"},
        margin={"l": 70, "r": 10, "t": 90, "b": 60},
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top"}],
    )
    text: str = to_html(
        figure,
        include_plotlyjs=True,
        full_html=False,
        div_id="pareto",
        post_script=_THEME,
        config={
            "displaylogo": False,
            "responsive": True,
            # By name: the default set may hold buttons that send the figure somewhere.
            "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
        },
    )
    return text


def _restyle(data: list[list[list[Line]]], category: int, traces: Sequence[int]) -> dict[str, list[Any]]:
    """x, y and hover text of some traces for one category."""
    chosen = [data[trace][category] for trace in traces]
    return {
        "x": [[x.tokens_per_voxel for x in curve] for curve in chosen],
        "y": [[max(x.nmae, LEAST_DRAWN) for x in curve] for curve in chosen],
        "text": [[_hover(x) for x in curve] for curve in chosen],
    }


def _hover(x: Line) -> str:
    parameter = "" if x.parameter is None else f"<br>{html.escape(str(x.parameter_name))}: {x.parameter:g}"
    return (
        f"<b>{html.escape(x.representation)}</b>{parameter}<br>{x.tokens_per_voxel:.3g} tokens a voxel"
        f"<br>NMAE mean {percent(x.nmae)} %, median {percent(x.nmae_median)} %, max {percent(x.nmae_max)} %"
    )


def _count(lines: Sequence[Line], name: str) -> int:
    return max((x.n for x in lines if x.category == name), default=0)


def _whole_table(whole: Sequence[Line]) -> str:
    front = set(pareto_front(whole))
    head = (
        "representation",
        "parameter",
        "tokens/voxel",
        "NMAE mean, %",
        "median, %",
        "p99, %",
        "max, %",
        "ms",
    )
    body = [
        (
            x in front,
            [
                x.representation,
                "" if x.parameter is None else f"{x.parameter:g}",
                f"{x.tokens_per_voxel:.3g}",
                *map(percent, (x.nmae, x.nmae_median, x.nmae_p99, x.nmae_max)),
                f"{x.seconds * 1e3:.1f}",
            ],
        )
        for x in whole
    ]
    return _table(head, body)


def _category_table(lines: Sequence[Line]) -> str:
    categories = by_category(lines)
    counts = [f"{name} ({x.n})" for name, x in categories[0][1].items()] if categories else []
    body = [
        (False, [x.label, f"{x.tokens_per_voxel:.3g}", *(percent(y.nmae) for y in members.values())])
        for x, members in categories
    ]
    return _table(("representation", "tokens/voxel", *counts), body)


def _table(head: Sequence[str], body: Sequence[tuple[bool, Sequence[str]]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)

    rows = [f"<tr{' class=front' if bold else ''}>{cells('td', values)}</tr>" for bold, values in body]
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
