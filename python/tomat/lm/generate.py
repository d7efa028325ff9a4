"""Free-running generation: a next-token model writes the density of a patch, token after token; needs JAX, Levanter.

What the model wrote is what it reads: nothing of the true density is in its context. Keys and values are kept (a
static cache, one slot a position), so that a token costs one pass of one position; the numbers are those of the full
forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
from levanter.layers.attention import AttentionMask

if TYPE_CHECKING:
    from levanter.models.qwen import Qwen3LMHeadModel
    from numpy.typing import NDArray

    from tomat.lm.vocabulary import ModelVocabulary

__all__ = ["Generated", "Sampling", "bin_values", "density_ranges", "generate", "row_keys"]

_NEVER = -1e30


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen of its distribution.

    Attributes:
        temperature: 0 takes the likeliest; 1 draws from the distribution as it is.
        nucleus: draws among the likeliest ids whose probabilities reach this sum; 1 for all.
    """

    temperature: float = 0.0
    nucleus: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no way of choosing.

        Raises:
            ValueError: a negative temperature, or a nucleus outside (0, 1].
        """
        if self.temperature < 0:
            raise ValueError(f"temperature = {self.temperature} must not be negative")
        if not 0 < self.nucleus <= 1:
            raise ValueError(f"nucleus = {self.nucleus} must be above 0 and at most 1")


class Generated(NamedTuple):
    """What came out, arrays of (batch, steps).

    Attributes:
        tokens: int32 ids.
        mean: expectation of the density under each step's distribution, given the tokens before; None without values.
        median: the value half of the probability lies below.
        mode: the value of the likeliest id.
    """

    tokens: jax.Array
    mean: jax.Array | None = None
    median: jax.Array | None = None
    mode: jax.Array | None = None


def density_ranges(vocabulary: ModelVocabulary, voxels: int) -> NDArray[np.int32]:
    """The grammar of a DENS block: which ids may stand at each of its positions.

    Returns:
        int32 (voxels * components, 2): the first id allowed and the first one after, component after component.
    """
    sizes = np.asarray(vocabulary.codec.sizes)
    ends = vocabulary.density.start + np.cumsum(sizes)
    return np.tile(np.stack([ends - sizes, ends], axis=1), (voxels, 1)).astype(np.int32)


def bin_values(vocabulary: ModelVocabulary) -> NDArray[np.float32]:
    """Densities of the density tokens in the codec's unit, for codecs of one token a voxel.

    Raises:
        ValueError: a codec of several tokens a voxel: one token has no value.
    """
    sizes = vocabulary.codec.sizes
    if len(sizes) != 1:
        raise ValueError(f"the codec has {len(sizes)} tokens a voxel; a single one stands for no density")
    return vocabulary.codec.decode(np.arange(sizes[0])[:, None]).astype(np.float32)


def row_keys(seeds: NDArray[np.integer[Any]] | list[int]) -> jax.Array:
    """A random key for each row of a batch: what a row draws does not depend on the rows beside it."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, dtype=jnp.uint32))


def generate(
    model: Qwen3LMHeadModel,
    prompts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    ranges: NDArray[np.int32],
    *,
    sampling: Sampling | None = None,
    keys: jax.Array | None = None,
    values: NDArray[np.float32] | None = None,
) -> Generated:
    """Continue each row of a batch by ``len(ranges)`` tokens.

    Compiled once for each batch size, prompt width, number of steps and span of ``ranges``.

    Args:
        model: trained for ``next_token``.
        prompts: int32 (batch, width), the rows up to and with ``[DENS_START]``, padded on the right.
        lengths: int32 (batch,), tokens of each prompt without its padding; at least 1.
        ranges: int32 (steps, 2), the ids allowed at each step; :func:`density_ranges` makes them.
        sampling: how tokens are chosen; the likeliest where None.
        keys: random keys (batch,), of :func:`row_keys`; needed unless the likeliest are taken.
        values: the densities of all ids from the lowest allowed to the highest, for point estimates.

    Raises:
        ValueError: a model that looks both ways, arrays that do not fit together, or rows longer than the model's.
    """
    sampling = sampling or Sampling()
    _check(model, prompts, lengths, ranges, values)
    if keys is None:
        if sampling.temperature > 0:
            raise ValueError("sampling draws: give keys, one a row (row_keys)")
        keys = row_keys([0] * len(prompts))
    low, high = int(ranges[:, 0].min()), int(ranges[:, 1].max())
    return _generate(
        model,
        jnp.asarray(prompts),
        jnp.asarray(lengths, dtype=jnp.int32),
        jnp.asarray(ranges),
        keys,
        None if values is None else jnp.asarray(values),
        (low, high),
        sampling,
    )


def _check(model: Any, prompts: Any, lengths: Any, ranges: Any, values: Any) -> None:
    if getattr(model.config, "bidirectional", False):
        raise ValueError(
            "this model looks both ways and predicts a patch at once: it does not generate token by token"
        )
    if ranges.ndim != 2 or ranges.shape[1] != 2 or not len(ranges) or not (ranges[:, 0] < ranges[:, 1]).all():
        raise ValueError(f"ranges of shape {ranges.shape} must be (steps, 2), each with an id in it")
    if prompts.ndim != 2 or lengths.shape != prompts.shape[:1]:
        raise ValueError(
            f"prompts {prompts.shape} and lengths {lengths.shape} must be (batch, width) and (batch,)"
        )
    if not ((lengths >= 1) & (lengths <= prompts.shape[1])).all():
        raise ValueError(f"lengths must be 1 to {prompts.shape[1]}, the width of the prompts")
    longest = int(lengths.max()) + len(ranges)
    if longest > model.config.max_seq_len:
        raise ValueError(f"rows of {longest} tokens do not fit the model's {model.config.max_seq_len}")
    span = ranges[:, 1].max() - ranges[:, 0].min()
    if values is not None and values.shape != (span,):
        raise ValueError(
            f"values {values.shape} must be one for each of the {span} ids that are allowed anywhere"
        )


class _Cache(eqx.Module):
    """Keys and values of all layers, {layer, batch, key_position, kv_head, head_size}."""

    keys: hax.NamedArray
    values: hax.NamedArray


@eqx.filter_jit
def _generate(
    model: Any,
    prompts: jax.Array,
    lengths: jax.Array,
    ranges: jax.Array,
    keys: jax.Array,
    values: jax.Array | None,
    span: tuple[int, int],
    sampling: Sampling,
) -> Generated:
    cache, x = _prefill(model, prompts, prompts.shape[1] + len(ranges))
    last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]
    rows = model.get_lm_head().rearrange(("vocab", "embed")).array[span[0] : span[1]]
    ids = jnp.arange(*span)

    def step(carry: Any, given: Any) -> Any:
        cache, state, at = carry
        allowed, number = given
        logits = jnp.einsum("be,ve->bv", state, rows, preferred_element_type=jnp.float32)
        logits = jnp.where((ids >= allowed[0]) & (ids < allowed[1]), logits, _NEVER)
        draws = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        chosen = _choose(logits, draws, sampling)
        cache, state = _advance(model, cache, chosen + span[0], at)
        return (cache, state, at + 1), (chosen + span[0], _estimates(logits, values))

    steps = jnp.arange(len(ranges))
    _, (tokens, estimates) = jax.lax.scan(step, (cache, last, lengths), (ranges, steps))
    return Generated(tokens.T.astype(jnp.int32), *(each.T for each in estimates))


def _choose(logits: jax.Array, keys: jax.Array, sampling: Sampling) -> jax.Array:
    """Indices (batch,) chosen of logits (batch, ids)."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    logits = logits / sampling.temperature
    if sampling.nucleus < 1:
        order = jnp.argsort(-logits, axis=-1)
        likely = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1), axis=-1)
        before = jnp.cumsum(likely, axis=-1) - likely  # the likeliest stays, however likely
        kept = jnp.take_along_axis(before < sampling.nucleus, jnp.argsort(order, axis=-1), axis=-1)
        logits = jnp.where(kept, logits, _NEVER)
    return jax.vmap(jax.random.categorical)(keys, logits)


def _estimates(logits: jax.Array, values: jax.Array | None) -> tuple[jax.Array, ...]:
    """Mean, median and mode (batch,) of the distributions."""
    if values is None:
        return ()
    likely = jax.nn.softmax(logits, axis=-1)
    order = jnp.argsort(values)
    below = jnp.cumsum(likely[:, order], axis=-1)
    median = values[order][jnp.argmax(below >= 0.5 * below[:, -1:], axis=-1)]
    return likely @ values, median, values[jnp.argmax(logits, axis=-1)]


def _prefill(model: Any, prompts: jax.Array, slots: int) -> tuple[_Cache, jax.Array]:
    """The cache after the prompts, with room for ``slots`` positions, and the activations (batch, width, embed)."""
    named = hax.named(prompts, ("batch", "position"))
    position = named.resolve_axis("position")
    x = model.embeddings.embed(named)

    def layer(x: hax.NamedArray, block: Any) -> Any:
        normed = block.input_layernorm(x)
        _, keys, values = block.self_attn._compute_qkv(normed, key=None, pos_ids=hax.arange(position))
        return block(x, AttentionMask.causal()), _Cache(*(_slots(array, slots) for array in (keys, values)))

    transformer = model.transformer
    x, cache = hax.scan(layer, transformer.layers.Block)(x, transformer.layers.stacked)
    return cache, transformer.norm(x).rearrange(("batch", "position", "embed")).array


def _slots(array: hax.NamedArray, slots: int) -> hax.NamedArray:
    """{batch, key_position, kv_head, head_size} with zeros up to ``slots`` positions."""
    array = array.rearrange(("batch", "position", "kv_head", "head_size"))
    raw = jnp.pad(array.array, ((0, 0), (0, slots - array.axis_size("position")), (0, 0), (0, 0)))
    return hax.named(raw, ("batch", "key_position", "kv_head", "head_size"))


def _advance(model: Any, cache: _Cache, tokens: jax.Array, at: jax.Array) -> tuple[_Cache, jax.Array]:
    """Read one token a row at positions ``at`` (batch,): the cache with it, and the activations (batch, embed)."""
    x = model.embeddings.embed(hax.named(tokens[:, None], ("batch", "position")))
    pos_ids = hax.named(at[:, None], ("batch", "position"))

    def layer(x: hax.NamedArray, block: Any, cache: _Cache) -> Any:
        query, key, value = block.self_attn._compute_qkv(block.input_layernorm(x), key=None, pos_ids=pos_ids)
        cache = _Cache(_put(cache.keys, key, at), _put(cache.values, value, at))
        out = _attend(query, cache, at).astype(x.dtype)
        x = x + block.self_attn.o_proj(out)
        return x + block.mlp(block.post_attention_layernorm(x)), cache

    transformer = model.transformer
    x, cache = hax.scan(layer, transformer.layers.Block)(x, transformer.layers.stacked, cache)
    return cache, transformer.norm(x).rearrange(("batch", "position", "embed")).array[:, 0]


def _put(cache: hax.NamedArray, new: hax.NamedArray, at: jax.Array) -> hax.NamedArray:
    """The cache of a layer with one more position a row."""
    array = new.rearrange(("batch", "position", "kv_head", "head_size")).array[:, 0]
    return hax.named(cache.array.at[jnp.arange(len(at)), at].set(array.astype(cache.dtype)), cache.axes)


def _attend(query: hax.NamedArray, cache: _Cache, at: jax.Array) -> hax.NamedArray:
    """Attention of one position a row over its cache, {batch, position, heads, head_size}."""
    q = query.rearrange(("batch", "position", "kv_head", "q_heads_per_group", "head_size")).array[:, 0]
    scores = jnp.einsum("bkgh,bskh->bkgs", q, cache.keys.array, preferred_element_type=jnp.float32)
    seen = jnp.arange(cache.keys.axis_size("key_position")) <= at[:, None]
    scores = jnp.where(seen[:, None, None], scores / q.shape[-1] ** 0.5, _NEVER)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    out = jnp.einsum("bkgs,bskh->bkgh", weights, cache.values.array)
    flat = out.reshape(out.shape[0], 1, -1, out.shape[-1])
    return hax.named(flat, ("batch", "position", "heads", "head_size"))
