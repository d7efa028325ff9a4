"""Floors against bins: a figure, and a page that needs nothing but itself."""

from __future__ import annotations

import html as escaping
import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomat.floors import Comparison, Curve

__all__ = ["check_installed", "html", "png"]

#: One colour a method, told apart also by those who see fewer colours (M. Okabe, K. Ito, 2008).
_COLORS = {
    "l1": "#0072B2",
    "l2": "#56B4E9",
    "companding": "#009E73",
    "lloyd": "#D55E00",
    "equal-mass": "#CC79A7",
}


def check_installed() -> None:
    """Raise before any work is done when a figure could not be drawn.

    Raises:
        ValueError: matplotlib or plotly is missing; the message says how to install them.
    """
    missing = [name for name in ("matplotlib", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"figures need {' and '.join(missing)}: pip install 'tomat[plot]'")


def png(result: Comparison) -> bytes:
    """Mean NMAE floor in per cent against the number of bins, both logarithmic; 1,200 x 900 pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for curve in result.curves:
        axes.plot(
            curve.bins,
            [100 * v for v in curve.mean],
            "o-",
            color=_COLORS.get(curve.method),
            label=curve.method,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(_all_bins(result), [f"{n:,}" for n in _all_bins(result)], rotation=30)
    axes.set_xlabel("bins")
    axes.set_ylabel(f"mean NMAE floor, % ({result.unit})")
    axes.set_title(_title(result), fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def html(result: Comparison) -> str:
    """The same as a page with a figure to point into and the table; plotly is inlined, nothing is fetched."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for curve in result.curves:
        figure.add_scatter(
            x=curve.bins,
            y=[100 * v for v in curve.mean],
            name=curve.method,
            mode="lines+markers",
            line={"color": _COLORS.get(curve.method)},
            customdata=[
                [100 * a, 100 * b, 100 * c]
                for a, b, c in zip(curve.median, curve.largest, curve.clipped, strict=True)
            ],
            hovertemplate="%{x:,} bins<br>mean %{y:.4f} %<br>median %{customdata[0]:.4f} %<br>"
            "worst %{customdata[1]:.3f} %<br>%{customdata[2]:.1f} % of it clipped",
        )
    bins = _all_bins(result)
    figure.update_xaxes(type="log", title="bins", tickvals=bins, ticktext=[f"{n:,}" for n in bins])
    figure.update_yaxes(type="log", title=f"mean NMAE floor, % ({result.unit})")
    figure.update_layout(template="plotly_white", height=560, margin={"t": 20})
    plot = figure.to_html(full_html=False, include_plotlyjs=True, div_id="floors")
    title = escaping.escape(_title(result))
    head = "".join(f"<th>{n:,}</th>" for n in bins)
    rows = "".join(_row(curve, bins) for curve in result.curves)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Codec floors</title>
<style>body{{font:16px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td,th{{padding:.2rem .8rem;text-align:right}}th:first-child,td:first-child{{text-align:left}}</style></head>
<body><h1>Codec floors</h1><p>{title}. Sketch {escaping.escape(result.sketch_hash)}.</p>
{plot}
<table><tr><th>mean NMAE floor, %</th>{head}</tr>{rows}</table>
</body></html>
"""


def _row(curve: Curve, bins: list[int]) -> str:
    of = dict(zip(curve.bins, curve.mean, strict=True))
    cells = "".join(f"<td>{100 * of[n]:.4f}</td>" for n in bins)
    return f"<tr><td>{escaping.escape(curve.method)}</td>{cells}</tr>"


def _all_bins(result: Comparison) -> list[int]:
    return sorted({n for curve in result.curves for n in curve.bins})


def _title(result: Comparison) -> str:
    where = "held-out materials" if result.held_out else "materials of the fit itself"
    sign = "signed" if result.signed else "unsigned"
    return (
        f"{result.weight} weights, {sign}, unit {result.unit}; fitted to {result.n_fit} materials, measured on "
        f"{result.n_test} {where}"
    )
