"""The effect of budgets on the patches per material: do they differ enough to study sampling weights?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.budget import BUDGETS, patches_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "max": 1.0}

#: Largest share of its patches that the bottom decile may keep for a study to show an effect there.
LEAST_CONTRAST = 0.5
#: Largest share of materials that may be rounded up to one patch.
MOST_AT_ONE = 0.01
#: Largest patches of a material, divided by the smallest, before a few materials make most of the gradients.
MOST_UNEQUAL = 30.0
#: Largest share of patches beyond those that cover their material once.
MOST_REPEATED = 0.25


def budget_effect(
    task_ids: Sequence[str],
    electrons: Sequence[float],
    mean: int,
    tiles: NDArray[np.int64],
    *,
    estimated: bool = False,
) -> dict[str, Any]:
    """The distribution of the patches per material M under each budget, and whether the two differ enough for a study.

    Args:
        task_ids: the materials.
        electrons: of each.
        mean: patches per material, on average.
        tiles: number of patches that covers each material (:func:`tomat.sampling.tiles`).
        estimated: whether the electrons are estimates.

    Returns:
        ``budgets``: min, p10, p50, p90, max, mean and max:min of M for each budget; ``bottom_decile`` and
        ``top_decile``: patches under ``electrons`` of the materials with the fewest and most electrons, relative to
        ``equal``; ``at_one``: share of materials rounded up to one patch; ``repeated``: share of patches beyond those
        that cover their material once; ``total_variation``: total variation distance of the two distributions of
        patches over materials; ``verdict`` (a word) and ``reasons``; ``warnings``: what a study
        of them has to keep in mind.
    """
    weights = np.asarray(electrons, dtype=np.float64)
    shares = {budget: patches_of(budget, mean, task_ids, weights.tolist()) for budget in BUDGETS}
    by_electrons = shares["electrons"]
    order = np.argsort(weights, kind="stable")
    tenth = max(1, len(order) // 10)
    facts: dict[str, Any] = {
        "estimated": estimated,
        "budgets": {budget: _distribution(patches) for budget, patches in shares.items()},
        "bottom_decile": float(by_electrons[order[:tenth]].sum() / (mean * tenth)),
        "top_decile": float(by_electrons[order[-tenth:]].sum() / (mean * tenth)),
        "at_one": float((weights * mean * len(weights) / weights.sum() < 1).mean()),
        "repeated": float(np.maximum(by_electrons - tiles, 0).sum() / by_electrons.sum()),
        "total_variation": float(np.abs(by_electrons / by_electrons.sum() - 1 / len(weights)).sum() / 2),
    }
    return {**facts, **_verdict(facts), "warnings": _warnings(facts)}


def _warnings(facts: dict[str, Any]) -> list[str]:
    of = facts["budgets"]["electrons"]
    if of["max_to_min"] <= MOST_UNEQUAL:
        return []
    return [
        f"by electrons a material has from {of['min']} to {of['max']} patches, max:min {of['max_to_min']:.0f} (more "
        f"than {MOST_UNEQUAL:.0f}): few large cells make most of the gradients; leave them out, or report deciles"
    ]


def _distribution(patches: NDArray[np.int64]) -> dict[str, float]:
    found = {name: int(np.quantile(patches, q, method="inverted_cdf")) for name, q in QUANTILES.items()}
    return {**found, "mean": float(patches.mean()), "max_to_min": found["max"] / found["min"]}


def _verdict(facts: dict[str, Any]) -> dict[str, Any]:
    """``weak`` if the budgets hardly differ, ``distorted`` if rounding or repetition dominates, else ``usable``."""
    reasons = []
    weak = facts["bottom_decile"] > LEAST_CONTRAST
    if weak:
        reasons.append(
            f"the tenth of the materials with the fewest electrons keeps {facts['bottom_decile']:.0%} of its patches "
            f"(more than {LEAST_CONTRAST:.0%}): the models are not expected to differ there"
        )
    else:
        reasons.append(
            f"the tenth of the materials with the fewest electrons gets {facts['bottom_decile']:.0%} of its equal "
            f"share, the tenth with the most {facts['top_decile']:.0%}"
        )
    distorted = facts["at_one"] > MOST_AT_ONE or facts["repeated"] > MOST_REPEATED
    if facts["at_one"] > MOST_AT_ONE:
        reasons.append(f"{facts['at_one']:.1%} of the materials are rounded up to one patch: raise the mean")
    if facts["repeated"] > MOST_REPEATED:
        reasons.append(
            f"{facts['repeated']:.0%} of the patches by electrons only repeat voxels that others of their material "
            "cover; lower the mean"
        )
    return {"verdict": "weak" if weak else "distorted" if distorted else "usable", "reasons": reasons}
