"""The rows of the output layer, and the logits, that belong to the target of a position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.loss.bins import Bins

if TYPE_CHECKING:
    from tomat.lm.vocabulary import ModelVocabulary

#: Logit of impossible tokens: its exp is 0, without infinities in gradients.
NEVER = -1e30


class Asked(NamedTuple):
    """The targets of positions, as arrays of one shape.

    Attributes:
        density: bool, whether the target is a density token.
        component: int32, component of the voxel; 0 for other targets.
        place: int32, index of the target among the density tokens in ascending order of value; 0 for other targets.
    """

    density: jax.Array
    component: jax.Array
    place: jax.Array


@dataclass(frozen=True, eq=False)
class DensityTargets:
    """The density tokens of a vocabulary, in ascending order of value if they have one.

    Attributes:
        first: id of the first density token.
        sizes: tokens of each component.
        bins: the bins of a one-component codec, else None.
    """

    first: int
    sizes: tuple[int, ...]
    bins: Bins | None

    @classmethod
    def of(cls, vocabulary: ModelVocabulary) -> Self:
        """The density tokens of ``vocabulary``.

        Raises:
            ValueError: the density tokens are not the last ids of the tokenizer.
        """
        low, high = vocabulary.density.start, vocabulary.density.stop
        if high != vocabulary.mask:
            raise ValueError(
                f"density tokens {low} to {high - 1} are not the last of {vocabulary.mask} ids of the tokenizer"
            )
        sizes = tuple(vocabulary.codec.sizes)
        return cls(low, sizes, Bins.of(vocabulary.codec) if len(sizes) == 1 else None)

    @property
    def n(self) -> int:
        """Density tokens of all components."""
        return sum(self.sizes)

    def rows(self, head: jax.Array, *, all_ids: bool) -> jax.Array:
        """The rows of a head [ids, d] that can be targets: of density tokens, preceded by all other ids or alone.

        ``[MASK]`` and the padding rows of the embedding are never among them.
        """
        density = head[self.first : self.first + self.n]
        if self.bins is not None and self.bins.order is not None:
            density = jnp.take(density, jnp.asarray(self.bins.order), axis=0)
        return jnp.concatenate([head[: self.first], density]) if all_ids else density

    def asked(self, target: jax.Array) -> Asked:
        """The targets of positions, from their ids."""
        index = target - self.first
        density = (index >= 0) & (index < self.n)
        index = jnp.where(density, index, 0)
        component = jnp.zeros_like(index)
        for end in np.cumsum(self.sizes)[:-1].tolist():
            component += (index >= end).astype(index.dtype)
        if self.bins is not None and self.bins.rank is not None:
            index = jnp.take(jnp.asarray(self.bins.rank), index)
        return Asked(density, component, index)

    def within_component(self, logits: jax.Array, component: jax.Array) -> jax.Array:
        """Density logits [..., n], with tokens of components other than ``component`` made impossible."""
        if len(self.sizes) == 1:
            return logits
        ends = jnp.asarray(np.cumsum(self.sizes), jnp.int32)
        end = jnp.take(ends, component)[..., None]
        start = end - jnp.take(jnp.asarray(self.sizes, jnp.int32), component)[..., None]
        i = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        return jnp.where((i >= start) & (i < end), logits, NEVER)
