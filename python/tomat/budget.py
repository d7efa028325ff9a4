"""How many patches each material gives: the same, or in proportion to its electrons."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

type Budget = Literal["equal", "electrons"]

#: ``equal``: M patches of each material. ``electrons``: M_i proportional to the electrons in the cell, the same in all.
BUDGETS: tuple[Budget, ...] = get_args(Budget.__value__)

#: Ids an error names.
_SHOWN = 5


@dataclass(frozen=True)
class Shares:
    """Patches of some materials, and of which sharing out they are part.

    Attributes:
        patches: of each material.
        digest: SHA-256 of the ids and patches of all materials; None where all have the same.
    """

    patches: tuple[int, ...]
    digest: str | None = None

    @classmethod
    def of(cls, budget: str, task_ids: Sequence[str], patches: Sequence[int]) -> Self:
        """Of all materials."""
        if budget == "equal":
            return cls(tuple(patches))
        pairs = json.dumps(sorted(zip(task_ids, patches, strict=True))).encode()
        return cls(tuple(patches), hashlib.sha256(pairs).hexdigest())


def check_budget(budget: str) -> Budget:
    """``budget`` where it is one.

    Raises:
        KeyError: it is not; the message lists those there are.
    """
    for known in BUDGETS:
        if budget == known:
            return known
    raise KeyError(f"unknown budget {budget!r}; known: {', '.join(BUDGETS)}")


def patches_of(
    budget: str, mean: int, task_ids: Sequence[str], electrons: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """Patches of each material, int64 (n,): ``mean * n`` in all, at least one each.

    ``electrons`` shares them out by largest remainders: each material gets its exact quota rounded down, and those with
    the largest remainders one more (among equals the one with more electrons, then the smaller id), so that the result
    depends neither on the machine nor on the order of the list. A material whose quota is below one gets one, and
    the quotas of the others are those of what is left.

    Args:
        budget: ``equal`` or ``electrons``.
        mean: patches a material, on average.
        task_ids: the materials, all of a dataset: those of every worker.
        electrons: in the cell of each, (n,); for the budget ``electrons`` alone.

    Raises:
        KeyError: an unknown budget.
        ValueError: ``mean`` below one; electrons that are needed and missing, or not above zero and finite.
    """
    check_budget(budget)
    if mean < 1:
        raise ValueError(f"{mean} patches a material are too few; give at least 1")
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
            f"the budget electrons cannot share patches out: {len(wrong)} materials have no electrons: {shown}"
        )
    return _largest_remainders(weights, mean * len(task_ids), task_ids)


def _largest_remainders(
    weights: NDArray[np.float64], total: int, task_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Integers of at least one in proportion to the weights; see :func:`patches_of`."""
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
