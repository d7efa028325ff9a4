"""Attention over places in space: queries and keys turned by angles along x, y and z, and biases by distance.

The rule is that of the brick model (:mod:`tomat.lm.brick.transformer`). The rest, with its weights, is Levanter's
layer. Needs JAX and Levanter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Self, override

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
from levanter.layers.attention import Attention, AttentionMask

from tomat.lm.brick.config import GAUSSIANS
from tomat.lm.brick.transformer import angles_of, gaussians, turned_by

if TYPE_CHECKING:
    from tomat.lm.model.attention import Mask

#: Added to the scores of what is not seen.
_UNSEEN = -1e9
_GAUSSIAN = hax.Axis("gaussian", GAUSSIANS)


class Turns(eqx.Module):
    """What attention needs to know about the places of a batch of rows.

    Attributes:
        cosine, sine: {batch, position, kv_head, pair} of the angles by which queries and keys are turned.
        distances: {batch, position, key_position, gaussian}.
    """

    cosine: hax.NamedArray
    sine: hax.NamedArray
    distances: hax.NamedArray

    @classmethod
    def of(cls, places: jax.Array, heads: int, pairs: int) -> Turns:
        """The turns at places (rows, t, 3) in angstrom, for so many heads of keys and pairs of numbers in each."""
        angles = jax.vmap(lambda p: angles_of(p, heads, pairs))(places)
        away = places[:, None] - places[:, :, None]
        distances = gaussians(jnp.sum(away * away, axis=-1, keepdims=True))
        each = ("batch", "position", "kv_head", "pair")
        return cls(
            hax.named(jnp.cos(angles), each),
            hax.named(jnp.sin(angles), each),
            hax.named(distances, ("batch", "position", "key_position", "gaussian")),
        )


class CartesianAttention(Attention):
    """Levanter's attention layer over places in space; its ``pos_ids`` are :class:`Turns`.

    All scores of a row are held at once.

    Attributes:
        distance: {gaussian, kv_head, q_heads_per_group} from distances to biases; zero in a new model.
    """

    distance: hax.NamedArray = eqx.field(kw_only=True)

    @classmethod
    def of(cls, plain: Attention, layers: hax.Axis) -> Self:
        """A new layer, stacked like ``plain`` along ``layers``, with its weights."""
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        config = plain.config
        distance = hax.zeros((layers, _GAUSSIAN, config.KVHeads, config.QHeadsPerGroup))
        return cls(**fields | {"rot_embs": None}, distance=distance)

    @override
    def __call__(
        self,
        x: hax.NamedArray,
        mask: Mask,
        *,
        key: jax.Array | None = None,
        pos_ids: hax.NamedArray | Turns | None = None,
    ) -> hax.NamedArray:
        """Attention over ``x`` {batch, position, embed}; the same axes come back.

        Raises:
            ValueError: there are no turns.
        """
        if not isinstance(pos_ids, Turns):
            raise ValueError("a model with positions in space needs the places of its tokens")
        key_proj, key_out = (None, None) if key is None else jax.random.split(key)
        query, keys, values = self._compute_qkv(x, key=key_proj, pos_ids=None)
        batch, position, size = (
            x.resolve_axis("batch"),
            x.resolve_axis("position"),
            query.resolve_axis("head_size"),
        )
        q = query.rearrange((batch, "position", "q_heads_per_group", "kv_head", "head_size")).array
        k, v = (a.rearrange((batch, "position", "kv_head", "head_size")).array for a in (keys, values))
        cosine, sine = (a.array.astype(q.dtype) for a in (pos_ids.cosine, pos_ids.sine))
        q = turned_by(q, cosine[:, :, None], sine[:, :, None])
        k = turned_by(k, cosine, sine)
        scores = jnp.einsum("bighd,bjhd->bghij", q, k) / math.sqrt(size.size)
        bias = self.distance.rearrange(("gaussian", "q_heads_per_group", "kv_head")).array
        scores = scores + jnp.einsum("bijn,ngh->bghij", pos_ids.distances.array.astype(q.dtype), bias)
        seen = _seen(mask, batch, position)
        if seen is not None:
            scores = scores + jnp.where(seen, 0.0, _UNSEEN)[:, None, None]
        share = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(x.dtype)
        out = hax.named(
            jnp.einsum("bghij,bjhd->bihgd", share, v),
            (batch, position, self.config.KVHeads, self.config.QHeadsPerGroup, size),
        )
        return self.o_proj(
            out.flatten_axes(("kv_head", "q_heads_per_group"), "heads").astype(x.dtype), key=key_out
        )


def _seen(mask: Mask, batch: hax.Axis, position: hax.Axis) -> jax.Array | None:
    """Which keys each query may see (batch, t, t), or None for all."""
    keys = position.alias("key_position")
    made = mask.materialize(position, keys) if isinstance(mask, AttentionMask) else mask
    return None if made is None else made.broadcast_to((batch, position, keys)).array
