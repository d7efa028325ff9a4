"""Voxels drawn of each material of a store, with weights that make up for how they were drawn.

With ``unique``, one voxel stands for all that the space group of the atoms makes equal (:mod:`tomat.symmetry`): a field
model predicts the same at all of them. In a density that does not have the symmetry of its atoms, such as that of an
antiferromagnet, each voxel stands for itself.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat._threads import in_order
from tomat.lm.data.cache import FlatFile, built
from tomat.lm.data.shuffle import key_of
from tomat.lm.field.surroundings import FLOOR, grid_points
from tomat.symmetry import SYMPREC, unique_voxels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.lm.data.store import DensityStore
    from tomat.material import Material
    from tomat.starting import StartingDensity
    from tomat.symmetry import UniqueVoxels

#: Shares of the voxels drawn by the error of the promolecule, by density, and uniformly.
BY_RESIDUAL, BY_DENSITY, UNIFORM = 0.4, 0.4, 0.2
#: Largest sum \|density - that of its orbit's first voxel\| / sum \|density\| of a density with its atoms' symmetry.
ASYMMETRY = 1e-4


@dataclass(frozen=True, eq=False)
class DrawnPoints:
    """``count`` voxels of each material, drawn once, more of them where promolecule and density differ.

    Attributes:
        store: the densities, in e/A^3.
        count: voxels of each material; a voxel can be drawn more than once.
        index: (materials, count) int64, row-major index of each voxel in its grid.
        weight: (materials, count) float32: the mean over a material's voxels of ``weight * |error|`` is, in
            expectation, the NMAE.
        guess: (materials, count) float32, the promolecule in e/A^3, at least :data:`FLOOR`.
        value: (materials, count) float32, the density in e/A^3.
    """

    store: DensityStore
    count: int
    index: NDArray[np.int64]
    weight: NDArray[np.float32]
    guess: NDArray[np.float32]
    value: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        store: DensityStore,
        starting: StartingDensity,
        count: int,
        *,
        seed: int = 0,
        unique: bool = False,
        own: Mapping[int, StartingDensity] | None = None,
        threads: int | None = None,
    ) -> DrawnPoints:
        """Draw the voxels, or take them from the store's cache; they depend on the names of materials and the seed.

        Args:
            store: the densities.
            starting: the promolecule.
            count: voxels of each material.
            seed: of the draws.
            unique: draw from the unique voxels alone.
            own: starting densities of materials that have another.
            threads: number of threads.

        Raises:
            ValueError: the starting density fails, a density is zero everywhere, or moyopy is not installed.
        """
        identity = {
            "format": 1,
            "store": store.hash,
            "guess": starting.identity,
            "count": count,
            "seed": seed,
            "shares": [BY_RESIDUAL, BY_DENSITY, UNIFORM],
            **({"unique": [SYMPREC, ASYMMETRY]} if unique else {}),
            **({"own": {str(i): one.identity for i, one in own.items()}} if own else {}),
        }

        def one(material: int) -> tuple[NDArray[Any], ...]:
            of = store.material(material)
            guess = (
                (own or {})
                .get(material, starting)
                .density(of.crystal, of.grid_shape, store.unit)
                .astype(np.float32)
                .ravel()
            )
            rng = np.random.Generator(np.random.Philox(key=key_of(seed, "points", store.task_ids[material])))
            try:
                orbits = _orbits(of) if unique else None
                index, weight = draw(of.density.ravel(), guess, count, rng, orbits)
            except ValueError as error:
                raise ValueError(f"{store.task_ids[material]}: {error}") from error
            return index, weight, np.maximum(guess[index], FLOOR), of.density.ravel()[index]

        def build(folder: Path, limit: int | None) -> dict[str, Any]:
            with ExitStack() as stack:
                files = [
                    stack.enter_context(FlatFile(folder, name, dtype, limit))
                    for name, dtype in _COLUMNS.items()
                ]
                for _, columns in in_order(one, range(len(store)), threads):
                    for file, values in zip(files, columns, strict=True):
                        file.append(values)
            return {}

        arrays = built(store.cache, "points", identity, build)
        index, weight, guess, value = (arrays[name].reshape(len(store), count) for name in _COLUMNS)
        return cls(store, count, index, weight, guess, value)

    def __len__(self) -> int:
        return len(self.index)

    def crystal(self, material: int) -> Crystal:
        """The crystal of a material."""
        return self.store.material(material).crystal

    def places(self, material: int, chosen: NDArray[np.integer] | slice) -> NDArray[np.float64]:
        """Fractional coordinates (n, 3) of some of a material's voxels."""
        return grid_points(self.index[material, chosen], self.store.grid[material])


_COLUMNS: dict[str, Any] = {
    "index": np.int64,
    "weight": np.float32,
    "guess": np.float32,
    "value": np.float32,
}


def draw(
    density: NDArray[np.float32],
    guess: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
    orbits: UniqueVoxels | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw voxels of a flat density by 0.4 \\|guess - density\\| + 0.4 \\|density\\| + 0.2, each divided by its sum.

    One voxel is drawn from each of ``count`` equal parts of the cumulated probability, so they spread over the cell.
    With ``orbits``, only the first voxel of each is drawn, as often as all of the orbit together would be.

    Returns:
        Index (count,) of each voxel, and its weight 1 / (probability * sum \\|density\\|), for an orbit that of
        any one of its voxels.

    Raises:
        ValueError: the density is zero everywhere.
    """
    if orbits is not None:
        density, guess = density[orbits.indices], guess[orbits.indices]
    times = 1 if orbits is None else orbits.multiplicities
    size = np.abs(density.astype(np.float64))
    total = (times * size).sum()
    if not total > 0:
        raise ValueError("the density is zero everywhere; leave the material out")
    residual = np.abs(guess.astype(np.float64) - density)
    voxels = len(size) if orbits is None else orbits.inverse.size
    p = UNIFORM / voxels + BY_DENSITY / total * size
    p += BY_RESIDUAL / (times * residual).sum() * residual if residual.any() else BY_RESIDUAL / voxels
    cumulated = np.cumsum(times * p)
    at = (np.arange(count) + rng.random(count)) / count * cumulated[-1]
    index = np.minimum(np.searchsorted(cumulated, at, side="right"), len(size) - 1)
    weight = (cumulated[-1] / (p[index] * total)).astype(np.float32)
    return (index if orbits is None else orbits.indices[index]), weight


def _orbits(of: Material) -> UniqueVoxels | None:
    """The unique voxels of a material; None if its density has not the symmetry of its atoms."""
    found = unique_voxels(of.crystal, of.grid_shape)
    density = of.density.ravel()
    equal = density[found.indices][found.inverse.ravel()]
    deviation = np.abs(density - equal).sum(dtype=np.float64)
    return found if deviation <= ASYMMETRY * np.abs(density).sum(dtype=np.float64) else None
