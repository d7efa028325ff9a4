"""Results of the study: summaries over materials, the Pareto front, tables and a picture."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tomat import metrics
from tomat.categories import CATEGORIES
from tomat.evaluate.tables import percent
from tomat.view.table import Table
from training.studies.fidelity.sweep import PROMOLECULE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name of the category of all materials.
ALL = "all"

#: Errors below this are drawn at it: the axis is logarithmic and some ways of writing are exact.
LEAST_DRAWN = 1e-8

_STATISTICS = ("NMAE mean, %", "median, %", "p99, %", "max, %")
_FRONT = (
    "* the front: nothing else whose tokens are those of a vocabulary has fewer tokens and a smaller error. Names "
    "without a codec: numbers kept as floats, one token each."
)


@dataclass(frozen=True)
class Line:
    """One representation with one parameter over the materials of a category.

    Attributes:
        category: a chemical category, or ``all``.
        representation: its name.
        family: its family.
        codec: its codec, or None.
        minus_promolecule: whether it represents the difference from the promolecule.
        parameter_name: name of the parameter, or None.
        parameter: its value, or None.
        tokens_per_voxel: mean over materials.
        numbers_per_voxel: mean over materials of real numbers written down.
        nmae: mean over materials; then median, 99th percentile and maximum.
        n: number of materials.
        seconds: mean over materials.
    """

    category: str
    representation: str
    family: str
    codec: str | None
    minus_promolecule: bool
    parameter_name: str | None
    parameter: float | None
    tokens_per_voxel: float
    numbers_per_voxel: float
    nmae: float
    nmae_median: float
    nmae_p99: float
    nmae_max: float
    n: int
    seconds: float

    @property
    def label(self) -> str:
        """Name and parameter."""
        return self.representation if self.parameter is None else f"{self.representation} {self.parameter:g}"

    @property
    def tokens_of_a_vocabulary(self) -> bool:
        """Whether all its tokens fit in a vocabulary; those of float32 numbers do not."""
        return self.codec is not None or self.representation == PROMOLECULE


def summarise(rows: Sequence[dict[str, Any]]) -> list[Line]:
    """Means and quantiles over materials, for all materials and for each category.

    Args:
        rows: of :func:`training.studies.fidelity.sweep.run_sweep`.
    """
    groups: dict[tuple[str, str, float | None], list[dict[str, Any]]] = {}
    for name in (ALL, *CATEGORIES):
        for row in rows:
            if name in (ALL, row["category"]):
                groups.setdefault((name, row["representation"], row["parameter"]), []).append(row)
    return [_line(name, members) for (name, _, _), members in groups.items()]


def _line(name: str, members: list[dict[str, Any]]) -> Line:
    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    errors = metrics.statistics([row["nmae"] for row in members])
    return Line(
        category=name,
        **{
            key: members[0][key]
            for key in (
                "representation",
                "family",
                "codec",
                "minus_promolecule",
                "parameter_name",
                "parameter",
            )
        },
        tokens_per_voxel=mean([row["tokens_per_voxel"] for row in members]),
        numbers_per_voxel=mean([row["numbers"] / row["voxels"] for row in members]),
        nmae=errors.mean,
        nmae_median=errors.median,
        nmae_p99=errors.p99,
        nmae_max=errors.max,
        n=errors.n,
        seconds=mean([row["seconds"] for row in members]),
    )


def pareto_front(lines: Sequence[Line]) -> list[Line]:
    """Lines that no other line beats in both tokens and mean NMAE, sorted by tokens.

    Only those whose tokens are those of a vocabulary: a float32 number is none, such lines show what a way of
    writing loses by itself.
    """
    front: list[Line] = []
    for line in sorted(lines, key=lambda x: (x.tokens_per_voxel, x.nmae)):
        if line.tokens_of_a_vocabulary and (not front or line.nmae < front[-1].nmae):
            front.append(line)
    return front


def by_category(lines: Sequence[Line]) -> list[tuple[Line, dict[str, Line]]]:
    """The front of all materials, each with the same representation's line in every category."""
    index = {(x.category, x.representation, x.parameter): x for x in lines}
    front = pareto_front([x for x in lines if x.category == ALL])
    names = (ALL, *(c for c in CATEGORIES if any(x.category == c for x in lines)))
    return [(x, {c: index[c, x.representation, x.parameter] for c in names}) for x in front]


def tables(lines: Sequence[Line]) -> list[Table]:
    """Every representation over all materials, and the front by category."""
    whole = [x for x in lines if x.category == ALL]
    front = set(pareto_front(whole))
    head = ("representation", "parameter", "tokens/voxel", *_STATISTICS, "ms", "front")
    rows = tuple(
        (
            x.representation,
            "" if x.parameter is None else f"{x.parameter:g}",
            f"{x.tokens_per_voxel:.3g}",
            *map(percent, (x.nmae, x.nmae_median, x.nmae_p99, x.nmae_max)),
            f"{x.seconds * 1e3:.1f}",
            "*" if x in front else "",
        )
        for x in whole
    )
    categories = by_category(lines)
    counts = [f"{name} ({x.n})" for name, x in categories[0][1].items()] if categories else []
    of_front = tuple(
        (x.label, f"{x.tokens_per_voxel:.3g}", *(percent(y.nmae) for y in members.values()))
        for x, members in categories
    )
    return [
        Table(f"All {count(lines, ALL)} materials", head, rows, (), _FRONT),
        Table("The front by chemical category: mean NMAE, %", ("", "tokens/voxel", *counts), of_front),
    ]


def count(lines: Sequence[Line], name: str) -> int:
    """Materials of a category."""
    return max((x.n for x in lines if x.category == name), default=0)


def curves(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines over all materials by representation; each representation is one curve."""
    found: dict[str, list[Line]] = {}
    for x in lines:
        if x.category == ALL and x.representation != PROMOLECULE:
            found.setdefault(x.representation, []).append(x)
    return list(found.values())


def panels(lines: Sequence[Line]) -> list[tuple[str, bool]]:
    """Titles of the pictures side by side, and whether each shows differences from the promolecule."""
    both = any(x.minus_promolecule for x in lines)
    return [("density", False), *([("density minus promolecule", True)] if both else [])]


#: Colours of families that are told apart on white and on black, also with colour blindness
#: (after M. Okabe and K. Ito's set, without black and yellow).
COLOURS = {
    "direct": "#009e73",
    "cutoff fraction": "#d55e00",
    "cutoff threshold": "#e69f00",
    "cutoff mass": "#cc79a7",
    "fourier": "#0072b2",
    "fourier fraction": "#56b4e9",
    "downsample": "#8c6bb1",
    PROMOLECULE: "#888888",
}


def pareto_png(lines: Sequence[Line]) -> bytes:
    """Tokens per voxel against mean NMAE over all materials, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(lines)
    figure = Figure(figsize=(1.5 + 6.0 * len(shown), 6.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    front = pareto_front([x for x in lines if x.category == ALL])
    handles: dict[str, Any] = {}
    styles = _styles(lines)
    for axes, (title, minus) in zip(grid, shown, strict=True):
        for curve in curves(lines):
            if curve[0].minus_promolecule != minus:
                continue
            x = [line.tokens_per_voxel for line in curve]
            y = [max(line.nmae, LEAST_DRAWN) for line in curve]
            marker, dash = styles[curve[0].codec]
            name = curve[0].representation.removeprefix(f"{PROMOLECULE} + ")
            (drawn,) = axes.plot(
                x, y, dash, marker=marker, color=COLOURS[curve[0].family], lw=1.2, ms=5, label=name
            )
            handles.setdefault(name, drawn)
        x = [line.tokens_per_voxel for line in front]
        y = [max(line.nmae, LEAST_DRAWN) for line in front]
        (drawn,) = axes.step(x, y, where="post", color="black", lw=5, alpha=0.12, zorder=0)
        handles.setdefault("Pareto front, through codecs", drawn)
        alone = next(
            (line for line in lines if line.category == ALL and line.representation == PROMOLECULE), None
        )
        if alone is not None:
            level = axes.axhline(alone.nmae, color=COLOURS[PROMOLECULE], ls=":", lw=1.2)
            handles.setdefault("promolecule alone (no tokens)", level)
        axes.set(
            xscale="log", yscale="log", title=title, xlabel="tokens a voxel", ylim=(LEAST_DRAWN * 0.5, 2.0)
        )
        axes.grid(visible=True, which="major", alpha=0.25)
    grid[0].set_ylabel(f"mean NMAE (values below {LEAST_DRAWN:g} drawn there)")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _styles(lines: Sequence[Line]) -> dict[str | None, tuple[str, str]]:
    """Marker and dash of each codec; dotted for numbers without one."""
    styles: dict[str | None, tuple[str, str]] = {None: (".", ":")}
    markers = "osD^vP*X<>ph"
    for codec in dict.fromkeys(x.codec for x in lines if x.codec is not None):
        styles[codec] = (markers[(len(styles) - 1) % len(markers)], "-")
    return styles


def as_json(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The summary lines as JSON values; what is not finite becomes null."""
    return [
        {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(line).items()}
        for line in summarise(rows)
    ]
