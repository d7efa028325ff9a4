"""Bootstrap intervals of means and quantiles over materials, resampled singly or by chemical system.

B. Efron, Ann. Statist. 7, 1 (1979); percentile intervals. Materials of one chemical system are not independent of
each other (polymorphs, strained copies): where clusters are given, whole clusters are drawn, each with all of its
materials (A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, section 3.8, Cambridge 1997).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Default number of resamples.
RESAMPLES = 2000
#: Default confidence level.
LEVEL = 0.95
#: Numbers held at a time while resampling.
_AT_A_TIME = 1 << 22


class Interval(NamedTuple):
    """A statistic and the ends of its interval; the ends are None with fewer than two resampling units."""

    value: float
    low: float | None
    high: float | None


class Resampler:
    """Resamples of ``n`` materials. Every statistic uses the same ones, so differences are paired.

    Args:
        n: number of materials.
        clusters: (n,) names; materials with the same name are drawn together. None draws each material singly.
        resamples: number of resamples.
        level: confidence level.
        seed: of the random draws.
    """

    def __init__(
        self,
        n: int,
        clusters: Sequence[Hashable] | None = None,
        *,
        resamples: int = RESAMPLES,
        level: float = LEVEL,
        seed: int = 0,
    ) -> None:
        if n < 1:
            raise ValueError("no materials to resample")
        if not 0.0 < level < 1.0:
            raise ValueError(f"level = {level} must be between 0 and 1, such as 0.95")
        if resamples < 10:
            raise ValueError(f"resamples = {resamples} must be at least 10")
        if clusters is not None and len(clusters) != n:
            raise ValueError(f"{len(clusters)} clusters for {n} materials; give one name per material")
        numbers: dict[Hashable, int] = {}
        names = range(n) if clusters is None else clusters
        self.level, self.resamples = level, resamples
        self._unit = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
        self.n_units = len(numbers)
        counts = np.random.default_rng(seed).multinomial(
            self.n_units, np.full(self.n_units, 1.0 / self.n_units), size=resamples
        )
        self._counts = counts.astype(np.uint32)

    def mean(self, values: ArrayLike, weights: ArrayLike | None = None) -> Interval:
        """The weighted mean sum(w v) / sum(w).

        Args:
            values: (n,) finite.
            weights: (n,) not negative; None is all 1. Materials of weight 0 are left out.
        """
        v, w = self._checked(values), self._weights(weights)
        total = float(w.sum())
        if not total > 0.0:
            raise ValueError("all weights are 0: there is no mean")
        value = float((w * v).sum() / total)
        return self.interval(value, self.means(v[:, None], w)[:, 0], w)

    def means(self, values: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
        """The weighted mean of each column in each resample; NaN if only materials of weight 0 were drawn.

        Args:
            values: (n, m) finite.
            weights: as :meth:`mean` takes them.

        Returns:
            (resamples, m).

        Raises:
            ValueError: arrays of another length, values that are not finite.
        """
        w = self._weights(weights)
        columns = [w, *(w * self._checked(column) for column in np.asarray(values, dtype=np.float64).T)]
        units = np.stack([np.bincount(self._unit, column, self.n_units) for column in columns], axis=1)
        sums = np.concatenate([chunk @ units for chunk in self._chunks()])
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[:, 1:] / sums[:, :1])

    def interval(
        self, value: float, drawn: NDArray[np.float64], weights: ArrayLike | None = None
    ) -> Interval:
        """The interval of a statistic, from its value (or NaN) in each resample; ``weights`` as :meth:`mean`."""
        if np.count_nonzero(np.bincount(self._unit, self._weights(weights), self.n_units)) < 2:
            return Interval(value, None, None)
        return self._interval(value, drawn[~np.isnan(drawn)])

    def quantile(self, values: ArrayLike, fraction: float) -> Interval:
        """A quantile, interpolated linearly between ranks as in :func:`tomat.metrics.statistics`."""
        v = self._checked(values)
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"fraction = {fraction} must be from 0 to 1")
        value = float(np.quantile(v, fraction))
        if self.n_units < 2:
            return Interval(value, None, None)
        order = np.argsort(v, kind="stable")
        ascending, unit = v[order], self._unit[order]
        found = []
        for chunk in self._chunks(len(v)):
            ends = np.cumsum(chunk[:, unit], axis=1)
            rank = fraction * (ends[:, -1] - 1.0)
            below = np.floor(rank)
            places = [
                (ends <= r[:, None]).sum(axis=1) for r in (below, np.minimum(below + 1, ends[:, -1] - 1))
            ]
            low, high = ascending[places[0]], ascending[places[1]]
            found.append(low + (high - low) * (rank - below))
        return self._interval(value, np.concatenate(found))

    def _chunks(self, width: int | None = None) -> Iterator[NDArray[np.float64]]:
        """Counts of each unit, some resamples at a time."""
        step = max(1, _AT_A_TIME // max(self.n_units, width or 0))
        for start in range(0, len(self._counts), step):
            yield self._counts[start : start + step].astype(np.float64)

    def _interval(self, value: float, drawn: NDArray[np.float64]) -> Interval:
        tail = 0.5 * (1.0 - self.level)
        low, high = np.quantile(drawn, [tail, 1.0 - tail])
        return Interval(value, float(low), float(high))

    def _checked(self, values: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != self._unit.shape:
            raise ValueError(f"values of shape {array.shape} for {len(self._unit)} materials")
        if not np.isfinite(array).all():
            raise ValueError("all values must be finite")
        return array

    def _weights(self, weights: ArrayLike | None) -> NDArray[np.float64]:
        array = np.ones(len(self._unit)) if weights is None else self._checked(weights)
        if (array < 0.0).any():
            raise ValueError("weights must not be negative")
        return array
