"""Metrics against SciPy, against numbers worked out by hand, and their mathematical properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare

from tomat import metrics

PAIRWISE: list[Callable[[Any, Any], float]] = [
    metrics.nmae,
    metrics.chi_square,
    metrics.hellinger,
    metrics.jensen_shannon,
    metrics.relative_mae,
    lambda p, t: metrics.electron_error(p, t).electrons,
]


def density(seed: int, shape: tuple[int, ...] = (6, 5, 4)) -> NDArray[np.float64]:
    return np.asarray(10.0 ** np.random.default_rng(seed).uniform(-3, 2, shape))


@st.composite
def pairs(draw: st.DrawFn, *, signed: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    both = 10.0 ** rng.uniform(-9, 4, (2, n))
    both[rng.random((2, n)) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = 0.0
    if signed:
        both[rng.random((2, n)) < 0.2] *= -1
    if draw(st.booleans()):
        both[1] = both[0] * (1 + draw(st.sampled_from([1e-3, 1e-9, 1e-15])) * rng.standard_normal(n))
        both[1] = both[1] if signed else np.abs(both[1])
    return both[0], both[1]


# --- by hand ------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    true = np.array([1.0, 3.0, 0.0, 4.0])
    predicted = np.array([2.0, 3.0, 1.0, 2.0])
    assert metrics.nmae(predicted, true) == 4.0 / 8.0
    # Floor: a tenth of the mean 2. 1/1 + 0/3 + 1/0.2 + 4/4 over 8.
    assert metrics.chi_square(predicted, true, eps=0.1) == pytest.approx(7.0 / 8.0, rel=1e-15)
    # 1/1, 0, 1/0.2, 2/4 over 4 voxels.
    assert metrics.relative_mae(predicted, true, eps=0.1) == pytest.approx(6.5 / 4, rel=1e-15)
    # 1 - sum sqrt(p q) = 1 - (sqrt 2 + 3 + 0 + sqrt 8) / 8.
    assert metrics.hellinger(predicted, true) == pytest.approx(
        math.sqrt(1 - (3 + 3 * math.sqrt(2)) / 8), rel=1e-14
    )
    assert metrics.electron_error([1.0, 3.0], [2.0, 6.0]) == (-2.0, -0.5)
    assert metrics.electron_error([1.0, 3.0], [2.0, 6.0], unit="e_per_A3", volume=10.0) == (-20.0, -0.5)


def test_negative_voxels() -> None:
    true = np.array([-1.0, 2.0, 3.0])
    predicted = np.array([1.0, 2.0, 3.0])
    assert metrics.nmae(predicted, true) == 2.0 / 6.0
    assert metrics.relative_mae(predicted, true) == pytest.approx(2.0 / 3.0)
    # The floor stands in for -1: 4 / (0.5 * 2) over the sum 4.
    assert metrics.chi_square(predicted, true, eps=0.5) == pytest.approx(1.0)
    # Clipped: the same as from [0, 2, 3].
    assert metrics.hellinger(predicted, true) == metrics.hellinger(predicted, [0.0, 2.0, 3.0])
    assert metrics.jensen_shannon(predicted, true) == metrics.jensen_shannon(predicted, [0.0, 2.0, 3.0])
    assert metrics.electron_error(predicted, true).relative == pytest.approx(0.5)


def test_nothing_to_divide_by() -> None:
    zero, one = np.zeros(3), np.ones(3)
    for metric in PAIRWISE:
        assert metric(zero, zero) == 0.0
    assert metrics.nmae(one, zero) == math.inf
    assert metrics.chi_square(one, zero) == math.inf
    assert metrics.relative_mae(one, zero) == math.inf
    assert metrics.electron_error(one, zero) == (1.0, math.inf)
    assert metrics.electron_error(-one, zero) == (-1.0, -math.inf)
    assert metrics.chi_square([1.0, 1.0], [1.0, -1.0]) == math.inf
    assert metrics.chi_square([1.0, -1.0], [1.0, -1.0]) == 0.0
    for distance in (metrics.hellinger, metrics.jensen_shannon):
        assert distance(one, zero) == distance(zero, one) == 1.0
        assert distance(-one, zero) == 0.0
        assert distance([1.0, 0.0], [0.0, 5.0]) == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    for metric in PAIRWISE:
        with pytest.raises(ValueError, match="predicted density holds NaN"):
            metric([1.0, bad], [1.0, 1.0])
        with pytest.raises(ValueError, match="true density holds NaN"):
            metric([1.0, 1.0], [1.0, bad])


def test_arguments_that_do_not_fit() -> None:
    for metric in PAIRWISE:
        with pytest.raises(ValueError, match=r"shape \(2,\), the true one \(1,\)"):
            metric([1.0, 1.0], [1.0])
        with pytest.raises(ValueError, match="nothing to compare"):
            metric([], [])
    with pytest.raises(ValueError, match="unit 'au'"):
        metrics.electron_error([1.0], [1.0], unit="au")
    with pytest.raises(ValueError, match=r"need the cell volume in A\^3; got None"):
        metrics.electron_error([1.0], [1.0], unit="e_per_A3")
    with pytest.raises(ValueError, match="eps 0 must be positive"):
        metrics.chi_square([1.0], [1.0], eps=0)


# --- against SciPy ------------------------------------------------------------------------------------------


@given(pairs())
def test_jensen_shannon_is_scipys(pair: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    p, q = pair
    if p.sum() > 0 and q.sum() > 0:
        # SciPy's sums cancel for equal densities: its distance is good to 1e-8 there, or NaN.
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num(jensenshannon(p, q, base=2))
        assert metrics.jensen_shannon(p, q) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_jensen_shannon_of_close_densities_keeps_its_digits() -> None:
    """Second order: the divergence is sum d^2 / (8 p ln 2) for p + d/2 and p - d/2."""
    p = density(0).ravel()
    p /= p.sum()
    step = 1e-11 * p * np.random.default_rng(1).standard_normal(p.size)
    step -= p * step.sum()
    expected = math.sqrt(float((step**2 / p).sum()) / (8 * math.log(2)))
    # Inputs round at 1e-16 of 1e-11 steps: five digits are there to be had.
    assert metrics.jensen_shannon(p + step / 2, p - step / 2) == pytest.approx(expected, rel=1e-4)


def test_chi_square_is_scipys() -> None:
    true, predicted = density(2).ravel(), density(3).ravel()
    predicted *= true.sum() / predicted.sum()
    expected = chisquare(predicted, true).statistic / true.sum()
    assert metrics.chi_square(predicted, true) == pytest.approx(expected, rel=1e-12)


def test_summary_is_numpys() -> None:
    values = density(4).ravel()
    got = metrics.statistics(values)
    assert got == metrics.statistics(iter(values.tolist()))
    assert got.n == values.size
    assert got.mean == pytest.approx(values.mean(), rel=1e-14)
    assert got.median == pytest.approx(np.median(values), rel=1e-14)
    assert got.p99 == pytest.approx(np.percentile(values, 99), rel=1e-14)
    assert got.max == values.max()
    assert metrics.statistics([3.0]) == (1, 3.0, 3.0, 3.0, 3.0)
    assert metrics.statistics([1.0, 2.0, math.inf]) == (3, math.inf, 2.0, math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        metrics.statistics([])
    with pytest.raises(ValueError, match="NaN"):
        metrics.statistics([1.0, math.nan])


# --- properties ---------------------------------------------------------------------------------------------


@given(pairs(signed=True))
def test_bounds(pair: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    p, q = pair
    for distance in (metrics.hellinger, metrics.jensen_shannon):
        assert 0.0 <= distance(p, q) <= 1.0
        assert distance(p, q) == pytest.approx(distance(q, p), rel=1e-12, abs=1e-300)
    for metric in PAIRWISE:
        assert metric(p, p) == 0.0
    assert metrics.nmae(p, q) >= 0.0
    assert metrics.nmae(p, q) >= abs(metrics.electron_error(p, q).electrons) * q.size / max(
        np.abs(q).sum(), 1e-300
    ) * (1 - 1e-12)


@given(pairs())
def test_hellinger_and_jensen_shannon_bound_each_other(
    pair: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """H^2 <= JSD <= H^2 / ln 2: the right side is met by close densities, the left by disjoint ones."""
    h2 = metrics.hellinger(*pair) ** 2
    jsd = metrics.jensen_shannon(*pair) ** 2
    assert h2 * (1 - 1e-6) <= jsd + 1e-28
    assert jsd <= h2 / math.log(2) * (1 + 1e-6) + 1e-28


@given(pairs(), st.integers(-30, 30))
def test_unit_does_not_matter(pair: tuple[NDArray[np.float64], NDArray[np.float64]], power: int) -> None:
    """A factor on both changes nothing but the electrons; powers of two change no digit."""
    p, t = pair
    factor = 2.0**power
    for metric in PAIRWISE[:5]:
        assert metric(p * factor, t * factor) == metric(p, t)
    assert metrics.electron_error(p * factor, t * factor).electrons == (
        metrics.electron_error(p, t).electrons * factor
    )


@given(st.integers(0, 2**32 - 1))
def test_number_of_voxels_does_not_matter(seed: int) -> None:
    """A supercell scores as its cell."""
    p, t = density(seed), density(seed + 1)
    for metric in PAIRWISE:
        big = metric(np.tile(p, (2, 1, 3)), np.tile(t, (2, 1, 3)))
        assert big == pytest.approx(metric(p, t), rel=1e-12)


def test_sums_run_in_float64() -> None:
    """In float32 a million times 1e-4 added to 1e4 would not be seen."""
    true = np.full(1_000_001, 1e-4, dtype=np.float32)
    true[0] = 1e4
    predicted = true.copy()
    predicted[0] = 0.0
    expected = 1e4 / (1e4 + 1_000_000 * float(np.float32(1e-4)))
    assert metrics.nmae(predicted, true) == pytest.approx(expected, rel=1e-12)


def test_measure_is_all_of_them() -> None:
    p, t = density(5), density(6)
    got = metrics.measure(p, t, unit="e_per_A3", volume=3.0)
    electrons = metrics.electron_error(p, t, unit="e_per_A3", volume=3.0)
    of_electrons = dict(zip(("electron_error", "electron_error_relative"), electrons, strict=True))
    others = {name: getattr(metrics, name)(p, t) for name in got._fields if name not in of_electrons}
    assert got._asdict() == others | of_electrons
    assert others.keys() >= {"nmae", "chi_square", "hellinger", "jensen_shannon", "relative_mae"}
