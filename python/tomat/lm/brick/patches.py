"""Patches drawn of each material of a store, more where density and starting density differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tomat.lm.brick.tiles import patch_voxels, voxel_order
from tomat.lm.data.shuffle import key_of
from tomat.lm.field.points import BY_DENSITY, BY_RESIDUAL, UNIFORM, DrawnPoints
from tomat.lm.field.surroundings import FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.lm.data.store import DensityStore

    type Floats = NDArray[np.float32]


class DrawnPatch(NamedTuple):
    """A patch, its voxels brick by brick, and some of them.

    Attributes:
        origin: (3,) low corner.
        guess: (voxels,) the starting density in e/A^3, at least :data:`tomat.lm.field.surroundings.FLOOR`.
        value: (voxels,) the density.
        chosen: (n,) some of the voxels.
        weight: (n,) float32: the mean over draws of ``weight * |error|`` is, in expectation, the NMAE.
    """

    origin: NDArray[np.int64]
    guess: Floats
    value: Floats
    chosen: NDArray[np.int64]
    weight: Floats


@dataclass(frozen=True, eq=False)
class Patches:
    """Draws patches of the materials of a store.

    A voxel is drawn with probability q: 0.4 by \\|guess - density\\|, 0.4 by density, 0.2 uniformly. The patch lies
    around it at random, and the voxels of it are drawn by the same q. So each voxel is drawn with probability q.

    Attributes:
        store: the densities, in e/A^3.
        guess: the starting densities, flat, as ``store.guess`` gives them.
        bricks: bricks along an edge of a patch.
    """

    store: DensityStore
    guess: Floats
    bricks: int
    _totals: dict[int, tuple[float, float]] = field(default_factory=dict, repr=False)

    def draw(self, material: int, rng: np.random.Generator, count: int) -> DrawnPatch:
        """A patch of a material with ``count`` of its voxels.

        Raises:
            ValueError: its density is zero everywhere.
        """
        value, guess = self.flat(material)
        grid = self.store.grid[material].astype(np.int64)
        total, q = self._probability(material, value, guess)
        cumulated = np.cumsum(q, dtype=np.float64)
        first = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        edge = self.bricks * 4
        place = np.array(np.unravel_index(min(first, len(q) - 1), tuple(grid.tolist())), np.int64)
        origin = (place - rng.integers(0, edge, 3)) % grid
        index = patch_voxels(origin, grid, edge)[voxel_order(self.bricks).ravel()]
        within = np.cumsum(q[index], dtype=np.float64)
        at = (np.arange(count) + rng.random(count)) / count * within[-1]
        chosen = np.minimum(np.searchsorted(within, at, side="right"), len(index) - 1)
        weight = cumulated[-1] / (q[index[chosen]].astype(np.float64) * total)
        return DrawnPatch(
            origin,
            np.maximum(guess[index], FLOOR),
            value[index],
            chosen,
            weight.astype(np.float32),
        )

    def flat(self, material: int) -> tuple[Floats, Floats]:
        """Density and starting density of a material, flat."""
        first, last = self.store.span(material)
        return self.store.density[first:last], self.guess[first:last]

    def _probability(self, material: int, value: Floats, guess: Floats) -> tuple[float, Floats]:
        """The sum of \\|density\\|, and q of each voxel, float32."""
        size, residual = np.abs(value), np.abs(guess - value)
        if material not in self._totals:
            sums = float(size.sum(dtype=np.float64)), float(residual.sum(dtype=np.float64))
            self._totals[material] = sums
        total, off = self._totals[material]
        if not total > 0:
            raise ValueError(f"{self.store.task_ids[material]}: the density is zero everywhere; leave it out")
        q = size * np.float32(BY_DENSITY / total) + np.float32(UNIFORM / len(size))
        q += residual * np.float32(BY_RESIDUAL / off) if off > 0 else np.float32(BY_RESIDUAL / len(size))
        return total, q

    def fixed(
        self, materials: range, patches: int, count: int, *, seed: int
    ) -> tuple[list[list[DrawnPatch]], DrawnPoints]:
        """The same draws every time: ``patches`` of each material with ``count`` voxels each, also as drawn voxels."""
        drawn: list[list[DrawnPatch]] = []
        n = len(materials)
        index = np.zeros((n, patches, count), np.int64)
        weight, guess, value = np.zeros((3, n, patches, count), np.float32)
        order = voxel_order(self.bricks).ravel()
        for row, material in enumerate(materials):
            key = key_of(seed, "patches", self.store.task_ids[material])
            rng = np.random.Generator(np.random.Philox(key=key))
            drawn.append([self.draw(material, rng, count) for _ in range(patches)])
            grid = self.store.grid[material].astype(np.int64)
            for at, patch in enumerate(drawn[-1]):
                index[row, at] = patch_voxels(patch.origin, grid, 4 * self.bricks)[order[patch.chosen]]
                weight[row, at], guess[row, at] = patch.weight, patch.guess[patch.chosen]
                value[row, at] = patch.value[patch.chosen]
        every = DrawnPoints(
            self.store,
            patches * count,
            index.reshape(n, -1),
            weight.reshape(n, -1),
            guess.reshape(n, -1),
            value.reshape(n, -1),
        )
        return drawn, every
