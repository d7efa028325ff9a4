"""Heads: from the activations of a voxel to a distribution over the levels of the codec.

Every head begins with the same distribution at all voxels, whose median is the level 0: the promolecule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.field.answers import LEAST, MOST_LOG_WIDTH, start_logits
from tomat.lm.field.quick import Mixture, by_level, quick_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.field.levels import Levels
    from tomat.prediction.options import Sampling

#: Logistics of a mixture, and the width around which those of the start lie.
_COMPONENTS, _WIDTH = 4, 0.5


class Head(Protocol):
    """A distribution over levels."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [..., levels], float32, of activations [..., width]."""
        ...

    def statistics(
        self,
        activations: jax.Array,
        x: jax.Array,
        drawn: jax.Array,
        sampling: Sampling,
        wanted: tuple[str, ...],
    ) -> dict[str, jax.Array]:
        """Statistics (t,) of positions, by name; only what is wanted is computed.

        Args:
            activations: (t, width).
            x: (t,) true values, for nats, pit and expected errors.
            drawn: (t,) uniform numbers in [0, 1), for samples.
            sampling: how samples are drawn.
            wanted: fields of :class:`tomat.lm.decode.estimates.Estimates`, and ``nats``, those of the true levels.
        """
        ...

    def stretched(self, factor: float) -> Head:
        """The head with wider distributions, for a factor above 1; with narrower ones below."""
        ...


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
        return change + self.bias.astype(jnp.float32) + jnp.asarray(start_logits(self.levels))

    def statistics(
        self,
        activations: jax.Array,
        x: jax.Array,
        drawn: jax.Array,
        sampling: Sampling,
        wanted: tuple[str, ...],
    ) -> dict[str, jax.Array]:
        """Statistics (t,) of positions from the probabilities of all levels."""
        return by_level(self(activations), self.levels, x, drawn, sampling, wanted)

    def stretched(self, factor: float) -> CategoricalHead:
        """Logits closer to those of the start by the factor."""
        return CategoricalHead(self.weight / factor, self.bias / factor, self.levels)


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
        widths = _WIDTH * np.geomspace(0.1, 4.0, _COMPONENTS)
        bias = np.concatenate([np.zeros(2 * _COMPONENTS), np.log(widths)])
        return cls(jnp.zeros((width, 3 * _COMPONENTS)), jnp.asarray(bias, jnp.float32), levels)

    def mixture(self, x: jax.Array) -> Mixture:
        """The mixtures [..., components] of activations [..., width]."""
        out = jnp.einsum("...w,wn->...n", x, self.weight, preferred_element_type=jnp.float32)
        share, place, log_width = jnp.split(out + self.bias.astype(jnp.float32), 3, axis=-1)
        return Mixture(
            jax.nn.softmax(share, axis=-1), place, jnp.clip(log_width, -MOST_LOG_WIDTH, MOST_LOG_WIDTH)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logarithms of the probabilities of the levels [..., levels]."""
        share, place, log_width = self.mixture(x)
        edges = jnp.asarray(self.levels.edges[1:-1], jnp.float32)
        u = (edges - place[..., None]) * jnp.exp(-log_width)[..., None]
        below = jnp.sum(share[..., None] * jax.nn.sigmoid(u), axis=-2)
        p = jnp.diff(below, axis=-1, prepend=0.0, append=1.0)
        return jnp.log(jnp.maximum(p, 0.0) + LEAST)

    def statistics(
        self,
        activations: jax.Array,
        x: jax.Array,
        drawn: jax.Array,
        sampling: Sampling,
        wanted: tuple[str, ...],
    ) -> dict[str, jax.Array]:
        """Statistics (t,) of positions: of the mixture, or of all levels if one wanted is known of these alone."""
        quick = quick_statistics(self.mixture(activations), self.levels, x, drawn, sampling, wanted)
        return (
            by_level(self(activations), self.levels, x, drawn, sampling, wanted) if quick is None else quick
        )

    def stretched(self, factor: float) -> LogisticHead:
        """All widths times the factor."""
        change = np.zeros(3 * _COMPONENTS, np.float32)
        change[2 * _COMPONENTS :] = np.log(factor)
        return LogisticHead(self.weight, self.bias + change, self.levels)


#: Heads by name; a new one is a class and a line here.
HEADS: dict[str, Callable[[int, Levels], Head]] = {
    "categorical": CategoricalHead.init,
    "logistics": LogisticHead.init,
}
