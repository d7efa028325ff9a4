"""The sampling-weight study: does a budget of patches by electrons make better models than an equal one?

Two trainings that differ in the budget alone, over several seeds each, are evaluated on the same held-out materials.
Written down before any of them was trained:

- H1: per-electron training is at least 0.1 points of NMAE worse per material.
- H2: per-electron training is better per electron.
- H3: its loss per material is larger in the tenth of the materials with the fewest electrons than over all.

Intervals draw materials (by chemical system) and, within each budget, seeds. A hypothesis holds, or fails, where the
whole interval says so; otherwise it is undecided.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.aggregate import N_GROUPS, Settings, deciles, spread
from tomat.evaluate.compare import FACTS, Contender, materials
from tomat.evaluate.methods import DIAGNOSTICS
from tomat.evaluate.tables import NONE, interval, label, percent
from tomat.view.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomat.evaluate.bootstrap import Interval, Resampler
    from tomat.evaluate.result import Result

#: H1's margin: 0.1 points of NMAE.
MARGIN = 0.001
#: Parts of a predictor's identity that say how long it was trained; they must be the same.
_LENGTHS = ("steps", "step", "tokens")


def sampling_weight(
    equal: Sequence[Result],
    electrons: Sequence[Result],
    mode: str,
    settings: Settings | None = None,
    *,
    unmatched: bool = False,
) -> dict[str, Any]:
    """The three metrics of both budgets, their differences with intervals, and which hypotheses held.

    Args:
        equal: results of models trained with equal budgets, one a seed.
        electrons: the same of budgets by electrons.
        mode: which of their numbers.
        settings: of the intervals.
        unmatched: take models that were trained for different lengths.

    Returns:
        JSON, see ``docs/evaluation.md``; ``title`` and ``tables`` are what ``tomat report`` shows.

    Raises:
        ValueError: no results, other materials, a result without the mode, trainings of different lengths.
    """
    chosen = settings or Settings()
    arms = [Contender("equal", mode, tuple(equal)), Contender("electrons", mode, tuple(electrons))]
    for arm in arms:
        if not arm.results:
            raise ValueError(f"no results for the budget {arm.name}; give at least one, ideally three seeds")
    if not unmatched:
        _check_lengths([*equal, *electrons], mode)
    runs = [arm.runs() for arm in arms]
    names = materials(arms, runs, common=False)
    facts = [{key: runs[0][0][name][key] for key in FACTS} for name in names]
    tables = [np.array([[rows[name]["nmae"] for rows in run] for name in names]) for run in runs]
    electron_counts = np.array([row["n_electrons"] for row in facts])
    draws = _Draws(tables, chosen.resampler(facts), chosen.seed)
    ones = np.ones(len(names))
    groups = deciles(electron_counts)
    bottom = (groups == 0).astype(np.float64)
    content = {
        "format": "tomat sampling-weight study",
        "version": 1,
        "mode": mode,
        "n": len(names),
        "intervals": asdict(chosen),
        "seeds": {arm.name: len(arm.results) for arm in arms},
        "results": {arm.name: [str(result.path) for result in arm.results] for arm in arms},
        "metrics": [
            draws.metric("per material", ones),
            draws.metric("per electron", electron_counts),
            *(
                draws.metric(f"decile {number + 1}", (groups == number).astype(np.float64))
                for number in sorted(set(groups.tolist()))
            ),
            *_starts(arms, names, chosen, facts, electron_counts),
        ],
        "hypotheses": _hypotheses(draws, electron_counts, bottom),
    }
    return {**content, "title": "Sampling-weight study", "tables": list(map(asdict, _tables(content)))}


def _starts(
    arms: Sequence[Contender],
    names: Sequence[str],
    settings: Settings,
    facts: Sequence[Mapping[str, Any]],
    electrons: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """The metrics of the initial weights (step 0); empty if a result has no rows for them."""
    mode = "start_teacher_forced" if arms[0].mode in DIAGNOSTICS else "start"
    runs = [[result.of_mode(mode) for result in arm.results] for arm in arms]
    if not all(set(names) <= set(rows) for arm in runs for rows in arm):
        return []
    tables = [np.array([[rows[name]["nmae"] for rows in arm] for name in names]) for arm in runs]
    draws = _Draws(tables, settings.resampler(facts), settings.seed)
    said = label(mode)
    return [
        draws.metric(f"per material, {said}", np.ones(len(names))),
        draws.metric(f"per electron, {said}", electrons),
    ]


def _hypotheses(
    draws: _Draws, electrons: NDArray[np.float64], bottom: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The three hypotheses, with differences and verdicts; ``bottom`` is 1 in the first decile, 0 elsewhere."""
    ones = np.ones(len(electrons))
    asked = (
        (
            "H1",
            "training per electron is at least 0.1 points worse per material",
            draws.difference(ones),
            MARGIN,
        ),
        ("H2", "training per electron is better per electron", draws.difference(electrons), 0.0),
        (
            "H3",
            f"the gap is larger in the bottom decile of {N_GROUPS} than over all",
            draws.difference(bottom, minus=ones),
            0.0,
        ),
    )
    return [
        {
            "name": name,
            "says": says,
            "difference": of._asdict(),
            "bound": bound,
            "verdict": _verdict(of, bound, above=name != "H2"),
        }
        for name, says, of, bound in asked
    ]


def _verdict(of: Interval, bound: float, *, above: bool) -> str:
    """``holds`` or ``fails`` where the whole interval is on one side of the bound, else ``undecided``."""
    if of.low is None or of.high is None:
        return "undecided"
    holds, fails = (of.low >= bound, of.high < bound) if above else (of.high < bound, of.low >= bound)
    if of.low == of.high == bound == 0.0:
        return "fails"
    return "holds" if holds else "fails" if fails else "undecided"


class _Draws:
    """Bootstrap resamples over materials and seeds."""

    def __init__(self, tables: Sequence[NDArray[np.float64]], resampler: Resampler, seed: int) -> None:
        self._tables, self._resampler = tables, resampler
        rng = np.random.default_rng([seed, 1])
        self._shares = [
            rng.multinomial(n, np.full(n, 1.0 / n), size=resampler.resamples) / n
            for n in (table.shape[1] for table in tables)
        ]

    def difference(self, weights: NDArray[np.float64], minus: NDArray[np.float64] | None = None) -> Interval:
        """Weighted mean of electrons minus that of equal; with ``minus``, less the same for those weights."""
        value, drawn = self._gap(weights)
        if minus is not None:
            other, others = self._gap(minus)
            value, drawn = value - other, drawn - others
        return self._resampler.interval(value, drawn, weights)

    def _gap(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        (a, drawn_a), (b, drawn_b) = (self._mean(i, weights) for i in (0, 1))
        return b - a, drawn_b - drawn_a

    def _mean(self, arm: int, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = self._tables[arm]
        value = float((weights @ table.mean(axis=1)) / weights.sum())
        return value, (self._resampler.means(table, weights) * self._shares[arm]).sum(axis=1)

    def metric(self, name: str, weights: NDArray[np.float64]) -> dict[str, Any]:
        """One metric for both budgets, and their difference."""
        found: dict[str, Any] = {"name": name, "n": int(np.count_nonzero(weights))}
        for arm, key in enumerate(("equal", "electrons")):
            found[key] = self._resampler.interval(*self._mean(arm, weights), weights)._asdict()
            means = (weights @ self._tables[arm]) / weights.sum()
            found[f"{key}_seeds"] = spread([[{"nmae": float(x)}] for x in means])
        found["difference"] = self.difference(weights)._asdict()
        return found


def _check_lengths(results: Sequence[Result], mode: str) -> None:
    for key in _LENGTHS:
        said = {str(result.path): result.identity["methods"].get(mode, {}).get(key) for result in results}
        if len({value for value in said.values() if value is not None}) > 1:
            listed = ", ".join(f"{value} ({path})" for path, value in said.items())
            raise ValueError(
                f"the models were trained for different {key}: {listed}; the study needs equal steps. Train the "
                "others for as long, evaluate the latest weights instead of the best (tomat eval --weights latest), or "
                "compare them anyway with --unmatched"
            )


def _tables(content: Mapping[str, Any]) -> list[Table]:
    """The hypotheses, and the three metrics."""
    verdicts = [
        (f"{h['name']}: {h['says']}", interval(h["difference"]), percent(h["bound"]), h["verdict"])
        for h in content["hypotheses"]
    ]
    seeds = content["seeds"]
    note = (
        f"{content['n']} materials, {seeds['equal']} seeds of equal and {seeds['electrons']} of electrons; "
        f"{100 * content['intervals']['level']:g} % intervals over materials and seeds. Differences are percentage "
        "points of NMAE, electrons minus equal; for H3, the difference in the bottom decile minus that over all."
    )
    if min(seeds.values()) < 2:
        note += " With one seed, the intervals do not include the variation between training runs: add other seeds."
    metrics = [
        (
            of["name"],
            str(of["n"]),
            interval(of["equal"]),
            NONE if of["equal_seeds"]["sd"] is None else percent(of["equal_seeds"]["sd"]),
            interval(of["electrons"]),
            NONE if of["electrons_seeds"]["sd"] is None else percent(of["electrons_seeds"]["sd"]),
            interval(of["difference"]),
        )
        for of in content["metrics"]
    ]
    head = (
        "NMAE, %",
        "materials",
        "equal",
        "sd of seeds",
        "electrons",
        "sd of seeds",
        "electrons minus equal",
    )
    return [
        Table("Hypotheses", ("", "difference, points", "bound", "verdict"), tuple(verdicts), (), note),
        Table("NMAE by budget", head, tuple(metrics), (), "Decile 1 has the fewest electrons."),
    ]
