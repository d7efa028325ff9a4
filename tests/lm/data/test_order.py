"""Permutations, random bits and packing follow from keys and lose nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import example_oracle
from tomat.lm.data.packing import one_each, pack
from tomat.lm.data.shuffle import key_of, keys_of, permute, random_bits

keys = st.integers(0, 2**64 - 1)


@given(st.integers(1, 3000), keys)
def test_an_order_is_a_permutation(n: int, key: int) -> None:
    order = permute(np.arange(n), n, key)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert permute([n - 1], n, key)[0] == order[-1], "one position alone goes where it goes with others"


@given(st.integers(2**20, 2**50), keys)
def test_orders_of_any_size_cost_the_same(n: int, key: int) -> None:
    order = permute(np.arange(1000), n, key)
    assert len(np.unique(order)) == 1000
    assert order.min() >= 0
    assert order.max() < n


@given(st.integers(1, 2**40), keys, st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_orders_are_those_of_the_oracle(n: int, key: int, positions: list[int]) -> None:
    inside = np.array(positions) % n
    np.testing.assert_array_equal(permute(inside, n, key), example_oracle.permute(inside, n, key))


@given(keys, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.integers(0, 100))
def test_random_numbers_are_those_of_the_oracle(key: int, numbers: list[int], n: int) -> None:
    of = np.array(numbers, dtype=np.int64)
    found = keys_of(key, of)
    np.testing.assert_array_equal(found, example_oracle.keys_of(key, of))
    np.testing.assert_array_equal(random_bits(found, n), example_oracle.random_bits(found, n))


def test_other_keys_give_other_orders() -> None:
    orders = {tuple(permute(np.arange(50), 50, key_of(seed, "order", 0)).tolist()) for seed in range(200)}
    assert len(orders) == 200
    for beyond in (5, -1):
        with pytest.raises(IndexError, match=f"{beyond} in an order of 5"):
            permute([beyond], 5, 0)


def test_where_a_position_goes_is_uniform() -> None:
    """Chi-square over 20 cells for a position, over many keys; the keys are fixed, so this is no gamble."""
    n, draws = 20, 2000
    for position in (0, n - 1):
        places = np.array([permute([position], n, key_of(seed))[0] for seed in range(draws)])
        expected = draws / n
        chi_square = float(((np.bincount(places, minlength=n) - expected) ** 2 / expected).sum())
        assert chi_square < 43.8  # the 0.999 quantile at 19 degrees of freedom


def test_neighbours_do_not_stay_together() -> None:
    """Rows lie material by material; a batch of an epoch must hold about as many materials as a uniform draw."""
    materials, each, batch = 500, 64, 128
    n = materials * each
    order = permute(np.arange(n), n, key_of(0, "order", 0)) // each
    rng = np.random.default_rng(0)
    drawn = rng.permutation(n) // each
    distinct, expected = (
        np.array([len(set(x[i : i + batch].tolist())) for i in range(0, n, batch)]) for x in (order, drawn)
    )
    assert abs(distinct.mean() - expected.mean()) < 1.0  # of 113; the mean of 250 batches varies by 0.3
    assert distinct.min() > 95
    repeats = np.mean(order[1:] == order[:-1])
    assert repeats < 2.0 / materials + 0.002
    # No drift through the epoch, as windows would give: a tenth of it holds materials from everywhere.
    tenths = [len(set(part.tolist())) for part in np.split(order, 10)]
    assert min(tenths) > 0.99 * materials


def test_random_bits_are_uniform_and_rows_differ() -> None:
    bits = random_bits(keys_of(7, np.arange(64)), 4096)
    assert bits.max() < 2**24
    counts = np.bincount(bits.ravel() >> 16, minlength=256)
    expected = bits.size / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 330.5  # 0.999 quantile at 255
    centred = bits / 2.0**24 - 0.5
    correlations = (centred @ centred.T) * 12 / 4096 - np.eye(64)
    assert np.abs(correlations).max() < 0.08
    assert np.array_equal(random_bits([5], 100), random_bits([5], 200)[:, :100])


def test_keys_tell_parts_apart() -> None:
    parts: list[tuple[int | str, ...]] = [(0,), (1,), (0, 0), ("a",), ("a", "b"), ("ab",), (1, "a"), ("a", 1)]
    assert len({key_of(*part) for part in parts}) == len(parts)
    assert key_of(1, "order", 2) == key_of(1, "order", 2)


lengths = st.lists(
    st.tuples(st.sampled_from([3, 7, 20, 33, 50, 64]), st.integers(0, 9)), min_size=1, max_size=300
)


@given(lengths, st.integers(64, 130), st.integers(0, 2**64 - 1))
@settings(max_examples=60)
def test_packing_places_every_sequence_once(items: list[tuple[int, int]], size: int, seed: int) -> None:
    length = np.array([item[0] for item in items], dtype=np.int32)
    material = np.array([item[1] for item in items], dtype=np.int32)
    plan = pack(length, material, size, seed)
    assert np.array_equal(np.sort(plan.sequences), np.arange(len(items)))
    used = np.add.reduceat(length[plan.sequences], plan.starts[:-1])
    assert (np.diff(plan.starts) > 0).all()
    assert used.max() <= size
    assert plan.fill == pytest.approx(length.sum() / (len(plan) * size))
    assert len(plan) <= 2 * length.sum() / size + 1, "no two rows are half empty"
    again = pack(length, material, size, seed)
    assert np.array_equal(plan.sequences, again.sequences)


def test_rows_hold_a_material_once() -> None:
    """Also where most sequences of a length are of one material, as in rare large cells."""
    rng = np.random.default_rng(0)
    material = np.repeat(np.arange(60, dtype=np.int32), 32)
    sizes = rng.choice([2810, 2830, 2900, 3100], 60)
    sizes[7] = 3500  # the only one of its length
    plan = pack(sizes[material].astype(np.int32), material, 8192, 1)
    rows = np.repeat(np.arange(len(plan)), np.diff(plan.starts))
    together = Counter(zip(rows.tolist(), material[plan.sequences].tolist(), strict=True))
    assert max(together.values()) == 1
    assert plan.fill > 0.69
    assert one_each(sizes[material].astype(np.int32), 8192).fill < 0.37


def test_one_material_has_to_share_with_itself() -> None:
    plan = pack(np.full(10, 30, dtype=np.int32), np.zeros(10, dtype=np.int32), 64, 0)
    assert len(plan) == 5
