"""Autoregressive generation of density tokens, with a cache of keys and values.

The forward pass is written again here for a few tokens at a time; a test compares it with the full forward pass.

Why not Levanter's own decoding (``transformer.decode`` over paged caches): it gives the same tokens, but away from TPUs
its attention is a reference that takes one token of one row at a time, half as fast as this on a CPU (8 rows, 343
tokens of 512: 6.0 s against 2.9 s; 64 of 1024: 7.0 s against 3.4 s), and it would take as many lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp

from tomat.lm.decode.estimates import Estimates, estimates

if TYPE_CHECKING:
    from tomat.lm.loss import DensityTargets
    from tomat.prediction.options import Sampling

type Fed = Literal["median", "mode", "sample"]
#: Keys and values (rows, length, kv heads, head size) of each layer.
type Cache = tuple[tuple[jax.Array, jax.Array], ...]

#: Value of masked scores before the softmax: its exp is 0.
_NEVER = -1e30


@eqx.filter_jit
def generate(
    model: Any,
    tokens: jax.Array,
    first: jax.Array,
    drawn: jax.Array,
    truth: jax.Array,
    *,
    targets: DensityTargets,
    sampling: Sampling,
    fed: Fed,
) -> Estimates:
    """Generate the density tokens of rows, drawing only tokens that the layout allows at each position.

    Args:
        model: a causal Levanter Qwen3.
        tokens: (rows, length) int32; columns before ``first`` are the preamble, the rest is ignored.
        first: (rows,) int32, column of the first density token, at least 1.
        drawn: (rows, count) uniform numbers in [0, 1) that determine the samples of ``count`` tokens.
        truth: (rows, count) true densities for ``expected_error``.
        targets: the density tokens.
        sampling: of the samples.
        fed: the estimate whose token is generated, on which the following tokens are conditioned.

    Returns:
        Arrays (rows, count): the estimates of each position, given the tokens generated before it.
    """
    rows, length = tokens.shape
    count = drawn.shape[1]
    order = None if targets.bins is None else targets.bins.order
    head = model.get_lm_head().rearrange((model.Vocab.name, model.Embed.name)).array
    parts = len(targets.sizes)

    def ask(x: jax.Array, t: jax.Array) -> tuple[Estimates, jax.Array]:
        """Estimates from activations (rows, d) for density position t, and the generated ids."""
        component = jnp.full((rows,), t % parts, jnp.int32)
        found = estimates(
            x, head, drawn[:, t], truth[:, t], targets, sampling=sampling, component=component, block=rows
        )
        place = getattr(found, f"{fed}_place")
        if order is not None:
            place = jnp.take(jnp.asarray(order), place)
        return found, (place + targets.first).astype(jnp.int32)

    # Preambles may differ in length: later columns are computed too, and overwritten as they are generated.
    columns = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    widest = length - count  # static bound of the preamble
    config = model.config
    size = config.head_dim or config.hidden_dim // config.num_heads
    empty = jnp.zeros((rows, length, config.num_kv_heads, size), head.dtype)
    x, cache = _forward(model, tokens[:, :widest], columns[:, :widest], ((empty, empty),) * config.num_layers)
    last = jnp.take_along_axis(x, (first - 1)[:, None, None], axis=1)[:, 0]
    found, ids = ask(last, jnp.int32(0))

    def step(carry: tuple[Cache, jax.Array], t: jax.Array) -> tuple[tuple[Cache, jax.Array], Estimates]:
        cache, ids = carry
        x, cache = _forward(model, ids[:, None], (first + t - 1)[:, None], cache)
        found, ids = ask(x[:, 0], t)
        return (cache, ids), found

    _, rest = jax.lax.scan(step, (cache, ids), jnp.arange(1, count))
    return Estimates(*(jnp.concatenate([a[:, None], b.T], axis=1) for a, b in zip(found, rest, strict=True)))


def _forward(model: Any, ids: jax.Array, columns: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
    """Activations (rows, n, d) of ids (rows, n) at these columns, and the updated cache."""
    batch, pos = hax.Axis("batch", ids.shape[0]), hax.Axis("position", ids.shape[1])
    x = model.embeddings.embed(hax.named(ids, (batch, pos)))
    at = hax.named(columns, (batch, pos))
    # A loop over layers: a scan would copy the whole cache at every token.
    kept = []
    for layer, (keys, values) in zip(model.transformer.layers.unstacked(), cache, strict=True):
        attended, keys, values = _attend(layer.self_attn, layer.input_layernorm(x), at, keys, values)
        kept.append((keys, values))
        x = x + attended
        x = x + layer.mlp(layer.post_attention_layernorm(x), key=None)
    x = model.transformer.norm(x).rearrange((batch, pos, model.Embed.name)).array
    return x, tuple(kept)


def _attend(
    layer: Any, x: hax.NamedArray, at: hax.NamedArray, keys: jax.Array, values: jax.Array
) -> tuple[hax.NamedArray, jax.Array, jax.Array]:
    """Attention of new tokens over the cache up to their own column."""
    q, k, v = layer._compute_qkv(x, key=None, pos_ids=at)
    order = ("batch", "position", "kv_head", "head_size")
    columns = at.array
    rows = jnp.arange(columns.shape[0])[:, None]
    keys = keys.at[rows, columns].set(k.rearrange(order).array.astype(keys.dtype))
    values = values.at[rows, columns].set(v.rearrange(order).array.astype(values.dtype))
    grouped = q.rearrange(("batch", "position", "kv_head", "q_heads_per_group", "head_size"))
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped.array, keys, preferred_element_type=jnp.float32)
    seen = jnp.arange(keys.shape[1])[None, None, :] <= columns[:, :, None]
    scores = jnp.where(seen[:, None, None], scores * keys.shape[-1] ** -0.5, _NEVER)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    out = jnp.einsum("bkgts,bskd->btkgd", weights, values)
    named = hax.named(out, tuple(grouped.axes)).flatten_axes(("kv_head", "q_heads_per_group"), "heads")
    return layer.o_proj(named.astype(x.dtype), key=None), keys, values
