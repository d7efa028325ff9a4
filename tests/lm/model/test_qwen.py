"""Models: parameters as counted, masks that hold on every backend, JAX's attention equal to the plain one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from levanter.layers.attention import AttentionBackend, AttentionMask, dot_product_attention

from random_models import random_model
from tomat.lm.model.attention import attend
from tomat.lm.model.presets import PRESETS, ModelConfig, parameter_count
from tomat.lm.model.qwen import DensityLM, attention_for, build, levanter_config
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

LENGTH = 128
SMALL = {"hidden_dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "intermediate_dim": 48}
#: Two sequences and padding.
PACKED = np.array([0] * 50 + [1] * 60 + [-1] * 18)
#: One sequence and padding.
SINGLE = np.array([0] * 100 + [-1] * 28)


@pytest.fixture(scope="session")
def vocabulary() -> ModelVocabulary:
    return ModelVocabulary(PatchTokenizer("v3", "l1-1k", pad_to=LENGTH, patch_size=3))


def _model(vocabulary: ModelVocabulary, attention: str, sequences_per_row: int | None = None) -> DensityLM:
    config = ModelConfig(attention=attention, seq_len=LENGTH, attention_block=32, **SMALL)  # type: ignore[arg-type]
    levanter = levanter_config(config, platform="cpu", sequences_per_row=sequences_per_row)
    model = random_model(levanter, vocabulary, seed=0)
    assert isinstance(model, DensityLM)
    return model


def _mask(kind: str) -> AttentionMask:
    mask = AttentionMask.causal() if "causal" in kind else AttentionMask()
    segments = {"packed": PACKED, "single": SINGLE}.get(kind.split()[-1])
    return mask if segments is None else mask.with_segment_ids(hax.named(jnp.asarray(segments), "position"))


def _seen(kind: str) -> Any:
    """Which keys a query may see, (position, key): the definition."""
    index = np.arange(LENGTH)
    seen = np.ones((LENGTH, LENGTH), dtype=bool)
    if "causal" in kind:
        seen &= index[:, None] >= index[None, :]
    if "packed" in kind:
        seen &= PACKED[:, None] == PACKED[None, :]
    if "single" in kind:
        seen &= SINGLE[:, None] == SINGLE[None, :]
    return seen


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_built_model_has_the_parameters_that_are_counted(preset: str, vocabulary: ModelVocabulary) -> None:
    config = ModelConfig(preset=preset)
    key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
    model = eqx.filter_eval_shape(build, levanter_config(config, platform="tpu"), vocabulary, key)
    sizes = [leaf.size for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.ShapeDtypeStruct)]
    assert sum(sizes) == parameter_count(config.shape(), vocabulary.padded_size).total
    assert model.Vocab.size == vocabulary.padded_size
    assert model.lm_head is None


@pytest.mark.parametrize(
    ("platform", "length", "backend"),
    [
        ("tpu", 8192, "splash"),
        ("gpu", 8192, "cudnn"),
        ("cuda", 512, "cudnn"),
        ("cpu", 512, "vanilla"),
        ("cpu", 8192, "flash"),
    ],
)
def test_attention_of_a_platform(platform: str, length: int, backend: str) -> None:
    assert attention_for("auto", platform, length) == backend
    assert attention_for("xla", platform, length) == "xla"


def test_splash_says_which_rows_it_takes(vocabulary: ModelVocabulary) -> None:
    with pytest.raises(ValueError, match="multiple of 128 tokens, not 200"):
        levanter_config(ModelConfig(seq_len=200), platform="tpu")


KINDS = ["causal", "full", "causal packed", "full packed", "full single"]


@pytest.mark.parametrize("attention", ["vanilla", "flash", "xla"])
def test_no_token_sees_what_its_mask_hides(vocabulary: ModelVocabulary, attention: str) -> None:
    """Change one token; the activations that move are exactly those that may see it."""
    model = _model(vocabulary, attention)
    Batch, Pos = hax.Axis("batch", 3), hax.Axis("position", LENGTH)
    tokens = np.random.default_rng(0).integers(0, vocabulary.size, LENGTH)
    changed = (5, 70)
    rows = np.stack([tokens, *(np.where(np.arange(LENGTH) == at, 7, tokens) for at in changed)])
    positions = hax.named(jnp.arange(LENGTH) % 50, "position")

    @eqx.filter_jit
    def activations(mask: AttentionMask) -> Any:
        named = hax.named(jnp.asarray(rows), (Batch, Pos))
        return (
            model.activations(named, mask, pos_ids=positions).rearrange(("batch", "position", "embed")).array
        )

    for kind in KINDS if attention == "xla" else KINDS[2:]:  # the others are Levanter's own
        got = np.asarray(activations(_mask(kind)))
        assert np.isfinite(got).all()
        real = SINGLE >= 0 if "single" in kind else np.ones(LENGTH, dtype=bool)
        for row, at in enumerate(changed, 1):
            moved = np.abs(got[row] - got[0]).max(axis=-1) > 1e-6
            assert (moved == _seen(kind)[:, at])[real].all(), (attention, kind, at)


def test_a_causal_model_of_single_sequences_does_without_segments(vocabulary: ModelVocabulary) -> None:
    tokens = hax.named(jnp.arange(LENGTH) % vocabulary.size, "position")

    def activations(sequences_per_row: int | None, kind: str) -> Any:
        model = _model(vocabulary, "vanilla", sequences_per_row)
        return np.asarray(eqx.filter_jit(lambda mask: model.activations(tokens, mask).array)(_mask(kind)))

    want, honoured = activations(None, "causal"), activations(None, "causal single")
    np.testing.assert_allclose(honoured[SINGLE >= 0], want[SINGLE >= 0], atol=1e-5)
    assert np.abs(honoured - want)[SINGLE < 0].max() > 1e-3
    np.testing.assert_array_equal(activations(1, "causal single"), want)


def test_positions_count_where_they_are_given(vocabulary: ModelVocabulary) -> None:
    """A sequence gives the same activations wherever it stands in a packed row."""
    model = _model(vocabulary, "vanilla")
    Pos = hax.Axis("position", LENGTH)
    part = np.random.default_rng(1).integers(0, vocabulary.size, 50)
    tokens = np.concatenate([part, part, np.zeros(28, dtype=np.int64)])
    segments = np.array([0] * 50 + [1] * 50 + [-1] * 28)
    positions = np.concatenate([np.arange(50), np.arange(50), np.arange(28)])
    mask = AttentionMask.causal().with_segment_ids(hax.named(jnp.asarray(segments), "position"))
    tokens_named = hax.named(jnp.asarray(tokens), Pos)

    @eqx.filter_jit
    def activations(positions: Any) -> Any:
        return model.activations(tokens_named, mask, pos_ids=hax.named(positions, Pos)).array

    got = activations(jnp.asarray(positions))
    np.testing.assert_allclose(got[:50], got[50:100], atol=1e-5)
    # A rotary embedding knows distances alone: three times as far apart is something else.
    stretched = model.activations(
        tokens_named, mask, pos_ids=hax.named(jnp.asarray(3 * positions), Pos)
    ).array
    assert np.abs(np.asarray(stretched[:50] - got[:50])).max() > 1e-3


@pytest.mark.parametrize("kind", [*KINDS, "causal single"])
def test_jax_attention_gives_values_and_gradients_of_the_plain_one(kind: str) -> None:
    Batch, Pos, Size = hax.Axis("batch", 2), hax.Axis("position", LENGTH), hax.Axis("head_size", 8)
    Group, Kv, Heads = hax.Axis("group", 2), hax.Axis("kv_head", 2), hax.Axis("heads", 4)
    key_q, key_k, key_v = jax.random.split(jax.random.PRNGKey(2), 3)
    query = hax.random.normal(key_q, (Batch, Kv, Group, Pos, Size))
    keys, values = (hax.random.normal(key, (Batch, Kv, Pos, Size)) for key in (key_k, key_v))
    mask = _mask(kind)
    # Padding is asked for nothing.
    weight = hax.named(jnp.asarray((SINGLE >= 0) if "single" in kind else np.ones(LENGTH)), Pos)

    def plain(query: Any, keys: Any, values: Any) -> Any:
        keys, values = (array.rename({"position": "key_position"}) for array in (keys, values))
        out = dot_product_attention(
            "position",
            "key_position",
            "head_size",
            query,
            keys,
            values,
            mask,
            attn_backend=AttentionBackend.VANILLA,
        )
        return out.flatten_axes(("kv_head", "group"), Heads)

    def ours(query: Any, keys: Any, values: Any) -> Any:
        query = query.flatten_axes(("kv_head", "group"), Heads)
        return attend(query, keys, values, mask, "xla", 2 if "packed" in kind else 1)

    def value_and_gradients(attention: Any) -> Any:
        def loss(*arrays: Any) -> Any:
            out = attention(*arrays).rearrange((Batch, Heads, Pos, Size))
            return hax.sum(weight * hax.sin(3 * out)).scalar(), (weight * out).array

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(query, keys, values)

    (_, want), want_gradients = value_and_gradients(plain)
    (_, got), got_gradients = value_and_gradients(ours)
    np.testing.assert_allclose(got, want, atol=2e-6)
    for one, other in zip(got_gradients, want_gradients, strict=True):
        np.testing.assert_allclose(one.array, other.array, atol=5e-5)


@pytest.mark.parametrize(
    ("kind", "sequences", "call", "mask_type"),
    [
        ("causal", 1, "fmhaSoftmax", "CAUSAL"),
        ("causal single", 1, "fmhaSoftmax", "CAUSAL"),
        ("full", 1, "fmhaSoftmax", "NO_MASK"),
        ("full single", 1, "fmhaSoftmax", "PADDING"),
        ("full packed", 2, "fmhaScaleBiasSoftmax", "NO_MASK"),
        ("causal packed", 2, "fmhaScaleBiasSoftmax", "CAUSAL"),
    ],
)
def test_a_gpu_gets_cudnn(
    kind: str, sequences: int, call: str, mask_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lowered for CUDA on this machine: forward and backward are cuDNN's calls with the mask they should have."""
    from jax._src.cudnn import fused_attention_stablehlo as lowering

    # JAX asks the plug-in, which is not here, for cuDNN's version before it lowers.
    monkeypatch.setattr(lowering, "cuda_versions", types.SimpleNamespace(cudnn_get_version=lambda: 91200))
    Batch, Pos, Size = hax.Axis("batch", 2), hax.Axis("position", LENGTH), hax.Axis("head_size", 16)
    query = hax.zeros((Batch, hax.Axis("heads", 4), Pos, Size), dtype=jnp.bfloat16)
    keys = hax.zeros((Batch, hax.Axis("kv_head", 2), Pos, Size), dtype=jnp.bfloat16)

    def total(query: Any, keys: Any, values: Any) -> jax.Array:
        out = attend(query, keys, values, _mask(kind), "cudnn", sequences)
        result: jax.Array = hax.sum(out.astype(jnp.float32)).scalar()
        return result

    traced = jax.jit(jax.grad(total, argnums=(0, 1, 2))).trace(query, keys, keys)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert set(re.findall(r"__cudnn\$(\w+)", text)) == {call, call + "Backward"}
    assert set(re.findall(r"mask_type\W+22: \W+22(\w+?)\\", text)) == {mask_type}


def test_float32_does_not_go_to_cudnn(vocabulary: ModelVocabulary) -> None:
    """Evaluation in float32 on a GPU is exact, by Levanter's own path."""
    tokens = hax.named(jnp.arange(LENGTH) % vocabulary.size, "position")
    fused, plain = (_model(vocabulary, attention) for attention in ("cudnn", "vanilla"))
    forward = eqx.filter_jit(lambda model: model.activations(tokens, AttentionMask.causal()).array)
    got, want = forward(fused), forward(plain)
    np.testing.assert_allclose(got, want, atol=1e-5)


_ON_FOUR_DEVICES = """
import haliax as hax, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh
from levanter.layers.attention import AttentionMask
from tomat.lm.model.attention import attend

assert jax.device_count() == 4
Batch, Pos, Size = hax.Axis("batch", 4), hax.Axis("position", 32), hax.Axis("head_size", 8)
Heads, Kv = hax.Axis("heads", 4), hax.Axis("kv_head", 2)
keys = jax.random.split(jax.random.PRNGKey(0), 3)
query = hax.random.normal(keys[0], (Batch, Heads, Pos, Size))
key, value = (hax.random.normal(k, (Batch, Kv, Pos, Size)) for k in keys[1:])
lengths = np.array([32, 20, 7, 1])[:, None]  # every row, so every device, has its own mask
padded = hax.named(jnp.asarray(np.where(np.arange(32) < lengths, 0, -1)), (Batch, Pos))
halves = hax.named(jnp.asarray((np.arange(32) >= lengths // 2).astype(int)), (Batch, Pos))

def total(query, key, value, mask, count):
    return hax.sum(hax.sin(attend(query, key, value, mask, "xla", count))).scalar()

for causal in (False, True):
    plain = AttentionMask.causal() if causal else AttentionMask()
    masks = ((plain, 1), (plain.with_segment_ids(padded), 1), (plain.with_segment_ids(halves), 2))
    for mask, count in masks[2:] if causal else masks:
        run = lambda *arrays: jax.value_and_grad(total, argnums=(0, 1, 2))(*arrays, mask, count)
        want, want_gradients = jax.jit(run)(query, key, value)
        mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
        mapping = {"batch": "data", "heads": "model", "kv_head": "model"}
        with hax.partitioning.set_mesh(mesh), hax.axis_mapping(mapping):
            arrays = [hax.shard(array) for array in (query, key, value)]
            traced = jax.jit(run).trace(*arrays)
            got, got_gradients = traced.lower().compile()(*arrays)
        assert "shard_map" in str(traced.jaxpr)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        for one, other in zip(got_gradients, want_gradients, strict=True):
            np.testing.assert_allclose(one.array, other.array, atol=1e-5)
"""


def test_rows_and_heads_split_over_devices() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", _ON_FOUR_DEVICES], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
