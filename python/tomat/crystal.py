"""A crystal without a density: what a prediction starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tomat import _core
from tomat.material import elements_of

if TYPE_CHECKING:
    from ase.atoms import Atoms
    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core.structure import IStructure

    from tomat.material import Material

__all__ = ["Crystal"]


@dataclass(frozen=True, eq=False)
class Crystal:
    """A cell and its atoms.

    Attributes:
        lattice: (3, 3) float64, rows a, b, c in angstrom.
        atomic_numbers: (n,) int32, 1 to 118.
        frac_coords: (n, 3) float64, as given: not wrapped into the cell.
        name: what it goes by in files and reports.
    """

    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int32]
    frac_coords: NDArray[np.float64]
    name: str = "crystal"

    @classmethod
    def of(
        cls, lattice: ArrayLike, atomic_numbers: ArrayLike, frac_coords: ArrayLike, name: str = "crystal"
    ) -> Self:
        """Check arrays and build a crystal.

        Raises:
            ValueError: wrong shapes, values that are not finite, a cell without volume, no atoms, no element.
        """
        cell = np.ascontiguousarray(lattice, dtype=np.float64)
        numbers = np.asarray(atomic_numbers)
        coordinates = np.ascontiguousarray(frac_coords, dtype=np.float64)
        if cell.shape != (3, 3) or not np.isfinite(cell).all():
            raise ValueError(
                f"{name}: the lattice of shape {cell.shape} must be (3, 3) finite rows a, b, c in angstrom"
            )
        if numbers.ndim != 1 or not numbers.size or coordinates.shape != (len(numbers), 3):
            raise ValueError(
                f"{name}: atomic numbers of shape {numbers.shape} and coordinates of shape {coordinates.shape} do "
                "not fit; give (n,) and (n, 3) with at least one atom"
            )
        if numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > 118:
            raise ValueError(
                f"{name}: atomic numbers {numbers.tolist()[:8]} must be whole, 1 (H) to 118 (Og)"
            )
        if not np.isfinite(coordinates).all():
            raise ValueError(f"{name}: the fractional coordinates hold NaN or infinity")
        try:
            _core.lattice_parameters(cell)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return cls(cell, np.ascontiguousarray(numbers, dtype=np.int32), coordinates, name)

    @classmethod
    def from_material(cls, material: Material) -> Self:
        """The crystal of a material, without its density."""
        return cls.of(material.lattice, material.atomic_numbers, material.frac_coords, material.task_id)

    @classmethod
    def from_pymatgen(cls, structure: IStructure, name: str | None = None) -> Self:
        """From a pymatgen ``Structure``.

        Raises:
            ValueError: partly occupied sites, or sites that hold no element.
        """
        # Duck-typed, so that pymatgen need not be imported to get here.
        given: Any = structure
        label = name or str(given.composition.reduced_formula)
        if not given.is_ordered:
            partly = [i + 1 for i, site in enumerate(given) if not site.is_ordered]
            raise ValueError(
                f"{label}: {len(partly)} of {len(given)} sites are partly occupied (first: site {partly[0]}, "
                f"{given[partly[0] - 1].species_string}); a density needs whole atoms: order it first, with pymatgen's "
                "OrderDisorderedStructureTransformation for example"
            )
        try:
            numbers = elements_of(given)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
        return cls.of(given.lattice.matrix, numbers, given.frac_coords, label)

    @classmethod
    def from_ase(cls, atoms: Atoms, name: str | None = None) -> Self:
        """From ASE ``Atoms``.

        Raises:
            ValueError: atoms without a cell, or partly occupied sites (``info["occupancy"]``).
        """
        given: Any = atoms
        label = name or str(given.get_chemical_formula(mode="reduce"))
        for site, species in (given.info.get("occupancy") or {}).items():
            if len(species) != 1 or abs(sum(species.values()) - 1.0) > 1e-6:
                raise ValueError(
                    f"{label}: site {site} is partly occupied ({species}); a density needs whole atoms: order it first"
                )
        if abs(float(np.linalg.det(given.cell.array))) < 1e-9:
            raise ValueError(f"{label}: the atoms have no cell; a crystal needs three lattice vectors")
        coordinates = given.get_scaled_positions(wrap=False)
        return cls.of(given.cell.array, given.numbers, coordinates, label)

    @property
    def volume(self) -> float:
        """Cell volume in cubic angstrom."""
        return _core.cell_volume(self.lattice)

    @property
    def n_atoms(self) -> int:
        """Atoms in the cell."""
        return len(self.atomic_numbers)

    def material(self, density: ArrayLike, unit: str, source: dict[str, Any] | None = None) -> Material:
        """This crystal with a density (nx, ny, nz) in ``unit``."""
        from tomat.material import Material

        return Material.of(
            self.name, density, unit, self.lattice, self.atomic_numbers, self.frac_coords, source
        )

    def __repr__(self) -> str:
        """Shows what it is, not its numbers."""
        return f"Crystal({self.name!r}, {self.n_atoms} atoms, {self.volume:.4g} A^3)"
