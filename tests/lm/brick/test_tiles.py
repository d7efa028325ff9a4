"""Bricks, points and images of patches lie where the grid and the atoms say."""

import numpy as np

import tiny_field
from tomat.lm.brick.config import BrickShape
from tomat.lm.brick.tiles import (
    Placed,
    at_points,
    brick_places,
    interpolation,
    patch_voxels,
    point_places,
    voxel_order,
    voxel_places,
)

SHAPE = BrickShape(bricks=2, atoms=20, reach=6.0)


def test_bricks_hold_every_voxel_of_a_patch_once() -> None:
    order = voxel_order(3)
    assert order.shape == (27, 64)
    np.testing.assert_array_equal(np.sort(order.ravel()), np.arange(12**3))
    # Brick middles and voxels in them are where the index says.
    places = (brick_places(3)[:, None] + voxel_places()).reshape(-1, 3) + 5.5
    x, y, z = places.T
    np.testing.assert_allclose((x * 12 + y) * 12 + z, order.ravel())


def test_voxels_of_a_patch_wrap_around_the_cell() -> None:
    grid = np.array([5, 6, 7])
    index = patch_voxels(np.array([4, 0, 6]), grid, 8)
    assert index.shape == (512,)
    assert index[0] == np.ravel_multi_index((4, 0, 6), (5, 6, 7))
    assert index[1] == np.ravel_multi_index((4, 0, 0), (5, 6, 7))
    assert set(index.tolist()) == set(range(5 * 6 * 7))


def test_interpolation_is_exact_for_trilinear_functions() -> None:
    def function(places: np.ndarray) -> np.ndarray:
        x, y, z = places.T
        return np.asarray(1 + 2 * x - y + 0.5 * z + x * y - 0.3 * y * z + 0.2 * x * y * z)

    found = interpolation() @ function(point_places())
    np.testing.assert_allclose(found, function(voxel_places()), rtol=1e-5, atol=1e-5)


def test_points_take_the_mean_of_the_voxels_around_them() -> None:
    places = (brick_places(2)[:, None] + voxel_places()).reshape(-1, 3)
    wanted = (brick_places(2)[:, None] + point_places()).reshape(-1, 3)
    for axis in range(3):
        found = at_points(places[:, axis].astype(np.float32))
        np.testing.assert_allclose(found, wanted[:, axis], atol=1e-5)


def test_images_are_the_nearest_of_all() -> None:
    crystal, grid, origin = tiny_field.quartz(), (40, 48, 52), np.array([37, 3, 20])
    placed = Placed(crystal, grid, SHAPE)
    found, sites, there = placed.images(origin)
    shifts = np.stack(np.meshgrid(*(np.arange(-3, 4),) * 3, indexing="ij"), -1).reshape(-1, 3)
    middle = (origin + 3.5) / np.array(grid)
    every = ((crystal.frac_coords[:, None] + shifts - middle) @ crystal.lattice).reshape(-1, 3)
    distances = np.sort(np.linalg.norm(every, axis=1))
    assert there == 20
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), distances[:20], rtol=1e-5)
    away = (found @ np.linalg.inv(crystal.lattice) + middle - crystal.frac_coords[sites]) % 1
    np.testing.assert_allclose(np.minimum(away, 1 - away), 0, atol=1e-5)


def test_images_beyond_the_reach_are_padding() -> None:
    crystal = tiny_field.quartz()
    found, _, there = Placed(crystal, (40, 48, 52), BrickShape(bricks=2, atoms=20, reach=0.5)).images(
        np.array([0, 0, 0])
    )
    assert there < 20
    np.testing.assert_array_equal(found[there:], 0)
