"""Starting densities: what is known of a crystal's density before any model, for training and prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.crystal import Crystal

__all__ = ["StartingDensity"]

type Triple = tuple[int, int, int]


class StartingDensity(ABC):
    """Gives the density of a crystal, by the crystal alone."""

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers it was made for, what it gives for others being a makeshift; None where it does not say."""
        return None

    def kept(self) -> bytes | None:
        """What a checkpoint keeps, to give the same densities again; None where it keeps the name alone."""
        return None

    @property
    @abstractmethod
    def identity(self) -> str:
        """Equal for equal densities; caches and resumed runs go by it."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.identity

    @abstractmethod
    def per_volume(self, crystal: Crystal, grid_shape: Triple) -> NDArray[np.floating]:
        """The density (nx, ny, nz) in electrons per cubic angstrom: what :meth:`density` checks.

        Raises:
            ValueError: a crystal it cannot do.
        """

    def patch_per_volume(
        self, crystal: Crystal, grid_shape: Triple, offset: Triple, patch_shape: Triple
    ) -> NDArray[np.floating]:
        """A part of :meth:`per_volume`; to be overridden where patches can be had without the rest of the grid."""
        values = self.density(crystal, grid_shape)
        for axis in range(3):
            places = np.arange(offset[axis], offset[axis] + patch_shape[axis])
            values = np.take(values, places, axis=axis, mode="wrap")
        return values

    def density(self, crystal: Crystal, grid_shape: Triple, unit: str = "e_per_A3") -> NDArray[np.float64]:
        """The density float64 (nx, ny, nz) in ``unit``.

        Raises:
            ValueError: a crystal it cannot do, or a density of another shape or that is not finite.
        """
        values = np.asarray(self.per_volume(crystal, grid_shape), dtype=np.float64)
        if values.shape != tuple(grid_shape) or not np.isfinite(values).all():
            raise ValueError(
                f"the starting density has shape {values.shape}; give finite values on the grid {tuple(grid_shape)}"
            )
        return values * crystal.volume if unit == "chgcar" else values

    def patch(
        self,
        crystal: Crystal,
        grid_shape: Triple,
        offset: Triple,
        patch_shape: Triple,
        unit: str = "e_per_A3",
    ) -> NDArray[np.float64]:
        """The voxels of a patch alone, ``(offset + i) mod grid``, in ``unit``.

        Raises:
            ValueError: as :meth:`density`.
        """
        values = self.patch_per_volume(crystal, grid_shape, offset, patch_shape)
        return np.asarray(values * crystal.volume if unit == "chgcar" else values, dtype=np.float64)
