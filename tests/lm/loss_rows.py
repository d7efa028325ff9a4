"""Rows of real densities, the examples of every objective made of them by hand, and a tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import numpy as np
from levanter.layers.attention import AttentionBackend, AttentionMask
from levanter.models.qwen import Qwen3Config
from numpy.typing import NDArray

import tomat
from places import DATA
from tomat.lm.example import DensityExample
from tomat.lm.vocabulary import ModelVocabulary

LENGTH = 128
PATCH = 4
#: Small cells of few atoms, so that rows are short.
MATERIALS = ("qe-0039", "vasp-pmg-Li-nospin", "qe-0770", "qe-0934")
DATA = DATA / "rho_gga" / "label"

Batch = hax.Axis("batch", len(MATERIALS))


@dataclass(frozen=True)
class Rows:
    """Rows, and the true density at every density token."""

    vocabulary: ModelVocabulary
    tokens: NDArray[np.int32]
    values: NDArray[np.float32]
    #: Electrons in a voxel of each row's material, on average.
    electrons: NDArray[np.float64]

    @property
    def density(self) -> NDArray[np.bool_]:
        part = self.vocabulary.density
        return np.asarray((self.tokens >= part.start) & (self.tokens < part.stop))


def vocabulary(codec: str, layout: str = "v3") -> ModelVocabulary:
    """A small patch in short rows: one token a voxel takes 64 of 128 tokens."""
    patch = PATCH if len(tomat.load_codec(codec).sizes) == 1 else 3
    return ModelVocabulary(tomat.PatchTokenizer(layout, codec, patch, LENGTH))


def rows(vocabulary: ModelVocabulary) -> Rows:
    """One patch a material, with its true density."""
    tokenizer = vocabulary.tokenizer
    unit = vocabulary.tokenizer.unit
    tokens, values, electrons = [], [], []
    for i, name in enumerate(MATERIALS):
        material = tomat.read(str(DATA / f"{name}.zarr")).in_unit(unit)
        offset = np.array([[2 * i + 1, 3, 5]])
        row = tokenizer.encode_material(material, offset)[0]
        shape = tokenizer.decode(row).patch_shape
        at = np.ix_(
            *((o + np.arange(s)) % n for o, s, n in zip(offset[0], shape, material.grid_shape, strict=True))
        )
        value = np.zeros(LENGTH, np.float32)
        part = vocabulary.density
        density = (row >= part.start) & (row < part.stop)
        value[density] = np.repeat(material.density[at].ravel(), len(vocabulary.codec.sizes))
        tokens.append(row)
        values.append(value)
        electrons.append(material.n_electrons / material.density.size)
    return Rows(vocabulary, np.array(tokens), np.array(values), np.array(electrons))


def example(
    rows: Rows, objective: str, *, preamble: float = 0.0, weights: NDArray[np.floating[Any]] | None = None
) -> DensityExample:
    """A batch: ``next_token``, ``masked`` (all), ``half`` (every other density token masked), or ``guess``."""
    vocabulary, tokens, density = rows.vocabulary, rows.tokens, rows.density
    per_row = np.ones(len(tokens)) if weights is None else weights
    inputs, targets, values = tokens.copy(), tokens.copy(), rows.values.copy()
    weight = density * per_row[:, None]
    if objective == "next_token":
        targets, values = np.roll(tokens, -1, axis=1), np.roll(values, -1, axis=1)
        weight = np.roll(weight, -1, axis=1) + preamble * (
            ~np.roll(density, -1, axis=1) & (targets != vocabulary.pad)
        )
        weight[:, -1] = 0
    elif objective == "masked":
        inputs[density] = vocabulary.mask
    elif objective == "half":
        hidden = density & (np.arange(tokens.shape[1]) % 2 == 0)
        inputs[hidden] = vocabulary.mask
        weight = hidden * per_row[:, None]
    elif objective == "guess":
        part = vocabulary.density
        inputs[density] = part.start + (inputs[density] - part.start) // 2
    Pos = hax.Axis("position", tokens.shape[1])
    axes = (Batch.resize(len(tokens)), Pos)
    causal = AttentionMask.causal() if objective == "next_token" else AttentionMask()
    return DensityExample(
        tokens=hax.named(inputs.astype(np.int32), axes),
        targets=hax.named(targets.astype(np.int32), axes),
        values=hax.named(values.astype(np.float32), axes),
        loss_weight=hax.named(weight.astype(np.float32), axes),
        pos_ids=hax.named(np.broadcast_to(np.arange(Pos.size, dtype=np.int32), tokens.shape).copy(), axes),
        attn_mask=causal,
    )


def model(vocabulary: ModelVocabulary, *, seed: int = 0, scale: float = 5.0) -> Any:
    """A tiny Qwen3 whose head is scaled up, so that its predictions are far from uniform."""
    config = Qwen3Config(
        max_seq_len=LENGTH,
        hidden_dim=16,
        intermediate_dim=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        tie_word_embeddings=False,
        attn_backend=AttentionBackend.VANILLA,
    )
    made = config.build(hax.Axis("vocab", vocabulary.padded_size), key=jax.random.PRNGKey(seed))

    return eqx.tree_at(lambda m: m.lm_head.weight, made, replace_fn=lambda w: w * scale)


def logits(model: Any, example: DensityExample) -> NDArray[np.float64]:
    """All logits of a batch, float64 [rows, positions, ids]: what nothing but a test ever holds."""
    out = model.activations(example.tokens, example.attn_mask, pos_ids=example.pos_ids)
    x = np.asarray(out.rearrange(("batch", "position", "embed")).array, np.float64)
    head = np.asarray(model.get_lm_head().rearrange(("vocab", "embed")).array, np.float64)
    return np.asarray(x @ head.T)
