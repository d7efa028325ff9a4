"""The losses and numbers again, from their definitions: float64, NumPy, one position at a time, no JAX."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.codec import Codec, LloydMaxCodec, LogCodec

type Floats = NDArray[np.float64]


def probabilities(logits: Floats) -> Floats:
    top = float(logits.max())
    weights = [math.exp(z - top) for z in logits.tolist()]
    return np.array(weights) / math.fsum(weights)


def log_normaliser(logits: Floats) -> float:
    top = float(logits.max())
    return top + math.log(math.fsum(math.exp(z - top) for z in logits.tolist()))


def cross_entropy(logits: Floats, target: int) -> float:
    return log_normaliser(logits) - float(logits[target])


@functools.cache
def ranges(codec: Codec) -> list[tuple[float, float, float]]:
    """Decoded value, lower and upper edge of the bins, ascending; edges as the format page defines them."""
    if isinstance(codec, LloydMaxCodec):
        edges = [codec.clip_min, *codec.boundaries.tolist(), max(codec.clip_max, float(codec.boundaries[-1]))]
        return list(zip(codec.recon_points.tolist(), edges[:-1], edges[1:], strict=True))
    assert isinstance(codec, LogCodec)
    half = codec.sizes[0] // 2
    step = (codec.log_max - codec.log_min) / (half - 1)

    def edge(n: int) -> float:
        return 0.0 if n == 0 else 10 ** (min(n, half - 1) * step + codec.log_min)

    positive = [(edge(n), edge(n), edge(n + 1)) for n in range(half)]
    return [(-c, -high, -low) for c, low, high in reversed(positive)] + positive


def bin_of_component(codec: Codec, component: int) -> int:
    """The place of a component among the ascending bins."""
    if isinstance(codec, LloydMaxCodec):
        return component
    half = codec.sizes[0] // 2
    return half + component if component < half else 2 * half - 1 - component


def centre(codec: Codec, value: float, target: int) -> float:
    """Fractional bin of a value."""
    n = codec.sizes[0]
    _, low, high = ranges(codec)[target]
    share = (value - low) / (high - low) if high > low else 0.5
    return min(max(target - 0.5 + min(max(share, 0.0), 1.0), 0.0), n - 1.0)


def gaussian(n: int, centre: float, sigma: float) -> Floats:
    nearest = min(abs(i - centre) for i in range(n))
    q = [math.exp(-((i - centre) ** 2 - nearest**2) / (2 * sigma**2)) for i in range(n)]
    return np.array(q) / math.fsum(q)


def kl_gaussian(logits: Floats, centre: float, sigma: float) -> float:
    q, lse = gaussian(len(logits), centre, sigma), log_normaliser(logits)
    return math.fsum(
        qi * (math.log(qi) - (z - lse)) for qi, z in zip(q.tolist(), logits.tolist(), strict=True) if qi > 0
    )


def crps(logits: Floats, value: float, points: Sequence[float]) -> float:
    """The integral, over all pieces between the c_i and the value."""
    p = probabilities(logits).tolist()
    knots = sorted({*points, value})
    total, cumulative, passed = [], 0.0, 0
    for left, right in itertools.pairwise(knots):
        while passed < len(points) and points[passed] <= left:
            cumulative += p[passed]
            passed += 1
        step = 1.0 if left + (right - left) / 2 >= value else 0.0
        total.append((cumulative - step) ** 2 * (right - left))
    return math.fsum(total)


def emd(logits: Floats, value: float, points: Sequence[float]) -> float:
    p = probabilities(logits).tolist()
    return math.fsum(pi * abs(c - value) for pi, c in zip(p, points, strict=True))


def mean(logits: Floats, points: Sequence[float]) -> float:
    return math.fsum(pi * c for pi, c in zip(probabilities(logits).tolist(), points, strict=True))


def expected_value_error(logits: Floats, value: float, points: Sequence[float]) -> float:
    return abs(mean(logits, points) - value)


def median(logits: Floats, points: Sequence[float]) -> float:
    total = 0.0
    for pi, c in zip(probabilities(logits).tolist(), points, strict=True):
        total += pi
        if total >= 0.5:
            return c
    return points[-1]


def mode(logits: Floats, points: Sequence[float]) -> float:
    return points[int(np.argmax(logits))]


def term(name: str, logits: Floats, target: int, value: float, codec: Any, sigma: float) -> float:
    """A loss of one position of a one-component codec; ``logits`` over ascending bins."""
    if name == "cross_entropy":
        return cross_entropy(logits, target)
    if name == "kl_gaussian":
        return kl_gaussian(logits, centre(codec, value, target), sigma)
    points = [c for c, _, _ in ranges(codec)]
    return {"crps": crps, "emd": emd, "expected_value_error": expected_value_error}[name](
        logits, value, points
    )
