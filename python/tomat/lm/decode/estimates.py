"""Statistics of a distribution over density tokens: point estimates, spread, confidence; needs JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from tomat.lm.loss import blocks, functions

if TYPE_CHECKING:
    from tomat.lm.loss import DensityTargets
    from tomat.prediction.options import Sampling


class Estimates(NamedTuple):
    """Statistics of positions; all arrays have one shape, densities are in the codec's unit.

    Attributes:
        median, mean, mode: of the distribution (lower median, mean, most probable value).
        sample: a random draw.
        spread: standard deviation.
        expected_error: mean of \\|density - truth\\| over the distribution; 0 without a truth.
        pit: probability of less than the truth, half of its own token included; see
            :func:`tomat.lm.loss.functions.pit`.
        confidence: probability of the most probable token.
        median_place, mode_place, sample_place: their indices among the density tokens, ascending in value.
    """

    median: jax.Array
    mean: jax.Array
    mode: jax.Array
    sample: jax.Array
    spread: jax.Array
    expected_error: jax.Array
    pit: jax.Array
    confidence: jax.Array
    median_place: jax.Array
    mode_place: jax.Array
    sample_place: jax.Array


def estimates(
    x: jax.Array,
    head: jax.Array,
    drawn: jax.Array,
    truth: jax.Array,
    targets: DensityTargets,
    *,
    sampling: Sampling,
    component: jax.Array,
    block: int = 1024,
) -> Estimates:
    """Compute the estimates of positions block by block, so that not all logits exist at once.

    Args:
        x: (t, d) activations of the positions that predict.
        head: (ids, d) the model's output layer.
        drawn: (t,) uniform numbers in [0, 1), from which samples are drawn by inversion.
        truth: (t,) true densities for ``expected_error`` and ``pit``; any values if these are not needed.
        targets: the density tokens.
        sampling: temperature and nucleus of the samples.
        block: positions at a time.
        component: (t,) component of the voxel at each position. For codecs with several components only the places are
            meaningful; they index all density tokens.
    """
    points = None if targets.bins is None else jnp.asarray(targets.bins.points)

    def one(logits: jax.Array, given: tuple[jax.Array, ...]) -> Estimates:
        drawn, truth, which = given
        return of_logits(targets.within_component(logits, which), drawn, truth, points, sampling)

    rows = targets.rows(head, all_ids=False)
    found: Estimates = blocks.of_logits(one, block, x, rows, (drawn, truth, component))
    return found


def of_logits(
    logits: jax.Array, drawn: jax.Array, truth: jax.Array, points: jax.Array | None, sampling: Sampling
) -> Estimates:
    """The estimates of positions with logits (t, n) over ascending points (n,); see :func:`estimates`."""
    p = jax.nn.softmax(logits, axis=-1)
    median_place = functions.median_bin(logits)
    mode_place = jnp.argmax(logits, axis=-1)
    sample_place = _draw(logits, drawn, sampling)
    of = jnp.arange(logits.shape[-1], dtype=jnp.float32) if points is None else points
    mean = functions.mean(logits, of)
    return Estimates(
        median=of[median_place],
        mean=mean,
        mode=of[mode_place],
        sample=of[sample_place],
        spread=jnp.sqrt(jnp.sum(p * jnp.square(of - mean[:, None]), axis=-1)),
        expected_error=functions.emd(logits, truth, of),
        pit=functions.pit(logits, truth, of),
        confidence=jnp.max(p, axis=-1),
        median_place=median_place,
        mode_place=mode_place,
        sample_place=sample_place,
    )


def _draw(logits: jax.Array, drawn: jax.Array, sampling: Sampling) -> jax.Array:
    """Index of the token whose part of [0, 1) contains ``drawn``."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    p = jax.nn.softmax(logits / sampling.temperature, axis=-1)
    if sampling.nucleus < 1:
        high = -jnp.sort(-p, axis=-1)
        before = jnp.cumsum(high, axis=-1) - high
        least = jnp.min(jnp.where(before < sampling.nucleus, high, 2.0), axis=-1, keepdims=True)
        p = jnp.where(p >= least, p, 0.0)
    below = jnp.cumsum(p, axis=-1)
    place = jnp.sum(below <= drawn[:, None] * below[:, -1:], axis=-1)
    # Rounding may carry a draw past the last token of nonzero probability.
    last = logits.shape[-1] - 1 - jnp.argmax((p > 0)[:, ::-1], axis=-1)
    return jnp.minimum(place, last)
