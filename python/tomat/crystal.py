"""Crystals: a cell and its atoms, checked, and converted from and to pymatgen and ASE."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from ase.atoms import Atoms
    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core.structure import IStructure, Structure

__all__ = ["Crystal", "lattice_matrix"]


@dataclass(frozen=True, eq=False)
class Crystal:
    """A cell and its atoms, checked when it is made.

    Attributes:
        lattice: (3, 3) float64, rows a, b, c in angstrom.
        atomic_numbers: (n,) int32, 1 to 118.
        frac_coords: (n, 3) float64, as given: not wrapped into the cell.
        name: used in files and reports.

    Raises:
        ValueError: wrong shapes, values that are not finite, a cell without volume, no atoms, unknown elements.
    """

    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int32]
    frac_coords: NDArray[np.float64]
    name: str = "crystal"

    def __post_init__(self) -> None:
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name}: {error}") from error

    def _check(self) -> None:
        cell = as_array(self, "lattice", np.float64)
        if cell.shape != (3, 3):
            raise ValueError(f"the lattice has shape {cell.shape}; give (3, 3) rows a, b, c in angstrom")
        _core.cell_volume(cell)  # refuses one that is not finite or spans no volume
        numbers = as_array(self, "atomic_numbers", np.int32)
        coordinates = as_array(self, "frac_coords", np.float64)
        if numbers.ndim != 1 or not numbers.size or coordinates.shape != (len(numbers), 3):
            raise ValueError(
                f"atomic numbers of shape {numbers.shape} and coordinates of shape {coordinates.shape} do not fit; "
                "give (n,) and (n, 3) with at least one atom"
            )
        if numbers.min() < 1 or numbers.max() > 118:
            raise ValueError(f"atomic numbers from {numbers.min()} to {numbers.max()}; elements are 1 to 118")
        if not np.isfinite(coordinates).all():
            raise ValueError("the fractional coordinates hold NaN or infinite values")

    @classmethod
    def of(
        cls, lattice: ArrayLike, atomic_numbers: ArrayLike, frac_coords: ArrayLike, name: str = "crystal"
    ) -> Self:
        """A crystal from anything NumPy converts to arrays.

        Raises:
            ValueError: as the class.
        """
        given: tuple[Any, ...] = (lattice, atomic_numbers, frac_coords, name)  # converted by the class
        return cls(*given)

    @classmethod
    def of_checked(
        cls,
        lattice: NDArray[np.float64],
        atomic_numbers: NDArray[np.int32],
        frac_coords: NDArray[np.float64],
        name: str,
    ) -> Self:
        """From arrays of the right types that are already checked."""
        crystal = object.__new__(cls)
        crystal.__dict__.update(
            lattice=lattice, atomic_numbers=atomic_numbers, frac_coords=frac_coords, name=name
        )
        return crystal

    @classmethod
    def from_parameters(
        cls, parameters: ArrayLike, atomic_numbers: ArrayLike, frac_coords: ArrayLike, name: str = "crystal"
    ) -> Self:
        """A crystal from the parameters of its cell, (6,) a, b, c in angstrom and alpha, beta, gamma in degrees.

        Its axes lie as :func:`lattice_matrix` lays them.

        Raises:
            ValueError: as the class.
        """
        return cls.of(lattice_matrix(parameters), atomic_numbers, frac_coords, name)

    @classmethod
    def from_pymatgen(cls, structure: IStructure, name: str | None = None) -> Self:
        """From a pymatgen ``Structure``.

        Raises:
            ValueError: partly occupied sites, or sites that hold no element.
        """
        # Duck-typed, so that pymatgen need not be imported.
        given: Any = structure
        label = name or str(given.composition.reduced_formula)
        if not given.is_ordered:
            partly = [i + 1 for i, site in enumerate(given) if not site.is_ordered]
            raise ValueError(
                f"{label}: {len(partly)} of {len(given)} sites are partly occupied (first: site {partly[0]}, "
                f"{given[partly[0] - 1].species_string}); a density needs whole atoms: order it first, for example "
                "with pymatgen's OrderDisorderedStructureTransformation"
            )
        numbers = []
        for index, site in enumerate(given, 1):
            # The Z of a dummy species is the hash of its name.
            number = getattr(site.specie, "Z", 0)
            if not 1 <= number <= 118:
                raise ValueError(
                    f"{label}: site {index} holds {site.species_string}, which is not an element; replace it by one of "
                    "H to Og, or remove the site"
                )
            numbers.append(int(number))
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

    def to_pymatgen(self) -> Structure:
        """A pymatgen ``Structure``; needs ``tomat[structures]``."""
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.periodic_table import Element
        from pymatgen.core.structure import Structure

        species = [Element.from_Z(int(z)) for z in self.atomic_numbers]
        return Structure(Lattice(self.lattice), species, self.frac_coords)

    def to_ase(self) -> Atoms:
        """ASE ``Atoms``; needs ``tomat[structures]``."""
        from ase.atoms import Atoms

        return Atoms(
            numbers=self.atomic_numbers, scaled_positions=self.frac_coords, cell=self.lattice, pbc=True
        )

    def renamed(self, name: str) -> Self:
        """The same crystal under another name."""
        return self if name == self.name else replace(self, name=name)

    @property
    def volume(self) -> float:
        """Cell volume in cubic angstrom."""
        return _core.cell_volume(self.lattice)

    @property
    def n_atoms(self) -> int:
        """Atoms in the cell."""
        return len(self.atomic_numbers)

    @property
    def hash(self) -> str:
        """SHA-256 of the cell and its atoms, without the name."""
        return content_hash("tomat crystal 1\n", self)

    def __repr__(self) -> str:
        return f"Crystal({self.name!r}, {self.n_atoms} atoms, {self.volume:.4g} A^3)"


def lattice_matrix(parameters: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) rows a, b, c in angstrom from (6,) lengths in angstrom and angles in degrees.

    c lies along z and a in the xz plane, as pymatgen lays them.

    Raises:
        ValueError: not six numbers, or angles that no cell has.
    """
    given = np.asarray(parameters, np.float64)
    if given.shape != (6,):
        raise ValueError(f"cell parameters have shape {given.shape}; give (6,) a, b, c, alpha, beta, gamma")
    (a, b, c), angles = given[:3], given[3:]
    cosines = np.cos(np.radians(angles))
    with np.errstate(invalid="ignore", divide="ignore"):
        sines = np.sqrt(1 - cosines**2)
        star = (cosines[0] * cosines[1] - cosines[2]) / (sines[0] * sines[1])
    if not abs(star) < 1:
        raise ValueError(f"angles {angles.tolist()} degrees: no cell has them")
    return np.array(
        [
            [a * sines[1], 0.0, a * cosines[1]],
            [-b * sines[0] * star, b * sines[0] * np.sqrt(1 - star * star), b * cosines[0]],
            [0.0, 0.0, c],
        ],
        np.float64,
    )


def as_array(of: object, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Convert an array attribute of a frozen object to a contiguous array of ``dtype``, copied only if needed.

    Raises:
        ValueError: not real numbers, or not whole ones for an integer ``dtype``.
    """
    given = np.asarray(getattr(of, name))
    if given.dtype.kind not in "fiu" and given.size:
        raise ValueError(f"{name} has dtype {given.dtype}; give real numbers")
    if np.issubdtype(dtype, np.integer) and given.dtype.kind == "f" and (given != np.floor(given)).any():
        raise ValueError(f"{name} are not whole numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(given, dtype=dtype)
    object.__setattr__(of, name, array)
    return array


def content_hash(first: str, crystal: Crystal, *before: NDArray[np.generic]) -> str:
    """SHA-256 of a first line that names the kind of content, of arrays, and of a crystal."""
    digest = hashlib.sha256(first.encode())
    atoms = (crystal.atomic_numbers.astype("<i4"), crystal.frac_coords.astype("<f8"))
    for array in (*before, crystal.lattice.astype("<f8"), *atoms):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
