"""The blocks written out here are Levanter's, and every matrix is handed on with the inputs it has there."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import haliax as hax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("levanter")
from levanter.layers.attention import AttentionMask

from random_models import random_model
from tomat.lm.export import state_dict
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import levanter_config
from tomat.lm.quantize import transformer
from tomat.lm.quantize.transformer import Blocks, Row, last, walk
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer

LENGTH = 40
CONFIG = ModelConfig(
    hidden_dim=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, intermediate_dim=32, seq_len=LENGTH
)


@pytest.fixture(scope="module", params=[True, False], ids=["causal", "bidirectional"])
def made(request: pytest.FixtureRequest) -> tuple[Any, Blocks, list[Row]]:
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-1k", pad_to=LENGTH, patch_size=2))
    config = levanter_config(CONFIG, platform="cpu", bidirectional=not request.param)
    model = random_model(config, vocabulary, seed=3)
    rng = np.random.default_rng(0)
    rows = [Row(rng.integers(0, vocabulary.size, n).astype(np.int32), slice(n - 8, n)) for n in (LENGTH, 17)]
    return model, Blocks.of(config, causal=request.param), rows


@eqx.filter_jit
def activations(model: Any, tokens: Any, mask: AttentionMask) -> Any:
    return model.activations(hax.named(tokens, "position"), mask).rearrange(("position", "embed")).array


def test_the_blocks_are_those_of_the_model(
    made: tuple[Any, Blocks, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, blocks, rows = made
    mask = AttentionMask.causal() if blocks.causal else AttentionMask()
    wanted = activations(model, jnp.asarray(rows[0].tokens), mask)
    assert np.abs(wanted).max() > 0.5
    for block in (1024, 7):
        monkeypatch.setattr(transformer, "_BLOCK", block)
        np.testing.assert_allclose(last(blocks, rows, state_dict(model))[0], wanted, atol=2e-5)


def test_every_matrix_is_handed_on_once_with_the_inputs_it_has(made: tuple[Any, Blocks, list[Row]]) -> None:
    model, blocks, rows = made
    weights = state_dict(model)
    seen: dict[str, Any] = {}

    def code(name: str, hessian: Any, damping: float = 0.0) -> None:
        assert name not in seen
        assert hessian.shape == (weights[name].shape[1],) * 2
        seen[name] = hessian, damping

    walk(blocks, rows, weights, code)
    assert set(seen) == {name for name, weight in weights.items() if weight.ndim == 2}
    assert next(iter(seen)) == transformer.EMBEDDING
    # The first layer reads the normed embedding; the output layer what is asked alone.
    x = np.concatenate([weights[transformer.EMBEDDING][row.tokens] for row in rows]).astype(np.float64)
    y = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + blocks.epsilon)
    y = y * weights["model.layers.0.input_layernorm.weight"]
    np.testing.assert_allclose(
        seen["model.layers.0.self_attn.k_proj.weight"][0], y.T @ y, rtol=1e-4, atol=1e-4
    )
    out = np.concatenate(
        [np.asarray(of)[row.asked] for of, row in zip(last(blocks, rows, weights), rows, strict=True)]
    )
    np.testing.assert_allclose(seen[transformer.EMBEDDING][0], out.T @ out, rtol=1e-3, atol=1e-3)


def test_inputs_come_from_what_is_already_coded(made: tuple[Any, Blocks, list[Row]]) -> None:
    model, blocks, rows = made
    weights = state_dict(model)
    hessians: list[float] = []

    def code(name: str, hessian: Any, damping: float = 0.0) -> None:
        del damping
        if name.endswith("v_proj.weight") and not hessians:
            weights[name] = np.zeros_like(weights[name])
        if name.endswith("o_proj.weight"):
            hessians.append(float(np.abs(hessian).max()))

    walk(blocks, rows, weights, code)
    assert hessians[0] == 0.0
    assert hessians[1] > 0.0
