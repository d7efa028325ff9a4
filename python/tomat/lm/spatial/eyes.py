"""The field model as the eyes of a transformer on tokens: an embedding for each voxel and each atom.

Needs JAX and Equinox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.field.levels import Levels
from tomat.lm.field.network import FieldModel, Linear

if TYPE_CHECKING:
    from tomat.lm.field.config import FieldShape
    from tomat.lm.spatial.example import Space

#: Size of the embeddings of atoms at the start; the layers of a new model add nothing, so its answer stays.
_OF_ATOM = 0.2
#: The distribution is read from the transformer, not from the eyes.
_NO_LEVELS = Levels("", np.zeros(1), np.array([-1.0, 1.0]))


class Eyes(eqx.Module):
    """What is added to the embeddings of tokens.

    Attributes:
        field: the field model, its states, sums and readout.
        of_voxel: from what its readout makes of a voxel; zero in a new model.
        of_atom: from the state of an atom.
    """

    field: FieldModel
    of_voxel: Linear
    of_atom: Linear

    @classmethod
    def init(cls, key: jax.Array, shape: FieldShape, hidden: int) -> Eyes:
        """Eyes of a transformer of width ``hidden`` that add nothing to density tokens.

        Raises:
            ValueError: an unknown head.
        """
        first, second, third = jax.random.split(key, 3)
        field = FieldModel.init(first, shape, _NO_LEVELS)
        return cls(
            eqx.tree_at(lambda model: model.head, field, None),
            Linear.init(second, shape.mlp[-1], hidden, 0.0),
            Linear.init(third, shape.state, hidden, _OF_ATOM),
        )

    def __call__(self, space: Space, key: jax.Array | None = None) -> jax.Array:
        """Embeddings (rows, positions, hidden) of a batch of rows; 0 for tokens of no voxel and no atom.

        Args:
            space: of the rows.
            key: of the noise on features of elements in training; None is none.

        Raises:
            ValueError: the rows do not say what is around.
        """
        if space.around is None:
            raise ValueError("a model with the field's eyes needs what is around its tokens")
        states, seen = space.around.seen(self.field, key)
        atoms = jax.vmap(_taken)(self.of_atom(states), space.atoms.array)
        return atoms + jax.vmap(_taken)(self.of_voxel(seen), space.voxels.array)


def _taken(made: jax.Array, of: jax.Array) -> jax.Array:
    """Rows (L, hidden) of ``made`` (n, hidden); 0 where ``of`` is n."""
    return jnp.take(made, of, axis=0, mode="fill", fill_value=0)
