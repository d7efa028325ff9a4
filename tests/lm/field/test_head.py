"""Heads: medians and spreads without all levels are those of all levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tomat.codec.relative import RelativeCodec
from tomat.lm.field.head import HEADS
from tomat.lm.field.levels import Levels
from tomat.lm.loss import functions


@pytest.mark.parametrize("codec", ["rel-128", "rel-256", "rel-1k"])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_summaries_are_those_of_all_levels(name: str, codec: str) -> None:
    levels = Levels.of(RelativeCodec.load(codec))
    head = HEADS[name](8, levels)
    keys = jax.random.split(jax.random.PRNGKey(0), len(jax.tree.leaves(head)) + 1)
    leaves, tree = jax.tree.flatten(head)
    moved = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys[1:], strict=True)
    ]
    head = jax.tree.unflatten(tree, moved).stretched(0.1)
    x = jax.random.normal(keys[0], (500, 8))
    z, points = head(x), jnp.asarray(levels.points, jnp.float32)
    found = head.summary(x)
    below = np.cumsum(np.asarray(jax.nn.softmax(z), np.float64), axis=-1)
    # The first level with half of the distribution; where rounding decides, one of the two beside it.
    median = np.asarray(found.median)
    rows = np.arange(len(median))
    assert (below[rows, median] >= 0.5 - 1e-5).all()
    assert (below[rows, np.maximum(median - 1, 0)][median > 0] <= 0.5 + 1e-5).all()
    assert len(np.unique(median)) > 10
    mean = functions.mean(z, points)
    spread = jnp.sqrt(functions.mean(z, jnp.square(points - mean[:, None])))
    inside = (below[:, 0] < 1e-4) & (below[:, -2] > 1 - 1e-4)  # nothing cut off at the ends of the levels
    assert inside.sum() > 50
    np.testing.assert_allclose(
        np.asarray(found.spread)[inside], np.asarray(spread)[inside], rtol=0.1
    )  # of coarse levels
