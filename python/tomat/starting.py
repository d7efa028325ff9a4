"""Starting densities: an estimate of a crystal's density without a model, for training and prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal

__all__ = ["StartingDensity"]

type Triple = tuple[int, int, int]


class StartingDensity(ABC):
    """An estimate of a density that depends on the crystal alone."""

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers it was made for; others are approximated. None if not known."""
        return None

    def kept(self) -> bytes | None:
        """Bytes a checkpoint stores to reproduce it; None if the name suffices."""
        return None

    def model(self) -> str | None:
        """Path of the model that predicts it, which a checkpoint needs there; None if it keeps all that it needs."""
        return None

    @property
    @abstractmethod
    def identity(self) -> str:
        """Equal for equal densities; caches and resumed runs compare it."""

    @property
    def name(self) -> str:
        """Name used in messages."""
        return self.identity

    @abstractmethod
    def per_volume(self, crystal: Crystal, grid_shape: Triple) -> NDArray[np.floating]:
        """The density (nx, ny, nz) in electrons per cubic angstrom, which :meth:`density` checks.

        Raises:
            ValueError: a crystal that is not supported.
        """

    def patch_per_volume(
        self, crystal: Crystal, grid_shape: Triple, offset: Triple, patch_shape: Triple
    ) -> NDArray[np.floating]:
        """A patch of :meth:`per_volume`; override it if patches can be computed without the whole grid."""
        values = self.density(crystal, grid_shape)
        for axis in range(3):
            places = np.arange(offset[axis], offset[axis] + patch_shape[axis])
            values = np.take(values, places, axis=axis, mode="wrap")
        return values

    def density(self, crystal: Crystal, grid_shape: Triple, unit: str = "e_per_A3") -> NDArray[np.float64]:
        """The density float64 (nx, ny, nz) in ``unit``.

        Raises:
            ValueError: a crystal that is not supported, or a density of the wrong shape or not finite.
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
        """The voxels ``(offset + i) mod grid`` of a patch, float64 of ``patch_shape``, in ``unit``.

        Raises:
            ValueError: as :meth:`density`.
        """
        values = self.patch_per_volume(crystal, grid_shape, offset, patch_shape)
        return np.asarray(values * crystal.volume if unit == "chgcar" else values, dtype=np.float64)
