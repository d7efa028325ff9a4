"""What the core sums around points: the atoms of a crystal, and the promolecule they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tomat import _core
from tomat.lm.field.descriptors import fixed_weights
from tomat.lm.field.elements import MOST_STRETCHED, element_features, stretches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.crystal import Crystal
    from tomat.lm.field.config import FieldShape
    from tomat.promolecule import UnscaledPromolecule

    type Floats = NDArray[np.float32]

#: Smallest promolecule in e/A^3, at a point and at an atom.
FLOOR, _FLOOR_AT_ATOMS = 1e-6, 1e-3
#: Bytes of sums around atoms that are kept; others are computed again.
_MOST_HELD = 1 << 30


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Sums over the atoms around points, see ``crates/tomat-core/src/environment.rs``.

    Attributes:
        shape: of the model.
        promolecule: its density is the guess, and each atom's share of it one more radial function.
    """

    shape: FieldShape
    promolecule: UnscaledPromolecule
    _basis: _core.EnvironmentBasis = field(init=False, repr=False)

    def __post_init__(self) -> None:
        of = self.shape
        basis = _core.EnvironmentBasis(of.cutoff, of.inner, of.radial, of.l_max, of.core, MOST_STRETCHED)
        object.__setattr__(self, "_basis", basis)

    @cached_property
    def features(self) -> Floats:
        """(119, features) of the elements; behind them their weights in the fixed sums, if the model has any."""
        features = element_features(self.promolecule)
        if not self.shape.descriptors:
            return features
        weights = fixed_weights(self.shape, self.promolecule, self._basis)
        return np.concatenate([features, weights.reshape(len(features), -1)], axis=1)

    def at_points(self, crystal: Crystal, points: ArrayLike, guess: ArrayLike) -> Floats:
        """Sums (sites, points, functions, (l_max + 1)^2) of each atom apart.

        Args:
            crystal: the crystal.
            points: (points, 3) fractional coordinates.
            guess: (points,) the promolecule there in e/A^3, at least :data:`FLOOR`.
        """
        return self._basis.by_site(
            *_placed(crystal, points),
            self.promolecule.native,
            _inverse(guess),
            stretches(crystal.atomic_numbers),
        )

    def at_atoms(self, crystal: Crystal) -> Floats:
        """The same around the atoms: (sites, atoms, functions, angular), each atom without itself."""
        n = len(crystal.atomic_numbers)
        sums = self._basis.by_site(
            *_placed(crystal, crystal.frac_coords),
            self.promolecule.native,
            np.ones(n, np.float32),
            stretches(crystal.atomic_numbers),
        )
        guess = np.maximum(sums[:, :, -1, 0].sum(axis=0), _FLOOR_AT_ATOMS)
        for site, z in enumerate(crystal.atomic_numbers.tolist()):
            sums[site, site, :-1, 0] -= self._at_zero
            sums[site, site, -1, 0] -= np.float32(self.promolecule.radial(int(z), np.zeros(1))[0])
        sums[:, :, -1] /= guess[None, :, None]
        return sums

    def contracted(self, crystal: Crystal, points: ArrayLike, guess: ArrayLike, weights: Floats) -> Floats:
        """Sums (points, sum of (2 l + 1) shape.sums[l]) with weights (sites, functions, sums) of each atom."""
        return self._contracted(crystal, points, weights, self.shape.sums, _inverse(guess))

    def read(
        self, readout: _core.Readout, crystal: Crystal, points: ArrayLike, guess: Floats, weights: Floats
    ) -> Floats:
        """What a network makes (points, outputs) of :meth:`contracted`; the sums themselves are not kept."""
        return readout.around(
            self._basis,
            *_placed(crystal, points),
            np.ascontiguousarray(weights, np.float32),
            list(self.shape.sums),
            np.ascontiguousarray(guess, np.float32),
            self.promolecule.native,
            _inverse(guess),
            stretches(crystal.atomic_numbers),
        )

    def contracted_at_atoms(self, crystal: Crystal, weights: Floats, channels: Sequence[int]) -> Floats:
        """As :meth:`contracted` at the atoms, each without itself, in memory that grows with their number alone.

        Args:
            crystal: the crystal.
            weights: (sites, functions, sum of channels) of each atom.
            channels: sums of each l.

        Returns:
            (sites, sum of (2 l + 1) channels[l]).
        """
        n, centre = len(crystal.atomic_numbers), np.zeros(1)
        alone = {z: self.promolecule.radial(z, centre)[0] for z in set(crystal.atomic_numbers.tolist())}
        own = np.array([alone[z] for z in crystal.atomic_numbers.tolist()], np.float32)
        density = np.zeros((n, self.shape.functions, 1), np.float32)
        density[:, -1] = 1
        one = [1] + [0] * self.shape.l_max
        ones = np.ones(n, np.float32)
        total = self._contracted(crystal, crystal.frac_coords, density, one, ones)[:, 0]
        factors = (1 / np.maximum(total, np.float32(_FLOOR_AT_ATOMS))).astype(np.float32)
        sums = self._contracted(crystal, crystal.frac_coords, weights, channels, factors)
        of_own = weights[..., : channels[0]]
        sums[:, : channels[0]] -= np.einsum("f,sfk->sk", self._at_zero, of_own[:, :-1])
        sums[:, : channels[0]] -= (own * factors)[:, None] * of_own[:, -1]
        return sums

    def _contracted(
        self, crystal: Crystal, points: ArrayLike, weights: Floats, channels: Sequence[int], factors: Floats
    ) -> Floats:
        return self._basis.contracted(
            *_placed(crystal, points),
            np.ascontiguousarray(weights, np.float32),
            list(channels),
            self.promolecule.native,
            factors,
            stretches(crystal.atomic_numbers),
        )

    @cached_property
    def _at_zero(self) -> Floats:
        """The radial functions of an atom at its own place."""
        apart = np.eye(3) * (4 * self.shape.cutoff)
        zero = np.zeros((1, 3))
        sums: Floats = self._basis.by_site(apart, [1], zero, zero)[0, 0, :, 0]
        return sums


class AtomSums:
    """Sums around the atoms of materials, see :meth:`Surroundings.at_atoms`; computed once, as long as there is room.

    Args:
        around: what is summed around a material's.
        crystal: of a material.
    """

    def __init__(self, around: Callable[[int], Surroundings], crystal: Callable[[int], Crystal]) -> None:
        self._around, self._crystal = around, crystal
        self._kept: dict[int, Floats] = {}
        self._held = 0

    def of(self, material: int) -> Floats:
        """(sites, atoms, functions, angular) of a material."""
        found = self._kept.get(material)
        if found is None:
            found = self._around(material).at_atoms(self._crystal(material))
            self._held += found.nbytes
            if self._held <= _MOST_HELD:
                self._kept[material] = found
        return found


def grid_points(index: ArrayLike, grid: ArrayLike) -> NDArray[np.float64]:
    """Fractional coordinates (n, 3) of grid points by row-major index (n,)."""
    grid = np.asarray(grid, np.int64)
    places = np.stack(np.unravel_index(np.asarray(index, np.int64), tuple(grid.tolist())), axis=-1)
    return np.asarray(places / grid, np.float64)


def by_l(sums: Floats, l_max: int) -> list[Floats]:
    """Sums (sites, points, functions, angular) as one array (sites, points * (2 l + 1), functions) for each l."""
    sites, points, functions, _ = sums.shape
    return [
        np.ascontiguousarray(sums[..., l * l : (l + 1) ** 2].transpose(0, 1, 3, 2)).reshape(
            sites, points * (2 * l + 1), functions
        )
        for l in range(l_max + 1)  # noqa: E741 - the angular momentum
    ]


def _inverse(guess: ArrayLike) -> Floats:
    return (1.0 / np.asarray(guess, np.float32)).astype(np.float32)


def _placed(
    crystal: Crystal, points: ArrayLike
) -> tuple[NDArray[np.float64], list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Lattice, atomic numbers, their places, and the points (n, 3) around which the core sums."""
    return (
        crystal.lattice,
        crystal.atomic_numbers.tolist(),
        crystal.frac_coords,
        np.ascontiguousarray(points, np.float64),
    )
