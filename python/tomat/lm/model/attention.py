"""Attention by ``jax.nn.dot_product_attention``: cuDNN's flash attention on NVIDIA GPUs; needs JAX and Levanter.

Levanter picks its attention inside ``levanter.layers.attention.dot_product_attention``, which knows Transformer
Engine for GPUs and nothing of cuDNN. The seam used here is the module: :class:`FusedAttention` is Levanter's
``Attention`` with the same weights, so checkpoints and exports are the same, and a ``__call__`` of its own.
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

#: What cuDNN computes in; other types take Levanter's path.
_CUDNN_TYPES = (jnp.bfloat16, jnp.float16)

type Mask = AttentionMask | hax.NamedArray | None
type Implementation = Literal["cudnn", "xla"]


class FusedAttention(Attention):
    """Levanter's attention layer, computed by ``jax.nn.dot_product_attention``.

    How a mask is handed on decides the speed:

    - causal, one sequence a row: no segments are looked at, since what follows a sequence is padding, which no
      token of it sees; cuDNN leaves out the upper triangle;
    - full, one sequence a row: the sequence's length goes to cuDNN, which leaves out the padding. Segments must be
      equal over the sequence, which starts the row, and differ from it over the padding;
    - several sequences a row, and explicit masks: the mask is made and added to the scores, a matrix of rows x
      length x length in bfloat16 (128 MiB a row of 8192 tokens) and no work saved.

    Outputs at padded positions are finite and mean nothing. Types cuDNN does not know (float32) take Levanter's
    path, as the configuration names it.

    Attributes:
        implementation: ``cudnn`` or ``xla``, which does the same by plain operations on every platform.
        sequences_per_row: packed sequences a row at most; None where that is not known: segments are honoured then.
    """

    implementation: Implementation = eqx.field(default="cudnn", static=True)
    sequences_per_row: int | None = eqx.field(default=None, static=True)

    @classmethod
    def of(
        cls, plain: Attention, implementation: Implementation, sequences_per_row: int | None
    ) -> FusedAttention:
        """The layer with the weights of ``plain``."""
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
        mask: what a query may see.
        implementation: as for :class:`FusedAttention`.
        sequences_per_row: packed sequences a row at most, None where that is not known.

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
    """A mask as causal or not, lengths {batch} of the sequences, and an explicit boolean mask {batch, 1, T, S}."""
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
    missing = tuple(axis for axis in batch if axis not in made.axes)
    made = made.broadcast_axis(missing).rearrange((*batch, position, keys))
    return causal, None, jnp.expand_dims(made.array, -3)


def _lengths(segments: hax.NamedArray, position: hax.Axis, batch: tuple[hax.Axis, ...]) -> jax.Array:
    """Tokens of the sequence that starts each row, int32 {batch}."""
    first = segments[position.name, 0]
    lengths = hax.sum((segments == first).astype(jnp.int32), position)
    missing = tuple(axis for axis in batch if axis not in lengths.axes)
    array: jax.Array = lengths.broadcast_axis(missing).rearrange(batch).array
    return array
