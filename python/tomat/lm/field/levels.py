"""The levels of a relative codec as tables, and their x as densities; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec

    type Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Levels:
    """Levels of x = (density - guess) / scale(guess); equal if their codecs have the same hash.

    Attributes:
        hash: of the codec.
        points: (n,) float64, ascending; one of them is 0.
        edges: (n + 1,) float64, level i stands for edges[i] to edges[i + 1].
    """

    hash: str
    points: NDArray[np.float64] = field(compare=False)
    edges: NDArray[np.float64] = field(compare=False)

    @classmethod
    def of(cls, codec: Any) -> Self:
        """The levels of a relative codec.

        Raises:
            ValueError: none of them is 0, so that a model cannot begin with the guess.
        """
        points, edges = np.asarray(codec.levels, np.float64), np.asarray(codec.edges, np.float64)
        if not (points == 0).any():
            raise ValueError(f"codec {codec.name}: none of its levels is 0, the starting density itself")
        return cls(codec.hash, points, edges)


def relative(codec: RelativeCodec, guess: Floats, density: Floats) -> Floats:
    """x = (density - guess) / scale of densities in e/A^3."""
    found: Floats = ((density.astype(np.float64) - guess) / codec.scale(guess)).astype(np.float32)
    return found


def in_density(codec: RelativeCodec, found: dict[str, Floats], guess: Floats) -> dict[str, Floats]:
    """Statistics of x, by name, as those of the density in e/A^3."""
    scale = codec.scale(guess).astype(np.float32)
    made = dict(found)
    for name in {"median", "mean", "mode", "sample"} & found.keys():
        made[name] = guess + scale * found[name]
    for name in {"spread", "expected_error"} & found.keys():
        made[name] = scale * found[name]
    return made
