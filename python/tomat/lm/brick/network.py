"""The brick model: bricks of voxels and images of atoms in one sequence, and a distribution at every voxel.

A brick's input is what the starting density does in it and, with the field's eyes, what the field model sees at eight
points of it; an atom's is its state. After the transformer each brick gives polynomials of the place in it, to which
what its points saw is added, interpolated: from their values at a voxel its distribution is read.
Needs JAX and Equinox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tomat.lm.brick.config import EDGE, POINTS
from tomat.lm.brick.tiles import brick_places, interpolation, point_places, pooling, voxel_places
from tomat.lm.brick.transformer import Geometry, Transformer
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.head import HEADS
from tomat.lm.field.network import FieldModel, Linear, Mlp, noisy, of_guess, of_rows, stretched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.lm.brick.config import BrickShape
    from tomat.lm.brick.example import BrickExample
    from tomat.lm.field.config import FieldShape
    from tomat.lm.field.head import Head
    from tomat.lm.field.levels import Levels

#: Length in angstrom of the unit of polynomials; their number up to the second degree.
_UNIT, DEGREES = 0.2, 10
#: Numbers of each point that a brick's input takes.
SEEN = 16


class Patch(eqx.Module):
    """One patch.

    Attributes:
        guess: (bricks, 64) the starting density in e/A^3.
        step: (3, 3) angstrom, vectors from a grid point to the next.
        images: (atoms, 3) angstrom from the middle of the patch.
        present: (atoms,) 1 for an image, 0 for padding.
        atoms: (atoms, width) states of the images; features of their elements for a model without eyes.
        sums: for each l (points, 2 l + 1, channels[l]); empty for a model without eyes.
    """

    guess: jax.Array
    step: jax.Array
    images: jax.Array
    present: jax.Array
    atoms: jax.Array
    sums: tuple[jax.Array, ...]


class BrickModel(eqx.Module):
    """The brick model.

    Attributes:
        eyes: the field model, its states, sums and readout; None for a model without.
        of_atom: from a state, or the features of an element, to the input of an atom.
        of_guess: from the moments of the starting density to the input of a brick.
        seen: from what is seen at a point to the numbers a brick takes; with ``of_seen`` from their moments.
        kinds: (2, width) added to bricks, and to atoms.
        transformer: over bricks and atoms.
        out: from a brick to the coefficients of its polynomials.
        of_point: from what is seen at a point to what its voxels get.
        near: from the starting density at a voxel.
        head: from activations to logits over the levels.
        shape: of the model.
    """

    eyes: FieldModel | None
    of_atom: Linear | Mlp
    of_guess: Linear
    seen: Linear | None
    of_seen: Linear | None
    kinds: jax.Array
    transformer: Transformer
    out: Linear
    of_point: Linear | None
    near: Linear
    head: Head
    shape: BrickShape = eqx.field(static=True)
    field: FieldShape = eqx.field(static=True)

    @classmethod
    def init(cls, key: jax.Array, shape: BrickShape, field: FieldShape, levels: Levels) -> BrickModel:
        """A model whose median is the starting density everywhere.

        Raises:
            ValueError: an unknown head.
        """
        keys = iter(jax.random.split(key, 12))
        width, active = shape.width, shape.activations
        eyes = FieldModel.init(next(keys), field, levels)  # tells of an unknown head
        # The distribution is read at voxels, not at points.
        eyes = eqx.tree_at(lambda model: model.head, eyes, None)
        seen = field.mlp[-1]
        has = shape.field
        return cls(
            eyes if has else None,
            Linear.init(next(keys), field.state, width)
            if has
            else Mlp.init(next(keys), (N_FEATURES, field.embedding, width)),
            Linear.init(next(keys), 3 * DEGREES, width),
            Linear.init(next(keys), seen, SEEN) if has else None,
            Linear.init(next(keys), SEEN * DEGREES, width) if has else None,
            0.5 * jax.random.normal(next(keys), (2, width)),
            Transformer.init(next(keys), shape),
            Linear.init(next(keys), width, DEGREES * active, 0.5),
            Linear.init(next(keys), seen, active, 1.5) if has else None,
            Linear.init(next(keys), 2, active),
            HEADS[field.head](active, levels),
            shape,
            field,
        )

    def activations(self, patch: Patch, voxel: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        """Activations (voxels, activations) at ``voxel`` (voxels,), brick by brick; None is all of the patch."""
        bricks = patch.guess.shape[0]
        step = patch.step
        inside = polynomials(jnp.asarray(voxel_places(), jnp.float32) @ step)
        x = self.of_guess(_moments(inside, _of_guess(patch.guess)))
        points = None
        if self.eyes is not None and self.seen is not None and self.of_seen is not None:
            seen = self._at_points(patch).reshape(bricks, POINTS**3, -1)
            around = polynomials(jnp.asarray(point_places(), jnp.float32) @ step)
            x = x + self.of_seen(_moments(around, self.seen(seen)))
            points = self.of_point(seen) if self.of_point is not None else None
        atoms = self.of_atom(patch.atoms)
        x = jnp.concatenate([x + self.kinds[0], atoms + self.kinds[1]])
        positions = jnp.concatenate(
            [jnp.asarray(brick_places(self.shape.bricks), jnp.float32) @ step, patch.images]
        )
        present = jnp.concatenate([jnp.ones(bricks), patch.present])
        x = self.transformer(x, Geometry.of(positions, present, self.shape), key)
        terms = self.out(x[:bricks]).reshape(bricks, DEGREES, -1)
        between = jnp.asarray(interpolation())
        if voxel is None:
            found = jnp.einsum("vm,bmd->bvd", inside, terms)
            if points is not None:
                found = found + jnp.einsum("vp,bpd->bvd", between, points)
            found, guess = found.reshape(-1, found.shape[-1]), patch.guess.reshape(-1)
        else:
            brick, at = voxel // EDGE**3, voxel % EDGE**3
            found = jnp.einsum("vm,vmd->vd", inside[at], terms[brick])
            if points is not None:
                found = found + jnp.einsum("vp,vpd->vd", between[at], points[brick])
            guess = patch.guess.reshape(-1)[voxel]
        return jax.nn.silu(found + self.near(of_guess(guess)))

    def _at_points(self, patch: Patch) -> jax.Array:
        """What the field model's readout makes of sums and starting density at the points (points, mlp)."""
        if self.eyes is None:  # pragma: no cover - asked by the caller
            raise ValueError("a model without eyes has no points")
        guess = (patch.guess @ jnp.asarray(pooling()).T).reshape(-1)
        return self.eyes.activations(patch.sums, guess)

    def atoms(
        self,
        features: jax.Array,
        atoms: Sequence[jax.Array],
        members: jax.Array,
        crystal: jax.Array,
        place: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States [sites, ...] of atoms as :meth:`FieldModel.states`; their noisy features without eyes."""
        if self.eyes is not None:
            return self.eyes.states(features, atoms, members, crystal, place, key)
        features = features[:, :N_FEATURES]
        if key is None:
            return features
        return noisy(features, key, self.field.feature_noise, self.field.feature_dropout)

    def __call__(self, example: BrickExample, key: jax.Array | None = None) -> jax.Array:
        """Logits [rows, crystals, voxels, levels] of a batch."""
        return of_rows(self._row, example, key)

    def stretched(self, factor: float) -> BrickModel:
        """The model with distributions wider by a factor."""
        return stretched(self, factor)

    def _row(self, row: dict[str, Any], key: jax.Array | None) -> jax.Array:
        crystals = row["guess"].shape[0]
        members = jax.nn.one_hot(row["crystal"], crystals, axis=0, dtype=jnp.float32)
        first = second = None
        if key is not None:
            first, second = jax.random.split(key)
        h = self.atoms(row["features"], row["atoms"], members, row["crystal"], row["place"], first)
        sums: tuple[jax.Array, ...] = ()
        if self.eyes is not None:
            sums = tuple(self.eyes.environment.sums(h, row["points"], members))
            h = self.eyes.environment.learned(h)
        patches = Patch(
            guess=row["patch"].reshape(crystals, -1, EDGE**3),
            step=row["step"],
            images=row["images"],
            present=row["present"],
            atoms=h[row["sites"]],
            sums=sums,
        )
        keys = None if second is None else jax.random.split(second, crystals)
        over = jax.vmap(self.activations, in_axes=(0, 0, None if keys is None else 0))
        return self.head(over(patches, row["voxel"], keys))


def polynomials(places: jax.Array) -> jax.Array:
    """1, x, y, z, x^2, y^2, z^2, xy, yz, zx (..., 10) of places (..., 3) in angstrom, in units of 0.2 angstrom."""
    p = places / _UNIT
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    return jnp.stack([jnp.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x], axis=-1)


def _moments(basis: jax.Array, values: jax.Array) -> jax.Array:
    """Moments (bricks, 10 * n) of values (bricks, places, n) under polynomials (places, 10)."""
    found = jnp.einsum("vm,bvn->bmn", basis, values) / basis.shape[0]
    return found.reshape(found.shape[0], -1)


def _of_guess(guess: jax.Array) -> jax.Array:
    """Logarithm, root and fourth root (..., 3) of a density in e/A^3, about 1 in size."""
    root = jnp.sqrt(guess)
    return jnp.stack([0.5 * jnp.log(guess + 1e-4), root, 2.0 * jnp.sqrt(root) - 1.0], axis=-1)
