"""Two ways of training, several seeds each, on the same materials: means, differences, and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.aggregate import Settings, spread
from tomat.evaluate.compare import FACTS, Contender, materials
from tomat.evaluate.tables import NONE, interval, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomat.evaluate.bootstrap import Interval, Resampler


class Draws:
    """Bootstrap resamples over materials and, within each arm, seeds.

    Args:
        tables: (materials, seeds) errors of each of the two arms; seeds may differ in number.
        resampler: of the materials.
        seed: of the draws of seeds.
        names: of the arms.
    """

    def __init__(
        self, tables: Sequence[NDArray[np.float64]], resampler: Resampler, seed: int, names: tuple[str, str]
    ) -> None:
        """Draw the shares of seeds."""
        self._tables, self._resampler, self._names = tables, resampler, names
        rng = np.random.default_rng([seed, 1])
        self._shares = [
            rng.multinomial(n, np.full(n, 1.0 / n), size=resampler.resamples) / n
            for n in (table.shape[1] for table in tables)
        ]

    def difference(self, weights: NDArray[np.float64], minus: NDArray[np.float64] | None = None) -> Interval:
        """Weighted mean of the second arm minus that of the first; with ``minus``, less the same for those weights."""
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
        """One metric for both arms, and their difference."""
        found: dict[str, Any] = {"name": name, "n": int(np.count_nonzero(weights))}
        for arm, key in enumerate(self._names):
            found[key] = self._resampler.interval(*self._mean(arm, weights), weights)._asdict()
            means = (weights @ self._tables[arm]) / weights.sum()
            found[f"{key}_seeds"] = spread([[{"nmae": float(x)}] for x in means])
        found["difference"] = self.difference(weights)._asdict()
        return found


def draws_of(
    arms: tuple[Contender, Contender], settings: Settings, names: Sequence[str] | None = None
) -> tuple[Draws, list[Mapping[str, Any]]]:
    """The draws of two arms, and the facts of their materials: columns of a row that describe it.

    Args:
        arms: the two.
        settings: of the intervals.
        names: the materials, in this order; None takes those of the results, which must be the same.

    Raises:
        ValueError: no results, other materials, a result without the mode.
    """
    for arm in arms:
        if not arm.results:
            raise ValueError(f"no results for {arm.name}; give at least one, ideally three seeds")
    runs = [arm.runs() for arm in arms]
    names = materials(arms, runs, common=False) if names is None else names
    facts: list[Mapping[str, Any]] = [{key: runs[0][0][name][key] for key in FACTS} for name in names]
    tables = [np.array([[rows[name]["nmae"] for rows in run] for name in names]) for run in runs]
    named = (arms[0].name, arms[1].name)
    return Draws(tables, settings.resampler(facts), settings.seed, named), facts


def hypothesis(name: str, says: str, of: Interval, bound: float, *, above: bool) -> dict[str, Any]:
    """A hypothesis with its difference and verdict.

    It ``holds`` or ``fails`` where the whole interval is on one side of the bound, and is else ``undecided``.

    Args:
        name: short.
        says: in words.
        of: the difference.
        bound: the difference it asks for.
        above: whether the difference is to be at or above the bound; else below.
    """
    return {
        "name": name,
        "says": says,
        "difference": of._asdict(),
        "bound": bound,
        "verdict": _verdict(of, bound, above=above),
    }


def _verdict(of: Interval, bound: float, *, above: bool) -> str:
    if of.low is None or of.high is None:
        return "undecided"
    holds, fails = (of.low >= bound, of.high < bound) if above else (of.high < bound, of.low >= bound)
    if of.low == of.high == bound == 0.0:
        return "fails"
    return "holds" if holds else "fails" if fails else "undecided"


def bracketed(of: Mapping[str, Any]) -> str:
    """A number that is no NMAE with its interval, if it has one."""
    if of["low"] is None:
        return f"{of['value']:.3f}"
    return f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


def verdict_rows(hypotheses: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """Rows of a table: the hypothesis, the difference with interval and the bound in points, the verdict."""
    return tuple(
        (f"{h['name']}: {h['says']}", interval(h["difference"]), percent(h["bound"]), h["verdict"])
        for h in hypotheses
    )


def metric_rows(metrics: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> tuple[tuple[str, ...], ...]:
    """Rows of a table: the metric, materials, each arm with interval and spread of seeds, the difference."""

    def of_arm(of: Mapping[str, Any], name: str) -> tuple[str, str]:
        sd = of[f"{name}_seeds"]["sd"]
        return interval(of[name]), NONE if sd is None else percent(sd)

    return tuple(
        (of["name"], str(of["n"]), *of_arm(of, names[0]), *of_arm(of, names[1]), interval(of["difference"]))
        for of in metrics
    )


def metric_head(names: tuple[str, str]) -> tuple[str, ...]:
    """The head of :func:`metric_rows`."""
    first, second = names
    return ("NMAE, %", "materials", first, "sd of seeds", second, "sd of seeds", f"{second} minus {first}")
