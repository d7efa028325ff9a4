"""Measured and planned coverage: voxels covered 0, 1, 2, ... times, and the covered share of each material."""

from __future__ import annotations

from collections.abc import Sequence

from tomat.evaluate.tables import NONE
from tomat.plan.measured import Coverage
from tomat.report.figures import colour, plain, png_of
from tomat.view.colours import COLOURS
from tomat.view.page import Figure, Page
from tomat.view.table import Table

_MEASURED, _PLANNED = COLOURS[:2]
#: Largest number of bars; the last one holds all larger counts.
_MOST_BARS = 24


def png(coverage: Coverage) -> bytes:
    """Histograms of counts and of the covered share of materials as PNG, 1,800 x 750 pixels."""
    from matplotlib.figure import Figure as Drawn

    labels, measured, planned = _bars(coverage)
    figure = Drawn(figsize=(12, 5), dpi=150, layout="constrained")
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
    covered, expected = _of_materials(coverage)
    right.hist(covered, bins=50, range=(0, 100), color=_MEASURED)
    if coverage.is_planned:
        right.hist(expected, bins=50, range=(0, 100), histtype="step", color=_PLANNED)
    right.set_xlabel("covered share of a material, %")
    right.set_ylabel("materials")
    figure.suptitle(_title(coverage), fontsize=11)
    return png_of(figure)


def html(coverage: Coverage) -> str:
    """The histograms as an interactive HTML page."""
    labels, measured, planned = _bars(coverage)
    shares = [("measured", measured, _MEASURED), *([("planned", planned, _PLANNED)] if planned else [])]
    bars = [
        {"type": "bar", "name": name, "x": labels, "y": y, "marker": {"color": paint}}
        for name, y, paint in shares
    ]
    layout = {
        "xaxis": {"type": "category", "title": {"text": "times covered"}},
        "yaxis": {"type": "log", "title": {"text": "share of voxels, %"}},
    }
    bins = {"start": 0, "end": 100.0001, "size": 2}
    drawn = zip(("measured", "planned"), _of_materials(coverage), (_MEASURED, _PLANNED), strict=True)
    of_materials = [
        {"type": "histogram", "name": name, "x": x, "xbins": bins, "marker": {"color": paint}}
        for name, x, paint in drawn
        if name == "measured" or coverage.is_planned
    ]
    of_layout = {
        "xaxis": {"title": {"text": "covered share of a material, %"}, "range": [0, 100]},
        "yaxis": {"title": {"text": "materials"}},
    }
    page = Page("Coverage", _title(coverage))
    page.figures(
        Figure("Share of voxels by the number of patches that cover them.", bars, layout),
        Figure("Materials by their covered share.", of_materials, of_layout),
    )
    head = ("times covered", *(f"{name}, % of voxels" for name, _, _ in shares))
    lines = zip(labels, *([f"{y:.4f}" for y in of] for _, of, _ in shares), strict=True)
    page.table(Table("Number of patches that cover a voxel", head, tuple(lines)))
    return page.render()


def show(page: Page, histograms: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Add the coverage of datasets, given as (name, voxels covered 0, 1, 2, ... times)."""
    data, lines = [], []
    for number, (name, counts) in enumerate(histograms):
        total = sum(counts) or 1
        shares = [100 * n / total for n in counts]
        bars = {"x": list(range(len(counts))), "y": shares, "marker": {"color": colour(number)}}
        data.append({"name": plain(name), "type": "bar", **bars})
        mean = sum(times * n for times, n in enumerate(counts)) / total
        unseen = f"{shares[0]:.3g}" if shares else NONE
        lines.append((name, f"{total:,}", unseen, f"{mean:.3g}", str(len(counts) - 1)))
    head = ("dataset", "voxels", "never covered, %", "times covered, mean", "max")
    page.table(Table("Number of patches that cover a voxel", head, tuple(lines)))
    layout = {
        "xaxis": {"title": {"text": "times covered"}},
        "yaxis": {"title": {"text": "share of voxels, %"}},
        "showlegend": len(histograms) > 1,
    }
    page.figures(Figure("Share of voxels by the number of patches that cover them.", data, layout))


def _of_materials(coverage: Coverage) -> tuple[list[float], list[float]]:
    """Covered and planned shares of the materials in per cent."""
    planned = [100 * m.planned for m in coverage.materials if m.planned is not None]
    return [100 * m.covered for m in coverage.materials], planned


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
        labels[-1] = f">= {labels[-1]}"
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
