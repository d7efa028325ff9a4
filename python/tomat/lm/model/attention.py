"""Attention by ``jax.nn.dot_product_attention``: cuDNN's flash attention on NVIDIA GPUs; needs JAX and Levanter.

Levanter's ``levanter.layers.attention.dot_product_attention`` supports Transformer Engine on GPUs, but not cuDNN.
:class:`FusedAttention` is therefore Levanter's ``Attention`` with another ``__call__``; weights, checkpoints and
exports are the same.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, override

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
from haliax.partitioning import pspec_for_axis, shard_map
from jax.sharding import PartitionSpec
from levanter.layers.attention import Attention, AttentionMask

if TYPE_CHECKING:
    from jax.typing import DTypeLike

#: Types that cuDNN supports; others use Levanter's attention.
_CUDNN_TYPES = (jnp.bfloat16, jnp.float16)

type Mask = AttentionMask | hax.NamedArray | None
type Implementation = Literal["cudnn", "xla"]


class FusedAttention(Attention):
    """Levanter's attention layer, computed by ``jax.nn.dot_product_attention``.

    The speed depends on the mask:

    - causal, one sequence per row: segments are ignored, since no token sees the padding after it; cuDNN skips the
      upper triangle;
    - full, one sequence per row: cuDNN gets the sequence's length and skips the padding. The sequence must start the
      row, with one segment number that differs from that of the padding;
    - several sequences per row, and explicit masks: the mask is materialised, rows x length x length in bfloat16
      (128 MiB for a row of 8192 tokens), and no work is saved.

    Outputs at padded positions are finite but meaningless. Types that cuDNN lacks (float32) use Levanter's attention as
    configured.

    Attributes:
        implementation: ``cudnn``, or ``xla`` for plain operations on any platform.
        sequences_per_row: largest number of packed sequences per row; None if not known, and segments are used.
    """

    implementation: Implementation = eqx.field(default="cudnn", static=True)
    sequences_per_row: int | None = eqx.field(default=None, static=True)

    @classmethod
    def of(
        cls, plain: Attention, implementation: Implementation, sequences_per_row: int | None
    ) -> FusedAttention:
        """A layer with the weights of ``plain``."""
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        return cls(**fields, implementation=implementation, sequences_per_row=sequences_per_row)

    @override
    def __call__(
        self,
        x: hax.NamedArray,
        mask: Mask,
        *,
        key: jax.Array | None = None,
        pos_ids: hax.NamedArray | None = None,
    ) -> hax.NamedArray:
        """Attention over ``x`` {..., position, embed}; the same axes come back."""
        if not self._takes(x.dtype):
            return super().__call__(x, mask, key=key, pos_ids=pos_ids)
        key_proj, key_out = (None, None) if key is None else jax.random.split(key)
        query, keys, values = self._compute_qkv(x, key=key_proj, pos_ids=pos_ids)
        query = query.flatten_axes(("kv_head", "q_heads_per_group"), "heads")
        out = attend(query, keys, values, mask, self.implementation, self.sequences_per_row)
        return self.o_proj(out.astype(x.dtype), key=key_out)

    def _takes(self, dtype: DTypeLike) -> bool:
        config = self.config
        plain = config.scaling_factor is None and config.logits_soft_cap is None and not config.upcast_attn
        windowed = config.sliding_window is not None
        return plain and not windowed and (self.implementation == "xla" or dtype in _CUDNN_TYPES)


def attend(
    query: hax.NamedArray,
    keys: hax.NamedArray,
    values: hax.NamedArray,
    mask: Mask,
    implementation: Implementation,
    sequences_per_row: int | None = None,
) -> hax.NamedArray:
    """Scaled dot-product attention over the axis ``position``.

    Args:
        query: {batch..., position, heads, head_size}, at most one batch axis, in any order.
        keys: as ``query``, with ``kv_head`` instead of ``heads``.
        values: as ``keys``.
        mask: the keys that each query may see.
        implementation: as for :class:`FusedAttention`.
        sequences_per_row: as for :class:`FusedAttention`.

    Returns:
        {batch..., position, heads, head_size}.
    """
    batch = tuple(axis for axis in query.axes if axis.name not in ("position", "heads", "head_size"))
    q = query.rearrange((*batch, "position", "heads", "head_size"))
    k, v = (array.rearrange((*batch, "position", "kv_head", "head_size")) for array in (keys, values))
    position = q.resolve_axis("position")
    causal, lengths, allowed = _lower(mask, position, batch, sequences_per_row)

    def run(q: jax.Array, k: jax.Array, v: jax.Array, lengths: Any, allowed: Any) -> jax.Array:
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            mask=allowed,
            is_causal=causal,
            query_seq_lengths=lengths,
            key_value_seq_lengths=lengths,
            implementation=implementation,
        )

    mesh = hax.partitioning._get_mesh()
    if mesh is not None and not mesh.empty and mesh.size > 1 and batch:
        rows = pspec_for_axis(batch)
        heads = pspec_for_axis((k.resolve_axis("kv_head"),))
        array = PartitionSpec(*rows, None, *heads, None)  # type: ignore[no-untyped-call]
        run = shard_map(
            run,
            mesh=mesh,
            in_specs=(array, array, array, rows, rows),  # of the mask, only the rows are split
            out_specs=array,
            check_rep=False,
        )
    return hax.named(run(q.array, k.array, v.array, lengths, allowed), q.axes)


def _lower(
    mask: Mask, position: hax.Axis, batch: tuple[hax.Axis, ...], sequences_per_row: int | None
) -> tuple[bool, jax.Array | None, jax.Array | None]:
    """Split a mask into: causal or not, sequence lengths {batch}, and an explicit boolean mask {batch, 1, T, S}."""
    if mask is None:
        return False, None, None
    keys = position.alias("key_position")
    if isinstance(mask, AttentionMask):
        structured = mask.explicit_mask is None and mask.causal_offset is None
        structured &= mask.sliding_window is None and mask.bidirectional_window is None
        if structured and (mask.segment_ids is None or sequences_per_row == 1):
            if mask.is_causal or mask.segment_ids is None:
                return mask.is_causal, None, None
            return False, _lengths(mask.segment_ids[0], position, batch), None
        if structured:  # causality needs no matrix
            causal, mask = mask.is_causal, dataclasses.replace(mask, is_causal=False)
        else:
            causal = False
        made = mask.materialize(position, keys)
    else:
        causal, made = False, mask
    axes = (*batch, position, keys)
    return causal, None, jnp.expand_dims(made.broadcast_to(axes).array, -3)


def _lengths(segments: hax.NamedArray, position: hax.Axis, batch: tuple[hax.Axis, ...]) -> jax.Array:
    """Length of the sequence that starts each row, int32 {batch}."""
    first = segments[position.name, 0]
    lengths = hax.sum((segments == first).astype(jnp.int32), position)
    array: jax.Array = lengths.broadcast_to(batch).array
    return array
