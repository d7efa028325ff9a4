"""A brick model on patches of a crystal: states of the atoms once, sums in the core, distributions in JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.brick.config import EDGE
from tomat.lm.brick.network import Patch
from tomat.lm.brick.tiles import Placed, at_points
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.inference import DEFAULT, atom_states, in_blocks, split_sums
from tomat.lm.field.levels import in_density, relative

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.crystal import Crystal
    from tomat.lm.brick.network import BrickModel
    from tomat.lm.field.head import Head
    from tomat.lm.field.surroundings import Surroundings
    from tomat.prediction.options import Sampling

    type Floats = NDArray[np.float32]

#: Patches of a block, and voxels, each one compiled program.
BLOCK, VOXELS = 16, 8192


class AtomStates(NamedTuple):
    """What a model makes of the atoms of a crystal.

    Attributes:
        states: (sites, width).
        weights: (sites, functions, channels) in the sums at points; None for a model without eyes.
    """

    states: Floats
    weights: Floats | None


@dataclass(frozen=True, eq=False)
class BrickInference:
    """Runs a model on patches.

    Attributes:
        model: the weights.
        around: what is summed around points.
        codec: the model's levels.
        sampling: how samples are drawn.
    """

    model: BrickModel
    around: Surroundings
    codec: RelativeCodec
    sampling: Sampling = DEFAULT

    def atoms(self, crystal: Crystal) -> AtomStates:
        """States of the atoms of a crystal."""
        if self.model.eyes is None:
            return AtomStates(self.around.features[crystal.atomic_numbers, :N_FEATURES], None)
        return AtomStates(*atom_states(self.model.eyes, self.around, crystal))

    def read(
        self,
        wanted: tuple[str, ...],
        placed: Placed,
        atoms: AtomStates,
        origins: NDArray[np.int64],
        guess: Floats,
        truth: Floats,
        drawn: Floats | None = None,
    ) -> dict[str, Floats]:
        """Statistics of all voxels of patches of one crystal; only what is wanted is computed.

        Args:
            wanted: fields of :class:`tomat.lm.decode.estimates.Estimates`, and ``nats``, those of the true levels.
            placed: the crystal on its grid.
            atoms: of :meth:`atoms`.
            origins: (patches, 3) low corners.
            guess: (patches, voxels) starting density in e/A^3, brick by brick.
            truth: (patches, voxels) density in e/A^3, for nats and expected errors.
            drawn: (patches, voxels) uniform numbers for samples.

        Returns:
            (patches, voxels) each, brick by brick, those of the density in e/A^3.
        """
        given = {
            "x": relative(self.codec, guess, truth),
            "drawn": np.full_like(guess, 0.5) if drawn is None else drawn,
            **self._seen(placed, atoms, origins, guess),
        }
        step = jnp.asarray(placed.step)
        found = in_blocks(given, BLOCK, lambda part: _read(self.model, part, step, self.sampling, wanted))
        return in_density(self.codec, found, guess)

    def activations(
        self,
        placed: Placed,
        atoms: AtomStates,
        origins: NDArray[np.int64],
        guess: Floats,
        voxel: NDArray[np.integer],
    ) -> Floats:
        """Activations (patches, n, activations) at some voxels (patches, n); arguments as for :meth:`read`."""
        given = {"voxel": voxel.astype(np.int32), **self._seen(placed, atoms, origins, guess)}
        step = jnp.asarray(placed.step)
        return in_blocks(given, BLOCK, lambda part: {"all": _activations(self.model, part, step)})["all"]

    def of_activations(
        self, wanted: tuple[str, ...], activations: Floats, guess: Floats, truth: Floats
    ) -> dict[str, Floats]:
        """As :meth:`read`, of voxels (n,) with activations (n, activations)."""
        given = {"activations": activations, "x": relative(self.codec, guess, truth)}

        def read(part: dict[str, NDArray[Any]]) -> dict[str, jax.Array]:
            return _of_activations(self.model.head, part, self.sampling, wanted)

        return in_density(self.codec, in_blocks(given, VOXELS, read), guess)

    def _seen(
        self, placed: Placed, atoms: AtomStates, origins: NDArray[np.int64], guess: Floats
    ) -> dict[str, Floats]:
        """Images with their states, and the sums at the points of patches."""
        images, sites, there = zip(*(placed.images(origin) for origin in origins), strict=True)
        count = images[0].shape[0]
        found: dict[str, Floats] = {
            "guess": guess,
            "images": np.stack(images),
            "present": (np.arange(count) < np.array(there)[:, None]).astype(np.float32),
            "atoms": atoms.states[np.stack(sites)],
        }
        if atoms.weights is not None:
            points = np.concatenate([placed.points(origin) for origin in origins])
            at = at_points(guess)
            sums = self.around.contracted(placed.crystal, points, at.ravel(), atoms.weights)
            found["sums"] = sums.reshape(len(origins), -1, sums.shape[-1])
        return found


def _patches(model: BrickModel, given: dict[str, Any], step: jax.Array) -> Patch:
    patches = len(given["guess"])
    sums: tuple[jax.Array, ...] = ()
    if model.eyes is not None:
        sums = tuple(split_sums(given["sums"], model.eyes.environment.of_l))
    return Patch(
        guess=given["guess"].reshape(patches, -1, EDGE**3),
        step=jnp.broadcast_to(step, (patches, 3, 3)),
        images=given["images"],
        present=given["present"],
        atoms=given["atoms"],
        sums=sums,
    )


@eqx.filter_jit
def _activations(model: BrickModel, given: dict[str, Any], step: jax.Array) -> jax.Array:
    def one(part: tuple[Patch, jax.Array]) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return model.activations(*part)

    found: jax.Array = jax.lax.map(one, (_patches(model, given, step), given["voxel"]))
    return found


@eqx.filter_jit
def _read(
    model: BrickModel,
    given: dict[str, Any],
    step: jax.Array,
    sampling: Sampling,
    wanted: tuple[str, ...],
) -> dict[str, jax.Array]:
    def one(part: tuple[Patch, jax.Array, jax.Array]) -> dict[str, jax.Array]:
        of, x, drawn = part
        with jax.default_matmul_precision("highest"):
            activations = model.activations(of, None)
            return model.head.statistics(activations, x, drawn, sampling, wanted)

    patches = _patches(model, given, step)
    result: dict[str, jax.Array] = jax.lax.map(one, (patches, given["x"], given["drawn"]))
    return result


@eqx.filter_jit
def _of_activations(
    head: Head,
    given: dict[str, Any],
    sampling: Sampling,
    wanted: tuple[str, ...],
) -> dict[str, jax.Array]:
    drawn = jnp.full_like(given["x"], 0.5)
    with jax.default_matmul_precision("highest"):
        return head.statistics(given["activations"], given["x"], drawn, sampling, wanted)
