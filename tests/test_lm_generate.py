"""Free-running generation equals the full forward pass, keeps to the grammar, and draws as it is told."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from levanter.layers.attention import AttentionMask

from tomat.lm.generate import Generated, Sampling, bin_values, density_ranges, generate, row_keys
from tomat.lm.model import build
from tomat.lm.presets import ModelConfig
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

LENGTHS = np.array([9, 4, 12], dtype=np.int32)
VOXELS = 8


class Case:
    """A model with random weights, prompts of different lengths, and its greedy continuation."""

    def __init__(self, layout: str, codec: str) -> None:
        self.vocabulary = ModelVocabulary(PatchTokenizer(layout, codec, pad_to=48, patch_size=2))
        config = ModelConfig(
            hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_dim=48, seq_len=48
        )
        levanter = config.levanter(self.vocabulary, platform="cpu")
        model = eqx.filter_jit(lambda key: build(levanter, self.vocabulary, key))(jax.random.PRNGKey(1))
        # Sharper distributions than those of a fresh model, so that the likeliest is not a matter of rounding.
        self.model = eqx.tree_at(lambda m: m.transformer.norm.weight, model, replace_fn=lambda w: 4.0 * w)
        self.prompts = np.random.default_rng(2).integers(1, self.vocabulary.size, (3, 12)).astype(np.int32)
        self.ranges = density_ranges(self.vocabulary, VOXELS)
        single = len(self.vocabulary.codec.sizes) == 1
        self.values = bin_values(self.vocabulary) if single else None
        self.greedy = generate(self.model, self.prompts, LENGTHS, self.ranges, values=self.values)

    def logits(self, tokens: Any) -> Any:
        """Logits (steps, ids) of the full forward pass at the places the tokens (steps,) were chosen, by row."""
        steps = tokens.shape[1]
        rows = np.zeros((3, 12 + steps), dtype=np.int32)
        for row, length in enumerate(LENGTHS):
            rows[row, :length] = self.prompts[row, :length]
            rows[row, length : length + steps] = tokens[row]
        named = hax.named(jnp.asarray(rows), ("batch", "position"))
        out = np.asarray(
            self.model(named, AttentionMask.causal()).rearrange(("batch", "position", "vocab")).array
        )
        return np.stack([out[row, length - 1 : length - 1 + steps] for row, length in enumerate(LENGTHS)])

    def masked(self, tokens: Any) -> Any:
        """The same, with what the grammar does not allow at minus infinity."""
        ids = np.arange(self.model.Vocab.size)
        allowed = (ids >= self.ranges[:, :1]) & (ids < self.ranges[:, 1:])
        return np.where(allowed, self.logits(tokens), -np.inf)


@pytest.fixture(scope="session", params=[("v3", "l1-1k"), ("v1", "two_token_9_12")], ids=["one", "two"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def _voxels_of(case: Case, generated: Generated) -> Any:
    components = np.asarray(generated.tokens) - np.tile(case.ranges[:, 0], (3, 1))
    return components.reshape(-1, len(case.vocabulary.codec.sizes))


def test_greedy_by_cache_is_greedy_by_the_full_forward_pass(case: Case) -> None:
    tokens = np.asarray(case.greedy.tokens)
    np.testing.assert_array_equal(tokens, case.masked(tokens).argmax(-1))
    assert len(np.unique(tokens)) > 2


def test_what_comes_out_is_a_density(case: Case) -> None:
    """Every token is one of the component its position asks for: the codec decodes all of it."""
    assert np.isfinite(case.vocabulary.codec.decode(_voxels_of(case, case.greedy))).all()
    assert case.ranges.shape == (VOXELS * len(case.vocabulary.codec.sizes), 2)
    assert case.ranges[:, 1].max() == case.vocabulary.density.stop
    assert case.ranges[0, 0] == case.vocabulary.density.start


@pytest.mark.parametrize("case", [("v3", "l1-1k")], indirect=True, ids=["one"])
def test_point_estimates_are_those_of_the_distributions(case: Case) -> None:
    logits = case.masked(np.asarray(case.greedy.tokens))[..., case.vocabulary.density].astype(np.float64)
    likely = np.exp(logits - logits.max(-1, keepdims=True))
    likely /= likely.sum(-1, keepdims=True)
    values = case.values
    assert values is not None
    np.testing.assert_allclose(np.asarray(case.greedy.mean), likely @ values, rtol=2e-4)
    np.testing.assert_array_equal(np.asarray(case.greedy.mode), values[likely.argmax(-1)])
    # The bins of this codec ascend.
    below = likely.cumsum(-1)
    index = (below < 0.5).sum(-1)
    near = np.abs(np.take_along_axis(below, index[..., None], -1)[..., 0] - 0.5) < 1e-4
    assert (near | (np.asarray(case.greedy.median) == values[index])).all()


@pytest.mark.parametrize("case", [("v3", "l1-1k")], indirect=True, ids=["one"])
def test_draws_keep_to_the_nucleus_and_to_the_key_of_their_row(case: Case) -> None:
    sampling = Sampling(temperature=2.0, nucleus=0.3)
    drawn = generate(
        case.model, case.prompts, LENGTHS, case.ranges, sampling=sampling, keys=row_keys([1, 2, 3])
    )
    tokens = np.asarray(drawn.tokens)
    assert drawn.mean is None
    assert (tokens != np.asarray(case.greedy.tokens)).mean() > 0.3
    logits = case.masked(tokens).astype(np.float64) / 2.0
    likely = np.exp(logits - logits.max(-1, keepdims=True))
    likely /= likely.sum(-1, keepdims=True)
    chosen = np.take_along_axis(likely, tokens[..., None], -1)
    likelier = np.where(likely > chosen, likely, 0).sum(-1)
    assert (likelier < 0.3 + 1e-4).all()
    assert likelier.max() > 0.1  # not the likeliest alone
    # A row draws the same, whatever stands beside it.
    order = [2, 0, 1]
    again = generate(
        case.model,
        case.prompts[order],
        LENGTHS[order],
        case.ranges,
        sampling=sampling,
        keys=row_keys([3, 1, 2]),
    )
    np.testing.assert_array_equal(again.tokens, tokens[order])


@pytest.mark.parametrize("case", [("v3", "l1-1k")], indirect=True, ids=["one"])
def test_what_cannot_be_generated_is_refused(case: Case) -> None:
    def run(**changes: Any) -> None:
        given = {"prompts": case.prompts, "lengths": LENGTHS, "ranges": case.ranges, **changes}
        generate(case.model, **given)

    with pytest.raises(ValueError, match="1 to 12"):
        run(lengths=np.array([9, 0, 12]))
    with pytest.raises(ValueError, match=r"rows of 52 tokens do not fit the model's 48"):
        run(ranges=density_ranges(case.vocabulary, 40))
    with pytest.raises(ValueError, match="with an id in it"):
        run(ranges=case.ranges[:, ::-1])
    with pytest.raises(ValueError, match="give keys"):
        run(sampling=Sampling(temperature=1.0))
    with pytest.raises(ValueError, match="one for each of the 1024"):
        run(values=np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="negative"):
        Sampling(temperature=-1)
    with pytest.raises(ValueError, match="nucleus"):
        Sampling(nucleus=0)
    both = ModelConfig(hidden_dim=32).levanter(case.vocabulary, platform="cpu", bidirectional=True)
    shapes = eqx.filter_eval_shape(build, both, case.vocabulary, jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match="looks both ways"):
        generate(shapes, case.prompts, LENGTHS, case.ranges)
    with pytest.raises(ValueError, match="2 tokens a voxel"):
        bin_values(ModelVocabulary(PatchTokenizer("v1", "two_token_9_12")))
