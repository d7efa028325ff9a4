"""Power laws through a few points, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Level of the intervals.
LEVEL = 0.95


@dataclass(frozen=True)
class PowerLaw:
    """``y = a x^b``, fitted as a straight line of the logarithms; the ends of an interval are None if it has none.

    Attributes:
        name: of the points.
        x: what they are drawn against.
        y: what is drawn: ``nmae`` or ``bits_per_voxel``.
        n: number of points.
        factor: a.
        exponent: b: ``value``, ``low``, ``high``.
        at: where it was extrapolated to, or None.
        predicted: y there: ``value``, ``low``, ``high``; or None.
    """

    name: str
    x: str
    y: str
    n: int
    factor: float
    exponent: dict[str, float | None]
    at: float | None
    predicted: dict[str, float | None] | None


def fit_power_law(
    name: str,
    x: str,
    places: ArrayLike,
    values: ArrayLike,
    drawn: NDArray[np.float64] | None = None,
    *,
    y: str = "nmae",
    at: float | None = None,
) -> PowerLaw:
    """Fit a power law by least squares of the logarithms.

    Intervals have two sources. That of the residuals is Student's t of the regression (A. C. Davison, Statistical
    Models, section 8.2, Cambridge 2003); ``drawn`` adds what other materials would have given. Squares of their half
    widths are added up.

    Args:
        name, x, y: kept.
        places: (n,) above 0, of two values at least.
        values: (n,) above 0.
        drawn: (resamples, n) the values of resampled materials, or None.
        at: where to extrapolate to.

    Raises:
        ValueError: fewer than two places, or numbers not above 0.
    """
    u, v = (np.asarray(array, np.float64) for array in (places, values))
    if u.shape != v.shape or u.ndim != 1 or len(set(u.tolist())) < 2:
        raise ValueError(f"{name}: {u.shape} places for {v.shape} values; give two different ones at least")
    if not (np.isfinite(u) & np.isfinite(v) & (u > 0) & (v > 0)).all():
        raise ValueError(f"{name}: a power law needs numbers above 0")
    log_u, log_v = np.log(u), np.log(v)
    middle = log_u.mean()
    slope, level = _line(log_u - middle, log_v)
    around = None if drawn is None else _line(log_u - middle, np.log(drawn))
    free = len(u) - 2
    residual = log_v - level - slope * (log_u - middle)
    variance = float(residual @ residual) / free if free else None
    spread = float(((log_u - middle) ** 2).sum())

    def interval(value: float, scale: float, samples: NDArray[np.float64] | None) -> tuple[Any, Any]:
        """Ends of ``value``, whose variance by the residuals is theirs times ``scale``."""
        if variance is None and samples is None:
            return None, None
        half = 0.0 if variance is None else stats.t.ppf(0.5 + LEVEL / 2, free) * np.sqrt(variance * scale)
        if samples is not None:
            half = np.hypot(half, stats.norm.ppf(0.5 + LEVEL / 2) * samples.std(ddof=1))
        return value - float(half), value + float(half)

    low, high = interval(float(slope), 1 / spread, None if around is None else around[0])
    exponent = {"value": float(slope), "low": low, "high": high}
    predicted = None
    if at is not None:
        far = np.log(at) - middle
        value = float(level + slope * far)
        of = None if around is None else around[1] + around[0] * far
        low, high = interval(value, 1 / len(u) + far**2 / spread, of)
        ends = {"low": low, "high": high}
        predicted = {
            "value": float(np.exp(value)),
            **{end: None if log is None else float(np.exp(log)) for end, log in ends.items()},
        }
    factor = float(np.exp(level - slope * middle))
    return PowerLaw(name, x, y, len(u), factor, exponent, at, predicted)


def _line(u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[Any, Any]:
    """Slope and level at u = 0 of the line through (u, v), u of mean 0; ``v`` may be (..., n)."""
    return (v @ u) / (u @ u), v.mean(axis=-1)
