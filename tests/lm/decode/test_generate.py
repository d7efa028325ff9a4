"""Free-running generation equals the full forward pass, keeps to the grammar, and draws as it is told."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import haliax as hax
import jax.numpy as jnp
import numpy as np
import pytest
from levanter.layers.attention import AttentionMask

from random_models import random_model
from tomat.lm.decode.estimates import Estimates
from tomat.lm.decode.generate import generate
from tomat.lm.loss import DensityTargets
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import levanter_config
from tomat.lm.vocabulary import ModelVocabulary
from tomat.prediction.options import Sampling
from tomat.tokenizer import PatchTokenizer

#: Tokens of the preambles: rows of a batch need not be alike.
FIRST = np.array([9, 4, 12], dtype=np.int32)
COUNT = 10
LENGTH = 24
SAMPLING = Sampling(temperature=2.0, nucleus=0.3)
DRAWN = np.random.default_rng(5).random((3, COUNT), dtype=np.float32)


@eqx.filter_jit
def _forward(model: Any, tokens: Any) -> Any:
    """Logits (batch, position, vocab) of the full forward pass."""
    out = model(hax.named(tokens, ("batch", "position")), AttentionMask.causal())
    return out.rearrange(("batch", "position", "vocab")).array


class Case:
    """A model with random weights, preambles of different lengths, and its most probable continuation."""

    def __init__(self, layout: str, codec: str) -> None:
        self.vocabulary = ModelVocabulary(PatchTokenizer(layout, codec, pad_to=LENGTH, patch_size=2))
        config = ModelConfig(
            hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_dim=48, seq_len=LENGTH
        )
        levanter = levanter_config(config, platform="cpu")
        self.model = random_model(levanter, self.vocabulary, seed=1)
        self.targets = DensityTargets.of(self.vocabulary)
        self.rows = np.random.default_rng(2).integers(1, self.vocabulary.size, (3, LENGTH)).astype(np.int32)
        self.greedy = self.run(Sampling(), "mode")

    def run(self, sampling: Sampling, fed: Any, order: Any = (0, 1, 2)) -> Estimates:
        which = list(order)
        given = (self.rows[which], FIRST[which], DRAWN[which], np.zeros((3, COUNT), np.float32))
        arrays = [jnp.asarray(array) for array in given]
        return generate(self.model, *arrays, targets=self.targets, sampling=sampling, fed=fed)

    def probabilities(self, places: Any) -> Any:
        """Of all density tokens (rows, count, n) in float64, by the full forward pass over the tokens at ``places``."""
        rows = np.zeros((3, LENGTH), dtype=np.int32)
        for row, first in enumerate(FIRST):
            rows[row, :first] = self.rows[row, :first]
            rows[row, first : first + COUNT] = places[row] + self.targets.first
        logits = np.asarray(_forward(self.model, jnp.asarray(rows)), np.float64)[..., self.vocabulary.density]
        logits = np.stack([logits[row, first - 1 : first - 1 + COUNT] for row, first in enumerate(FIRST)])
        logits = np.where(self.allowed(), logits, -np.inf)
        likely = np.exp(logits - logits.max(-1, keepdims=True))
        return likely / likely.sum(-1, keepdims=True)

    def allowed(self) -> Any:
        """Which density tokens may stand at each position, (count, n): the grammar, component after component."""
        ends = np.cumsum(self.targets.sizes)
        component = np.arange(COUNT) % len(ends)
        place = np.arange(self.targets.n)
        return (place < ends[component, None]) & (place >= (ends - self.targets.sizes)[component, None])


@pytest.fixture(scope="session", params=[("v3", "l1-1k"), ("v1", "two_token_9_12")], ids=["one", "two"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def test_generating_with_a_cache_is_asking_the_full_forward_pass(case: Case) -> None:
    places = np.asarray(case.greedy.mode_place)
    likely = case.probabilities(places)
    np.testing.assert_array_equal(places, likely.argmax(-1))
    np.testing.assert_allclose(np.asarray(case.greedy.confidence), likely.max(-1), rtol=1e-3)
    assert len(np.unique(places)) > 2


def test_what_comes_out_is_a_density(case: Case) -> None:
    """Every token is one of the component its position asks for: the codec decodes all of it."""
    starts = np.cumsum([0, *case.targets.sizes[:-1]])
    for estimates in (case.greedy, case.run(SAMPLING, "sample")):
        for name in ("mode_place", "sample_place"):
            components = np.asarray(getattr(estimates, name)).reshape(-1, len(starts)) - starts
            assert np.isfinite(case.vocabulary.codec.decode(components)).all()


@pytest.mark.parametrize("case", [("v3", "l1-1k")], indirect=True, ids=["one"])
def test_point_estimates_are_those_of_the_distributions(case: Case) -> None:
    likely = case.probabilities(np.asarray(case.greedy.mode_place))
    values = case.vocabulary.codec.decode(np.arange(case.targets.n)[:, None])
    mean = likely @ values
    spread = np.sqrt((likely * (values - mean[..., None]) ** 2).sum(-1))
    np.testing.assert_allclose(np.asarray(case.greedy.mean), mean, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(case.greedy.spread), spread, rtol=1e-3)
    below = likely.cumsum(-1)
    place = (below < 0.5).sum(-1)
    near = np.abs(np.take_along_axis(below, place[..., None], -1)[..., 0] - 0.5) < 1e-3
    assert (near | (np.asarray(case.greedy.median_place) == place)).all()


@pytest.mark.parametrize("case", [("v3", "l1-1k")], indirect=True, ids=["one"])
def test_draws_keep_to_the_nucleus_and_to_their_row(case: Case) -> None:
    places = np.asarray(case.run(SAMPLING, "sample").sample_place)
    assert (places != np.asarray(case.greedy.mode_place)).mean() > 0.3
    # The distribution at temperature 2 is the square root of the model's.
    likely = np.sqrt(case.probabilities(places))
    likely /= likely.sum(-1, keepdims=True)
    likelier = np.where(likely > np.take_along_axis(likely, places[..., None], -1), likely, 0).sum(-1)
    assert (likelier < 0.3 + 1e-3).all()
    assert likelier.max() > 0.1  # not the likeliest alone
    # A row draws the same, whatever stands beside it.
    again = case.run(SAMPLING, "sample", order=(2, 0, 1))
    np.testing.assert_array_equal(np.asarray(again.sample_place), places[[2, 0, 1]])
