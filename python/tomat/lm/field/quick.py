"""Statistics of a mixture of logistics without the probabilities of all levels; needs JAX.

The median is found by bisection of the cumulated distribution at the levels' edges, and is the level that
:func:`tomat.lm.decode.estimates.of_logits` finds up to rounding. Mean, spread and expected error are those of the
mixture itself, as if levels were infinitely fine: with ``u = (x - m) / s``, a logistic of place m and width s has the
variance ``(pi s)^2 / 3`` and the mean distance ``s (u + 2 log(1 + exp(-u)))`` from x.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tomat.lm.decode.estimates import Sampling
from tomat.lm.field.head import LEAST, MOST_LOG_WIDTH, LogisticHead

if TYPE_CHECKING:
    from collections.abc import Callable

type Statistics = dict[str, Callable[[], jax.Array]]


def of_mixture(
    head: LogisticHead,
    activations: jax.Array,
    x: jax.Array,
    drawn: jax.Array,
    tables: tuple[jax.Array, jax.Array],
) -> Statistics:
    """Statistics (t,) of positions by name, computed when called.

    Args:
        head: the head.
        activations: (t, width).
        x: (t,) true values.
        drawn: (t,) uniform numbers.
        tables: levels (n,) and the edges between them (n - 1,), both ascending.
    """
    levels, edges = tables
    out = activations @ head.weight + head.bias
    share, place, log_width = jnp.split(out.astype(jnp.float32), 3, axis=-1)
    share = jax.nn.softmax(share, axis=-1)
    width = jnp.exp(jnp.clip(log_width, -MOST_LOG_WIDTH, MOST_LOG_WIDTH))
    # Components far outside would rule the moments, though all their probability is in the last level.
    centre, most = jnp.clip(place, levels[0], levels[-1]), levels[-1] - levels[0]

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
        return levels[first]

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


#: Statistics by the type of a head; others are computed level by level.
QUICK: dict[type, Callable[..., Statistics]] = {LogisticHead: of_mixture}


def quick_statistics(
    head: Any,
    activations: jax.Array,
    x: jax.Array,
    drawn: jax.Array,
    tables: tuple[jax.Array, jax.Array],
    sampling: Sampling,
    wanted: tuple[str, ...],
) -> dict[str, jax.Array] | None:
    """What is wanted of positions, as :func:`of_mixture`; None if the head or a statistic is not among these."""
    make = QUICK.get(type(head))
    if make is None or ("sample" in wanted and sampling != Sampling()):
        return None
    found = make(head, activations, x, drawn, tables)
    return {name: found[name]() for name in wanted} if set(wanted) <= found.keys() else None
