"""Budgets: the number of patches of each material, equal or proportional to its electrons."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

type Budget = Literal["equal", "electrons"]

#: ``equal``: M patches of each material. ``electrons``: M_i proportional to the electrons in the cell, with mean M.
BUDGETS: tuple[Budget, ...] = get_args(Budget.__value__)

#: Ids listed in an error.
_SHOWN = 5


@dataclass(frozen=True)
class Shares:
    """Patches of some materials of a dataset.

    Attributes:
        patches: number for each material.
        digest: SHA-256 of the ids and patches of all materials of the dataset; None for the budget ``equal``.
    """

    patches: tuple[int, ...]
    digest: str | None = None

    @classmethod
    def of(cls, budget: str, task_ids: Sequence[str], patches: Sequence[int]) -> Self:
        """The shares of all materials of a dataset."""
        if budget == "equal":
            return cls(tuple(patches))
        pairs = json.dumps(sorted(zip(task_ids, patches, strict=True))).encode()
        return cls(tuple(patches), hashlib.sha256(pairs).hexdigest())


def check_budget(budget: str) -> Budget:
    """Check the name of a budget."""
    for known in BUDGETS:
        if budget == known:
            return known
    raise KeyError(f"unknown budget {budget!r}; known: {', '.join(BUDGETS)}")


def patches_of(
    budget: str, mean: int, task_ids: Sequence[str], electrons: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """Patches of each material, int64 (n,): ``mean * n`` in all, at least one each.

    ``electrons`` apportions them by largest remainders: each material gets its exact quota rounded down, and those with
    the largest remainders one more (ties: more electrons first, then the smaller id). The result depends neither on the
    machine nor on the order of the list. A material whose quota is below one gets one, and the others share the rest.

    Args:
        budget: ``equal`` or ``electrons``.
        mean: patches per material, on average.
        task_ids: all materials of the dataset, those of every worker.
        electrons: (n,) electrons in each cell; only for the budget ``electrons``.
    """
    check_budget(budget)
    if mean < 1:
        raise ValueError(f"{mean} patches per material are too few; give at least 1")
    if budget == "equal":
        return np.full(len(task_ids), mean, dtype=np.int64)
    if electrons is None:
        raise ValueError("the budget electrons needs the electrons of each material: give a catalogue")
    weights = np.asarray(electrons, dtype=np.float64)
    if weights.shape != (len(task_ids),):
        raise ValueError(f"{len(weights)} numbers of electrons for {len(task_ids)} materials")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    if len(wrong):
        shown = ", ".join(f"{task_ids[i]} ({weights[i]:g})" for i in wrong[:_SHOWN])
        raise ValueError(
            f"the budget electrons is not possible: {len(wrong)} materials have no electrons: {shown}"
        )
    return _largest_remainders(weights, mean * len(task_ids), task_ids)


def _largest_remainders(
    weights: NDArray[np.float64], total: int, task_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Integers of at least one, proportional to the weights; see :func:`patches_of`."""
    least = np.zeros(len(weights), dtype=bool)
    while True:
        # fsum is exact whatever the order.
        left, weight = total - int(least.sum()), math.fsum(weights[~least])
        quotas = np.where(least, 1.0, weights * (left / weight if weight else 0.0))
        below = ~least & (quotas < 1.0)
        if not below.any():
            break
        least |= below
    patches = np.floor(quotas).astype(np.int64)
    missing = total - int(patches.sum())
    order = sorted(
        np.flatnonzero(~least).tolist(),
        key=lambda i: (patches[i] - quotas[i], -weights[i], task_ids[i]),
    )
    patches[order[:missing]] += 1
    return patches
