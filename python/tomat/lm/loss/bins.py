"""The bins of a codec as tables, in ascending order of value. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.codec import Codec


@dataclass(frozen=True, eq=False)
class Bins:
    """The n bins of a one-component codec, in ascending order of value, in the codec's unit.

    Attributes:
        points: (n,) float32, the decoded value of each bin; never descending.
        edges: (n + 1,) float32, bin i holds the values from ``edges[i]`` to ``edges[i + 1]``; the outer bins also hold
            clipped values.
        order: (n,) int32, the component of each bin; None if components ascend already, as in Lloyd-Max codecs (the
            negative half of a log codec descends).
        rank: (n,) int32, the bin of each component; None likewise.
    """

    points: NDArray[np.float32]
    edges: NDArray[np.float32]
    order: NDArray[np.int32] | None
    rank: NDArray[np.int32] | None

    @classmethod
    def of(cls, codec: Codec) -> Self:
        """The bins of ``codec``.

        Raises:
            ValueError: the codec has several components, or its reconstruction points do not ascend.
        """
        if len(codec.sizes) != 1:
            raise ValueError(
                f"codec {codec.name} writes a voxel as {len(codec.sizes)} tokens: none of them alone is a value"
            )
        n = codec.sizes[0]
        points = codec.decode(np.arange(n, dtype=np.int32)[:, None])
        edges, order = codec.bins()
        if order is not None:
            points = points[order]
        if (np.diff(points) < 0).any():
            raise ValueError(
                f"the reconstruction points of codec {codec.name} do not ascend with its bins: its tokens have no order"
            )
        rank = None if order is None else np.argsort(order).astype(np.int32)
        return cls(points.astype(np.float32), edges.astype(np.float32), order, rank)
