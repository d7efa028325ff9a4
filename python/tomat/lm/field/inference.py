"""A field model at any points of a crystal: states of the atoms once, sums in the core, distributions in JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.field.levels import in_density, relative
from tomat.lm.field.surroundings import by_l
from tomat.prediction.options import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.crystal import Crystal
    from tomat.lm.field.network import FieldModel
    from tomat.lm.field.surroundings import Surroundings

    type Floats = NDArray[np.float32]

#: Points of a block, one compiled program; numbers of atoms for which programs are compiled.
BLOCK = 4096
DEFAULT = Sampling()
_SITES = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True, eq=False)
class FieldInference:
    """Runs a model on whole crystals.

    Attributes:
        model: the weights.
        around: what is summed around points.
        codec: the model's levels.
        sampling: how samples are drawn.
    """

    model: FieldModel
    around: Surroundings
    codec: RelativeCodec
    sampling: Sampling = DEFAULT

    def weights(self, crystal: Crystal, sums: Floats | None = None) -> Floats:
        """Weights (sites, functions, width) of the atoms of a crystal in the sums at its points.

        Args:
            crystal: the crystal.
            sums: around its atoms, see :meth:`Surroundings.at_atoms`; None computes them.
        """
        _, weights = atom_states(self.model, self.around, crystal, sums)
        return weights

    def sums(self, crystal: Crystal, weights: Floats, points: NDArray[np.float64], guess: Floats) -> Floats:
        """Sums (points, sum of (2 l + 1) channels[l]) at points (points, 3) with the promolecule (points,)."""
        return self.around.contracted(crystal, points, guess, weights)

    def read(
        self,
        wanted: tuple[str, ...],
        sums: Floats,
        guess: Floats,
        truth: Floats,
        drawn: Floats | None = None,
    ) -> dict[str, Floats]:
        """Statistics of points; only what is wanted is computed.

        Args:
            wanted: fields of :class:`tomat.lm.decode.estimates.Estimates`, and ``nats``, those of the true levels.
            sums: (points, ...) from :meth:`sums`, of any crystals.
            guess: (points,) promolecule in e/A^3.
            truth: (points,) density in e/A^3, for nats and expected errors; any values if these are not needed.
            drawn: (points,) uniform numbers for samples.

        Returns:
            (points,) each, those of the density in e/A^3.
        """
        given = {
            "sums": sums,
            "guess": guess,
            "x": relative(self.codec, guess, truth),
            "drawn": np.full(len(sums), 0.5, np.float32) if drawn is None else drawn,
        }
        found = in_blocks(given, BLOCK, lambda part: _read(self.model, part, self.sampling, wanted))
        return in_density(self.codec, found, guess)


def atom_states(
    model: FieldModel, around: Surroundings, crystal: Crystal, sums: Floats | None = None
) -> tuple[Floats, Floats]:
    """States (sites, state) of the atoms of a crystal, and their weights (sites, functions, width + fixed).

    Args:
        model: of which a head is not needed.
        around: what is summed around points.
        crystal: the crystal.
        sums: around its atoms, see :meth:`Surroundings.at_atoms`; None computes them.
    """
    n = len(crystal.atomic_numbers)
    states, weights = _states(model, *_padded_atoms(around, crystal, sums))
    return np.asarray(states)[:n], np.asarray(weights)[:n]


def _padded_atoms(
    around: Surroundings, crystal: Crystal, sums: Floats | None
) -> tuple[jax.Array, tuple[jax.Array, ...], jax.Array]:
    """Features, sums around atoms for each l, and membership of a crystal's atoms, padded to one of few sizes."""
    n = len(crystal.atomic_numbers)
    size = next((s for s in _SITES if s >= n), n)
    sums = around.at_atoms(crystal) if sums is None else sums
    padded = np.zeros((size, size, *sums.shape[2:]), np.float32)
    padded[:n, :n] = sums
    features = np.zeros((size, around.features.shape[1]), np.float32)
    features[:n] = around.features[crystal.atomic_numbers]
    members = (np.arange(size) < n).astype(np.float32)[None]
    atoms = tuple(jnp.asarray(part) for part in by_l(padded, around.shape.l_max))
    return jnp.asarray(features), atoms, jnp.asarray(members)


def split_sums(sums: jax.Array, channels: tuple[int, ...]) -> list[jax.Array]:
    """Contracted sums (..., sum of (2 l + 1) channels[l]) as (..., 2 l + 1, channels[l]) for each l."""
    first, parts = 0, []
    for l, n in enumerate(channels):  # noqa: E741 - the angular momentum
        size = (2 * l + 1) * n
        parts.append(sums[..., first : first + size].reshape(*sums.shape[:-1], 2 * l + 1, n))
        first += size
    return parts


def in_blocks(
    given: dict[str, NDArray[Any]], size: int, read: Callable[[dict[str, NDArray[Any]]], dict[str, jax.Array]]
) -> dict[str, Floats]:
    """What ``read`` makes of arrays, blocks of ``size`` rows at a time; the last is filled with its last row."""
    n = len(next(iter(given.values())))
    blocks: list[dict[str, Floats]] = []
    for first in range(0, n, size):
        part = {name: array[first : first + size] for name, array in given.items()}
        missing = size - min(size, n - first)
        if missing:
            part = {
                name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge")
                for name, array in part.items()
            }
        blocks.append({name: np.asarray(values)[: n - first] for name, values in read(part).items()})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


@eqx.filter_jit
def _states(
    model: FieldModel, features: jax.Array, atoms: tuple[jax.Array, ...], members: jax.Array
) -> tuple[jax.Array, jax.Array]:
    n = features.shape[0]
    with jax.default_matmul_precision("highest"):
        h = model.states(features, atoms, members, jnp.zeros(n, jnp.int32), jnp.arange(n))
        return model.environment.learned(h), model.environment.of_atoms(h)


@eqx.filter_jit
def _read(
    model: FieldModel, given: dict[str, Any], sampling: Sampling, wanted: tuple[str, ...]
) -> dict[str, jax.Array]:
    parts = split_sums(given["sums"], model.environment.of_l)
    with jax.default_matmul_precision("highest"):
        activations = model.activations(parts, given["guess"])
        return model.head.statistics(activations, given["x"], given["drawn"], sampling, wanted)
