"""Apply the output layer and a loss block by block of positions, so that not all logits exist at once.

The logits of 8 rows of 8192 positions over 18,688 ids are 4.9 GB in float32, and a softmax and its gradient want
several such arrays. Here one block of positions at a time is multiplied with the head, turned into losses (and
gradients if needed), and dropped. Matrix products take inputs in the type of the activations (bfloat16 in mixed
precision) and accumulate in float32; losses and the head's gradient, summed over blocks, are float32 too.

Under a mesh each device cuts its own positions into blocks (``shard_map``), and the head's gradient is summed over
devices once, after the last block, not once a block.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import haliax.partitioning as partitioning
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    type Tree = Any
    #: (logits [t, v] float32, a tree of [t, ...]) -> (loss [t], a tree of [t, ...] that carries no gradient)
    type PositionLoss = Callable[[jax.Array, Tree], tuple[jax.Array, Tree]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def per_position(
    loss: PositionLoss, block: int, spec: PartitionSpec, x: jax.Array, head: jax.Array, given: Tree
) -> tuple[jax.Array, Tree]:
    """The loss of every position; its gradient recomputes the logits of each block.

    Args:
        loss: of a block of positions.
        block: positions per block and device; 0 is all at once.
        spec: how the axes of ``x`` before the last are split over the mesh.
        x: activations [..., d].
        head: [v, d], one row per id.
        given: a tree of arrays [..., (anything)] with the leading axes of ``x``; they get no gradient.

    Returns:
        Losses [...] and the extras of ``loss``, which carry no gradient.
    """
    out: tuple[jax.Array, Tree] = _split(functools.partial(of_logits, loss, block), spec, x, head, (given,))
    return out


def no_split() -> PartitionSpec:
    """The partition spec of unsplit axes and replicated arrays."""
    return PartitionSpec()  # type: ignore[no-untyped-call]


def _per_position_forward(
    loss: PositionLoss, block: int, spec: PartitionSpec, x: jax.Array, head: jax.Array, given: Tree
) -> tuple[tuple[jax.Array, Tree], Tree]:
    return per_position(loss, block, spec, x, head, given), (x, head, given)


def _per_position_backward(
    loss: PositionLoss, block: int, spec: PartitionSpec, kept: Tree, ct: Tree
) -> tuple[jax.Array, jax.Array, None]:
    x, head, given = kept
    *_, dx, dhead = _split(
        functools.partial(_gradients, loss, block), spec, x, head, (given, ct[0]), sums_head=True
    )
    return dx, dhead.astype(head.dtype), None


per_position.defvjp(_per_position_forward, _per_position_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def weighted_sum(
    loss: PositionLoss,
    block: int,
    spec: PartitionSpec,
    x: jax.Array,
    head: jax.Array,
    given: Tree,
    weight: jax.Array,
) -> tuple[jax.Array, jax.Array, Tree]:
    """The sum of weight * loss over all positions, the losses [...], and the extras of ``loss``.

    As :func:`per_position`, but gradients are computed together with the block's logits: three matrix products instead
    of four, and one softmax. Only the sum carries a gradient.
    """
    losses, extras = _split(functools.partial(of_logits, loss, block), spec, x, head, (given,))
    return jnp.sum(weight * losses), losses, extras


def _weighted_sum_forward(
    loss: PositionLoss,
    block: int,
    spec: PartitionSpec,
    x: jax.Array,
    head: jax.Array,
    given: Tree,
    weight: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, Tree], Tree]:
    losses, extras, dx, dhead = _split(
        functools.partial(_gradients, loss, block), spec, x, head, (given, weight), sums_head=True
    )
    return (jnp.sum(weight * losses), losses, extras), (dx, dhead.astype(head.dtype))


def _weighted_sum_backward(
    _loss: PositionLoss, _block: int, _spec: PartitionSpec, kept: Tree, ct: Tree
) -> tuple[jax.Array, jax.Array, None, None]:
    dx, dhead = kept
    scale = ct[0]
    return (dx * scale).astype(dx.dtype), (dhead * scale).astype(dhead.dtype), None, None


weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)


def _split(
    local: Callable[..., Tree],
    spec: PartitionSpec,
    x: jax.Array,
    head: jax.Array,
    rest: Tree,
    *,
    sums_head: bool = False,
) -> Tree:
    """Apply ``local`` to each device's positions, flattened to one axis; the last result is summed over devices."""
    lead = x.ndim - 1

    def on_device(x: jax.Array, head: jax.Array, rest: Tree) -> Tree:
        shape = x.shape[:lead]
        x, rest = jax.tree.map(lambda a: a.reshape(-1, *a.shape[lead:]), (x, rest))
        out = list(local(x, head, *rest))
        dhead = [out.pop()] if sums_head else []
        if axes:
            dhead = [jax.lax.psum(a, axes) for a in dhead]  # type: ignore[no-untyped-call]
        return (*jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), out), *dhead)

    axes = tuple(name for entry in spec if entry for name in ((entry,) if isinstance(entry, str) else entry))
    mesh = partitioning._get_mesh()
    if mesh is None or mesh.empty or not axes:
        return on_device(x, head, rest)
    n_out = 4 if sums_head else 2
    out_specs = (spec,) * (n_out - 1) + (no_split(),) if sums_head else (spec,) * n_out
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(spec, no_split(), spec), out_specs=out_specs, check_vma=False
    )(x, head, rest)


def _logits(x: jax.Array, head: jax.Array) -> jax.Array:
    """[t, d] and [v, d] to [t, v]: float32 sums of products in the type of ``x``."""
    return jnp.einsum("td,vd->tv", x, head.astype(x.dtype), preferred_element_type=jnp.float32)


def of_logits(
    function: Callable[[jax.Array, Tree], Tree], block: int, x: jax.Array, head: jax.Array, given: Tree
) -> Tree:
    """A function of logits [t, v] and a tree of [t, ...], block by block of the activations ``x`` [t, d]."""

    def step(_: None, part: Tree) -> tuple[None, Tree]:
        x, given = part
        return None, function(_logits(x, head), given)

    return _scan(step, None, (x, given), x.shape[0], block)[1]


def _gradients(
    loss: PositionLoss, block: int, x: jax.Array, head: jax.Array, given: Tree, ct: jax.Array
) -> tuple[jax.Array, Tree, jax.Array, jax.Array]:
    """Losses, extras, and the gradients of sum(ct * loss) for ``x`` (in its type) and ``head`` (float32)."""

    def step(dhead: jax.Array, part: Tree) -> tuple[jax.Array, Tree]:
        x, given, ct = part
        losses, pull, extras = jax.vjp(lambda z: loss(z, given), _logits(x, head), has_aux=True)
        (dlogits,) = pull(ct.astype(losses.dtype))
        dlogits = dlogits.astype(x.dtype)
        dx = jnp.einsum("tv,vd->td", dlogits, head.astype(x.dtype), preferred_element_type=jnp.float32)
        dhead += jnp.einsum("tv,td->vd", dlogits, x, preferred_element_type=jnp.float32)
        return dhead, (losses, extras, dx.astype(x.dtype))

    dhead, out = _scan(step, jnp.zeros(head.shape, jnp.float32), (x, given, ct), x.shape[0], block)
    return (*out, dhead)


def _scan(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]], carry: Tree, parts: Tree, n: int, block: int
) -> tuple[Tree, Tree]:
    """Apply ``step`` to blocks of the first axis of ``parts``, of length n; zeros pad the last block."""
    if block <= 0 or block >= n:
        return step(carry, parts)
    blocks = math.ceil(n / block)
    fill = blocks * block - n

    def cut(a: jax.Array) -> jax.Array:
        padded = jnp.pad(a, ((0, fill),) + ((0, 0),) * (a.ndim - 1)) if fill else a
        return padded.reshape(blocks, block, *a.shape[1:])

    carry, out = jax.lax.scan(step, carry, jax.tree.map(cut, parts))
    return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], out)
