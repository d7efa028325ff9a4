"""Isosurfaces: closed, where the level is, and as large as what they enclose, in cells of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tomat.view.isosurface import half_level, isosurface


def _grid(n: int) -> Any:
    x = np.arange(n) / n - 0.5
    return np.meshgrid(x, x, x, indexing="ij")


def test_a_sphere_is_closed_and_has_its_area() -> None:
    radius = np.sqrt(sum(axis**2 for axis in _grid(24)))
    points, triangles = isosurface(-radius, -0.3, np.eye(3) * 10)
    np.testing.assert_allclose(np.linalg.norm(points - 5, axis=1), 3.0, atol=0.03)
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]), axis=1
    )
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    assert area == pytest.approx(4 * np.pi * 9, rel=0.01)


def test_surfaces_in_skewed_cells_lie_where_the_level_is() -> None:
    rng = np.random.default_rng(0)
    lattice = np.diag([3.0, 4.0, 5.0]) + rng.uniform(-0.7, 0.7, size=(3, 3))
    x, y, z = _grid(20)
    values = np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y) + np.cos(2 * np.pi * z)
    points, _ = isosurface(values, 0.4, lattice)
    u = points @ np.linalg.inv(lattice) - 0.5
    np.testing.assert_allclose(np.cos(2 * np.pi * u).sum(axis=1), 0.4, atol=0.05)
    # The whole cell, to its far faces, which repeat the near ones.
    assert u.max() == pytest.approx(0.5, abs=1e-6)
    assert len(isosurface(values, 9.0, lattice)[1]) == 0


def test_half_of_the_density_lies_above_the_level() -> None:
    values = np.random.default_rng(1).lognormal(size=(9, 9, 9))
    level = half_level(values)
    assert values[values >= level].sum() == pytest.approx(0.5 * values.sum(), rel=0.02)


@pytest.mark.parametrize("mirrored", [False, True])
def test_bodies_are_closed_at_the_faces_of_the_cell(mirrored: bool) -> None:
    """The volume inside is that of the body, by the divergence theorem: no holes, and all triangles turned outward."""
    rng = np.random.default_rng(2)
    lattice = np.diag([3.0, 4.0, 5.0]) + rng.uniform(-0.9, 0.9, size=(3, 3))
    lattice = lattice[[1, 0, 2]] if mirrored else lattice
    fine = 160
    waves = [
        (int(h), int(k), int(m), a)
        for (h, k, m), a in zip(rng.integers(-2, 3, (6, 3)), rng.normal(size=6), strict=True)
    ]

    def of(n: int) -> Any:
        x, y, z = _grid(n)
        return sum(a * np.cos(2 * np.pi * (h * x + k * y + m * z) + a) for h, k, m, a in waves)

    level = 0.3
    points, triangles = isosurface(of(40), level, lattice, closed=True)
    a, b, c = (points[triangles[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("nd,nd->n", a, np.cross(b, c)).sum() / 6.0
    share = volume / abs(np.linalg.det(lattice))
    assert share == pytest.approx((of(fine) > level).mean(), abs=0.005)
    u = points @ np.linalg.inv(lattice)
    assert u.min() == pytest.approx(0.0, abs=1e-6)
    assert u.max() == pytest.approx(1.0, abs=1e-6)
    # Every edge has two sides, where vertices that the rim parts are one again.
    number = np.unique(points.round(4), axis=0, return_inverse=True)[1].reshape(-1)[triangles]
    edges = np.sort(np.concatenate([number[:, [0, 1]], number[:, [1, 2]], number[:, [0, 2]]]), axis=1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    assert set(np.unique(edges, axis=0, return_counts=True)[1] % 2) == {0}
