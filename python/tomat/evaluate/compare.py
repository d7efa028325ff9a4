"""Paired comparison of results, material by material."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.evaluate.aggregate import Settings, modes_of, spread
from tomat.evaluate.bootstrap import Resampler
from tomat.evaluate.measure import UNITS
from tomat.evaluate.methods import BASELINES, DIAGNOSTICS, primary_mode
from tomat.evaluate.result import Result, load_result
from tomat.evaluate.tables import NONE, amount, interval, label
from tomat.metrics import FRACTION, Unit
from tomat.view.table import Table

#: Columns of a row that describe the material.
FACTS = ("task_id", "data_hash", "formula", "chemsys", "category", "n_electrons")


#: Of a column that is no metric.
_BARE = Unit.of("")

#: The rows of a result by material.
type Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: a checkpoint, or several seeds of one training, in one mode.

    Attributes:
        name: its name in tables.
        mode: the mode to compare.
        results: one, or one per seed.
    """

    name: str
    mode: str
    results: tuple[Result, ...]

    def runs(self) -> list[dict[str, dict[str, Any]]]:
        """For each result, its rows by material."""
        found = []
        for result in self.results:
            rows = result.of_mode(self.mode)
            if not rows:
                there = ", ".join(modes_of(result.rows))
                raise ValueError(f"{result.path}: has no mode {self.mode}; it has {there}")
            found.append(rows)
        for result, rows in zip(self.results[1:], found[1:], strict=True):
            _same_materials(f"{result.path}", rows, f"{self.results[0].path}", found[0])
        return found


def contender(text: str, mode: str | None = None) -> Contender:
    """Parse ``[NAME=]RESULT[,RESULT...][@MODE]``.

    Args:
        text: path of a result, or of one per seed, separated by commas.
        mode: used if the text names none; None is the result's first headline mode, or its first mode.

    Raises:
        FileNotFoundError, ValueError: a result is missing or damaged.
    """
    name, equals, rest = text.partition("=")
    if not equals or "/" in name:
        name, rest = "", text
    paths, at, own = rest.rpartition("@")
    if not at or "/" in own:
        paths, own = rest, ""
    results = tuple(load_result(Path(path)) for path in paths.split(",") if path)
    if not results:
        raise ValueError(f"{text!r} names no result; give [NAME=]RESULT[,RESULT...][@MODE]")
    chosen = own or mode or primary_mode(modes_of(results[0].rows))
    suffix = f" {label(chosen)}" if own else ""
    return Contender(name or "+".join(result.name for result in results) + suffix, chosen, results)


def compare(
    contenders: Sequence[Contender],
    *,
    metric: str = "nmae",
    common: bool = False,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Compare each contender with the first, paired by material; seeds are averaged for each material first.

    Args:
        contenders: at least two.
        metric: a column of the results.
        common: compare the materials that all results have, and allow different units.
        settings: of the intervals.

    Returns:
        JSON: the materials, and for each contender its mean with interval and spread over seeds. Relative to the
        first: ``difference`` (mean of own minus first, negative is better), ``difference_per_electron``, ``median``
        difference, ``wins`` (share of materials with a smaller value, ties count half) and ``by_category``.
        ``start`` holds the same for the weights at step 0, or None.

    Raises:
        ValueError: fewer than two contenders, different materials or units without ``common``, or different true
            densities of one material.
    """
    if len(contenders) < 2:
        raise ValueError(f"{len(contenders)} results; a comparison needs at least two")
    chosen = settings or Settings()
    _check_units(contenders, common=common)
    runs = [of.runs() for of in contenders]
    names = materials(contenders, runs, common=common)
    facts = [{key: runs[0][0][name][key] for key in FACTS} for name in names]
    values = [_averaged(of, run, names, metric) for of, run in zip(contenders, runs, strict=True)]
    paired = _Paired(names, metric, values[0], facts, chosen.resampler(facts))
    left_out = sorted({name for run in runs for rows in run for name in rows} - set(names))
    lines: list[dict[str, Any]] = []
    for of, run, own in zip(contenders, runs, values, strict=True):
        line = paired.line(of, run, own, results=[str(result.path) for result in of.results])
        lines.append(line | (paired.against(own) if lines else {}) | {"start": paired.start(of)})
    return {
        "format": "tomat comparison",
        "version": 1,
        "metric": metric,
        "n": len(names),
        "materials": names,
        "left_out": left_out,
        "intervals": asdict(chosen),
        "contenders": lines,
    }


@dataclass(frozen=True, eq=False)
class _Paired:
    """What the lines of a comparison share; ``first`` holds the values of the first contender."""

    names: Sequence[str]
    metric: str
    first: NDArray[np.float64]
    facts: Sequence[Mapping[str, Any]]
    resampler: Resampler

    def line(
        self,
        of: Contender,
        runs: Sequence[Rows],
        own: NDArray[np.float64],
        **more: Any,
    ) -> dict[str, Any]:
        return {
            "name": of.name,
            "mode": of.mode,
            **more,
            "mean": self.resampler.mean(own)._asdict(),
            "per_electron": self.resampler.mean(own, self._column("n_electrons"))._asdict(),
            "seeds": spread([[rows[name] for name in self.names] for rows in runs], self._mean),
        }

    def against(self, own: NDArray[np.float64]) -> dict[str, Any]:
        mean, difference, categories = self.resampler.mean, own - self.first, self._column("category")
        return {
            "difference": mean(difference)._asdict(),
            "difference_per_electron": mean(difference, self._column("n_electrons"))._asdict(),
            "median": self.resampler.quantile(difference, 0.5)._asdict(),
            "wins": mean((difference < 0.0) + 0.5 * (difference == 0.0))._asdict(),
            "by_category": {
                str(name): mean(difference, (categories == name).astype(np.float64))._asdict()
                for name in np.unique(categories)
            },
        }

    def start(self, of: Contender) -> dict[str, Any] | None:
        """The comparison of the weights at step 0; None unless every result has their rows for all materials."""
        mode = "start_teacher_forced" if of.mode in DIAGNOSTICS else "start"
        rows = [result.of_mode(mode) for result in of.results]
        if of.mode in BASELINES or not all(set(self.names) <= set(own) for own in rows):
            return None
        began = Contender(f"{of.name}, {label(mode)}", mode, of.results)
        try:
            own = _averaged(began, rows, self.names, self.metric)
        except ValueError:
            return None  # the start lacks this metric
        return self.line(began, rows, own) | self.against(own)

    def _column(self, name: str) -> NDArray[Any]:
        return np.array([row[name] for row in self.facts])

    def _mean(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return float(np.mean([abs(row[self.metric]) for row in rows]))


def _averaged(of: Contender, runs: Sequence[Rows], names: Sequence[str], metric: str) -> NDArray[np.float64]:
    try:
        table = [[rows[name][metric] for name in names] for rows in runs]
        values = np.abs(np.array(table, dtype=np.float64)).mean(axis=0)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{of.name}: not every row has a number {metric!r}; try nmae") from error
    if not np.isfinite(values).all():
        raise ValueError(f"{of.name}: {metric} is not finite for every material; choose another metric")
    return np.asarray(values)


def _check_units(contenders: Sequence[Contender], *, common: bool) -> None:
    units = {result.identity.get("unit"): result for contender in contenders for result in contender.results}
    if len(units) > 1 and not common:
        said = ", ".join(f"{unit} ({result.path})" for unit, result in units.items())
        raise ValueError(
            f"the results use codecs with different units: {said}. NMAE does not depend on the unit, but codec floors "
            "do; compare anyway with --common"
        )


def materials(contenders: Sequence[Contender], runs: Sequence[Sequence[Rows]], *, common: bool) -> list[str]:
    """The ids of the materials to compare, sorted."""
    first = runs[0][0]
    named = [(of.name, rows) for of, run in zip(contenders, runs, strict=True) for rows in run]
    for name, rows in named:
        if not common:
            _same_materials(name, rows, contenders[0].name, first)
    shared = set(first).intersection(*(rows for _, rows in named))
    if not shared:
        raise ValueError("the results share no material")
    for name, rows in named:
        differing = sorted(x for x in shared if rows[x]["data_hash"] != first[x]["data_hash"])
        if differing:
            raise ValueError(
                f"{name} and {contenders[0].name} were measured against different true densities of "
                f"{len(differing)} materials ({', '.join(differing[:3])}); evaluate again on the same data"
            )
    return sorted(shared)


def _same_materials(name: str, rows: Mapping[str, Any], other_name: str, other: Mapping[str, Any]) -> None:
    missing, more = sorted(other.keys() - rows.keys()), sorted(rows.keys() - other.keys())
    if missing or more:
        said = [
            f"{len(x)} {what} ({', '.join(x[:3])})" for x, what in ((missing, "missing"), (more, "more")) if x
        ]
        raise ValueError(
            f"{name} and {other_name} have different materials: {', '.join(said)}; compare those they share with "
            "--common"
        )


def comparison_table(content: Mapping[str, Any]) -> Table:
    """A comparison as a table; diagnostic modes stand below the line."""
    unit = UNITS.get(content["metric"], _BARE)
    after = f", {unit.points}" if unit.points else ""
    head = (
        "",
        f"mean, {unit.name}" if unit.name else "mean",
        "SD over seeds",
        *(f"{name}{after}" for name in ("difference", "per electron", "median")),
        "better in, %",
    )
    rows: list[tuple[str, ...]] = []
    below: list[tuple[str, ...]] = []
    with_starts = [
        entry for line in content["contenders"] for entry in (line, line.get("start")) if entry is not None
    ]
    for line in with_starts:
        seeds = line["seeds"]
        spread_of = NONE if seeds["sd"] is None else amount(seeds["sd"], unit)
        cells = [line["name"], interval(line["mean"], unit), spread_of]
        names = {"difference": unit, "difference_per_electron": unit, "median": unit, "wins": FRACTION}
        cells += [interval(line[name], of) if name in line else "" for name, of in names.items()]
        (below if line["mode"] in DIAGNOSTICS else rows).append(tuple(cells))
    note = (
        f"{content['metric']} over {content['n']} materials, paired; {100 * content['intervals']['level']:g} % "
        f"bootstrap intervals. Differences are from {content['contenders'][0]['name']}; negative is better."
    )
    if content["left_out"]:
        note += f" {len(content['left_out'])} materials that some results lack are left out."
    return Table("Comparison", head, tuple(rows), tuple(below), note)
