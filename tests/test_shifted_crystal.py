"""A crystal whose origin is moved by whole grid points: what of its v3 rows stays the same, as docs/format.md says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import tomat
from places import DATA

ROOT = DATA / "rho_gga"
PATCHES = 16
#: What a position's 24 bits over four decades resolve: a relative step of 4 ln(10) / 2^24, at places up to 1.
RESOLUTION = 4 * np.log(10) / 2**24


def _shifted(material: tomat.Material, steps: NDArray[np.int64]) -> tomat.Material:
    """The same crystal with its origin moved back by ``steps`` grid points along each axis."""
    return replace(
        material,
        density=np.roll(material.density, tuple(steps.tolist()), axis=(0, 1, 2)),
        crystal=replace(
            material.crystal, frac_coords=material.frac_coords + steps / np.array(material.grid_shape)
        ),
    )


def test_a_shifted_crystal_gives_the_same_rows_up_to_the_last_step_of_a_position() -> None:
    tokenizer = tomat.PatchTokenizer("v3", "fp16_1token")
    first, last = tokenizer.vocabulary.position_range
    rng = np.random.default_rng(0)
    same, total = 0, 0
    for name in (ROOT / "mp_filelist.txt").read_text().split():
        material = tomat.read(ROOT / "label" / f"{name}.zarr")
        grid = np.array(material.grid_shape)
        steps = rng.integers(1, grid)
        offsets = tomat.sample_offsets(material.grid_shape, PATCHES, seed=0, task_id=name)
        rows = tokenizer.encode_material(material, offsets)
        moved = tokenizer.encode_material(_shifted(material, steps), (offsets + steps) % grid)
        is_position = (rows >= first) & (rows < last)
        # Exact: grid, lattice, atoms, voxels, and where positions stand.
        np.testing.assert_array_equal(np.where(is_position, 0, rows), np.where(is_position, 0, moved))
        same += int((rows == moved).all(axis=1).sum())
        total += len(rows)
        # Not exact: a position that rounds otherwise lands in the step beside it, or across the edge, at 0 or below 1.
        for row, other in zip(rows, moved, strict=True):
            apart = tokenizer.decode(row).frac_coords - tokenizer.decode(other).frac_coords
            assert np.abs(apart - np.round(apart)).max() <= RESOLUTION
    print(f"{same} of {total} rows are the same")
    assert total == 20 * PATCHES
    assert 0.95 * total <= same
