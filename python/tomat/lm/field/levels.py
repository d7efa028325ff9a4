"""The levels of a relative codec as tables; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
