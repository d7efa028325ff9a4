"""Build a report: one page from runs, results, comparisons, studies, probes, coverage and codecs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tomat.evaluate.aggregate import modes_of
from tomat.evaluate.compare import comparison_table
from tomat.evaluate.measure import UNITS
from tomat.evaluate.methods import DIAGNOSTICS, HEADLINES, primary_mode
from tomat.evaluate.probes import probe_table
from tomat.evaluate.result import Result
from tomat.evaluate.tables import NONE, amount, group_tables, label, mean_table, percent
from tomat.evaluate.volumes import load_pictures
from tomat.report import codecs, coverage, figures
from tomat.report.learning import QUANTITIES, learning
from tomat.report.runs import NMAE, TrainingRun
from tomat.report.sources import Sources
from tomat.view.density import MARKS
from tomat.view.page import Figure, Page
from tomat.view.table import Table

#: Number of worst and of best materials in the table of materials.
_NAMED = 10
#: Metrics whose means are drawn.
_METRICS = ("nmae", "hartree_error")
#: Training curves besides the ``eval/`` ones: name, title, logarithmic, steps averaged.
_CURVES = (
    ("train/loss", "training loss", True, 25),
    ("optim/learning_rate", "learning rate", False, 1),
    ("grad/norm/total", "gradient norm", True, 25),
)
_SPEEDS = (
    ("throughput/tokens_per_second", "tokens per second", False, 25),
    ("throughput/mfu", "model FLOPs utilisation, %", False, 25),
    ("throughput/loading_time", "seconds waiting for data", True, 25),
)
#: Largest number of curves on held-out data.
_MOST = 12


def build(sources: Sources, title: str = "tomat report") -> str:
    """The report as HTML.

    Raises:
        ValueError: plotly is not installed, or a picture is damaged.
    """
    page = Page(title, _lead(sources))
    if sources.results:
        _headline(page, sources.results)
        for result in sources.results:
            _result(page, result, several=len(sources.results) > 1)
    for content in sources.comparisons:
        page.section("Comparison")
        page.table(comparison_table(content))
    for content in sources.studies:
        page.section(content["title"])
        for table in content["tables"]:
            page.table(Table.from_json(table))
    for content in sources.probes:
        page.section(f"Probes of {content['identity']['name']}: what its predictions depend on")
        page.table(probe_table(content))
    if sources.runs:
        _training(page, sources.runs)
    _scaling(page, sources)
    if sources.coverages:
        page.section("Coverage of the training data")
        coverage.show(page, sources.coverages)
    for content in sources.floors:
        codecs.show(page, content)
    _provenance(page, sources)
    return page.render()


def _lead(sources: Sources) -> str:
    names = (
        ("runs", "training run", "training runs"),
        ("results", "evaluation", "evaluations"),
        ("comparisons", "comparison", "comparisons"),
        ("studies", "study", "studies"),
        ("probes", "probed model", "probed models"),
        ("coverages", "dataset", "datasets"),
        ("floors", "comparison of codecs", "comparisons of codecs"),
    )
    counts = [(len(getattr(sources, key)), one, many) for key, one, many in names]
    return ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n) + "."


def _headline(page: Page, results: Sequence[Result]) -> None:
    page.section("Errors")
    table = mean_table(results)
    page.table(table)
    for result in results:
        if result.errors:
            failed = sorted({error["task_id"] for error in result.errors})
            page.text(
                f"{result.name}: {len(failed)} materials failed and are not included: {', '.join(failed[:5])}"
                + (" and others." if len(failed) > 5 else "."),
                "warning",
            )
    drawn = [figures.mean_errors(results, metric) for metric in _METRICS]
    page.figures(*(figure for figure in drawn if figure is not None))


def _result(page: Page, result: Result, *, several: bool) -> None:
    page.section(f"Errors by group{f': {result.name}' if several else ''}")
    page.figures(*figures.where(result))
    for table in group_tables(result):
        page.table(table)
    mode = primary_mode(modes_of(result.rows))
    page.section(f"Materials{f': {result.name}' if several else ''}")
    page.table(_extremes(result, mode))
    for picture in load_pictures(result.path):
        about = picture.about
        what = f"NMAE {percent(about['nmae'])} %, {label(about['mode'])}"
        page.heading(f"{about['task_id']} ({about['formula']}): {what}")
        page.figures(*figures.planes(picture))
        page.text(MARKS, "note")
        page.figures(*figures.solids(picture))


def _extremes(result: Result, mode: str) -> Table:
    """The worst and best materials of a mode, with the baselines."""
    rows = sorted(result.of_mode(mode).values(), key=lambda row: (-row["nmae"], row["task_id"]))
    others = [m for m in modes_of(result.rows) if m != mode and m not in DIAGNOSTICS]
    chosen = rows if len(rows) <= 2 * _NAMED else [*rows[:_NAMED], *rows[-_NAMED:]]
    lines = []
    for row in chosen:
        beside = [result.of_mode(m).get(row["task_id"]) for m in others]
        facts = (row["task_id"], row["formula"], str(row["n_atoms"]), f"{row['n_electrons']:.4g}")
        errors = (NONE if of is None else percent(of["nmae"]) for of in (row, *beside))
        hartree = amount(row.get("hartree_error"), UNITS["hartree_error"])
        rest = (hartree, f"{row['electron_error']:+.2g}", f"{row['seconds']:.3g}")
        lines.append((*facts, f"{row['n_voxels']:,}", *errors, *rest))
    modes = (f"NMAE {label(mode)}, %", *(f"{label(m)}, %" for m in others))
    of = f"Hartree error {label(mode)}, {UNITS['hartree_error'].name}"
    head = ("material", "formula", "atoms", "electrons", "voxels", *modes, of, "electron error", "seconds")
    what = (
        "All materials" if len(chosen) == len(rows) else f"The {_NAMED} worst and the {_NAMED} best materials"
    )
    return Table(f"{what}, largest NMAE first", head, tuple(lines))


def _training(page: Page, runs: Sequence[TrainingRun]) -> None:
    page.section("Training")
    page.table(_runs(runs))
    for run in runs:
        if run.not_finite:
            name, steps = next(iter(run.not_finite.items()))
            page.text(
                f"{run.name}: {name} was not finite at step {steps[0]} and {len(steps) - 1} others.",
                "warning",
            )
    logged = {name for run in runs for name in run.series if name.startswith("eval/")}
    together = tuple(f"/{of.name}" for of in QUANTITIES)
    names = sorted(name for name in logged if not name.endswith(("/rows", "/voxels", *together)))
    diagnostic = [name for name in names if any(f"/{mode}/" in name for mode in DIAGNOSTICS)]
    held_out = [name for name in names if name not in diagnostic]
    drawn = [learning(runs, of) for of in QUANTITIES]
    page.figures(*(figure for figure in drawn if figure is not None))
    page.figures(*_drawn(runs, (*_CURVES, *_held_out(held_out))))
    if diagnostic:
        page.heading("Diagnostics, which see the true density")
        page.figures(*_drawn(runs, _held_out(diagnostic)))
    left = max(0, len(held_out) - _MOST) + max(0, len(diagnostic) - _MOST)
    if left:
        page.text(
            f"{left} further curves on held-out data are not shown; the runs' metrics have them.", "note"
        )
    speeds = _drawn(runs, _SPEEDS)
    if speeds:
        page.heading("Throughput")
        page.figures(*speeds)


def _held_out(names: Sequence[str]) -> list[tuple[str, str, bool, int]]:
    """Curves on held-out data, as in :data:`_CURVES`; the main criteria come first."""
    first = ("nmae_median", "bits_per_voxel", "loss")
    order = sorted(names, key=lambda name: (not name.endswith(first), name))[:_MOST]
    return [(name, name.removeprefix("eval/").replace("_", " "), False, 1) for name in order]


def _drawn(runs: Sequence[TrainingRun], chosen: Sequence[tuple[str, str, bool, int]]) -> list[Figure]:
    found = []
    for name, title, logarithmic, smooth in chosen:
        positive = all((run.series[name].values > 0).all() for run in runs if name in run.series)
        found.append(figures.curves(runs, name, title, logarithmic=logarithmic and positive, smooth=smooth))
    return [figure for figure in found if figure is not None]


def _runs(runs: Sequence[TrainingRun]) -> Table:
    lines, links = [], []
    for run in runs:
        loss = run.loss
        links.append(run.url)
        speeds = [_median(run, name) for name in ("throughput/tokens_per_second", "throughput/mfu")]
        hours = NONE if run.seconds is None else f"{run.seconds.last / 3600:.2f}"
        lines.append(
            (
                run.name,
                f"{run.steps:,}",
                _short(run.tokens),
                _short(run.flops),
                _short(run.parameters),
                NONE if loss is None else f"{loss[1]:.4g} ({loss[0]})",
                percent(run.series[NMAE].last) if NMAE in run.series else NONE,
                *speeds,
                hours,
                str(run.unreadable),
            )
        )
        begun = run.at_start(NMAE) or (loss and run.at_start(loss[0]))
        if begun:
            links.append("")
            said = loss and run.at_start(loss[0])
            lines.append(
                (
                    f"{run.name}, start (step {begun[0]})",
                    "0",
                    NONE,
                    NONE,
                    _short(run.parameters),
                    f"{said[1]:.4g} ({loss[0]})" if loss and said else NONE,
                    percent(run.series[NMAE].values[0]) if run.at_start(NMAE) else NONE,
                    *(NONE,) * 4,
                )
            )
    head = (
        "run",
        "steps",
        "tokens",
        "FLOPs",
        "parameters",
        "loss",
        "held-out NMAE, %",
        "tokens per second",
        "MFU, %",
        "hours",
        "unreadable lines",
    )
    note = "Tokens per second and MFU are medians over the run. The start is the model before its first step."
    return Table("Runs", head, tuple(lines), (), note, tuple(links))


def _median(run: TrainingRun, name: str) -> str:
    series = run.series.get(name)
    return NONE if series is None else f"{float(np.median(series.values)):,.3g}"


def _short(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def scaling_points(sources: Sources) -> dict[str, list[dict[str, Any]]]:
    """Loss or error and size of runs and results, by the title of the value."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in sources.runs:
        if run.loss is not None:
            name, value = run.loss
            size: dict[str, Any] = {"tokens": run.tokens, "flops": run.flops, "parameters": run.parameters}
            found.setdefault(name, []).append({"name": run.name, "value": value, **size})
    for result in sources.results:
        mode = primary_mode(modes_of(result.rows))
        identity = result.identity["methods"].get(mode, {})
        size = {key: identity.get(key) for key in ("tokens", "flops", "parameters")}
        if mode in HEADLINES and any(isinstance(value, int | float) and value for value in size.values()):
            value = 100 * result.aggregates[mode]["metrics"]["nmae"]["mean"]["value"]
            found.setdefault("mean NMAE, %", []).append({"name": result.name, "value": value, **size})
    return found


def _scaling(page: Page, sources: Sources) -> None:
    made = [figures.scaling(points, name) for name, points in scaling_points(sources).items()]
    shown = [figure for figure in made if figure is not None]
    if shown:
        page.section("Scaling")
        for figure in shown:
            page.figures(figure)


def _provenance(page: Page, sources: Sources) -> None:
    page.section("Provenance")
    for result in sources.results:
        content = {key: value for key, value in result.identity.items() if key != "data"}
        data = dict(result.identity["data"])
        data["materials"] = (
            f"{len(data.get('materials', []))} materials, listed in {result.path.name}/result.json"
        )
        text = json.dumps({**content, "data": data, "intervals": result.settings}, indent=1)
        page.details(f"Evaluation {result.name}", text)
    for content in sources.probes:
        page.details(f"Probes {content['identity']['name']}", " ".join(content["identity"]["command"]))
    for run in sources.runs:
        page.details(f"Run {run.name}", json.dumps({"path": str(run.path), **run.about}, indent=1))
