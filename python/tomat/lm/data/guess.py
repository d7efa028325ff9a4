"""Starting densities: what the ``guess`` objective refines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat import _core

__all__ = ["Guess", "GuessFunction", "load_guess"]

#: ``(lattice (3, 3), atomic numbers (n,), fractional coordinates (n, 3), grid shape)`` to electrons per cubic
#: angstrom on the grid (nx, ny, nz).
type GuessFunction = Callable[
    [NDArray[np.float64], NDArray[Any], NDArray[np.float64], tuple[int, int, int]], NDArray[np.floating[Any]]
]


@dataclass(frozen=True, eq=False)
class Guess:
    """A starting density with a name that says what it is.

    Attributes:
        function: computes it.
        identity: equal for equal functions; caches and resumed runs go by it.
        promolecule: where it is one, its sums: patches can be had without the rest of the grid.
        source: the promolecule without its fallback; what a checkpoint keeps.
    """

    function: GuessFunction
    identity: str
    promolecule: _core.Promolecule | None = None
    source: Promolecule | None = None

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers that its promolecule has functions for; None where it is none."""
        return None if self.source is None else frozenset(self.source.atomic_numbers.tolist())

    def patch(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: NDArray[Any],
        frac_coords: NDArray[np.float64],
        grid_shape: tuple[int, int, int],
        offset: tuple[int, int, int],
        patch_shape: tuple[int, int, int],
    ) -> NDArray[np.float64]:
        """The voxels of a patch alone, ``(offset + i) mod grid``, in electrons per cubic angstrom."""
        if self.promolecule is not None:
            numbers = [int(z) for z in atomic_numbers]
            return self.promolecule.evaluate_patch(
                lattice, numbers, frac_coords, grid_shape, offset, patch_shape
            )
        values = self(lattice, atomic_numbers, frac_coords, grid_shape)
        for axis in range(3):
            places = np.arange(offset[axis], offset[axis] + patch_shape[axis])
            values = np.take(values, places, axis=axis, mode="wrap")
        return values

    def __call__(
        self,
        lattice: NDArray[np.float64],
        atomic_numbers: NDArray[Any],
        frac_coords: NDArray[np.float64],
        grid_shape: tuple[int, int, int],
    ) -> NDArray[np.float64]:
        """The density (nx, ny, nz) in electrons per cubic angstrom.

        Raises:
            ValueError: another shape, or values that are not finite.
        """
        values = np.asarray(self.function(lattice, atomic_numbers, frac_coords, grid_shape), dtype=np.float64)
        if values.shape != tuple(grid_shape) or not np.isfinite(values).all():
            raise ValueError(
                f"the starting density has shape {values.shape}; give finite values on the grid {tuple(grid_shape)}"
            )
        return values


def load_guess(name: str | Guess | Promolecule) -> Guess:
    """A promolecule as a starting density: itself, or by bundled name (``qe-sg15``), form (``slater``), path or URL.

    It is not scaled to an electron count; elements that a fitted one lacks are taken from ``slater``.

    Raises:
        KeyError, OSError, ValueError: as :meth:`tomat.promolecule.Promolecule.load`.
    """
    if isinstance(name, Guess):
        return name
    promolecule = name if isinstance(name, Promolecule) else Promolecule.load(name)
    native = promolecule._native.or_else(Promolecule.analytic("slater")._native)

    def evaluate(
        lattice: NDArray[np.float64],
        atomic_numbers: NDArray[Any],
        frac_coords: NDArray[np.float64],
        grid_shape: tuple[int, int, int],
    ) -> NDArray[np.float64]:
        numbers = [int(z) for z in atomic_numbers]
        return native.evaluate(
            np.ascontiguousarray(lattice), numbers, frac_coords, grid_shape, electrons=None, clip=True
        )

    return Guess(evaluate, f"promolecule {promolecule.hash} or slater", native, promolecule)
