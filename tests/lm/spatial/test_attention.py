"""Attention over places: as the brick model's, next to a definition in plain loops."""

from __future__ import annotations

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("levanter")
from levanter.layers.attention import AttentionMask

from random_models import random_model
from tomat.lm.brick.transformer import angles_of, gaussians
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import DensityLM, levanter_config
from tomat.lm.spatial.attention import CartesianAttention, Turns
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

LENGTH, PRESENT = 128, 100
CONFIG = ModelConfig(
    seq_len=LENGTH,
    hidden_dim=32,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    positions="cartesian",
)


@pytest.fixture(scope="module")
def layer() -> CartesianAttention:
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-1k", pad_to=LENGTH, patch_size=3))
    model = random_model(levanter_config(CONFIG, platform="cpu", bidirectional=True), vocabulary, seed=0)
    assert isinstance(model, DensityLM)
    stacked = model.transformer.layers.stacked.self_attn
    found = hax.tree_util.tree_map(lambda leaf: leaf["layer", 0], stacked)
    assert isinstance(found, CartesianAttention)
    bias = jax.random.normal(jax.random.PRNGKey(1), [axis.size for axis in found.distance.axes])
    made: CartesianAttention = eqx.tree_at(
        lambda one: one.distance, found, hax.named(bias, found.distance.axes)
    )
    return made


def given(seed: int = 0) -> tuple[hax.NamedArray, jax.Array, AttentionMask]:
    rng = np.random.default_rng(seed)
    x = hax.named(
        jnp.asarray(rng.standard_normal((2, LENGTH, 32)), jnp.float32), ("batch", "position", "embed")
    )
    places = jnp.asarray(rng.uniform(-3, 3, (2, LENGTH, 3)), jnp.float32)
    segments = np.where(np.arange(LENGTH) < PRESENT, 0, -1)
    return x, places, AttentionMask().with_segment_ids(hax.named(jnp.asarray(segments), "position"))


def run(layer: CartesianAttention, x: hax.NamedArray, places: jax.Array, mask: AttentionMask) -> np.ndarray:
    found = layer(x, mask, pos_ids=Turns.of(places, 2, 8))
    return np.asarray(found.rearrange(("batch", "position", "embed")).array)


def test_it_is_what_the_definition_says(layer: CartesianAttention) -> None:
    x, places, mask = given()
    found = run(layer, x, places, mask)
    query, keys, values = (a.array for a in layer._compute_qkv(x["batch", 0], key=None, pos_ids=None))
    q = np.asarray(query.reshape(query.shape), np.float64)
    names = [axis.name for axis in layer._compute_qkv(x["batch", 0], key=None, pos_ids=None)[0].axes]
    q = np.moveaxis(
        q, [names.index(n) for n in ("position", "kv_head", "q_heads_per_group", "head_size")], range(4)
    )
    names = [axis.name for axis in layer._compute_qkv(x["batch", 0], key=None, pos_ids=None)[1].axes]
    order = [names.index(n) for n in ("position", "kv_head", "head_size")]
    k, v = (np.moveaxis(np.asarray(a, np.float64), order, range(3)) for a in (keys, values))
    angles = np.asarray(angles_of(places[0], 2, 8), np.float64)
    assert (angles[..., 6:] == 0).all()  # eight pairs are no multiple of three
    assert (angles[..., :6] != 0).any(axis=(0, 1)).all()

    def turned(vector: np.ndarray, by: np.ndarray) -> np.ndarray:
        pairs = (vector[:8] + 1j * vector[8:]) * np.exp(1j * by)
        return np.concatenate([pairs.real, pairs.imag])

    bias = np.asarray(
        layer.distance.rearrange(("gaussian", "kv_head", "q_heads_per_group")).array, np.float64
    )
    near = np.asarray(places[0], np.float64)
    out = np.zeros((2, 4, 16))  # of two tokens
    for row, i in enumerate((3, 77)):
        for h in range(2):
            for g in range(2):
                scores = np.empty(PRESENT)
                for j in range(PRESENT):
                    square = np.sum((near[i] - near[j]) ** 2)[None]
                    along = np.asarray(gaussians(jnp.asarray(square, jnp.float32)))
                    scores[j] = turned(q[i, h, g], angles[i, h]) @ turned(k[j, h], angles[j, h]) / 4.0
                    scores[j] += along @ bias[:, h, g]
                share = np.exp(scores - scores.max())
                out[row, 2 * h + g] = share @ v[:PRESENT, h] / share.sum()
    weight = np.asarray(layer.o_proj.weight.rearrange(("heads", "head_size", "embed")).array, np.float64)
    np.testing.assert_allclose(found[0, [3, 77]], np.einsum("nhd,hde->ne", out, weight), atol=2e-5)


def test_where_the_origin_is_does_not_matter_and_where_tokens_are_does(layer: CartesianAttention) -> None:
    x, places, mask = given()
    found = run(layer, x, places, mask)
    moved = run(layer, x, places + jnp.array([2.0, -1.0, 0.5]), mask)
    np.testing.assert_allclose(moved[:, :PRESENT], found[:, :PRESENT], atol=2e-5)
    other = run(layer, x, places * 1.2, mask)
    assert np.abs(other - found)[:, :PRESENT].max() > 1e-2


def test_padding_is_not_seen(layer: CartesianAttention) -> None:
    x, places, mask = given()
    there = hax.named(jnp.arange(LENGTH) < PRESENT, "position")
    found = run(layer, hax.where(there, x, 7.0), places, mask)
    np.testing.assert_allclose(found[:, :PRESENT], run(layer, x, places, mask)[:, :PRESENT], atol=1e-6)


def test_the_order_of_tokens_does_not_matter(layer: CartesianAttention) -> None:
    x, places, _ = given()
    order = np.random.default_rng(3).permutation(LENGTH)
    found = run(layer, x, places, AttentionMask())
    mixed = run(layer, x["position", hax.named(order, "position")], places[:, order], AttentionMask())
    np.testing.assert_allclose(mixed, found[:, order], atol=2e-5)


def test_it_asks_for_places(layer: CartesianAttention) -> None:
    x, _, mask = given()
    with pytest.raises(ValueError, match="needs the places"):
        layer(x, mask)
