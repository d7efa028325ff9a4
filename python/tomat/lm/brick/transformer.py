"""A transformer over positions in space: rotary positions along x, y and z, and biases by distance; needs JAX.

It is not invariant under rotations: training turns and mirrors the frame at random.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.brick.config import GAUSSIANS
from tomat.lm.field.network import Linear, Mlp

if TYPE_CHECKING:
    from tomat.lm.brick.config import BrickShape

#: Shortest and longest wavelength of the rotary positions in angstrom.
WAVELENGTHS = (0.7, 20.0)
#: Centres of the Gaussians of distance in angstrom; their width is the distance between two.
_CENTRES = np.linspace(0.0, 7.0, GAUSSIANS)
#: Length in angstrom within which directions fade.
_NEAR = 0.5
#: Added to the scores of what is not there.
_ABSENT = -1e9
#: Base of the wavelengths of positions in a sequence.
_BASE = 10_000.0


class Geometry(eqx.Module):
    """What attention needs to know about the positions of a sequence.

    Attributes:
        cosine, sine: (t, heads, pairs) of the angles by which queries and keys are turned.
        distances: (t, t, gaussians), or None.
        directions: (t, t, 3) from each to each, or None.
        absent: (t,) added to the scores of each key.
    """

    cosine: jax.Array
    sine: jax.Array
    distances: jax.Array | None
    directions: jax.Array | None
    absent: jax.Array

    @classmethod
    def of(cls, positions: jax.Array, present: jax.Array, shape: BrickShape) -> Geometry:
        """The geometry of positions (t, 3) in angstrom, of which those with ``present`` (t,) 1 are there."""
        pairs = shape.width // shape.heads // 2
        absent = (1.0 - present) * _ABSENT
        if shape.positions == "index":
            turns = _BASE ** (-np.arange(pairs) / pairs)
            angles = jnp.arange(positions.shape[0])[:, None, None] * jnp.asarray(turns, jnp.float32)
            angles = jnp.broadcast_to(angles, (positions.shape[0], shape.heads, pairs))
            return cls(jnp.cos(angles), jnp.sin(angles), None, None, absent)
        angles = angles_of(positions, shape.heads, pairs)
        away = positions[None, :] - positions[:, None]
        square = jnp.sum(away * away, axis=-1, keepdims=True)
        directions = away * jax.lax.rsqrt(square + _NEAR**2)
        return cls(jnp.cos(angles), jnp.sin(angles), gaussians(square), directions, absent)

    def turned(self, x: jax.Array) -> jax.Array:
        """Queries or keys (t, heads, 2 pairs), each pair turned by its angle."""
        return turned_by(x, self.cosine, self.sine)


def angles_of(positions: jax.Array, heads: int, pairs: int) -> jax.Array:
    """Angles (t, heads, pairs) by which the pairs of numbers of a head at positions (t, 3) in angstrom are turned.

    A third of the pairs turns along each of x, y and z, with the :data:`WAVELENGTHS` spread over them and the heads.
    What is left of a number of pairs that is no multiple of three is not turned.
    """
    each = pairs // 3
    lengths = np.geomspace(*WAVELENGTHS, heads * each).reshape(-1, heads).T
    waves = jnp.asarray(2 * math.pi / lengths, jnp.float32)  # (heads, each)
    angles = (positions[:, None, :, None] * waves[None, :, None, :]).reshape(-1, heads, 3 * each)
    return jnp.pad(angles, ((0, 0), (0, 0), (0, pairs - 3 * each)))


def gaussians(square: jax.Array) -> jax.Array:
    """Gaussians of distance (..., :data:`GAUSSIANS`) of squared distances (..., 1) in square angstrom."""
    width = _CENTRES[1] - _CENTRES[0]
    return jnp.exp(-0.5 * jnp.square((jnp.sqrt(square + 1e-6) - jnp.asarray(_CENTRES, jnp.float32)) / width))


def turned_by(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Numbers (..., 2 pairs), pair i being i and pairs + i, turned by angles of which (..., pairs) are given."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1)


def normed(x: jax.Array, scale: jax.Array) -> jax.Array:
    """``x`` over its root mean square, times ``scale``."""
    return jnp.asarray(x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6) * scale)


class Layer(eqx.Module):
    """Attention, which also sums up directions, and a feed-forward network."""

    norms: tuple[jax.Array, jax.Array]
    project: Linear
    distance: jax.Array
    out: Linear
    feed: Mlp
    heads: int = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, shape: BrickShape) -> Layer:
        """Random maps; what they add begins small."""
        first, second, third = jax.random.split(key, 3)
        width, heads = shape.width, shape.heads
        given = width + 3 * heads
        small = 0.5 / math.sqrt(shape.layers)
        return cls(
            (jnp.ones(width), jnp.ones(width)),
            Linear.init(first, width, 3 * width),
            jnp.zeros((GAUSSIANS, heads)),
            Linear.init(second, given, width, small),
            Mlp.init(third, (width, shape.hidden, width), scale=small),
            heads,
        )

    def __call__(self, x: jax.Array, of: Geometry, drop: Any) -> jax.Array:
        """The layer at activations (t, width); ``drop(x, n)`` is the n-th dropout."""
        t, width = x.shape
        q, k, v = (
            part.reshape(t, self.heads, -1)
            for part in jnp.split(self.project(normed(x, self.norms[0])), 3, axis=-1)
        )
        scores = jnp.einsum("ihd,jhd->hij", of.turned(q), of.turned(k)) / math.sqrt(width / self.heads)
        if of.distances is not None:
            scores = scores + jnp.einsum("ijg,gh->hij", of.distances, self.distance)
        share = jax.nn.softmax(scores + of.absent, axis=-1)
        found = jnp.einsum("hij,jhd->ihd", share, v).reshape(t, width)
        if of.directions is None:
            towards = jnp.zeros((t, 3 * self.heads), x.dtype)
        else:
            towards = jnp.einsum("hij,ijc->ihc", share, of.directions).reshape(t, -1)
        x = x + drop(self.out(jnp.concatenate([found, towards], axis=-1)), 0)
        return jnp.asarray(x + drop(self.feed(normed(x, self.norms[1])), 1))


class Transformer(eqx.Module):
    """Layers over the positions of a patch.

    Attributes:
        layers: in order.
        norm: scale of the last normalisation.
        dropout: share of the changes set to zero in training.
    """

    layers: tuple[Layer, ...]
    norm: jax.Array
    dropout: float = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, shape: BrickShape) -> Transformer:
        """Random layers."""
        keys = jax.random.split(key, shape.layers)
        return cls(tuple(Layer.init(k, shape) for k in keys), jnp.ones(shape.width), shape.dropout)

    def __call__(self, x: jax.Array, of: Geometry, key: jax.Array | None = None) -> jax.Array:
        """Activations (t, width) after all layers; ``key`` is of the dropout, None is none."""
        keep = 1.0 - self.dropout
        for index, layer in enumerate(self.layers):

            def drop(change: jax.Array, n: int, index: int = index) -> jax.Array:
                if key is None or self.dropout == 0:
                    return change
                kept = jax.random.bernoulli(jax.random.fold_in(key, 2 * index + n), keep, change.shape)
                return jnp.where(kept, change / keep, 0.0)

            x = layer(x, of, drop)
        return normed(x, self.norm)
