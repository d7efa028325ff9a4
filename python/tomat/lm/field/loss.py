"""The loss of the field model: terms over the levels, each voxel weighted as it counts in the NMAE; needs JAX."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import haliax as hax
import jax
import jax.numpy as jnp
from levanter.metrics import Metric, ReductionType

from tomat.lm.loss import functions
from tomat.lm.loss.bins import Bins
from tomat.lm.loss.density import TERMS

if TYPE_CHECKING:
    from tomat.codec.relative import RelativeCodec
    from tomat.lm.field.example import FieldExample
    from tomat.lm.loss import LossConfig


class FieldLoss:
    """A loss for Levanter's ``Trainer``: ``(model, example, *, key) -> (loss, metrics)``.

    Terms of densities (``crps``, ``emd``, ``expected_value_error``) are of x = (density - guess) / scale; times
    the scale and the weight of the voxel they add up to fractions of the electrons: with ``emd`` the loss is the
    expected NMAE. Terms in nats have the same weights, divided by their sum.

    Args:
        config: of the loss; ``terms``, ``sigma`` and ``z_loss`` apply.
        codec: whose levels the model's distribution is over.
    """

    def __init__(self, config: LossConfig, codec: RelativeCodec) -> None:
        self.config = config
        self.bins = Bins(codec.levels.astype("float32"), codec.edges.astype("float32"), order=None, rank=None)
        self._offset, self._factor = codec.offset, codec.scale_factor

    def __call__(
        self, model: Any, example: FieldExample, *, key: Any = None, **_: Any
    ) -> tuple[hax.NamedArray, dict[str, Metric]]:
        """The loss of a batch, and its metrics."""
        guess, value, weight = (
            named.array.astype(jnp.float32) for named in (example.guess, example.value, example.weight)
        )
        z = model(example, key=key).astype(jnp.float32)
        scale = self.scale(guess)
        x = (value - guess) / scale
        place = self.place(x)
        rows = weight.shape[0]
        by_electrons = weight * scale / rows
        by_level = by_electrons / jnp.maximum(jnp.sum(by_electrons), 1e-12)
        # All voxels of the grid weighted equally, as in evaluations: the weights make up for how voxels were drawn.
        drawn = jnp.sum(weight, axis=-1, keepdims=True)
        equally = weight / jnp.maximum(drawn, 1e-12) / jnp.maximum(jnp.sum(drawn > 0), 1)
        total = jnp.float32(0.0)
        metrics = {}
        for name in dict.fromkeys(("cross_entropy", *self.config.terms)):  # that one is always logged
            term = TERMS[name]
            here = by_level if term.of_probability else by_electrons
            values = term.of(z, place, x, self.bins, self.config)
            if name == "cross_entropy":
                metrics["bits_per_voxel"] = _mean(jnp.sum(equally * values) / math.log(2.0))
            number = jnp.sum(here * values)
            total = total + self.config.terms.get(name, 0.0) * number
            metrics[name] = _mean(number)
        if self.config.z_loss:
            squares = jnp.sum(by_level * jnp.square(functions.log_normaliser(z)))
            total = total + self.config.z_loss * squares
            metrics["z"] = _mean(squares)
        error = jnp.abs(functions.median(z, jnp.asarray(self.bins.points)) - x)
        metrics["nmae_median"] = _mean(jnp.sum(by_electrons * error))
        metrics["nmae_guess"] = _mean(jnp.sum(by_electrons * jnp.abs(x)))
        return hax.named(total, ()), metrics

    def scale(self, guess: jax.Array) -> jax.Array:
        """The codec's scale in e/A^3 at a promolecule [...]."""
        return jnp.asarray(self._offset + self._factor * jnp.sqrt(jnp.maximum(guess, 0.0)))

    def place(self, x: jax.Array) -> jax.Array:
        """int32 [...], the level of each x."""
        inner = jnp.asarray(self.bins.edges[1:-1])
        return jnp.searchsorted(inner, x, side="right").astype(jnp.int32)


def _mean(number: jax.Array) -> Metric:
    return Metric(jax.lax.stop_gradient(number), jnp.float32(1.0), ReductionType.MEAN)
