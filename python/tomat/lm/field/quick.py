"""Statistics of a mixture of logistics without the probabilities of all levels; needs JAX.

The median is found by bisection of the cumulated distribution at the levels' edges, and is the level that
:func:`tomat.lm.decode.estimates.of_logits` finds up to rounding. Mean, spread and expected error are those of the
mixture itself, as if levels were infinitely fine: with ``u = (x - m) / s``, a logistic of place m and width s has the
variance ``(pi s)^2 / 3`` and the mean distance ``s (u + 2 log(1 + exp(-u)))`` from x.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from tomat.lm.decode.estimates import of_logits
from tomat.lm.field.answers import LEAST
from tomat.lm.loss import functions
from tomat.prediction.options import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.field.levels import Levels

type Statistics = dict[str, Callable[[], jax.Array]]


class Mixture(NamedTuple):
    """Mixtures of logistic distributions; all arrays are (..., components).

    Attributes:
        share: probability of each component.
        place: where it lies.
        log_width: logarithm of its width.
    """

    share: jax.Array
    place: jax.Array
    log_width: jax.Array


def of_mixture(mixture: Mixture, levels: Levels, x: jax.Array, drawn: jax.Array) -> Statistics:
    """Statistics (t,) of positions by name, computed when called.

    Args:
        mixture: (t, components).
        levels: of the codec.
        x: (t,) true values.
        drawn: (t,) uniform numbers.
    """
    points, edges = _tables(levels)
    share, place, width = mixture.share, mixture.place, jnp.exp(mixture.log_width)
    # Components far outside would rule the moments, though all their probability is in the last level.
    centre, most = jnp.clip(place, points[0], points[-1]), points[-1] - points[0]

    def below(at: jax.Array) -> jax.Array:
        return jnp.sum(share * jax.nn.sigmoid((at[..., None] - place) / width), axis=-1)

    def quantile(of: jax.Array | float) -> jax.Array:
        """The first level up to whose upper edge at least this probability lies."""
        first, last = jnp.zeros(x.shape, jnp.int32), jnp.full(x.shape, len(edges), jnp.int32)
        for _ in range(math.ceil(math.log2(len(edges) + 1))):
            middle = (first + last) // 2
            enough = below(edges[jnp.minimum(middle, len(edges) - 1)]) >= of
            first = jnp.where(enough | (first >= last), first, middle + 1)
            last = jnp.where(enough & (first < last), middle, last)
        return points[first]

    def mean() -> jax.Array:
        return jnp.sum(share * centre, axis=-1)

    def spread() -> jax.Array:
        square = centre**2 + (math.pi * jnp.minimum(width, most)) ** 2 / 3
        return jnp.sqrt(jnp.maximum(jnp.sum(share * square, axis=-1) - mean() ** 2, 0.0))

    def expected_error() -> jax.Array:
        s = jnp.minimum(width, most)
        u = (x[..., None] - centre) / s
        return jnp.sum(share * s * (u + 2 * jax.nn.softplus(-u)), axis=-1)

    def around_truth() -> tuple[jax.Array, jax.Array]:
        """The probability of less than the true level, and of it."""
        level = jnp.searchsorted(edges, x, side="right")
        upper = jnp.where(level < len(edges), below(edges[jnp.minimum(level, len(edges) - 1)]), 1.0)
        lower = jnp.where(level > 0, below(edges[jnp.maximum(level - 1, 0)]), 0.0)
        return lower, jnp.maximum(upper - lower, 0.0)

    def nats() -> jax.Array:
        return -jnp.log(around_truth()[1] + LEAST)

    def pit() -> jax.Array:
        less, same = around_truth()
        return less + 0.5 * same

    return {
        "median": lambda: quantile(0.5),
        "sample": lambda: quantile(drawn),
        "mean": mean,
        "spread": spread,
        "expected_error": expected_error,
        "nats": nats,
        "pit": pit,
    }


def quick_statistics(
    mixture: Mixture,
    levels: Levels,
    x: jax.Array,
    drawn: jax.Array,
    sampling: Sampling,
    wanted: tuple[str, ...],
) -> dict[str, jax.Array] | None:
    """What is wanted of positions, as :func:`of_mixture`; None if a statistic is not among these."""
    if "sample" in wanted and sampling != Sampling():
        return None
    found = of_mixture(mixture, levels, x, drawn)
    return {name: found[name]() for name in wanted} if set(wanted) <= found.keys() else None


def by_level(
    logits: jax.Array,
    levels: Levels,
    x: jax.Array,
    drawn: jax.Array,
    sampling: Sampling,
    wanted: tuple[str, ...],
) -> dict[str, jax.Array]:
    """What is wanted of positions with logits (t, levels), from the probabilities of all levels.

    See :meth:`tomat.lm.field.head.Head.statistics`.
    """
    points, edges = _tables(levels)
    z = logits.astype(jnp.float32)
    nats = functions.cross_entropy(z, jnp.searchsorted(edges, x, side="right"))
    found = {**of_logits(z, drawn, x, points, sampling)._asdict(), "nats": nats}
    # The compiler leaves out what is not returned.
    return {name: found[name] for name in wanted}


def _tables(levels: Levels) -> tuple[jax.Array, jax.Array]:
    """Levels (n,) and the edges between them (n - 1,), both ascending."""
    return jnp.asarray(levels.points, jnp.float32), jnp.asarray(levels.edges[1:-1], jnp.float32)
