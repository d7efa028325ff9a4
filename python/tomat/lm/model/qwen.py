"""Build Levanter's Qwen3 from a configuration, with attention by platform; needs JAX and Levanter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, override

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
from levanter.layers.attention import AttentionBackend, AttentionMask
from levanter.layers.rotary import DefaultRotaryEmbeddingsConfig
from levanter.models.qwen import Qwen3Config, Qwen3LMHeadModel

from tomat.lm.model.attention import FusedAttention
from tomat.lm.spatial.attention import CartesianAttention, Turns
from tomat.lm.spatial.eyes import Eyes

if TYPE_CHECKING:
    from levanter.layers.attention import Attention
    from levanter.models.llama import LlamaTransformer
    from transformers.models.qwen3 import Qwen3Config as HfQwen3Config

    from tomat.lm.field.config import FieldShape
    from tomat.lm.model.attention import Implementation, Mask
    from tomat.lm.model.presets import ModelConfig
    from tomat.lm.spatial.example import Space
    from tomat.lm.vocabulary import ModelVocabulary

#: On a CPU, rows up to this many tokens use plain attention, where flash attention only adds loops.
_VANILLA_TOKENS = 1024

#: Logit of an input token that the model passes through unchanged, see :func:`ordinal_rows`.
_SHARPNESS = 12.0

#: Default tokens per block of Levanter's flash attention.
_FLASH_BLOCK = 1024

#: Levanter's backends by the name of an implementation.
LEVANTER_BACKENDS = {
    "splash": AttentionBackend.SPLASH,
    "flash": AttentionBackend.JAX_FLASH,
    "vanilla": AttentionBackend.VANILLA,
    # What FusedAttention falls back to.
    "cudnn": AttentionBackend.JAX_FLASH,
    "xla": AttentionBackend.VANILLA,
}


@dataclass(frozen=True)
class DensityLMConfig(Qwen3Config):
    """Levanter's Qwen3 configuration with the implementation and the direction of attention.

    Attributes:
        attention: ``splash``, ``cudnn``, ``xla``, ``flash`` or ``vanilla``.
        bidirectional: whether it is trained with full attention; the masks of examples determine what it sees.
        sequences_per_row: largest number of packed sequences per row, None if not known. With 1, a causal model ignores
            segments, which only mark padding; several sequences would then see each other.
        initialisation: ``ordinal`` or ``random``; see :func:`build`.
        positions: ``index``, or ``cartesian`` for places in space.
        field: the shape of the field model whose features tokens see, or None.
    """

    attention: str = "vanilla"
    bidirectional: bool = False
    sequences_per_row: int | None = None
    initialisation: str = "random"
    positions: str = "index"
    field: FieldShape | None = None

    @property
    def spatial(self) -> bool:
        """Whether the model must know where its tokens are."""
        return self.positions == "cartesian" or self.field is not None

    @property
    @override
    def model_type(self) -> type[DensityLM]:
        return DensityLM

    @override
    def to_hf_config(self, vocab_size: int, config_overrides: dict[str, Any] | None = None) -> HfQwen3Config:
        """The configuration for `transformers`; ``is_causal`` says how the model was trained."""
        overrides = {"is_causal": not self.bidirectional, **(config_overrides or {})}
        made: HfQwen3Config = super().to_hf_config(vocab_size, overrides)
        return made


class DensityLM(Qwen3LMHeadModel):
    """Levanter's Qwen3 language model; ``attention`` ``cudnn`` or ``xla`` uses :class:`FusedAttention`.

    Attributes:
        eyes: what tokens see of the field, or None.
    """

    eyes: Eyes | None = None

    @classmethod
    @override
    def init(cls, Vocab: hax.Axis, config: DensityLMConfig, *, key: jax.Array) -> DensityLM:
        """A model with random weights."""
        plain = Qwen3LMHeadModel.init(Vocab, config, key=key)
        transformer = plain.transformer
        if config.positions == "cartesian":
            cartesian = CartesianAttention.of(_attention(transformer), config.Layers)
            transformer = eqx.tree_at(_attention, transformer, cartesian)
        elif config.attention in ("cudnn", "xla"):
            kind = cast("Implementation", config.attention)
            fused = FusedAttention.of(_attention(transformer), kind, config.sequences_per_row)
            transformer = eqx.tree_at(_attention, transformer, fused)
        # The other weights are those of a model without eyes.
        eyes = (
            None
            if config.field is None
            else Eyes.init(jax.random.fold_in(key, 1), config.field, config.hidden_dim)
        )
        return cls(transformer, plain.embeddings, plain.lm_head, eyes)

    @override
    def __call__(
        self,
        input_ids: hax.NamedArray,
        attn_mask: Mask = None,
        pos_ids: hax.NamedArray | None = None,
        *,
        key: jax.Array | None = None,
        space: Space | None = None,
    ) -> hax.NamedArray:
        """Logits {..., position, vocab}."""
        x = self.activations(input_ids, attn_mask, key=key, pos_ids=pos_ids, space=space)
        return hax.dot(x, self.get_lm_head(), axis=self.Embed)

    @override
    def activations(
        self,
        input_ids: hax.NamedArray,
        attn_mask: Mask = None,
        *,
        key: jax.Array | None = None,
        pos_ids: hax.NamedArray | None = None,
        space: Space | None = None,
    ) -> hax.NamedArray:
        """Activations {..., position, embed} after the last norm.

        Args:
            input_ids: ids {..., position}; {batch, position} for a model that is ``spatial``.
            attn_mask: what each token may see.
            key: of the layers, and of the noise on what tokens see.
            pos_ids: positions {..., position}; no use to a model with positions in space.
            space: of the rows, for a model that is ``spatial``.

        Raises:
            ValueError: the model is ``spatial``, and there is no ``space``.
        """
        if not self.config.spatial:
            return super().activations(input_ids, self._needed(attn_mask), key=key, pos_ids=pos_ids)
        if space is None:
            raise ValueError(
                "a model with positions in space or the field's eyes needs the space of its rows"
            )
        x = self.embeddings.embed(input_ids)
        if self.eyes is not None:
            noise = None if key is None else jax.random.fold_in(key, 1)
            axes = (*input_ids.axes, self.Embed)
            x = x + hax.named(self.eyes(space, noise).astype(x.dtype), axes).rearrange(x.axes)
        where: Any = pos_ids
        if self.config.positions == "cartesian":
            where = Turns.of(space.places.array, self.config.num_kv_heads, self.config.actual_head_size // 2)
        return self.transformer(x, attn_mask=self._needed(attn_mask), key=key, pos_ids=where)

    def _needed(self, mask: Mask) -> Mask:
        """The mask without segments where they have no effect: a single causal sequence never sees its padding."""
        if self.config.sequences_per_row == 1 and isinstance(mask, AttentionMask) and mask.is_causal:
            return dataclasses.replace(mask, segment_ids=None)
        return mask


def _attention(transformer: LlamaTransformer) -> Attention:
    """The attention of all layers, stacked along the axis ``layer``."""
    return transformer.layers.stacked.self_attn


def attention_for(choice: str, platform: str, seq_len: int) -> str:
    """The implementation of attention: ``choice``, or the fastest on the platform for ``auto``.

    Args:
        choice: one of :data:`~tomat.lm.model.presets.ATTENTION`.
        platform: JAX's name: ``tpu``, ``gpu`` (or ``cuda``), ``cpu``.
        seq_len: tokens per row.
    """
    if choice != "auto":
        return choice
    if platform == "tpu":
        return "splash"
    if platform in ("gpu", "cuda"):
        return "cudnn"
    return "vanilla" if seq_len <= _VANILLA_TOKENS else "flash"


def levanter_config(
    config: ModelConfig,
    *,
    platform: str | None = None,
    bidirectional: bool = False,
    sequences_per_row: int | None = None,
) -> DensityLMConfig:
    """Levanter's configuration of a model: scanned layers, tied embeddings, attention by platform.

    Args:
        config: preset and changes.
        platform: where the model runs, such as ``tpu``; None is JAX's default backend.
        bidirectional: whether it is trained with full attention (objectives ``masked`` and ``guess``).
        sequences_per_row: largest number of packed sequences per row, None if not known; 1 is fastest.

    Raises:
        ValueError: invalid numbers, or a row length that is not a multiple of the attention's block.
    """
    shape = config.shape()
    if sequences_per_row is not None and sequences_per_row < 1:
        raise ValueError(f"sequences_per_row = {sequences_per_row} must be at least 1")
    backend = attention_for(config.attention, platform or jax.default_backend(), shape.seq_len)
    if shape.cartesian:
        if config.attention not in ("auto", "vanilla"):
            raise ValueError(
                f"model.attention = {config.attention} takes no bias by distance; positions in space have attention of "
                "their own: leave model.attention at auto"
            )
        backend = "vanilla"
    if backend == "splash" and shape.seq_len % 128:
        raise ValueError(
            f"splash attention takes rows of a multiple of 128 tokens, not {shape.seq_len}: "
            "change model.seq_len or model.attention"
        )
    kept = shape.gradient_checkpointing
    block = config.attention_block or _FLASH_BLOCK
    if backend == "flash" and shape.seq_len > block and shape.seq_len % block:
        raise ValueError(
            f"flash attention takes rows of a multiple of {block} tokens, not {shape.seq_len}: "
            "change model.seq_len, model.attention_block or model.attention"
        )
    return DensityLMConfig(
        max_seq_len=shape.seq_len,
        hidden_dim=shape.hidden_dim,
        intermediate_dim=shape.intermediate_dim,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        layer_norm_epsilon=1e-6,
        tie_word_embeddings=True,
        attn_backend=LEVANTER_BACKENDS[backend],
        flash_attention_block_size=config.attention_block,
        gradient_checkpointing={"off": False, "full": True}.get(kept, kept),
        scan_layers=True,
        rope=DefaultRotaryEmbeddingsConfig(theta=shape.rope_theta),
        attention=backend,
        bidirectional=bidirectional,
        sequences_per_row=sequences_per_row,
        initialisation=config.initialisation,
        positions=shape.positions,
        field=shape.field,
    )


def build(config: Qwen3Config, vocabulary: ModelVocabulary, key: jax.Array) -> Qwen3LMHeadModel:
    """A new model, float32; its axis ``vocab`` has ``vocabulary.padded_size`` rows.

    With ``initialisation`` ``random`` all weights are Levanter's. With ``ordinal`` the rows of density tokens are
    :func:`ordinal_rows`, and the output matrices of the layers are zero: the new model predicts the density token it
    sees and its neighbours.
    """
    key, density_key = jax.random.split(key)
    model = config.build(hax.Axis("vocab", vocabulary.padded_size), key=key)
    if getattr(config, "initialisation", "random") == "ordinal":
        model = eqx.tree_at(_embedding, model, _with_ordinal_rows(_embedding(model), vocabulary, density_key))
        model = eqx.tree_at(_added, model, [weight * 0 for weight in _added(model)])
    return model


def _embedding(model: Qwen3LMHeadModel) -> hax.NamedArray:
    return model.embeddings.token_embeddings.weight


def _added(model: Qwen3LMHeadModel) -> list[hax.NamedArray]:
    """The output matrices of the layers, whose products are added to the residual stream."""
    layers = model.transformer.layers.stacked
    return [layers.self_attn.o_proj.weight, layers.mlp.down_proj.weight]


def _with_ordinal_rows(
    embedding: hax.NamedArray, vocabulary: ModelVocabulary, key: jax.Array
) -> hax.NamedArray:
    table = embedding.rearrange(("vocab", "embed"))
    rows = table.array
    start = vocabulary.density.start
    for size, part in zip(
        vocabulary.codec.sizes, jax.random.split(key, len(vocabulary.codec.sizes)), strict=True
    ):
        made = ordinal_rows(size, rows.shape[1], part).astype(rows.dtype)
        rows = rows.at[start : start + size].set(made)
        start += size
    return hax.named(rows, table.axes).rearrange(embedding.axes)


def ordinal_rows(n: int, width: int, key: jax.Array) -> jax.Array:
    """Embeddings (n, width) of n ordered bins, similar for neighbours at every scale.

    Pairs of cos(w i + phase), sin(w i + phase) with random phases and frequencies w from one turn over two ranges to a
    quarter turn a bin, evenly spaced in their logarithm: the product of rows i and j depends on i - j alone and falls
    like its logarithm. The length of the rows is such that a model that passes a token through unchanged predicts a
    peak of a few bins around it, since the output layer is the same matrix after a norm.
    """
    half = (width + 1) // 2
    low, high = jnp.pi / n, jnp.pi / 2
    frequencies = low * (high / low) ** jnp.linspace(0.0, 1.0, half)
    phases = jax.random.uniform(key, (half,), maxval=2 * jnp.pi)
    angles = jnp.arange(n, dtype=jnp.float32)[:, None] * frequencies + phases
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)[:, :width]
    scaled: jax.Array = waves * (_SHARPNESS / width**0.5 / half**0.5)
    return scaled
