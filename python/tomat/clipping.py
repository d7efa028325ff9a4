"""Clipping: voxels of a density outside a codec's range, and the electrons lost with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.codec import Codec

#: Default for the largest share of a material's electrons above the codec's range.
MAX_CLIPPED = _core.MAX_CLIPPED
#: The same below the range, for the negative voxels of PAW densities.
MAX_NEGATIVE = _core.MAX_NEGATIVE


@dataclass(frozen=True)
class Clipping:
    """What a codec clips of one density.

    Attributes:
        voxels: number of voxels outside the codec's range.
        electrons: electrons lost with them: the sum of ``|v - clip(v)|``.
        share: the same as a share of the sum of ``|v|``, 0 to 1.
        share_below: the part of ``share`` below the range, from negative voxels.
        worst: the value that loses most, in the unit of the density.
        worst_voxel: its grid point.
    """

    voxels: int
    electrons: float
    share: float
    share_below: float
    worst: float
    worst_voxel: tuple[int, int, int]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From :attr:`stored`.

        Raises:
            KeyError, TypeError, ValueError: ``stored`` has other keys or types.
        """
        x, y, z = (int(n) for n in stored["worst_voxel"])
        return cls(
            int(stored["voxels"]),
            float(stored["electrons"]),
            float(stored["share"]),
            float(stored["share_below"]),
            float(stored["worst"]),
            (x, y, z),
        )

    def exceeds(self, max_clipped: float = MAX_CLIPPED, max_negative: float = MAX_NEGATIVE) -> bool:
        """Whether more is clipped than a run allows, above or below the range."""
        return self.share - self.share_below > max_clipped or self.share_below > max_negative

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self) | {"worst_voxel": list(self.worst_voxel)}

    def __str__(self) -> str:
        x, y, z = self.worst_voxel
        return (
            f"{self.share:.4%} of its electrons, {self.share_below:.4%} of them negative ({self.electrons:.4g}, in "
            f"{self.voxels:,} voxels, the worst {self.worst:.6g} at grid point ({x}, {y}, {z}))"
        )


@dataclass
class ClippedTotals:
    """What a codec clips of many materials."""

    materials: int = 0
    voxels: int = 0
    electrons: float = 0.0
    #: The material with the largest share, and its clipping.
    worst: tuple[str, Clipping] | None = None

    def add(self, task_id: str, found: Clipping) -> None:
        """Add a material."""
        self.materials += 1
        self.voxels += found.voxels
        self.electrons += found.electrons
        if self.worst is None or found.share > self.worst[1].share:
            self.worst = (task_id, found)

    def merge(self, stored: Mapping[str, Any]) -> None:
        """Add :attr:`stored` of other totals."""
        self.materials += stored["materials"]
        self.voxels += stored["voxels"]
        self.electrons += stored["electrons"]
        worst = stored["worst"]
        if worst is not None and (self.worst is None or worst["share"] > self.worst[1].share):
            self.worst = (worst["task_id"], Clipping.of(worst))

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """From :attr:`stored`."""
        found = cls()
        found.merge(stored)
        return found

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        worst = None if self.worst is None else {"task_id": self.worst[0], **self.worst[1].stored}
        return {**vars(self), "worst": worst}

    def __str__(self) -> str:
        if self.worst is None:
            return "nothing"
        return (
            f"{self.electrons:.4g} electrons in {self.voxels:,} voxels of {self.materials:,} materials, most of "
            f"{self.worst[0]}: {self.worst[1]}"
        )


def recount(codec: Codec, density: NDArray[np.float32], unit: str, volume: float) -> Clipping | None:
    """What ``codec`` clips of a density in the codec's unit, computed with NumPy, independently of the core."""
    values = density.astype(np.float64).ravel()
    low, high = codec.range
    below = np.maximum(low - values, 0)
    lost = np.maximum(values - high, 0) + below
    voxels = int(np.count_nonzero(lost))
    if not voxels:
        return None
    index = int(lost.argmax())
    x, y, z = (int(n) for n in np.unravel_index(index, density.shape))
    electrons = float(lost.mean()) * (1.0 if unit == "chgcar" else volume)
    total = float(np.abs(values).sum())
    share, share_below = float(lost.sum()) / total, float(below.sum()) / total
    return Clipping(voxels, electrons, share, share_below, float(values[index]), (x, y, z))


def check_limits(max_clipped: float, max_negative: float) -> None:
    """Check the limits of clipping."""
    for name, value in (("max_clipped", max_clipped), ("max_negative", max_negative)):
        if not 0 <= value <= 1:
            raise ValueError(
                f"{name} = {value} must be between 0 (nothing may be clipped) and 1 (anything may): it is a share of a "
                "material's electrons"
            )
