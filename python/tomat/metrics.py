r"""How far a predicted density is from the true one: the only definitions of these numbers in the package.

Every function takes ``(predicted, true)``, two arrays of one shape, in one unit, finite. Sums run in float64
whatever the arrays hold. d = predicted - true; sums and means run over the voxels of the grid, which all
have the same volume, so that no number but the electron error changes with the unit or the number of
voxels.

What happens outside the mathematicians' domain:

- Negative voxels (PAW densities have some): ``nmae``, ``relative_mae``, ``electron_error`` and
  ``chi_square`` take them as they are; ``hellinger`` and ``jensen_shannon`` compare probability
  distributions and clip them to zero.
- Zero or tiny voxels: ``chi_square`` and ``relative_mae`` divide by a voxel, but not by less than ``eps``
  times the mean of \|true\|.
- Nothing to divide by: a true density that is zero everywhere (for ``chi_square``: whose sum is not
  positive) gives 0 where the prediction is equal to it and infinity where not. A distribution without mass
  is at distance 0 from another such and at distance 1 from any other.
- NaN, infinity: ``ValueError``. A mean over materials must neither swallow one nor drown in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EPS",
    "IN_ELECTRONS",
    "ElectronError",
    "Metrics",
    "Statistics",
    "chi_square",
    "electron_error",
    "hellinger",
    "jensen_shannon",
    "measure",
    "nemd",
    "nmae",
    "nmae_of_sums",
    "relative_mae",
    "statistics",
    "weighted_mean",
]

#: Smallest divisor of a voxel's error, in units of the mean of \|true\|.
EPS = 1e-6


class ElectronError(NamedTuple):
    """Predicted minus true number of electrons, and that over the true number."""

    electrons: float
    relative: float


class Metrics(NamedTuple):
    """All metrics of one material."""

    nmae: float
    chi_square: float
    hellinger: float
    jensen_shannon: float
    relative_mae: float
    electron_error: float
    electron_error_relative: float


#: Metrics that are numbers of electrons; all others are fractions.
IN_ELECTRONS = ("electron_error",)


class Statistics(NamedTuple):
    """One metric over materials."""

    n: int
    mean: float
    median: float
    p99: float
    max: float


def nmae(predicted: ArrayLike, true: ArrayLike) -> float:
    r"""Normalised mean absolute error, sum \|d\| / sum \|true\|; 0.01 is "one per cent".

    The field's headline number: for a non-negative density, the absolute error integrated over the cell,
    for each electron in it. A prediction of zero everywhere scores 1.

    P. B. Jorgensen and A. Bhowmik, npj Comput. Mater. 8, 183 (2022), where it is called epsilon_mae;
    T. Koker, K. Quigley, E. Taw, K. Tibbetts, L. Li, npj Comput. Mater. 10, 161 (2024).
    """
    p, t = _pair(predicted, true)
    return nmae_of_sums(float(np.abs(p - t).sum()), float(np.abs(t).sum()))


def nmae_of_sums(error: float, true: float) -> float:
    r"""``nmae`` from sum \|d\| and sum \|true\|, where these were added up elsewhere."""
    return _ratio(error, true)


def nemd(expected_error: ArrayLike, true: ArrayLike) -> float:
    r"""Normalised earth mover's distance, sum E\|v - true\| / sum \|true\|, of a prediction that is a distribution.

    In each voxel v is distributed as the model says; the earth mover's (Wasserstein-1) distance of that distribution
    from the true value, a point, is the expected absolute error E\|v - true\|. A prediction of one number has that
    number's error, so that its ``nemd`` is its ``nmae``. Where the mean of the distribution is the estimate, ``nemd``
    is at least the ``nmae`` (Jensen's inequality), and the surplus is what the model is unsure of.

    Args:
        expected_error: E\|v - true\| in each voxel, in the unit of ``true``; never negative.
        true: true density, of the same shape.

    Raises:
        ValueError: arrays that do not fit together, a negative or not finite expected error.
    """
    e, t = _pair(expected_error, true)
    if (e < 0.0).any():
        raise ValueError(f"an expected error of {float(e.min()):g}; it is never negative")
    return _ratio(float(e.sum()), float(np.abs(t).sum()))


def chi_square(predicted: ArrayLike, true: ArrayLike, *, eps: float = EPS) -> float:
    r"""Pearson's chi-square: sum(d^2 / max(true, floor)) / sum true, with floor = eps * mean \|true\|.

    With both densities normalised it is Pearson's chi-square divergence. It punishes errors where there is
    little density: noise in the vacuum counts far more than in ``nmae``.

    K. Pearson, Phil. Mag. 50, 157 (1900).
    """
    p, t = _pair(predicted, true)
    floor = _floor(t, eps)
    difference = p - t
    if floor == 0.0:
        return 0.0 if not difference.any() else math.inf
    total = float((difference * difference / np.maximum(t, floor)).sum())
    return _ratio(total, max(float(t.sum()), 0.0))


def hellinger(predicted: ArrayLike, true: ArrayLike) -> float:
    """Hellinger distance sqrt(1/2 sum (sqrt p - sqrt q)^2), each density normalised to 1; in [0, 1].

    Symmetric, and it takes voxels of zero without an ``eps``. The number of electrons does not enter: see
    :func:`electron_error` for that.

    E. Hellinger, J. reine angew. Math. 136, 210 (1909).
    """
    p, q = (_distribution(values) for values in _pair(predicted, true))
    if p is None or q is None:
        return 0.0 if p is q else 1.0
    # sqrt p - sqrt q without its cancellation where p is close to q.
    roots = np.sqrt(p) + np.sqrt(q)
    difference = np.divide(p - q, roots, out=np.zeros_like(roots), where=roots > 0)
    return min(1.0, math.sqrt(0.5 * float((difference * difference).sum())))


def jensen_shannon(predicted: ArrayLike, true: ArrayLike) -> float:
    """Jensen-Shannon distance of the two densities, each normalised to 1; base 2, so in [0, 1].

    The square root of the divergence 1/2 KL(p, m) + 1/2 KL(q, m) with m = (p + q) / 2, as SciPy's
    ``jensenshannon``; the divergence is its square. It is summed as 1/2 m h(u) with u = (p - q) / (p + q) and
    h = (1 + u) ln(1 + u) + (1 - u) ln(1 - u) = 2 u artanh(u) + ln(1 - u^2), where no term is larger than
    twice what it adds: the two Kullback-Leibler sums cancel to nothing for densities closer than 1e-8.

    J. Lin, IEEE Trans. Inf. Theory 37, 145 (1991); D. M. Endres and J. E. Schindelin, ibid. 49, 1858 (2003).
    """
    p, q = (_distribution(values) for values in _pair(predicted, true))
    if p is None or q is None:
        return 0.0 if p is q else 1.0
    both = p + q
    u = np.divide(p - q, both, out=np.zeros_like(both), where=both > 0)
    h = np.full_like(u, 2.0 * math.log(2.0))
    inside = np.abs(u) < 1.0
    v = u[inside]
    h[inside] = 2.0 * v * np.arctanh(v) + np.log1p(-v * v)
    divergence = 0.25 * float((both * h).sum()) / math.log(2.0)
    return min(1.0, math.sqrt(max(divergence, 0.0)))


def relative_mae(predicted: ArrayLike, true: ArrayLike, *, eps: float = EPS) -> float:
    r"""Mean over voxels of \|d\| / max(\|true\|, floor), with floor = eps * mean \|true\|.

    ``nmae`` weighs a voxel by its density; here each counts the same, so that interstitial regions and vacuum
    decide. Statistics knows it as the mean absolute percentage error, here as a fraction.
    """
    p, t = _pair(predicted, true)
    floor = _floor(t, eps)
    difference = np.abs(p - t)
    if floor == 0.0:
        return 0.0 if not difference.any() else math.inf
    return float((difference / np.maximum(np.abs(t), floor)).mean())


def electron_error(
    predicted: ArrayLike, true: ArrayLike, *, unit: str = "chgcar", volume: float | None = None
) -> ElectronError:
    r"""Predicted minus true number of electrons in the cell, and that over \|true number\|.

    The number of electrons is the integral of the density: the mean over the grid in the ``chgcar`` unit
    (rho * V_cell), the mean times the cell volume in ``e_per_A3``.

    Args:
        predicted: predicted density.
        true: true density.
        unit: the unit of both.
        volume: cell volume in cubic angstrom; needed for ``e_per_A3`` alone.

    Raises:
        ValueError: an unknown unit, or ``e_per_A3`` without a positive volume.
    """
    p, t = _pair(predicted, true)
    if unit not in ("chgcar", "e_per_A3"):
        raise ValueError(f"unit {unit!r} is not one of chgcar, e_per_A3")
    factor = 1.0 if unit == "chgcar" else volume
    if factor is None or not 0.0 < factor < math.inf:
        raise ValueError(f"electrons from a density in e_per_A3 need the cell volume in A^3; got {volume}")
    electrons = float((p - t).mean()) * factor
    of = abs(float(t.mean())) * factor
    return ElectronError(electrons, math.copysign(_ratio(abs(electrons), of), electrons))


def measure(
    predicted: ArrayLike, true: ArrayLike, *, unit: str = "chgcar", volume: float | None = None
) -> Metrics:
    """All metrics of one material; ``unit`` and ``volume`` as :func:`electron_error` takes them."""
    p, t = _pair(predicted, true)
    electrons = electron_error(p, t, unit=unit, volume=volume)
    return Metrics(
        nmae(p, t),
        chi_square(p, t),
        hellinger(p, t),
        jensen_shannon(p, t),
        relative_mae(p, t),
        electrons.electrons,
        electrons.relative,
    )


def statistics(values: Iterable[float] | NDArray[np.floating]) -> Statistics:
    """Mean, median, 99th percentile and maximum of one metric over materials, each material counting once.

    Percentiles interpolate linearly between ranks, as ``numpy.percentile``. Infinity is a value like any
    other here: a material without density that was given some.

    Raises:
        ValueError: no values, or a NaN.
    """
    array = np.sort(
        np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64).ravel()
    )
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

    With the NMAE as v and \|electrons\| as w it is the per-electron mean: the absolute error of all materials together
    over all their electrons.

    Raises:
        ValueError: nothing to average, weights that are negative or sum to nothing, a NaN.
    """
    v, w = (
        np.asarray(x if isinstance(x, np.ndarray) else list(x), dtype=np.float64) for x in (values, weights)
    )
    if v.shape != w.shape or v.size == 0:
        raise ValueError(f"{v.size} values and {w.size} weights; give as many, at least one")
    if np.isnan(v).any() or not np.isfinite(w).all() or (w < 0.0).any() or not float(w.sum()) > 0.0:
        raise ValueError("values must be numbers; weights finite, not negative, and one above zero")
    return float((w[w > 0] * v[w > 0]).sum() / w.sum())


def _percentile(ascending: NDArray[np.float64], fraction: float) -> float:
    """``numpy.percentile`` without its NaN where a neighbour of the answer is infinite."""
    rank = fraction * (len(ascending) - 1)
    below = math.floor(rank)
    low = float(ascending[below])
    share = rank - below
    if share == 0.0:
        return low
    high = float(ascending[below + 1])
    return high if low == high else low + (high - low) * share


def _pair(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.asarray(predicted, dtype=np.float64)
    t = np.asarray(true, dtype=np.float64)
    if p.shape != t.shape:
        raise ValueError(
            f"the predicted density has shape {p.shape}, the true one {t.shape}; they must be equal"
        )
    if p.size == 0:
        raise ValueError(f"the densities have shape {p.shape}: there is nothing to compare")
    for name, values in (("predicted", p), ("true", t)):
        # The sum is finite unless a value is not, or values overflow it: both make the metrics meaningless.
        if not math.isfinite(float(np.abs(values).sum())):
            raise ValueError(f"the {name} density holds NaN, infinite or overflowing values")
    return p, t


def _distribution(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Non-negative values that sum to 1; None without mass."""
    positive = np.maximum(values, 0.0)
    total = float(positive.sum())
    if total == 0.0:
        return None
    return np.asarray(positive / total)


def _floor(true: NDArray[np.float64], eps: float) -> float:
    if not eps > 0.0:
        raise ValueError(f"eps {eps} must be positive")
    return eps * float(np.abs(true).mean())


def _ratio(error: float, of: float) -> float:
    if of == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / of
