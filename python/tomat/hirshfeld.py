"""Hirshfeld's atoms: how the electrons of a cell belong to its atoms, by smooth weights.

The weight of an atom is its share of a promolecule, ``w_a = f_a / sum_b f_b``. F. L. Hirshfeld, Theor. Chim. Acta 44,
129 (1977). The free atoms are exponential, one term ``N kappa^3 / (8 pi) exp(-kappa r)`` for the valence electrons and
one for the core, each with the number N and the mean square radius 12 / kappa^2 of Slater's rules: weights depend on
the crystal and its grid alone, not on a fit. Two additions make them smooth on the grid and add up to 1 everywhere.
Atoms are smeared by a Gaussian of :data:`SMEARING` grid steps; a background of :data:`BACKGROUND`, which matters far
from all atoms, is shared by them alike.

>>> import numpy as np
>>> from tomat.crystal import Crystal
>>> from tomat.hirshfeld import Hirshfeld
>>> salt = Crystal.of(np.eye(3) * 5, [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]])
>>> charges = Hirshfeld.of(salt, (20, 20, 20)).charges(np.ones((20, 20, 20)))
>>> round(float(charges.sum()), 6)
1.0
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from tomat.metrics import Partition
from tomat.promolecule import Promolecule
from tomat.reciprocal import squared_wave_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tomat.crystal import Crystal

__all__ = ["BACKGROUND", "SMEARING", "Hirshfeld"]

#: Standard deviation of the smearing in grid steps, of the axis with the largest: what the grid cannot hold is 4e-11.
SMEARING = 2.2
#: Electrons per cubic angstrom that all atoms share alike.
BACKGROUND = 1e-7


@dataclass(frozen=True, eq=False)
class Hirshfeld(Partition):
    """Hirshfeld's weights of the atoms of a crystal on a grid.

    Attributes:
        crystal: the cell and its atoms.
        grid_shape: (nx, ny, nz).
    """

    crystal: Crystal
    grid_shape: tuple[int, int, int]

    @classmethod
    def of(cls, crystal: Crystal, grid_shape: Sequence[int]) -> Self:
        """The weights of a crystal's atoms on a grid of ``grid_shape`` points along x, y, z."""
        nx, ny, nz = (int(n) for n in grid_shape)
        return cls(crystal, (nx, ny, nz))

    def charges(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over the grid of ``values`` (nx, ny, nz) times each atom's weight, float64 (n_atoms,).

        Values in the ``chgcar`` unit give electrons. Takes two Fourier transforms and a sum over components an atom.

        Raises:
            ValueError: values of another shape.
        """
        if np.shape(values) != self.grid_shape:
            raise ValueError(f"the values have shape {np.shape(values)}, the weights {self.grid_shape}")
        shared = values / self._total
        components = np.fft.rfftn(shared, norm="forward").conj()
        # What rfftn leaves out is the complex conjugate of what it gives, and gives the same real part.
        components[..., 1 : (self.grid_shape[2] + 1) // 2] *= 2.0
        found = np.empty(self.crystal.n_atoms)
        for number, atoms in self._elements.items():
            of_element = components * self._form(number)
            for atom in atoms:
                x, y, z = self._phases(atom)
                found[atom] = ((of_element @ z @ y) @ x).real
        return found + BACKGROUND / self.crystal.n_atoms * float(shared.mean())

    def weights(self) -> Iterator[NDArray[np.float64]]:
        """The weight (nx, ny, nz) of each atom, in order; they add up to 1."""
        for atom, number in enumerate(self.crystal.atomic_numbers.tolist()):
            x, y, z = np.ix_(*self._phases(atom))
            own = self._back(self._form(number) * (x * y * z))
            yield (own + BACKGROUND / self.crystal.n_atoms) / self._total

    @functools.cached_property
    def _elements(self) -> dict[int, NDArray[np.intp]]:
        numbers = self.crystal.atomic_numbers
        return {int(z): np.flatnonzero(numbers == z) for z in np.unique(numbers)}

    @functools.cached_property
    def _squared(self) -> NDArray[np.float64]:
        return squared_wave_vectors(self.crystal.lattice, self.grid_shape)

    @functools.cached_property
    def _total(self) -> NDArray[np.float64]:
        """The sum over atoms, with the background; above zero everywhere."""
        components = np.zeros(self._squared.shape, dtype=np.complex128)
        for number, atoms in self._elements.items():
            phases = np.zeros_like(components)
            for atom in atoms:
                x, y, z = self._phases(atom)
                phases += (x[:, None] * y)[..., None] * z
            components += self._form(number) * phases
        return np.maximum(self._back(components), 0.0) + BACKGROUND

    def _back(self, components: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.asarray(np.fft.irfftn(components, self.grid_shape, axes=(0, 1, 2), norm="forward"))

    def _form(self, number: int) -> NDArray[np.float64]:
        """The Fourier components of a free atom at the origin, per cubic angstrom."""
        steps = 1.0 / (np.linalg.norm(np.linalg.inv(self.crystal.lattice), axis=0) * self.grid_shape)
        width = SMEARING * float(steps.max())
        atom = sum(
            electrons / (1.0 + self._squared / kappa**2) ** 2 for electrons, kappa in _free_atom(number)
        )
        return np.asarray(atom * np.exp(-0.5 * width**2 * self._squared) / self.crystal.volume)

    def _phases(self, atom: int) -> list[NDArray[np.complex128]]:
        """exp(-i G r) of an atom, as factors along x, y and z."""
        nx, ny, nz = self.grid_shape
        frequencies = (
            np.fft.fftfreq(nx, 1.0 / nx),
            np.fft.fftfreq(ny, 1.0 / ny),
            np.fft.rfftfreq(nz, 1.0 / nz),
        )
        places = self.crystal.frac_coords[atom].tolist()
        return [np.exp(-2j * math.pi * f * place) for f, place in zip(frequencies, places, strict=True)]


@functools.cache
def _free_atom(number: int) -> list[tuple[float, float]]:
    """Electrons, and kappa per angstrom, of the valence and of the core, if there is one."""
    valence, radii = _slater(number)
    everything, of_all = _slater(number, all_electrons=True)
    core = everything - valence
    # Mean square radii add up, weighted by electrons.
    parts = [(valence, radii), (core, (everything * of_all - valence * radii) / core if core else 0.0)]
    return [(electrons, math.sqrt(12.0 / squared)) for electrons, squared in parts if electrons]


def _slater(number: int, *, all_electrons: bool = False) -> tuple[float, float]:
    """Valence or all electrons, and their mean square radius in square angstrom, by Slater's rules."""
    gaussians = Promolecule.analytic("gaussian", {number: float(number)} if all_electrons else None)
    (electrons,) = gaussians.electrons[gaussians.atomic_numbers == number].tolist()
    # At the nucleus a Gaussian is N (3 / (2 pi <r^2>))^(3/2).
    (nucleus,) = gaussians.radial(number, [0.0]).tolist()
    return electrons, 1.5 / math.pi / (nucleus / electrons) ** (2.0 / 3.0)
