"""What the outputs of a head say of points: the statistics of :mod:`tomat.lm.field.head` and
:mod:`tomat.lm.field.quick` in NumPy, for predictions without JAX.

Outputs are those of the last layer (:class:`tomat._core.Readout`), float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tomat import _core
from tomat.prediction.options import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.lm.field.levels import Levels

    type Floats = NDArray[np.float32]

#: Largest logarithm of a logistic's width, or of its inverse: further out, products overflow.
MOST_LOG_WIDTH = 9.0
#: Added to the probability of every level of a mixture.
LEAST = 1e-9
#: The density of x at the start falls as (1 + |x| / width)^-power, close to that of fitted promolecules.
_WIDTH, _POWER = 0.5, 2.5
#: Probability of level 0 at the start.
_AT_ZERO = 0.02


def start_logits(levels: Levels) -> Floats:
    """Logits (n,) of a distribution around level 0, half of it below and half above, so that 0 is the median."""
    points = levels.points
    p = np.diff(levels.edges) * (1 + np.abs(points) / _WIDTH) ** -_POWER
    sides = [side for side in (points < 0, points > 0) if side.any()]
    for side in sides:
        p[side] *= 0.5 * (1 - _AT_ZERO) / p[side].sum()
    p[points == 0] = _AT_ZERO
    return np.log(np.maximum(p, 1e-12)).astype(np.float32)


class Answer(Protocol):
    """Statistics (t,) of points from the outputs (t, n) of a head; only what is wanted is computed.

    Arguments are as in :meth:`tomat.lm.field.head.Head.statistics`, for its names but ``nats``.
    """

    def __call__(  # noqa: D102
        self,
        outputs: Floats,
        levels: Levels,
        x: Floats,
        drawn: Floats,
        sampling: Sampling,
        wanted: tuple[str, ...],
    ) -> dict[str, Floats]: ...


def of_categorical(
    outputs: Floats, levels: Levels, x: Floats, drawn: Floats, sampling: Sampling, wanted: tuple[str, ...]
) -> dict[str, Floats]:
    """Of the probabilities of all levels: ``outputs`` are added to the logits of the start."""
    return _by_level(outputs + start_logits(levels), levels, x, drawn, sampling, wanted)


def of_logistics(
    outputs: Floats, levels: Levels, x: Floats, drawn: Floats, sampling: Sampling, wanted: tuple[str, ...]
) -> dict[str, Floats]:
    """Of mixtures of logistics: ``outputs`` are logits of shares, places and logarithms of widths."""
    share, place, log_width = np.split(outputs, 3, axis=-1)
    width = np.exp(np.clip(log_width, -MOST_LOG_WIDTH, MOST_LOG_WIDTH))
    mixture = _Mixture(_softmax(share), np.ascontiguousarray(place), width)
    found = _of_mixture(mixture, levels, x, drawn)
    if set(wanted) <= found.keys() and ("sample" not in wanted or sampling == Sampling()):
        return {name: found[name]() for name in wanted}
    below = mixture.below(levels.edges[1:-1].astype(np.float32))
    p = np.diff(below, axis=-1, prepend=np.float32(0), append=np.float32(1))
    return _by_level(np.log(np.maximum(p, 0) + np.float32(LEAST)), levels, x, drawn, sampling, wanted)


#: By the name of the head.
ANSWERS: dict[str, Answer] = {"categorical": of_categorical, "logistics": of_logistics}


class _Mixture(NamedTuple):
    """Mixtures of logistic distributions, (t, components) each."""

    share: Floats
    place: Floats
    width: Floats

    def below(self, edges: Floats) -> Floats:
        """Probabilities (t, n) of less than each edge (n,), or (t, 1) of an edge (t, 1) each."""
        total: Floats = np.zeros((), np.float32)
        for share, place, width in zip(self.share.T, self.place.T, self.width.T, strict=True):
            with np.errstate(over="ignore"):  # exp(-u) beyond float32: a probability of 0
                u = (edges - place[:, None]) / width[:, None]
                total = total + share[:, None] / (1 + np.exp(-u))
        return total


def _of_mixture(
    mixture: _Mixture, levels: Levels, x: Floats, drawn: Floats
) -> dict[str, Callable[[], Floats]]:
    """As :func:`tomat.lm.field.quick.of_mixture`."""
    points, edges = levels.points.astype(np.float32), levels.edges[1:-1].astype(np.float32)
    share, place, width = mixture
    centre, most = np.clip(place, points[0], points[-1]), points[-1] - points[0]

    def quantile(of: Floats) -> Floats:
        return points[_core.quantiles(share, place, width, edges, of)]

    def mean() -> Floats:
        return np.asarray((share * centre).sum(axis=-1))

    def spread() -> Floats:
        square = centre**2 + (math.pi * np.minimum(width, most)) ** 2 / 3
        return np.asarray(np.sqrt(np.maximum((share * square).sum(axis=-1) - mean() ** 2, 0)))

    def expected_error() -> Floats:
        s = np.minimum(width, most)
        u = (x[:, None] - centre) / s
        return np.asarray((share * s * (u + 2 * np.logaddexp(0, -u))).sum(axis=-1), np.float32)

    def pit() -> Floats:
        level = np.searchsorted(edges, x, side="right")
        upper = mixture.below(edges[np.minimum(level, len(edges) - 1)][:, None])[:, 0]
        lower = mixture.below(edges[np.maximum(level - 1, 0)][:, None])[:, 0]
        less = np.where(level > 0, lower, 0)
        same = np.maximum(np.where(level < len(edges), upper, 1) - less, 0)
        return np.asarray(less + 0.5 * same, np.float32)

    return {
        "median": lambda: quantile(np.full(len(share), 0.5, np.float32)),
        "sample": lambda: quantile(drawn),
        "mean": mean,
        "spread": spread,
        "expected_error": expected_error,
        "pit": pit,
    }


def _by_level(
    logits: Floats, levels: Levels, x: Floats, drawn: Floats, sampling: Sampling, wanted: tuple[str, ...]
) -> dict[str, Floats]:
    """As :func:`tomat.lm.decode.estimates.of_logits`."""
    points, p = levels.points.astype(np.float32), _softmax(logits)

    def mean() -> Floats:
        return np.asarray((p * points).sum(axis=-1))

    def spread() -> Floats:
        return np.sqrt((p * np.square(points - mean()[:, None])).sum(axis=-1))

    def median() -> Floats:
        return points[(p.cumsum(axis=-1)[:, :-1] < 0.5).sum(axis=-1)]

    def pit() -> Floats:
        level = (x[:, None] > (points[1:] + points[:-1]) / 2).sum(axis=-1)
        place = np.arange(len(points))
        share = np.where(place < level[:, None], 1.0, np.where(place == level[:, None], 0.5, 0.0))
        return np.asarray((p * share).sum(axis=-1), np.float32)

    found: dict[str, Callable[[], Floats]] = {
        "median": median,
        "mean": mean,
        "mode": lambda: points[logits.argmax(axis=-1)],
        "sample": lambda: points[_draw(logits, drawn, sampling)],
        "spread": spread,
        "expected_error": lambda: np.asarray((p * np.abs(points - x[:, None])).sum(axis=-1)),
        "pit": pit,
    }
    return {name: found[name]() for name in wanted}


def _draw(logits: Floats, drawn: Floats, sampling: Sampling) -> NDArray[np.intp]:
    """Index of the level whose part of [0, 1) contains ``drawn``."""
    if sampling.temperature == 0:
        return logits.argmax(axis=-1)
    p = _softmax(logits / np.float32(sampling.temperature))
    if sampling.nucleus < 1:
        high = -np.sort(-p, axis=-1)
        before = high.cumsum(axis=-1) - high
        least = np.where(before < sampling.nucleus, high, 2).min(axis=-1, keepdims=True)
        p = np.where(p >= least, p, 0)
    below = p.cumsum(axis=-1)
    place = (below <= drawn[:, None] * below[:, -1:]).sum(axis=-1)
    # Rounding may carry a draw past the last level of nonzero probability.
    last = logits.shape[-1] - 1 - (p > 0)[:, ::-1].argmax(axis=-1)
    return np.asarray(np.minimum(place, last))


def _softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))
