"""Quick statistics of mixtures are those of the probabilities of all levels."""

import numpy as np
import pytest

pytest.importorskip("levanter")
import jax
import jax.numpy as jnp

from tomat.codec.relative import RelativeCodec
from tomat.lm.decode.estimates import Sampling, of_logits
from tomat.lm.field.head import CategoricalHead, LogisticHead
from tomat.lm.field.levels import Levels
from tomat.lm.field.quick import quick_statistics
from tomat.lm.loss import functions

type Case = tuple[LogisticHead, jax.Array, jax.Array, jax.Array, tuple[jax.Array, jax.Array]]
WANTED = ("median", "mean", "spread", "expected_error", "nats", "pit", "sample")


@pytest.fixture(scope="module")
def case() -> Case:
    codec = RelativeCodec.load("rel-128")
    rng = np.random.default_rng(3)
    head = LogisticHead.init(6, Levels.of(codec))
    head = LogisticHead(jnp.asarray(0.6 * rng.normal(size=head.weight.shape)), head.bias, head.levels)
    n = 600
    tables = jnp.asarray(codec.levels, jnp.float32), jnp.asarray(codec.edges[1:-1], jnp.float32)
    activations = jnp.asarray(rng.normal(size=(n, 6)), jnp.float32)
    x, drawn = jnp.asarray(rng.normal(size=n), jnp.float32), jnp.asarray(rng.random(n), jnp.float32)
    return head, activations, x, drawn, tables


def test_medians_and_draws_are_the_same_levels_and_moments_close(case: Case) -> None:
    head, activations, x, drawn, tables = case
    quick = quick_statistics(head, activations, x, drawn, tables, Sampling(), WANTED)
    assert quick is not None
    z = head(activations)
    slow = of_logits(z, drawn, x, tables[0], Sampling())
    for name in ("median", "sample"):
        same = np.mean(np.asarray(quick[name]) == np.asarray(getattr(slow, name)))
        assert same > 0.99, name
    nats = functions.cross_entropy(z, jnp.searchsorted(tables[1], x, side="right"))
    np.testing.assert_allclose(quick["nats"], nats, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        quick["pit"], slow.pit, atol=0.03
    )  # levels begin half way between points, or at edges
    for name in ("mean", "spread", "expected_error"):
        off = np.abs(np.asarray(quick[name]) - np.asarray(getattr(slow, name)))
        # Levels are coarse far out, and what lies beyond the last counts as the last.
        assert np.median(off) < 0.02 * np.median(np.asarray(slow.spread)), name


def test_the_start_is_the_level_0(case: Case) -> None:
    head, activations, x, drawn, tables = case
    start = LogisticHead.init(6, head.levels)
    quick = quick_statistics(start, activations, x, drawn, tables, Sampling(), ("median",))
    assert quick is not None
    np.testing.assert_array_equal(quick["median"], 0.0)


def test_what_is_not_known_is_left_to_others(case: Case) -> None:
    head, activations, x, drawn, tables = case
    other = CategoricalHead.init(6, head.levels)
    assert quick_statistics(other, activations, x, drawn, tables, Sampling(), ("median",)) is None
    assert quick_statistics(head, activations, x, drawn, tables, Sampling(), ("mode",)) is None
    assert quick_statistics(head, activations, x, drawn, tables, Sampling(0.5), ("sample",)) is None
