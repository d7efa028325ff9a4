"""Rounding: GPTQ is no worse than the nearest on any row, much better on correlated inputs, and does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomat.lm.artefact.rounding import BITS, Rounded, as_bfloat16, errors, gptq, nearest


def layer(rows: int, columns: int, seed: int, *, inputs: int = 400) -> tuple[Any, Any]:
    """Weights, and the Hessian of inputs in which a few directions have most of the variance."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(columns, columns)) * np.geomspace(1, 0.01, columns)[:, None]
    x = rng.normal(size=(inputs, columns)) @ mixed
    return rng.normal(size=(rows, columns)).astype(np.float32), x.T @ x


@pytest.mark.parametrize("bits", BITS)
def test_gptq_is_better_than_the_nearest_on_correlated_inputs(bits: int) -> None:
    weights, hessian = layer(24, 160, seed=bits)  # more columns than are taken at a time
    simple, fed_back = nearest(weights, bits), gptq(weights, hessian, bits)
    before, after = errors(weights, simple, hessian), errors(weights, fed_back, hessian)
    assert (after <= before).all()
    assert after.sum() < 0.5 * before.sum()
    most = (1 << (bits - 1)) - 1
    for found in (simple, fed_back):
        assert np.abs(found.integers).max() <= most
        assert (found.scales == as_bfloat16(found.scales)).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.sampled_from(BITS))
def test_no_row_is_worse_than_the_nearest(rows: int, columns: int, seed: int, bits: int) -> None:
    weights, hessian = layer(rows, columns, seed, inputs=columns // 2 + 1)  # a Hessian without full rank
    found = gptq(weights, hessian, bits)
    assert (errors(weights, found, hessian) <= errors(weights, nearest(weights, bits), hessian)).all()


def test_one_row_by_hand() -> None:
    """Two inputs that are nearly the same: what the first weight loses, the second gains."""
    weights = np.array([[1.4, 1.4, 7.0]], np.float32)
    hessian = np.array([[1.01, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    assert nearest(weights, 4).integers.tolist() == [[1, 1, 7]]
    found = gptq(weights, hessian, 4, damping=1e-6)
    assert found.scales.tolist() == [1.0]
    assert found.integers.tolist() == [[1, 2, 7]]


def test_uncorrelated_inputs_are_rounded_to_the_nearest() -> None:
    weights, _ = layer(8, 12, seed=5)
    found = gptq(weights, np.eye(12) * 3.0, 5)
    np.testing.assert_array_equal(found.weights, nearest(weights, 5).weights)


def test_rows_of_zeros_and_inputs_that_were_never_seen() -> None:
    weights, hessian = layer(6, 10, seed=3)
    weights[2] = 0
    hessian[4] = hessian[:, 4] = 0
    found = gptq(weights, hessian, 6)
    assert found.scales[2] == 0
    assert not found.weights[2].any()
    # A weight of an input that was not seen keeps its value, as well as it can.
    assert (np.abs(found.weights[:, 4] - weights[:, 4]) <= 0.51 * found.scales)[[0, 1, 3, 4, 5]].all()
    np.testing.assert_array_equal(gptq(weights, np.zeros((10, 10)), 6).weights, nearest(weights, 6).weights)


def test_eight_bits_are_close_and_exact_in_single_precision() -> None:
    weights, _ = layer(16, 64, seed=1)
    found = nearest(weights, 8)
    assert np.abs(found.weights - weights).max() < np.abs(weights).max() / 200
    exact = found.integers.astype(np.float64) * found.scales[:, None].astype(np.float64)
    np.testing.assert_array_equal(found.weights, exact)


def test_bfloat16_rounds_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.14159, 0.0, 1e-30], np.float32)
    found = as_bfloat16(values)
    assert found[:3].tolist() == [1.0, 1.0, 1.015625]
    np.testing.assert_allclose(found, values, rtol=2**-8)


@pytest.mark.parametrize(
    ("weights", "hessian", "bits", "message"),
    [
        (np.ones((2, 3)), np.eye(2), 4, "not one of 3 inputs"),
        (np.ones((2, 3)), np.full((3, 3), np.nan), 4, "not finite"),
        (np.full((2, 3), np.inf), np.eye(3), 4, "only finite matrices"),
        (np.ones(3), np.eye(3), 4, "only finite matrices"),
        (np.ones((2, 3)), np.eye(3), 1, "2 to 8 bits"),
    ],
)
def test_what_cannot_be_rounded(weights: Any, hessian: Any, bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gptq(weights.astype(np.float32), hessian, bits)


def test_the_error_is_that_of_the_outputs() -> None:
    weights, _ = layer(4, 6, seed=2)
    x = np.random.default_rng(0).normal(size=(50, 6))
    rounded = Rounded(np.ones((4, 6), np.int8), np.full(4, 0.5, np.float32), 3)
    outputs = x @ (weights.astype(np.float64) - rounded.weights).T
    np.testing.assert_allclose(errors(weights, rounded, x.T @ x), np.square(outputs).sum(axis=0))
