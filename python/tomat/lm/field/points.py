"""Voxels drawn of each material of a store, with weights that make up for how they were drawn."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat._threads import in_order
from tomat.lm.data.cache import FlatFile, built
from tomat.lm.data.shuffle import key_of
from tomat.lm.field.surroundings import FLOOR, grid_points

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.lm.data.store import DensityStore
    from tomat.starting import StartingDensity

#: Shares of the voxels drawn by the error of the promolecule, by density, and uniformly.
BY_RESIDUAL, BY_DENSITY, UNIFORM = 0.4, 0.4, 0.2


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
        threads: int | None = None,
    ) -> DrawnPoints:
        """Draw the voxels, or take them from the store's cache; they depend on the names of materials and the seed.

        Raises:
            ValueError: the starting density fails, or a density is zero everywhere.
        """
        identity = {
            "format": 1,
            "store": store.hash,
            "guess": starting.identity,
            "count": count,
            "seed": seed,
            "shares": [BY_RESIDUAL, BY_DENSITY, UNIFORM],
        }

        def one(material: int) -> tuple[NDArray[Any], ...]:
            of = store.material(material)
            guess = starting.density(of.crystal, of.grid_shape, store.unit).astype(np.float32).ravel()
            rng = np.random.Generator(np.random.Philox(key=key_of(seed, "points", store.task_ids[material])))
            try:
                index, weight = draw(of.density.ravel(), guess, count, rng)
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
    density: NDArray[np.float32], guess: NDArray[np.float32], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw voxels of a flat density by 0.4 \\|guess - density\\| + 0.4 \\|density\\| + 0.2, each divided by its sum.

    One voxel is drawn from each of ``count`` equal parts of the cumulated probability, so they spread over the cell.

    Returns:
        Index (count,) of each voxel, and its weight 1 / (probability * sum \\|density\\|).

    Raises:
        ValueError: the density is zero everywhere.
    """
    size = np.abs(density.astype(np.float64))
    total = size.sum()
    if not total > 0:
        raise ValueError("the density is zero everywhere; leave the material out")
    residual = np.abs(guess.astype(np.float64) - density)
    p = UNIFORM / len(size) + BY_DENSITY / total * size
    p += BY_RESIDUAL / residual.sum() * residual if residual.any() else BY_RESIDUAL / len(size)
    cumulated = np.cumsum(p)
    at = (np.arange(count) + rng.random(count)) / count * cumulated[-1]
    index = np.minimum(np.searchsorted(cumulated, at, side="right"), len(size) - 1)
    return index, (cumulated[-1] / (p[index] * total)).astype(np.float32)
