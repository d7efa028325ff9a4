"""Tails: bins beyond the values a codec was fitted to, so that nothing physical is clipped.

Other densities exceed those of the sketch: harder pseudopotentials, all-electron files, voxels below zero. A tail uses
a few bins for them, with a constant ratio of neighbouring edges, so that the relative error is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Default: one bin in this many belongs to the tail, which raises the floor of the fitted bins by 1.6 %.
_SHARE = 64
#: In a signed codec, one bin of the tail in this many lies below zero, where values are rare.
_SHARE_BELOW = 8
#: Start of a tail below zero as a share of its end, if the sketch has no negative values.
_BEGIN_BELOW = 1e-3
#: Decimal arithmetic gives the same result on every machine; exp and log of C libraries do not.
_EXACT = Context(prec=30)


@dataclass(frozen=True)
class Tail:
    """The range of a codec beyond its sketch, and the bins used for it.

    Attributes:
        max: largest value, in the unit of the sketch.
        min: smallest value, below zero in a signed codec; 0 for no tail below zero.
        bins: number of the codec's bins in the tail, on both sides together; one in 64 if None.
    """

    max: float
    min: float = 0.0
    bins: int | None = None

    def __post_init__(self) -> None:
        if not (0.0 < self.max < np.finfo(np.float32).max and np.finfo(np.float32).min < self.min <= 0.0):
            raise ValueError(f"a tail from {self.min:g} to {self.max:g}: give max > 0 and min <= 0")
        if self.bins is not None and self.bins < (2 if self.min < 0.0 else 1):
            raise ValueError(
                f"{self.bins} bins for a tail; give at least one above, and one below if it reaches there"
            )

    def shares(self, bins: int) -> tuple[int, int]:
        """Number of bins below and above, in a codec of ``bins``."""
        least = 2 if self.min < 0.0 else 1
        own = max(bins // _SHARE, least) if self.bins is None else self.bins
        if own >= bins:
            raise ValueError(f"a tail of {own} bins leaves none of {bins} for the densities; take fewer")
        below = max(own // _SHARE_BELOW, 1) if self.min < 0.0 else 0
        return below, own - below

    def beside(self, fitted: dict[str, Any], below: int, above: int) -> dict[str, Any]:
        """Add the boundaries and points of the tail to a fit.

        Args:
            fitted: ``boundaries``, ``recon_points_mean``, ``recon_points_median``, ``clip_min`` and ``clip_max``.
            below: number of bins below ``clip_min``.
            above: number of bins above ``clip_max``.
        """
        fitted, more = self._without_sparse_end(fitted, above)
        above += more
        inner = fitted["boundaries"]
        top = float(max([fitted["clip_max"], *inner[-1:]]))
        bottom = float(min([fitted["clip_min"], *inner[:1], 0.0]))
        if top >= self.max or (below and bottom <= self.min):
            raise ValueError(
                f"the densities reach from {bottom:g} to {top:g}, the tail ends at {self.min:g} and {self.max:g}; "
                "give it a longer range"
            )
        # The largest value of the sketch stays in its fitted bin.
        above_top = float(np.nextafter(np.float32(max(top, 1e-30)), np.float32(np.inf)))
        over, over_points = _ratios(above_top, self.max, above)
        parts, points = [inner, over], [over_points]
        left: list[NDArray[np.float32]] = []
        if below:
            under, under_points = _ratios(
                -bottom if bottom < 0.0 else -self.min * _BEGIN_BELOW, -self.min, below
            )
            parts.insert(0, -under[::-1])
            left = [-under_points[::-1]]
        boundaries = np.concatenate(parts).astype(np.float32)
        if not (np.diff(boundaries) > 0.0).all():
            raise ValueError(f"a tail of {below} and {above} bins is finer than float32 numbers; take fewer")
        found = {**fitted, "boundaries": boundaries, "clip_max": self.max}
        ends = {"max": self.max, "min": self.min, "from": top}
        found["tail"] = {**ends, "bins_above": above, "bins_below": below}
        for name in ("recon_points_mean", "recon_points_median"):
            found[name] = np.concatenate([*left, fitted[name], *points]).astype(np.float32)
        if below:
            found["clip_min"] = self.min
        return found

    def _without_sparse_end(self, fitted: dict[str, Any], above: int) -> tuple[dict[str, Any], int]:
        """The fit without the bins at its upper end that are wider than those of the tail, and their number.

        The largest values of a sketch come from few voxels, so that bins there leave gaps.
        """
        inner = fitted["boundaries"].astype(np.float64)
        half = len(inner) // 2
        if half < 1 or inner[half] <= 0.0 or max(inner[-1], fitted["clip_max"]) >= self.max:
            return fitted, 0
        ratio = (self.max / inner[-1]) ** (1.0 / above)
        wide = np.flatnonzero(inner[half + 1 :] > ratio * inner[half:-1])
        if not len(wide):
            return fitted, 0
        keep = half + int(wide[0]) + 1  # boundaries; the last one ends the last bin kept
        shorter = {
            **fitted,
            "boundaries": fitted["boundaries"][: keep - 1],
            "clip_max": float(np.nextafter(fitted["boundaries"][keep - 1], np.float32(0.0))),
        }
        for name in ("recon_points_mean", "recon_points_median"):
            shorter[name] = fitted[name][:keep]
        return shorter, len(fitted["recon_points_mean"]) - keep


def _ratios(near: float, far: float, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The nearer edges of ``n`` bins of equal ratio from ``near`` to ``far``, and the geometric mean of each bin."""
    first = Decimal(near)
    step = _EXACT.divide(_EXACT.ln(_EXACT.divide(Decimal(far), first)), Decimal(2 * n))
    marks = [_EXACT.multiply(first, _EXACT.exp(_EXACT.multiply(step, Decimal(i)))) for i in range(2 * n)]
    values = np.array([float(mark) for mark in marks], dtype=np.float64).astype(np.float32)
    return values[0::2], values[1::2]
