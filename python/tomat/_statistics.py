"""Numbers over materials; :mod:`tomat.metrics` makes them public."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Statistics(NamedTuple):
    """One metric over materials."""

    n: int
    mean: float
    median: float
    p99: float
    max: float


def statistics(values: Iterable[float] | NDArray[np.floating]) -> Statistics:
    """Mean, median, 99th percentile and maximum of one metric over materials, each counting once.

    Percentiles interpolate linearly between ranks, as ``numpy.percentile``. Infinity is allowed: the error of a
    material without density that was predicted to have some.

    Raises:
        ValueError: no values, or a NaN.
    """
    array = np.sort(_array(values).ravel())
    if array.size == 0:
        raise ValueError("no values to summarise")
    if np.isnan(array).any():
        raise ValueError("NaN among the values to summarise")
    return Statistics(
        array.size, float(array.mean()), _percentile(array, 0.5), _percentile(array, 0.99), float(array[-1])
    )


def weighted_mean(
    values: Iterable[float] | NDArray[np.floating], weights: Iterable[float] | NDArray[np.floating]
) -> float:
    r"""sum(w v) / sum(w) over materials.

    With the NMAE as v and \|electrons\| as w it is the per-electron mean: the total absolute error over the total
    number of electrons.

    Raises:
        ValueError: nothing to average, a NaN, or weights that are negative or sum to zero.
    """
    v, w = _array(values), _array(weights)
    if v.shape != w.shape or v.size == 0:
        raise ValueError(f"{v.size} values and {w.size} weights; give equal numbers, at least one")
    if np.isnan(v).any() or not np.isfinite(w).all() or (w < 0.0).any() or not float(w.sum()) > 0.0:
        raise ValueError("values must be numbers; weights finite, not negative, and one above zero")
    return float((w[w > 0] * v[w > 0]).sum() / w.sum())


def _array(values: Iterable[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)


def _percentile(ascending: NDArray[np.float64], fraction: float) -> float:
    """``numpy.percentile``, but without NaN next to infinite values."""
    rank = fraction * (len(ascending) - 1)
    below = math.floor(rank)
    low, high = float(ascending[below]), float(ascending[math.ceil(rank)])
    return high if low == high else low + (high - low) * (rank - below)
