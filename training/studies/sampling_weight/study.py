"""The sampling-weight study: does a budget of patches by electrons make better models than an equal one?

Two trainings that differ in the budget alone, over several seeds each, are evaluated on the same held-out materials.
Written down before any of them was trained:

- H1: per-electron training is at least 0.1 points of NMAE worse per material.
- H2: per-electron training is better per electron.
- H3: the gap, its error minus that of equal training, is larger in the tenth of the materials with the fewest electrons
  than in the tenth with the most.

Intervals draw materials (by chemical system) and, within each budget, seeds. A hypothesis holds, or fails, where the
whole interval says so; otherwise it is undecided.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.evaluate.aggregate import N_GROUPS, Settings, deciles
from tomat.evaluate.compare import Contender
from tomat.evaluate.methods import DIAGNOSTICS
from tomat.evaluate.tables import label
from tomat.view.table import Table
from training.studies.arms import Draws, draws_of, hypothesis, metric_head, metric_rows, verdict_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tomat.evaluate.result import Result

#: The budgets.
ARMS = ("equal", "electrons")
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
    arms = (
        Contender(ARMS[0], mode, tuple(equal)),
        Contender(ARMS[1], mode, tuple(electrons)),
    )
    if not unmatched:
        _check_lengths([*equal, *electrons], mode)
    draws, facts = draws_of(arms, chosen)
    electron_counts = np.array([row["n_electrons"] for row in facts])
    ones = np.ones(len(facts))
    groups = deciles(electron_counts)
    content = {
        "format": "tomat sampling-weight study",
        "version": 1,
        "mode": mode,
        "n": len(facts),
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
            *_starts(arms, facts, chosen, electron_counts),
        ],
        "hypotheses": hypotheses(draws, electron_counts, groups),
    }
    return {**content, "title": "Sampling-weight study", "tables": list(map(asdict, _tables(content)))}


def _starts(
    arms: Sequence[Contender],
    facts: Sequence[Mapping[str, Any]],
    settings: Settings,
    electrons: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """The metrics of the initial weights (step 0); empty if a result has no rows for them."""
    mode = "start_teacher_forced" if arms[0].mode in DIAGNOSTICS else "start"
    names = [row["task_id"] for row in facts]
    if not all(set(names) <= set(result.of_mode(mode)) for arm in arms for result in arm.results):
        return []
    first, second = (replace(arm, mode=mode) for arm in arms)
    draws, _ = draws_of((first, second), settings, names)
    said = label(mode)
    return [
        draws.metric(f"per material, {said}", np.ones(len(facts))),
        draws.metric(f"per electron, {said}", electrons),
    ]


def hypotheses(
    draws: Draws, electrons: NDArray[np.float64], groups: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """The three hypotheses, with differences and verdicts; ``groups`` are the deciles of electrons, from 0."""
    bottom, top = ((groups == at).astype(np.float64) for at in (0, groups.max()))
    return [
        hypothesis(
            "H1",
            "training per electron is at least 0.1 points worse per material",
            draws.difference(np.ones(len(electrons))),
            MARGIN,
            above=True,
        ),
        hypothesis(
            "H2",
            "training per electron is better per electron",
            draws.difference(electrons),
            0.0,
            above=False,
        ),
        hypothesis(
            "H3",
            f"the gap is larger in the bottom decile of {N_GROUPS} than in the top decile",
            draws.difference(bottom, minus=top),
            0.0,
            above=True,
        ),
    ]


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
    seeds = content["seeds"]
    note = (
        f"{content['n']} materials, {seeds['equal']} seeds of equal and {seeds['electrons']} of electrons; "
        f"{100 * content['intervals']['level']:g} % intervals over materials and seeds. Differences are percentage "
        "points of NMAE, electrons minus equal; for H3, the difference in the bottom decile minus that in the top one."
    )
    if min(seeds.values()) < 2:
        note += " With one seed, the intervals do not include the variation between training runs: add other seeds."
    return [
        Table(
            "Hypotheses",
            ("", "difference, points", "bound", "verdict"),
            verdict_rows(content["hypotheses"]),
            (),
            note,
        ),
        Table(
            "NMAE by budget",
            metric_head(ARMS),
            metric_rows(content["metrics"], ARMS),
            (),
            "Decile 1 has the fewest electrons.",
        ),
    ]
