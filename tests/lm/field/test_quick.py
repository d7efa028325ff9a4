"""Quick statistics of mixtures are those of the probabilities of all levels."""

import numpy as np
import pytest

pytest.importorskip("levanter")
import jax
import jax.numpy as jnp

from tomat.codec.relative import RelativeCodec
from tomat.lm.decode.estimates import of_logits
from tomat.lm.field.head import CategoricalHead, Head, LogisticHead
from tomat.lm.field.levels import Levels
from tomat.lm.field.quick import by_level, quick_statistics
from tomat.lm.loss import functions
from tomat.prediction.options import Sampling

type Case = tuple[LogisticHead, jax.Array, jax.Array, jax.Array]
WANTED = ("median", "mean", "spread", "expected_error", "nats", "pit", "sample")


@pytest.fixture(scope="module")
def case() -> Case:
    codec = RelativeCodec.load("rel-128")
    rng = np.random.default_rng(3)
    head = LogisticHead.init(6, Levels.of(codec))
    head = LogisticHead(jnp.asarray(0.6 * rng.normal(size=head.weight.shape)), head.bias, head.levels)
    n = 600
    activations = jnp.asarray(rng.normal(size=(n, 6)), jnp.float32)
    x, drawn = jnp.asarray(rng.normal(size=n), jnp.float32), jnp.asarray(rng.random(n), jnp.float32)
    return head, activations, x, drawn


def test_medians_and_draws_are_the_same_levels_and_moments_close(case: Case) -> None:
    head, activations, x, drawn = case
    quick = quick_statistics(head.mixture(activations), head.levels, x, drawn, Sampling(), WANTED)
    assert quick is not None
    z = head(activations)
    points, edges = (jnp.asarray(a, jnp.float32) for a in (head.levels.points, head.levels.edges[1:-1]))
    slow = of_logits(z, drawn, x, points, Sampling())
    for name in ("median", "sample"):
        same = np.mean(np.asarray(quick[name]) == np.asarray(getattr(slow, name)))
        assert same > 0.99, name
    nats = functions.cross_entropy(z, jnp.searchsorted(edges, x, side="right"))
    np.testing.assert_allclose(quick["nats"], nats, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        quick["pit"], slow.pit, atol=0.03
    )  # levels begin half way between points, or at edges
    for name in ("mean", "spread", "expected_error"):
        off = np.abs(np.asarray(quick[name]) - np.asarray(getattr(slow, name)))
        # Levels are coarse far out, and what lies beyond the last counts as the last.
        assert np.median(off) < 0.02 * np.median(np.asarray(slow.spread)), name


def test_the_start_is_the_level_0(case: Case) -> None:
    head, activations, x, drawn = case
    start = LogisticHead.init(6, head.levels)
    quick = start.statistics(activations, x, drawn, Sampling(), ("median",))
    np.testing.assert_array_equal(quick["median"], 0.0)


def test_heads_answer_quickly_what_a_mixture_knows_and_by_level_the_rest(case: Case) -> None:
    head, activations, x, drawn = case
    mixture, other = head.mixture(activations), CategoricalHead.init(6, head.levels)
    quick = quick_statistics(mixture, head.levels, x, drawn, Sampling(), ("mean",))
    assert quick is not None
    found = head.statistics(activations, x, drawn, Sampling(), ("mean",))
    np.testing.assert_array_equal(found["mean"], quick["mean"])
    rest: list[tuple[Head, Sampling, tuple[str, ...]]] = [
        (other, Sampling(), ("median",)),
        (head, Sampling(), ("mode",)),
        (head, Sampling(0.5), ("sample",)),
    ]
    for _, sampling, wanted in rest[1:]:
        assert quick_statistics(mixture, head.levels, x, drawn, sampling, wanted) is None
    for of, sampling, wanted in rest:
        found = of.statistics(activations, x, drawn, sampling, wanted)
        slow = by_level(of(activations), head.levels, x, drawn, sampling, wanted)
        for name in wanted:
            np.testing.assert_array_equal(found[name], slow[name])
