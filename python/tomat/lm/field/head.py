"""Heads: from the activations of a voxel to a distribution over the levels of the codec.

Every head begins with the same distribution at all voxels, whose median is the level 0: the promolecule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.lm.field.levels import Levels

#: Quantile of the levels' sizes that is the width of the distribution at the start.
_WIDTH = 0.5
#: Logistics of a mixture.
_COMPONENTS = 4


class Head(Protocol):
    """A distribution over levels."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [..., levels], float32, of activations [..., width]."""
        ...


def start_logits(levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logits (n,) that fall with \\|level\\|, with equal probability below and above level 0, so that it is the median."""
    size = np.abs(levels)
    width = max(float(np.quantile(size, _WIDTH)), 1e-6)
    p = np.exp(-size / width)
    for side in (levels < 0, levels > 0):
        if side.any():
            p[side] /= p[side].sum()
    p[levels == 0] = 0.05
    return np.log(np.maximum(p, 1e-12)).astype(np.float32)


class CategoricalHead(eqx.Module):
    """A linear map, zero at the start, added to fixed logits.

    Attributes:
        weight: (width, levels).
        bias: (levels,).
        levels: of the codec.
    """

    weight: jax.Array
    bias: jax.Array
    levels: Levels = eqx.field(static=True)

    @classmethod
    def init(cls, width: int, levels: Levels) -> CategoricalHead:
        """A head at its start."""
        n = len(levels.points)
        return cls(jnp.zeros((width, n)), jnp.zeros(n), levels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [..., levels]."""
        change = jnp.einsum("...w,wn->...n", x, self.weight, preferred_element_type=jnp.float32)
        return change + self.bias.astype(jnp.float32) + jnp.asarray(start_logits(self.levels.points))


class LogisticHead(eqx.Module):
    """A mixture of logistic distributions, discretised on the bins of the levels.

    Attributes:
        weight: (width, 3 * components): logits of the components, their places and logarithms of widths.
        bias: (3 * components,).
        levels: of the codec.
    """

    weight: jax.Array
    bias: jax.Array
    levels: Levels = eqx.field(static=True)

    @classmethod
    def init(cls, width: int, levels: Levels) -> LogisticHead:
        """A head at its start: all components at level 0, of widths from fine to coarse."""
        size = np.abs(levels.points)
        widths = np.quantile(size[size > 0], np.linspace(0.1, 0.6, _COMPONENTS))
        bias = np.concatenate([np.zeros(2 * _COMPONENTS), np.log(widths)])
        return cls(jnp.zeros((width, 3 * _COMPONENTS)), jnp.asarray(bias, jnp.float32), levels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logarithms of the probabilities of the levels [..., levels]."""
        out = jnp.einsum("...w,wn->...n", x, self.weight, preferred_element_type=jnp.float32)
        share, place, log_width = jnp.split(out + self.bias.astype(jnp.float32), 3, axis=-1)
        edges = jnp.asarray(self.levels.edges[1:-1], jnp.float32)
        u = (edges - place[..., None]) * jnp.exp(-log_width)[..., None]
        below = jnp.sum(jax.nn.softmax(share, axis=-1)[..., None] * jax.nn.sigmoid(u), axis=-2)
        p = jnp.diff(below, axis=-1, prepend=0.0, append=1.0)
        return jnp.log(jnp.maximum(p, 0.0) + 1e-9)


#: Heads by name; a new one is a class and a line here.
HEADS: dict[str, Callable[[int, Levels], Head]] = {
    "categorical": CategoricalHead.init,
    "logistics": LogisticHead.init,
}
