"""The field model: states of atoms from their neighbours, and a distribution at every point from the atoms around it.

A weighted sum over the atoms around a point, with weights from their states, rotates with the crystal; only invariants
of the sums are used. So densities are equal in every orientation, cell and order of atoms. Needs JAX and Equinox.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from tomat.lm.field.config import OF_SUMS, OF_WEIGHTS
from tomat.lm.field.descriptors import DESCRIPTORS
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.head import HEADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tomat.lm.field.config import FieldShape
    from tomat.lm.field.example import FieldExample
    from tomat.lm.field.head import Head
    from tomat.lm.field.levels import Levels

#: Density in e/A^3 below which logarithms flatten, and that is added to a density that is divided by.
_FAINT, _SMALL = 1e-4, 0.02


class Headed(Protocol):
    """A model whose distributions come from a head."""

    @property
    def head(self) -> Head: ...  # noqa: D102


class Linear(eqx.Module):
    """``x @ weight + bias`` over the last axis."""

    weight: jax.Array
    bias: jax.Array

    @classmethod
    def init(cls, key: jax.Array, width: int, out: int, scale: float = 1.0) -> Linear:
        """Random weights of variance ``scale^2 / width``."""
        return cls(jax.random.normal(key, (width, out)) * (scale / math.sqrt(width)), jnp.zeros(out))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The map of [..., width] to [..., out]."""
        return x @ self.weight + self.bias


class Mlp(eqx.Module):
    """Linear maps with SiLU after each but the last, or after all."""

    layers: tuple[Linear, ...]
    last: bool = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, widths: Sequence[int], *, scale: float = 1.0, last: bool = False) -> Mlp:
        """Maps between ``widths``, the last scaled by ``scale``; with ``last`` SiLU follows it, too."""
        keys = jax.random.split(key, len(widths) - 1)
        scales = [1.0] * (len(widths) - 2) + [scale]
        layers = map(Linear.init, keys, widths[:-1], widths[1:], scales)
        return cls(tuple(layers), last)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The map of the last axis."""
        for layer in self.layers[:-1]:
            x = jax.nn.silu(layer(x))
        x = self.layers[-1](x)
        return jax.nn.silu(x) if self.last else x


class Environment(eqx.Module):
    """Invariants of the weighted sums over the atoms around points.

    Attributes:
        weights: from the state of an atom to the weights of its radial functions in each sum.
        mixing: for each l > 0, (channels[l], channels[l]): which pairs of sums are multiplied.
        channels: sums of each l with weights from the state.
        fixed: sums of l = 0 whose weights stand behind the state; see :mod:`tomat.lm.field.descriptors`.
    """

    weights: Linear
    mixing: tuple[jax.Array, ...]
    channels: tuple[int, ...] = eqx.field(static=True)
    fixed: int = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, shape: FieldShape, fixed: int = 0) -> Environment:
        """Random maps."""
        first, *keys = jax.random.split(key, len(shape.channels))
        weights = Linear.init(first, shape.state, shape.functions * shape.width)
        mixing = tuple(
            jax.random.normal(k, (n, n)) / math.sqrt(n) for k, n in zip(keys, shape.channels[1:], strict=True)
        )
        return cls(weights, mixing, shape.channels, fixed)

    def of_atoms(self, states: jax.Array) -> jax.Array:
        """Weights [sites, functions, width + fixed] of atoms with states [sites, state + functions * fixed]."""
        sites, width, first = states.shape[0], sum(self.channels), self.channels[0]
        state = self.learned(states)
        learned = self.weights(state).reshape(sites, -1, width) * OF_WEIGHTS
        fixed = states[:, state.shape[1] :].reshape(sites, learned.shape[1], self.fixed)
        return jnp.concatenate([learned[..., :first], fixed, learned[..., first:]], axis=-1)

    def learned(self, states: jax.Array) -> jax.Array:
        """The states [..., state] alone, of states with the weights of the fixed sums behind them."""
        return states[..., : self.weights.weight.shape[0]]

    @property
    def of_l(self) -> tuple[int, ...]:
        """Sums of each l, fixed ones behind the others."""
        return (self.channels[0] + self.fixed, *self.channels[1:])

    def sums(self, states: jax.Array, sums: Sequence[jax.Array], members: jax.Array) -> list[jax.Array]:
        """Sums [crystals, points, 2 l + 1, of_l[l]] for each l.

        Args:
            states: [sites, state + functions * fixed].
            sums: for each l [sites, points * (2 l + 1), functions], of each atom around the points of its crystal.
            members: [crystals, sites], 1 where an atom is of a crystal.
        """
        weights, first, out = self.of_atoms(states), 0, []
        for l, (n, part) in enumerate(zip(self.of_l, sums, strict=True)):  # noqa: E741
            each = jnp.einsum("spn,snk->spk", part, weights[:, :, first : first + n])
            total = jnp.einsum("cs,spk->cpk", members, each)
            out.append(total.reshape(total.shape[0], -1, 2 * l + 1, n))
            first += n
        return out

    def invariants(self, sums: Sequence[jax.Array]) -> jax.Array:
        """Invariants [..., width] of sums [..., 2 l + 1, of_l[l]], of root mean square about 1."""
        found = [sums[0][..., 0, : self.channels[0]] * OF_SUMS]
        for part, mixing in zip(sums[1:], self.mixing, strict=True):
            found.append((part * (part @ mixing)).sum(-2) * OF_SUMS**2)
        y = jnp.arcsinh(jnp.concatenate(found, axis=-1))
        return jnp.asarray(y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 0.1))


class Round(eqx.Module):
    """One look of every atom at the states of its neighbours."""

    environment: Environment
    update: Mlp

    @classmethod
    def init(cls, key: jax.Array, shape: FieldShape) -> Round:
        """Random maps; the update begins small."""
        first, second = jax.random.split(key)
        widths = (shape.width + shape.state, shape.message, shape.state)
        return cls(Environment.init(first, shape), Mlp.init(second, widths, scale=0.5))


def of_rows(
    one: Callable[[dict[str, Any], jax.Array | None], jax.Array], example: eqx.Module, key: jax.Array | None
) -> jax.Array:
    """Logits [rows, crystals, voxels, levels] of a batch, from what ``one`` makes of a row's arrays and key."""
    arrays: dict[str, Any] = {
        name: tuple(part.array for part in value) if isinstance(value, tuple) else value.array
        for name, value in vars(example).items()
    }
    keys = None if key is None else jax.random.split(key, arrays["guess"].shape[0])
    return jax.vmap(one, in_axes=(0, None if keys is None else 0))(arrays, keys)


def stretched[Model: Headed](model: Model, factor: float) -> Model:
    """A model with distributions wider by a factor."""
    found: Model = eqx.tree_at(lambda model: model.head, model, model.head.stretched(factor))
    return found


def noisy(features: jax.Array, key: jax.Array, noise: float, dropout: float) -> jax.Array:
    """Features with Gaussian noise of this standard deviation, and a share of them set to zero."""
    first, second = jax.random.split(key)
    features = features + noise * jax.random.normal(first, features.shape, features.dtype)
    return features * jax.random.bernoulli(second, 1.0 - dropout, features.shape)


def of_guess(guess: jax.Array) -> jax.Array:
    """Half the logarithm and the root [..., 2] of a starting density [...] in e/A^3."""
    return jnp.stack([0.5 * jnp.log(guess + _FAINT), jnp.sqrt(guess)], axis=-1)


def of_descriptors(sums: jax.Array) -> jax.Array:
    """What the readout takes, about 1 in size, of sums [..., descriptors] with the weights of
    :func:`tomat.lm.field.descriptors.fixed_weights`.
    """
    found = jnp.moveaxis(sums.astype(jnp.float32), -1, 0)
    reference = jnp.maximum(found[0], 0.0) + _SMALL
    scaled = {
        "density": lambda x: 0.5 * jnp.log(jnp.maximum(x, 0.0) + _FAINT),
        "laplacian": lambda x: jnp.arcsinh(0.05 * x / reference),
        "potential": lambda x: jnp.arcsinh(0.1 * x),
    }
    return jnp.stack([scaled[of.kind](x) for of, x in zip(DESCRIPTORS, found, strict=True)], axis=-1)


class FieldModel(eqx.Module):
    """The field model.

    Attributes:
        embedding: from the features of an element to the first state of an atom.
        rounds: of looking at neighbours.
        environment: what a voxel sees of the atoms around it.
        readout: from invariants and promolecule to activations.
        head: from activations to logits over the levels.
        noise, dropout: standard deviation of noise on features in training, and share of features set to zero.
    """

    embedding: Mlp
    rounds: tuple[Round, ...]
    environment: Environment
    readout: Mlp
    head: Head
    noise: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, shape: FieldShape, levels: Levels) -> FieldModel:
        """A model whose median is the promolecule everywhere.

        Raises:
            ValueError: an unknown head.
        """
        if shape.head not in HEADS:
            raise ValueError(f"model.field.head = {shape.head!r} is not known; one of {', '.join(HEADS)}")
        embedding, environment, readout, *rounds = jax.random.split(key, 3 + shape.rounds)
        return cls(
            Mlp.init(embedding, (N_FEATURES, shape.embedding, shape.state)),
            tuple(Round.init(k, shape) for k in rounds),
            Environment.init(environment, shape, shape.fixed),
            Mlp.init(readout, (shape.width + 2 + shape.fixed, *shape.mlp), last=True),
            HEADS[shape.head](shape.mlp[-1], levels),
            shape.feature_noise,
            shape.feature_dropout,
        )

    def states(
        self,
        features: jax.Array,
        atoms: Sequence[jax.Array],
        members: jax.Array,
        crystal: jax.Array,
        place: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States [sites, state + functions * fixed] of atoms: behind what is learned, the weights of the fixed sums.

        Args:
            features: [sites, features], the weights of the fixed sums behind those of the elements.
            atoms: for each l [sites, atoms * (2 l + 1), functions], sums of each atom around those of its crystal.
            members: [crystals, sites], 1 where an atom is of a crystal.
            crystal, place: [sites], the crystal of each atom, and its place among that crystal's atoms.
            key: of the noise on features; None is none.
        """
        features, fixed = features[:, :N_FEATURES], features[:, N_FEATURES:]
        if key is not None:
            features = noisy(features, key, self.noise, self.dropout)
        h = self.embedding(features)
        for step in self.rounds:
            sums = [part[crystal, place] for part in step.environment.sums(h, atoms, members)]
            h = h + step.update(jnp.concatenate([step.environment.invariants(sums), h], axis=-1))
        return jnp.concatenate([h, fixed], axis=-1)

    def activations(self, sums: Sequence[jax.Array], guess: jax.Array) -> jax.Array:
        """What the head takes, of points with sums [..., 2 l + 1, of_l[l]] and promolecule [...] in e/A^3."""
        seen = [self.environment.invariants(sums), of_guess(guess)]
        if self.environment.fixed:
            seen.append(of_descriptors(sums[0][..., 0, self.environment.channels[0] :]))
        return self.readout(jnp.concatenate([part.astype(seen[0].dtype) for part in seen], axis=-1))

    def __call__(self, example: FieldExample, key: jax.Array | None = None) -> jax.Array:
        """Logits [rows, crystals, voxels, levels] of a batch."""
        return of_rows(self._row, example, key)

    def stretched(self, factor: float) -> FieldModel:
        """The model with distributions wider by a factor."""
        return stretched(self, factor)

    def _row(self, row: dict[str, Any], key: jax.Array | None) -> jax.Array:
        dtype = self.environment.weights.weight.dtype
        members = jax.nn.one_hot(row["crystal"], row["guess"].shape[0], axis=0, dtype=dtype)
        atoms, voxels = ([part.astype(dtype) for part in row[name]] for name in ("atoms", "voxels"))
        h = self.states(row["features"].astype(dtype), atoms, members, row["crystal"], row["place"], key)
        return self.head(self.activations(self.environment.sums(h, voxels, members), row["guess"]))
