"""Weights as small integers times a scale a row: to the nearest, or by GPTQ; NumPy only.

Rows are the output channels of a linear map, columns its inputs. Integers go from -(2^(bits - 1) - 1) to
2^(bits - 1) - 1, so that zero is exact. Scales have the precision of bfloat16, as they are stored.

GPTQ (Frantar et al. 2022, arXiv 2210.17323) rounds column after column, and moves the columns that are left so that
they make up for the error on the inputs seen: with H = X^T X of inputs X (n, columns), the error of a row e of weights
on all inputs is e H e^T. With U the upper Cholesky factor of the inverse of H, rounding column j off by d costs
(d / U_jj)^2 and moves the others by -d U_j / U_jj. Columns are taken by falling H_jj, and H is damped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Doubles = NDArray[np.float64]

#: Numbers of bits that weights may have.
BITS = range(2, 9)
#: Share of the mean of H's diagonal that is added to it.
DAMPING = 0.01
#: Scales that are tried, as shares of the one that holds the largest weight of the row.
_RATIOS = np.linspace(1.0, 0.4, 49)
#: Columns whose effect on those behind them is added up before it is applied.
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Rounded:
    """A quantised matrix.

    Attributes:
        integers: (rows, columns).
        scales: (rows,) float32 with the precision of bfloat16, not negative.
        bits: of the integers.
    """

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    bits: int

    @property
    def weights(self) -> NDArray[np.float32]:
        """(rows, columns); exact, since integer and scale have 15 bits together."""
        return self.integers.astype(np.float32) * self.scales[:, None]


def as_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers with 8 significant bits, ties to even."""
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = raw + np.uint32(0x7FFF) + (raw >> np.uint32(16) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def nearest(weights: NDArray[np.float32], bits: int) -> Rounded:
    """Round to the nearest, with the scales of least squared error; needs no data.

    Raises:
        ValueError: ``bits`` not in :data:`BITS`, or weights that are not finite.
    """
    exact = _checked(weights, bits)
    scales = _scales(exact, bits, np.ones(exact.shape[1]))
    return Rounded(_integers(exact, scales, bits), scales, bits)


def gptq(weights: NDArray[np.float32], hessian: Doubles, bits: int, *, damping: float = DAMPING) -> Rounded:
    """Round by GPTQ. A row that this makes worse on the inputs seen is rounded to the nearest.

    Args:
        weights: (rows, columns).
        hessian: (columns, columns), sum over inputs of their outer products.
        bits: of the integers.
        damping: see :data:`DAMPING`.

    Raises:
        ValueError: ``bits`` not in :data:`BITS`, weights or Hessian that are not finite, or of another shape.
    """
    exact, simple = _checked(weights, bits), nearest(weights, bits)
    columns = exact.shape[1]
    if hessian.shape != (columns, columns) or not np.isfinite(hessian).all():
        raise ValueError(f"a Hessian of shape {hessian.shape} is not finite, or not one of {columns} inputs")
    if not hessian.any():
        return simple
    order = np.argsort(-hessian.diagonal(), kind="stable")
    upper = _factor(hessian[np.ix_(order, order)], damping)
    scales = _scales(exact[:, order], bits, upper.diagonal() ** -2.0)
    integers = np.empty(exact.shape, np.int8)
    integers[:, order] = _fed_back(exact[:, order], upper, scales, bits)
    found = Rounded(integers, scales, bits)
    worse = errors(exact, found, hessian) > errors(exact, simple, hessian)
    integers[worse], scales[worse] = simple.integers[worse], simple.scales[worse]
    return found


def errors(weights: NDArray[np.floating], rounded: Rounded, hessian: Doubles) -> Doubles:
    """Squared error (rows,) of the outputs, summed over the inputs of a Hessian."""
    off = weights.astype(np.float64) - rounded.weights
    return np.asarray(((off @ hessian) * off).sum(axis=1))


def _checked(weights: NDArray[np.float32], bits: int) -> Doubles:
    if bits not in BITS:
        raise ValueError(f"{bits} bits: weights are rounded to {BITS[0]} to {BITS[-1]} bits")
    if weights.ndim != 2 or not np.isfinite(weights).all():
        raise ValueError("only finite matrices can be rounded")
    return weights.astype(np.float64)


def _factor(hessian: Doubles, damping: float) -> Doubles:
    """The upper Cholesky factor of the inverse of a damped Hessian."""
    damped = hessian + damping * hessian.diagonal().mean() * np.eye(len(hessian))
    inverse = np.linalg.inv(damped)
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)


def _scales(weights: Doubles, bits: int, importance: Doubles) -> NDArray[np.float32]:
    """Scales (rows,) of the least squared error, columns weighted; clipping a few weights is often worth it."""
    most = (1 << (bits - 1)) - 1
    largest = np.abs(weights).max(axis=1, initial=0.0) / most
    best, found = np.full(len(weights), np.inf), np.zeros(len(weights), np.float32)
    for ratio in _RATIOS:
        scales = as_bfloat16((largest * ratio).astype(np.float32))
        off = weights - _integers(weights, scales, bits) * scales[:, None].astype(np.float64)
        error = np.square(off) @ importance
        better = error < best
        best[better], found[better] = error[better], scales[better]
    return found


def _integers(weights: Doubles, scales: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    most = (1 << (bits - 1)) - 1
    # A row of zeros has the scale zero.
    safe = np.where(scales > 0, scales, np.float32(1)).astype(np.float64)
    return np.clip(np.rint(weights / safe[:, None]), -most, most).astype(np.int8)


def _fed_back(weights: Doubles, upper: Doubles, scales: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    """The integers of GPTQ; columns in their order."""
    left, found = weights.copy(), np.empty(weights.shape, np.int8)
    exact = scales.astype(np.float64)
    for first in range(0, weights.shape[1], _BLOCK):
        block = slice(first, min(first + _BLOCK, weights.shape[1]))
        moved = np.empty((len(weights), block.stop - first))
        for j in range(first, block.stop):
            found[:, j] = _integers(left[:, j : j + 1], scales, bits)[:, 0]
            off = (left[:, j] - found[:, j] * exact) / upper[j, j]
            left[:, j : block.stop] -= off[:, None] * upper[j, j : block.stop]
            moved[:, j - first] = off
        left[:, block.stop :] -= moved @ upper[block, block.stop :]
    return found
