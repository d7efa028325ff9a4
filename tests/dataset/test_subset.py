"""Draws by name: an order that other materials cannot change, and strata that are even."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tomat.dataset.subset import draw_names, draw_stratified, keyed_order

NAMES = [f"mp-{n}" for n in range(1, 201)]
VALUES = {name: float(int(name[3:]) ** 2) for name in NAMES}


def test_the_order_is_that_of_the_names_alone() -> None:
    """To the bit: what was drawn once is drawn again, by any version."""
    assert draw_names(NAMES, 3, seed=0) == ["mp-116", "mp-135", "mp-180"]
    mixed = random.Random(1).sample(NAMES, len(NAMES))
    assert keyed_order(mixed, 7) == keyed_order(NAMES, 7) != keyed_order(NAMES, 8)
    assert sorted(keyed_order(NAMES)) == sorted(NAMES)
    with pytest.raises(ValueError, match="a sample of 0 materials"):
        draw_names(NAMES, 0)


def test_more_materials_do_not_reshuffle() -> None:
    few, many = NAMES[:150], NAMES
    assert [name for name in keyed_order(many, 3) if name in few] == keyed_order(few, 3)
    drawn = draw_names(many, 40, 3)
    assert set(drawn) & set(few) <= set(draw_names(few, 40, 3))
    assert draw_names(many, 20, 3) == drawn[:20]
    assert draw_names(few, 999) == keyed_order(few)


def test_every_material_is_drawn_as_often() -> None:
    counts = Counter(name for seed in range(400) for name in draw_names(NAMES, 50, seed))
    assert set(counts) == set(NAMES)
    assert all(60 < n < 140 for n in counts.values())  # 100 are expected, with a standard deviation of 9


def test_strata_are_even() -> None:
    by_value = sorted(NAMES, key=lambda name: VALUES[name])
    for n in (10, 50, 73, 199):
        drawn = draw_stratified(NAMES, n, VALUES, seed=2)
        assert len(set(drawn)) == len(drawn) == n
        tenths = Counter(by_value.index(name) // 20 for name in drawn)
        assert set(tenths) == set(range(10))
        assert max(tenths.values()) - min(tenths.values()) <= 1
    assert len(draw_stratified(NAMES, 3, VALUES)) == 3
    assert draw_stratified(NAMES, 500, VALUES) == keyed_order(NAMES)
    assert draw_stratified(NAMES[::-1], 50, VALUES, 2) == draw_stratified(NAMES, 50, VALUES, 2)
    # The remainder does not always go to the same part.
    extra = set()
    for seed in range(20):
        tenths = Counter(by_value.index(name) // 20 for name in draw_stratified(NAMES, 11, VALUES, seed))
        extra |= {tenth for tenth, n in tenths.items() if n == 2}
    assert len(extra) > 3
    with pytest.raises(KeyError):
        draw_stratified(NAMES, 5, {})
