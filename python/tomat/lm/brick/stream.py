"""A dataset of rows of crystals with a patch of each for Levanter's loader; needs JAX and Levanter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import haliax as hax
import numpy as np

from tomat.lm.brick.example import BrickExample
from tomat.lm.brick.tiles import Placed, at_points, turned
from tomat.lm.data.shuffle import key_of
from tomat.lm.field.stream import CrystalRows, axis, named_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.lm.brick.config import BrickShape
    from tomat.lm.brick.patches import Patches
    from tomat.lm.field.surroundings import Surroundings

    type Floats = NDArray[np.float32]

#: Density of padding, in e/A^3.
_EMPTY = 0.1


class BrickDataset(CrystalRows[BrickExample]):
    """Endless rows of crystals, a patch of each, in a frame that is turned and mirrored at random.

    Args:
        patches: what is drawn from.
        shape: of the model.
        surroundings: what is summed around points.
        materials: the materials of the store to train on.
        seed: of order, draws and frames.
        threads: threads that make a batch.
    """

    def __init__(
        self,
        patches: Patches,
        shape: BrickShape,
        surroundings: Surroundings,
        materials: NDArray[np.int64],
        *,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """Pack the materials into rows."""
        super().__init__(patches.store, surroundings, materials, seed=seed, threads=threads)
        self._patches, self._shape = patches, shape
        self._placed: dict[int, Placed] = {}

    def row(self, index: int) -> BrickExample:
        """Row ``index``."""
        shape, around = self._shape, self.around.shape
        materials = self.materials(index)
        rng = np.random.Generator(np.random.Philox(key=key_of(self.seed, "patches", int(index))))
        n, c, v = around.sites_per_row, around.crystals_per_row, around.voxels_per_crystal
        points = shape.points if shape.field else 0
        sums = np.zeros((n, points, around.functions, (around.l_max + 1) ** 2), np.float32)
        step, images = np.zeros((c, 3, 3), np.float32), np.zeros((c, shape.atoms, 3), np.float32)
        patch = np.full((c, shape.voxels), _EMPTY, np.float32)
        sites = np.zeros((2, c, shape.atoms), np.int32)
        voxel = np.zeros((c, v), np.int32)
        guess, value = np.full((2, c, v), _EMPTY, np.float32)
        weight = np.zeros((c, v), np.float32)
        for at, (material, own) in enumerate(self.sites(materials)):
            drawn = self._patches.draw(material, rng, v)
            patch[at], voxel[at] = drawn.guess, drawn.chosen
            guess[at], value[at] = drawn.guess[drawn.chosen], drawn.value[drawn.chosen]
            weight[at] = drawn.weight / (v * len(materials))
            crystal = self.store.material(material).crystal
            placed = self._of(material, crystal)
            frame = turned(rng)
            near, found, there = placed.images(drawn.origin)
            noise = shape.jitter * rng.standard_normal(near.shape)
            step[at], images[at] = placed.step @ frame, (near + noise) @ frame
            sites[0, at], sites[1, at, :there] = found + own.start, 1
            if points:
                places, there_guess = placed.points(drawn.origin), at_points(drawn.guess)
                sums[own] = self.around.at_points(crystal, places, there_guess)
        of = hax.Axis("crystal", c)
        voxels, atoms = (of, hax.Axis("voxel", v)), (of, hax.Axis("image", shape.atoms))
        given = self.of_atoms(materials)
        return BrickExample(
            **(given if points else given | {"atoms": ()}),
            points=named_sums("points", sums, around.l_max) if points else (),
            images=hax.NamedArray(images, (*atoms, axis("along", images))),
            sites=hax.NamedArray(sites[0], atoms),
            present=hax.NamedArray(sites[1].astype(np.float32), atoms),
            step=hax.NamedArray(step, (of, hax.Axis("of", 3), axis("along", step))),
            patch=hax.NamedArray(patch, (of, axis("in_patch", patch))),
            voxel=hax.NamedArray(voxel, voxels),
            guess=hax.NamedArray(guess, voxels),
            value=hax.NamedArray(value, voxels),
            weight=hax.NamedArray(weight, voxels),
        )

    def _of(self, material: int, crystal: Crystal) -> Placed:
        found = self._placed.get(material)
        if found is None:
            found = self._placed[material] = Placed(crystal, self.store.grid[material], self._shape)
        return found
