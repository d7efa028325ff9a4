"""The loss of a trainer: its terms, the scope of the softmax, and the normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import haliax as hax
import haliax.partitioning as partitioning
import jax
import jax.numpy as jnp
from levanter.metrics import Metric, ReductionType
from levanter.models.lm_model import split_activations

from tomat.lm.loss import functions
from tomat.lm.loss.blocks import no_split, per_position, weighted_sum
from tomat.lm.loss.targets import DensityTargets

if TYPE_CHECKING:
    from collections.abc import Callable

    from jax.sharding import PartitionSpec

    from tomat.lm.example import DensityExample
    from tomat.lm.loss.bins import Bins
    from tomat.lm.vocabulary import ModelVocabulary

    type Arrays = dict[str, jax.Array]


@dataclass(frozen=True)
class Term:
    """A term of the loss.

    Attributes:
        of: ``(logits over the bins, true bin, true value, bins, configuration)`` to the loss [t]; ``bins`` is None
            unless ``of_bins`` is set.
        of_bins: whether it needs the values of tokens, and so a codec with one token per voxel.
        of_probability: whether it uses the probability of a token, which is over all ids if the scope is
            ``vocabulary``.
    """

    of: Callable[[jax.Array, jax.Array, jax.Array, Any, LossConfig], jax.Array]
    of_bins: bool = True
    of_probability: bool = False


def _kl_gaussian(
    z: jax.Array, place: jax.Array, value: jax.Array, bins: Bins, config: LossConfig
) -> jax.Array:
    centre = functions.fractional_bin(value, place, jnp.asarray(bins.edges))
    return functions.kl_gaussian(z, centre, config.sigma)


def _of_value(function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Term:
    """A term that is a function of logits, true value and the points of the bins."""
    return Term(lambda z, _place, value, bins, _config: function(z, value, jnp.asarray(bins.points)))


#: Terms by name; a new one is a function and a line here.
TERMS: dict[str, Term] = {
    "cross_entropy": Term(
        lambda z, place, *_: functions.cross_entropy(z, place), of_bins=False, of_probability=True
    ),
    "kl_gaussian": Term(_kl_gaussian, of_probability=True),
    "crps": _of_value(functions.crps),
    "emd": _of_value(functions.emd),
    "expected_value_error": _of_value(functions.expected_value_error),
}
#: Scopes of the softmax.
SCOPES = ("density", "vocabulary")
#: Normalisations of the weighted sum of losses.
NORMALISERS = ("positions", "weights", "fixed")


@dataclass(frozen=True)
class LossConfig:
    """The loss of training; docs/losses.md has formulas and advice.

    Attributes:
        terms: weights by name: ``cross_entropy``, ``kl_gaussian`` (nats), ``crps``, ``emd``, ``expected_value_error``
            (the codec's unit).
        sigma: width of the Gaussian of ``kl_gaussian``, in bins.
        z_loss: weight of the squared log-normaliser.
        scope: ``density``: softmax over the density tokens of the component; other targets are ignored.
            ``vocabulary``: other targets count with their cross-entropy over all ids, and ``cross_entropy`` and
            ``kl_gaussian`` of density tokens are over all ids too.
        normalise: divisor of the sum of loss_weight * loss: ``positions``, the number of positions of weight above 0;
            ``weights``, the sum of weights; ``fixed``, rows * ``positions_per_row``, which makes the mean over unequal
            micro-batches exact.
        positions_per_row: for ``fixed``; None is the density tokens of one default patch.
        block_size: positions per device whose logits exist at once; 0 is all.
    """

    terms: dict[str, float] = field(default_factory=lambda: {"kl_gaussian": 1.0})
    sigma: float = 2.0
    z_loss: float = 0.0
    scope: str = "density"
    normalise: str = "positions"
    positions_per_row: int | None = None
    block_size: int = 1024

    @property
    def over_all_ids(self) -> bool:
        """Whether logits of all ids are needed, not only of density tokens."""
        return self.scope == "vocabulary"

    def __post_init__(self) -> None:
        unknown = [name for name in self.terms if name not in TERMS]
        if unknown:
            raise ValueError(f"unknown loss {', '.join(unknown)}; known: {', '.join(TERMS)}")
        if not self.terms or not all(0.0 < weight < math.inf for weight in self.terms.values()):
            raise ValueError(f"loss terms {self.terms}: give at least one, each with a weight above 0")
        if not 0.0 < self.sigma < math.inf:
            raise ValueError(f"sigma = {self.sigma} bins must be above 0; for zero width use cross_entropy")
        if not 0.0 <= self.z_loss < math.inf:
            raise ValueError(f"z_loss = {self.z_loss} must not be negative")
        for name, value, known in (
            ("scope", self.scope, SCOPES),
            ("normalise", self.normalise, NORMALISERS),
        ):
            if value not in known:
                raise ValueError(f"{name} = {value!r} is not one of {', '.join(known)}")
        if self.positions_per_row is not None and self.positions_per_row < 1:
            raise ValueError(f"positions_per_row = {self.positions_per_row} must be at least 1")
        if self.block_size < 0:
            raise ValueError(f"block_size = {self.block_size} must not be negative (0: no blocks)")


class DensityLoss:
    """A loss for Levanter's ``Trainer``: ``(model, example, *, key, reduction, reduction_axis) -> (loss, metrics)``.

    ``reduction`` is ``hax.mean`` (normalised as configured), ``hax.sum``, or None for loss_weight * loss of every
    position. Metrics are Levanter's: each term before its weight, averaged over its positions (weighted as the loss,
    exact over micro-batches), and the number of density positions predicted.

    Args:
        config: of the loss.
        vocabulary: of the model.

    Raises:
        ValueError: a term needs values of tokens, but the codec has several tokens per voxel.
    """

    def __init__(self, config: LossConfig, vocabulary: ModelVocabulary) -> None:
        self.config = config
        self.targets = DensityTargets.of(vocabulary)
        values = [name for name in config.terms if TERMS[name].of_bins]
        if self.targets.bins is None and values:
            raise ValueError(
                f"loss {', '.join(values)} needs a codec with one token a voxel: codec {vocabulary.codec.name} has "
                f"{len(self.targets.sizes)}, and no token alone says how far it is from the true value; use "
                "cross_entropy, or a codec such as l1-16k-e_per_A3-1e4"
            )
        patch = vocabulary.tokenizer.patch_size**3 * len(self.targets.sizes)
        self.positions_per_row = config.positions_per_row or patch

    def __call__(
        self,
        model: Any,
        example: DensityExample,
        *,
        key: Any = None,
        reduction: Any = hax.mean,
        reduction_axis: Any = None,
    ) -> tuple[hax.NamedArray, dict[str, Metric]]:
        """The loss of a batch, and its metrics."""
        out = example.activations(model, key=key)
        activations, auxiliary = split_activations(out)
        flat = Flat.of(model, activations, example)
        weight = self.effective_weight(flat.weight, flat.given["target"])
        head = self.targets.rows(flat.head, all_ids=self.config.over_all_ids)
        walk = (self.position_losses, self.config.block_size, flat.spec, flat.x, head, flat.given)
        if reduction is hax.mean and reduction_axis is None:
            total, _, terms = weighted_sum(*walk, weight / self.divisor(weight))
            reduced = hax.named(total, ())
        else:
            losses, terms = per_position(*walk)
            reduced = hax.named(losses * weight, flat.axes)
            if reduction is not None:
                reduced = self._reduced(reduced, weight, reduction, reduction_axis)
        return reduced + auxiliary, self._metrics(terms, weight, flat.given["target"])

    def effective_weight(self, weight: jax.Array, target: jax.Array) -> jax.Array:
        """loss_weight, set to 0 for targets outside the scope."""
        if self.config.over_all_ids:
            return weight
        return jnp.asarray(jnp.where(self.targets.asked(target).density, weight, 0.0))

    def divisor(self, weight: jax.Array) -> jax.Array:
        """The divisor of sums of weight * loss over arrays [rows ..., positions]."""
        if self.config.normalise == "fixed":
            return jnp.asarray(self.positions_per_row * math.prod(weight.shape[:-1]), jnp.float32)
        total = jnp.sum(self._counted(weight))
        return jnp.asarray(jnp.where(total > 0, total, 1.0))

    def _counted(self, weight: jax.Array) -> jax.Array:
        """What positions count in a divisor: their weight, or 1 where it is above 0."""
        return weight if self.config.normalise == "weights" else (weight > 0).astype(jnp.float32)

    def position_losses(self, logits: jax.Array, given: Arrays) -> tuple[jax.Array, Arrays]:
        """The loss [t] of positions with logits [t, ids], and its unweighted terms [t]."""
        asked = self.targets.asked(given["target"])
        whole = self.config.over_all_ids
        z = self.targets.within_component(logits[..., -self.targets.n :], asked.component)
        normaliser = functions.log_normaliser(z)
        # -ln of the probability that all ids together give to the tokens that can come here.
        gate = functions.log_normaliser(logits) - normaliser if whole else jnp.zeros_like(normaliser)
        terms = {}
        for name in dict.fromkeys(("cross_entropy", *self.config.terms)):  # that one is always logged
            term = TERMS[name].of(z, asked.place, given["value"], self.targets.bins, self.config)
            term = term + gate if TERMS[name].of_probability else term
            terms[name] = jnp.where(asked.density, term, 0.0)
        loss = sum(weight * terms[name] for name, weight in self.config.terms.items())
        if whole:
            other = normaliser + gate - functions.pick(logits[..., : self.targets.first], given["target"])
            terms["other_cross_entropy"] = jnp.where(asked.density, 0.0, other)
            loss = loss + terms["other_cross_entropy"]
        if self.config.z_loss:
            terms["z"] = jnp.square(normaliser + gate)
            loss = loss + self.config.z_loss * terms["z"]
        return jnp.asarray(loss), terms

    def _metrics(self, terms: Arrays, weight: jax.Array, target: jax.Array) -> dict[str, Metric]:
        """Sums and divisors of the terms, each over its own positions."""
        density = self.targets.asked(target).density
        metrics = {}
        for name, term in terms.items():
            here = weight if name == "z" else weight * (density ^ (name == "other_cross_entropy"))
            total = jnp.sum(here * jax.lax.stop_gradient(term))
            metrics[name] = Metric(total, jnp.sum(self._counted(here)), ReductionType.MEAN)
        asked = ((weight > 0) & density).astype(jnp.float32)
        positions = jnp.sum(asked)
        # All voxels weighted equally, as in evaluations, whatever the weights of the loss.
        nats = jnp.sum(asked * jax.lax.stop_gradient(terms["cross_entropy"]))
        bits = nats * len(self.targets.sizes) / math.log(2.0)
        metrics["bits_per_voxel"] = Metric(bits, positions, ReductionType.MEAN)
        metrics["density_positions"] = Metric(positions, jnp.float32(0.0), ReductionType.SUM)
        return metrics

    def _reduced(
        self, losses: hax.NamedArray, weight: jax.Array, reduction: Any, axis: Any
    ) -> hax.NamedArray:
        total = hax.sum(losses, axis=axis)
        if reduction is hax.sum:
            return total
        if reduction is not hax.mean:
            raise ValueError(f"reduction {reduction} is not one of hax.mean, hax.sum, None")
        if self.config.normalise == "fixed":
            raise ValueError("normalise = 'fixed' divides by rows: take the mean over all axes")
        counted = hax.sum(hax.named(self._counted(weight), losses.axes), axis=axis)
        return total / hax.where(counted > 0, counted, 1.0)


@dataclass(frozen=True, eq=False)
class Flat:
    """Activations, head and targets as arrays with the position axis last (for activations, before the last).

    Attributes:
        x: activations [..., positions, d].
        head: [ids, d].
        given: ``target`` int32 and ``value`` float32, [..., positions].
        weight: loss_weight [..., positions].
        axes: the named axes [..., positions].
        spec: how these axes are split over the mesh.
    """

    x: jax.Array
    head: jax.Array
    given: Arrays
    weight: jax.Array
    axes: tuple[hax.Axis, ...]
    spec: PartitionSpec

    @classmethod
    def of(cls, model: Any, activations: hax.NamedArray, example: DensityExample) -> Flat:
        """Bring all arrays into one order of axes."""
        pos = activations.resolve_axis(model.Pos.name)
        embed = activations.resolve_axis(model.Embed.name)
        lead = tuple(axis for axis in activations.axes if axis.name not in (pos.name, embed.name))
        axes = (*lead, pos)
        head = model.get_lm_head()

        def of_axes(named: hax.NamedArray) -> jax.Array:
            array: jax.Array = named.broadcast_to(axes).array
            return array

        mapping = partitioning.current_thread_local_mapping()
        return cls(
            activations.rearrange((*axes, embed)).array,
            head.rearrange((model.Vocab.name, embed.name)).array,
            {"target": of_axes(example.targets), "value": of_axes(example.values)},
            of_axes(example.loss_weight),
            axes,
            no_split() if mapping is None else partitioning.pspec_for_axis(axes, mapping),
        )
