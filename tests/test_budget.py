"""Budgets: the same total, at least one, as near to proportion as integers come, in any order of the list."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomat.budget import BUDGETS, patches_of

ELECTRONS = st.lists(st.floats(1e-3, 1e6) | st.integers(1, 20).map(float), min_size=1, max_size=40)


@given(ELECTRONS, st.integers(1, 100))
def test_shares_are_the_quotas_rounded(electrons: list[float], mean: int) -> None:
    ids = [f"m-{i:02d}" for i in range(len(electrons))]
    got = patches_of("electrons", mean, ids, electrons)
    assert got.dtype == np.int64
    assert got.sum() == mean * len(ids)
    assert got.min() >= 1
    # Those above one share out what the others leave, by exact fractions.
    quotas = _quotas(electrons, mean * len(ids))
    for n, quota in zip(got.tolist(), quotas, strict=True):
        assert abs(n - quota) < 1 + Fraction(1, 10**6)
    # More electrons never give fewer patches.
    order = np.argsort(electrons, kind="stable")
    assert (np.diff(got[order]) >= 0).all() or len(set(electrons)) < len(electrons)


def _quotas(electrons: list[float], total: int) -> list[Fraction]:
    exact = [Fraction(e) for e in electrons]
    least: set[int] = set()
    while True:
        weight = sum((e for i, e in enumerate(exact) if i not in least), Fraction(0))
        quotas = [
            Fraction(1) if i in least else e * (total - len(least)) / weight for i, e in enumerate(exact)
        ]
        below = {i for i, q in enumerate(quotas) if q < 1}
        if below <= least:
            return quotas
        least |= below


@given(ELECTRONS, st.integers(1, 50), st.randoms())
def test_the_order_of_the_list_does_not_matter(electrons: list[float], mean: int, random: object) -> None:
    ids = [f"m-{i:02d}" for i in range(len(electrons))]
    order = list(range(len(ids)))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight = dict(zip(ids, patches_of("electrons", mean, ids, electrons).tolist(), strict=True))
    shuffled_ids = [ids[i] for i in order]
    shuffled = patches_of("electrons", mean, shuffled_ids, [electrons[i] for i in order]).tolist()
    assert dict(zip(shuffled_ids, shuffled, strict=True)) == straight


def test_by_hand() -> None:
    assert patches_of("equal", 7, ["a", "b"]).tolist() == [7, 7]
    assert patches_of("electrons", 4, ["a", "b", "c"], [1, 2, 3]).tolist() == [2, 4, 6]
    # Quotas 3.33 each: one more for the smallest id.
    assert patches_of("electrons", 10, ["b", "c", "a"], [2, 2, 2]).tolist() == [10, 10, 10]
    assert patches_of("electrons", 1, ["b", "c", "a"], [9, 9, 9]).tolist() == [1, 1, 1]
    assert patches_of("electrons", 5, ["b", "c", "a", "d"], [1, 1, 1, 3]).tolist() == [3, 3, 4, 10]
    # A quota of 0.04 becomes 1; the others share the 11 that are left.
    assert patches_of("electrons", 4, ["x", "y", "z"], [1, 100, 210]).tolist() == [1, 4, 7]
    assert patches_of("electrons", 3, [], []).tolist() == []
    assert BUDGETS == ("equal", "electrons")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("equal", 0, ["a"]), ValueError, "at least 1"),
        (("electron", 1, ["a"]), KeyError, "known: equal, electrons"),
        (("electrons", 1, ["a"]), ValueError, "give a catalogue"),
        (("electrons", 1, ["a"], [1.0, 2.0]), ValueError, "2 numbers of electrons for 1 materials"),
        (("electrons", 1, ["a", "b"], [1.0, float("nan")]), ValueError, r"b \(nan\)"),
        (("electrons", 1, ["a", "b"], [-2.0, 1.0]), ValueError, r"a \(-2\)"),
    ],
)
def test_what_cannot_be(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        patches_of(*arguments)  # type: ignore[arg-type]
