"""What a row says about space, as part of the trainer's examples; needs JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Sequence


class Seeing(Protocol):
    """A :class:`tomat.lm.field.network.FieldModel`, whose module needs examples itself."""

    @property
    def environment(self) -> Any: ...  # noqa: D102
    def states(  # noqa: D102
        self,
        features: jax.Array,
        atoms: Sequence[jax.Array],
        members: jax.Array,
        crystal: jax.Array,
        place: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array: ...
    def activations(self, sums: Sequence[jax.Array], guess: jax.Array) -> jax.Array: ...  # noqa: D102


class Around(Protocol):
    """What is around the tokens of a batch of rows."""

    def seen(self, eyes: Seeing, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """States (rows, N, state) of atoms, and what the readout makes of voxels (rows, V, mlp).

        Args:
            eyes: the field model.
            key: of the noise on features of elements; None is none.
        """
        ...


class Surrounded(eqx.Module):
    """Sums around the atoms of a crystal and the voxels of a patch, each atom apart, for eyes that are trained.

    Up to N atoms, V voxels.

    Attributes:
        features: (N, features) of the atoms' elements.
        present: (N,) float32, 1 for an atom, 0 for padding.
        atoms: for each l (N, N * (2 l + 1), functions), sums of each atom around all of them.
        voxels: for each l (N, V * (2 l + 1), functions), sums of each atom around the voxels.
        guess: (V,) the starting density in e/A^3.
    """

    features: hax.NamedArray
    present: hax.NamedArray
    atoms: tuple[hax.NamedArray, ...]
    voxels: tuple[hax.NamedArray, ...]
    guess: hax.NamedArray

    def seen(self, eyes: Seeing, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """As :meth:`Around.seen`."""
        dtype = eyes.environment.weights.weight.dtype

        def one(row: tuple[jax.Array, ...], key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            features, present, atoms, voxels, guess = row
            members, n = present[None].astype(dtype), features.shape[0]
            near = [part.astype(dtype) for part in atoms]
            first = jnp.zeros(n, jnp.int32)
            h = eyes.states(features.astype(dtype), near, members, first, jnp.arange(n), key)
            sums = eyes.environment.sums(h, [part.astype(dtype) for part in voxels], members)
            return eyes.environment.learned(h), eyes.activations([part[0] for part in sums], guess)

        named = (self.features, self.present, self.atoms, self.voxels, self.guess)
        rows = jax.tree.map(
            lambda field: field.array, named, is_leaf=lambda field: isinstance(field, hax.NamedArray)
        )
        keys = None if key is None else jax.random.split(key, len(self.guess.array))
        found: tuple[jax.Array, jax.Array] = jax.vmap(one, in_axes=(0, None if keys is None else 0))(
            rows, keys
        )
        return found


class Summed(eqx.Module):
    """States of atoms and sums over them at the voxels, for eyes whose weights are known.

    Attributes:
        states: (N, state) of the atoms.
        sums: for each l (V, 2 l + 1, channels[l]) at the voxels.
        guess: (V,) the starting density in e/A^3.
    """

    states: hax.NamedArray
    sums: tuple[hax.NamedArray, ...]
    guess: hax.NamedArray

    def seen(self, eyes: Seeing, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """As :meth:`Around.seen`; without noise."""
        del key
        dtype = eyes.environment.weights.weight.dtype
        sums = [part.array.astype(dtype) for part in self.sums]
        return self.states.array.astype(dtype), eyes.activations(sums, self.guess.array)


class Space(eqx.Module):
    """Where the L tokens of a row are, and what is around them.

    Attributes:
        places: (L, 3) angstrom from the middle of the patch; 0 for tokens without a place.
        atoms: (L,) int32, the atom of a token; N for a token of none.
        voxels: (L,) int32, the voxel of a token; V for a token of none.
        around: what the field's eyes see; None for a model without.
    """

    places: hax.NamedArray
    atoms: hax.NamedArray
    voxels: hax.NamedArray
    around: Surrounded | Summed | None
