"""Losses of single positions, as pure functions of their logits over the bins of a codec.

Arguments of all functions:

- ``logits``: [..., n] float32 over n bins in ascending order of value; p = softmax(logits).
- ``target``: [...] int32, the true bin; ``value``: [...] float32, the true density; ``points``: [n] float32, what the
  bins decode to, c_i. Densities are in the codec's unit, and so are ``crps``, ``emd`` and ``expected_value_error``;
  ``cross_entropy`` and ``kl_gaussian`` are in nats.

Each returns [...] float32. Formulas and what to choose: docs/losses.md.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def log_normaliser(logits: jax.Array) -> jax.Array:
    """ln sum_i exp(logits_i)."""
    return jax.nn.logsumexp(logits, axis=-1)


def pick(logits: jax.Array, target: jax.Array) -> jax.Array:
    """``logits[..., target]`` as a masked sum, which fuses with other operations and needs no scatter for gradients."""
    here = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == target[..., None]
    return jnp.sum(jnp.where(here, logits, 0.0), axis=-1)


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """-ln p_target."""
    return log_normaliser(logits) - pick(logits, target)


def fractional_bin(value: jax.Array, target: jax.Array, edges: jax.Array) -> jax.Array:
    """Position of a value in units of bins, where bin i extends from i - 1/2 to i + 1/2.

    u = i - 1/2 + (value - e_i) / (e_{i+1} - e_i) for bin i with edges e_i, e_{i+1}: continuous and monotone in the
    value, and closest to the centre of the value's own bin. It is clamped to [0, n - 1], the centres of the outer
    bins, and is i for a bin of zero width.
    """
    low, high = jnp.take(edges, target), jnp.take(edges, target + 1)
    width = high - low
    share = jnp.where(width > 0, (value - low) / jnp.where(width > 0, width, 1.0), 0.5)
    return jnp.clip(target - 0.5 + jnp.clip(share, 0.0, 1.0), 0.0, edges.shape[0] - 2.0)


def kl_gaussian(logits: jax.Array, centre: jax.Array, sigma: float) -> jax.Array:
    """KL(q || p) to a Gaussian discretised on the bins: q_i ~ exp(-(i - centre)^2 / (2 sigma^2)), sum q = 1.

    ``centre`` is :func:`fractional_bin` of the true value, ``sigma`` the width in bins. Zero where p is q; as sigma
    goes to 0 it becomes the cross-entropy.
    """
    i = jax.lax.broadcasted_iota(jnp.float32, logits.shape, logits.ndim - 1)
    log_q = jax.nn.log_softmax(-0.5 * jnp.square((i - centre[..., None]) / sigma), axis=-1)
    # sum q = 1, so that the normaliser of p stands outside the sum: no difference of two large numbers a bin.
    return jnp.sum(jnp.exp(log_q) * (log_q - logits), axis=-1) + log_normaliser(logits)


def crps(logits: jax.Array, value: jax.Array, points: jax.Array) -> jax.Array:
    """Continuous ranked probability score: the integral over x of (F(x) - [x >= value])^2.

    F(x) = sum of p_i with c_i <= x is a staircase, so the integral is a sum over the steps, exact for the discrete
    distribution; it equals E|X - value| - E|X - X'| / 2 (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007)).
    """
    p = jax.nn.softmax(logits, axis=-1)
    below = jnp.cumsum(p, axis=-1)[..., :-1]
    width = points[1:] - points[:-1]
    left = jnp.clip(value[..., None] - points[:-1], 0.0, width)
    inside = jnp.sum(jnp.square(below) * left + jnp.square(1.0 - below) * (width - left), axis=-1)
    return inside + jax.nn.relu(points[0] - value) + jax.nn.relu(value - points[-1])


def emd(logits: jax.Array, value: jax.Array, points: jax.Array) -> jax.Array:
    """Expected |c - value|: the earth mover's distance between p and the true value."""
    p = jax.nn.softmax(logits, axis=-1)
    return jnp.sum(p * jnp.abs(points - value[..., None]), axis=-1)


def pit(logits: jax.Array, value: jax.Array, points: jax.Array) -> jax.Array:
    """Probability integral transform: the probability of less than the value, half of its own level included.

    Uniform on [0, 1] if the distributions are right (Dawid, J. R. Stat. Soc. A 147, 278 (1984)).
    """
    p = jax.nn.softmax(logits, axis=-1)
    low = jnp.sum(
        value[..., None] > (points[1:] + points[:-1]) / 2, axis=-1
    )  # of the level nearest to the value
    i = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
    share = jnp.where(i < low[..., None], 1.0, jnp.where(i == low[..., None], 0.5, 0.0))
    return jnp.sum(p * share, axis=-1)


def expected_value_error(logits: jax.Array, value: jax.Array, points: jax.Array) -> jax.Array:
    """|E[c] - value|: the absolute error of the mean of p."""
    return jnp.abs(mean(logits, points) - value)


def mean(logits: jax.Array, points: jax.Array) -> jax.Array:
    """The mean of p, which minimises the squared error."""
    return jnp.sum(jax.nn.softmax(logits, axis=-1) * points, axis=-1)


def median_bin(logits: jax.Array) -> jax.Array:
    """The first bin i with F(c_i) >= 1/2."""
    below = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1)
    # F of the last bin is 1 up to rounding, so it is not counted.
    return jnp.sum(below[..., :-1] < 0.5, axis=-1)


def median(logits: jax.Array, points: jax.Array) -> jax.Array:
    """The lower median of p, the point of :func:`median_bin`, which minimises the absolute error."""
    return jnp.take(points, median_bin(logits))


def mode(logits: jax.Array, points: jax.Array) -> jax.Array:
    """The most probable c_i; the first in a tie."""
    return jnp.take(points, jnp.argmax(logits, axis=-1))
