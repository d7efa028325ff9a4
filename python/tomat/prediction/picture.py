"""What a picture of a prediction can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.material import Material

#: Gives the promolecule (nx, ny, nz) of a crystal on a grid in a unit; ValueError for a crystal it does not support.
type Start = Callable[[Crystal, tuple[int, int, int], str], NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class Sight:
    """A prediction, and what it is compared with.

    Attributes:
        material: the crystal with its predicted density.
        truth: the same crystal with its true density on the same grid, if known.
        spread: (nx, ny, nz) standard deviation of the prediction in the unit of ``material``, if known.
        start: makes the promolecule, if there is one.
        facts: names and values for a table.
    """

    material: Material
    truth: Material | None = None
    spread: NDArray[np.float32] | None = None
    start: Start | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def true_density(self) -> NDArray[np.float32] | None:
        """The true density (nx, ny, nz) in electrons per cubic angstrom.

        Raises:
            ValueError: it is on another grid.
        """
        if self.truth is None:
            return None
        if self.truth.grid_shape != self.material.grid_shape:
            raise ValueError(
                f"{self.material.task_id}: the true density has the grid {self.truth.grid_shape}, not "
                f"{self.material.grid_shape}"
            )
        return self.truth.in_unit("e_per_A3").density

    def start_density(self) -> NDArray[np.floating] | None:
        """The promolecule likewise; None without one, or if it does not support the crystal."""
        if self.start is None:
            return None
        try:
            return self.start(self.material.crystal, self.material.grid_shape, "e_per_A3")
        except ValueError:
            return None

    def spread_density(self) -> NDArray[np.float32] | None:
        """The spread likewise."""
        if self.spread is None:
            return None
        of = Material.on(self.material.crystal, self.spread, self.material.unit)
        return of.in_unit("e_per_A3").density
