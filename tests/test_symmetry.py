"""Orbits of voxels: whole, equal to a search over all pairs, and equal in density."""

from __future__ import annotations

import builtins
import itertools
from typing import Any

import numpy as np
import pytest

import tomat
from runs import LABEL
from tomat.crystal import Crystal
from tomat.symmetry import grid_operations, operations, unique_voxels

pytest.importorskip("moyopy")

IRON = Crystal.of(np.eye(3) * 2.8, [26, 26], [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
#: Three atoms of different elements at odd places of a skewed cell.
P1 = Crystal.of(
    [[3.0, 0.2, -0.4], [1.1, 4.0, 0.3], [-0.7, 0.9, 5.0]],
    [3, 8, 16],
    [[0.11, 0.23, 0.37], [0.53, 0.71, 0.19], [0.83, 0.31, 0.67]],
)


def test_body_centred_iron() -> None:
    assert len(operations(IRON)) == 96
    found = unique_voxels(IRON, (24, 24, 24))
    assert found.n_operations == 96
    assert found.multiplicities.sum() == 24**3
    # 0 <= x <= y <= z up to half a cell, and its centring: the nucleus is at 0 and at (12, 12, 12).
    assert found.indices[0] == 0
    assert found.multiplicities[0] == 2
    assert found.inverse[12, 12, 12] == 0
    assert found.multiplicities.max() == 96
    np.testing.assert_array_equal(found.indices[found.inverse].ravel()[found.indices], found.indices)


def test_without_symmetry_every_voxel_is_unique() -> None:
    found = unique_voxels(P1, (4, 5, 6))
    assert found.n_operations == 1
    np.testing.assert_array_equal(found.indices, np.arange(120))
    np.testing.assert_array_equal(found.multiplicities, 1)
    np.testing.assert_array_equal(found.inverse.ravel(), np.arange(120))


@pytest.mark.parametrize(
    ("shape", "n_operations"),
    [
        ((6, 6, 6), 96),
        ((5, 5, 5), 48),  # odd: no point at the centring
        ((6, 6, 4), 32),  # one axis has other points: tetragonal
        ((4, 6, 10), 16),
        ((6, 6, 5), 16),
    ],
)
def test_a_grid_keeps_only_the_operations_that_fit_it(shape: Any, n_operations: int) -> None:
    assert len(grid_operations(IRON, shape)[0]) == n_operations
    found = unique_voxels(IRON, shape)
    assert found.n_operations == n_operations
    assert found.multiplicities.sum() == np.prod(shape)
    # The slow way: two voxels are equal if an operation of the crystal takes one exactly to the other.
    group = operations(IRON)
    kept = [
        (rotation, move)
        for rotation, move in zip(group.rotations, group.translations, strict=True)
        if all(_on_grid(rotation @ (np.array(at) / shape) + move, shape) for at in np.ndindex(*shape))
    ]
    assert len(kept) == n_operations
    for at in itertools.islice(np.ndindex(*shape), 0, None, 7):
        orbit = {_on_grid(rotation @ (np.array(at) / shape) + move, shape) for rotation, move in kept}
        mine = np.argwhere(found.inverse == found.inverse[at])
        assert {tuple(place) for place in mine.tolist()} == orbit


def _on_grid(place: Any, shape: Any) -> tuple[int, ...] | None:
    points = place * shape
    whole = np.rint(points)
    return tuple((whole.astype(int) % shape).tolist()) if np.abs(points - whole).max() < 1e-6 else None


@pytest.mark.parametrize("name", ["qe-0039", "qe-0770", "qe-0003", "qev-0001"])
def test_a_density_is_the_same_on_an_orbit(name: str) -> None:
    material = tomat.read(LABEL / f"{name}.zarr")
    found = unique_voxels(material.crystal, material.grid_shape)
    assert found.n_operations > 1
    density = material.density.astype(np.float64)
    assert len(found.indices) < density.size
    again = found.expand(density.ravel()[found.indices]).astype(np.float64)
    assert np.abs(again - density).sum() / np.abs(density).sum() < 1e-4
    # Sums over the cell are weighted sums over unique voxels.
    total = (density.ravel()[found.indices] * found.multiplicities).sum()
    assert total == pytest.approx(density.sum(), rel=1e-5)
    # And it differs between orbits: another map of as many voxels does not do.
    shuffled = np.roll(again, 1, axis=0)
    assert np.abs(shuffled - density).sum() / np.abs(density).sum() > 1e-2


def test_a_supercell_has_the_translations_of_its_cells() -> None:
    once = unique_voxels(IRON, (12, 12, 12))
    twice = Crystal.of(
        IRON.lattice * [[2.0], [1.0], [1.0]],
        [26] * 4,
        [[0.0, 0.0, 0.0], [0.25, 0.5, 0.5], [0.5, 0, 0], [0.75, 0.5, 0.5]],
    )
    found = unique_voxels(twice, (24, 12, 12))
    assert found.multiplicities.sum() == 24 * 12 * 12
    # Rotations that mix the long axis with others are no operations of this cell's lattice of translations.
    assert len(found.indices) >= len(once.indices)
    np.testing.assert_array_equal(found.inverse[:12], found.inverse[12:])


def test_values_of_another_number() -> None:
    with pytest.raises(ValueError, match=r"values of shape \(3,\); the grid has 120 unique voxels"):
        unique_voxels(P1, (4, 5, 6)).expand([1.0, 2.0, 3.0])


def test_atoms_in_one_place() -> None:
    twin = Crystal.of(np.eye(3) * 3, [6, 6], [[0.0, 0.0, 0.0], [0.0, 0.0, 1e-6]], "twin")
    with pytest.raises(ValueError, match=r"twin: its symmetry cannot be found within 0\.0001 angstrom"):
        operations(twin)


def test_without_moyopy(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "moyopy":
            raise ImportError(name)
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'tomat\[symmetry\]'"):
        operations(IRON)


def test_a_supercell_has_the_orbits_of_its_cell() -> None:
    copper = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cell = unique_voxels(Crystal.of(np.eye(3) * 3.6, [29] * 4, copper), (8, 8, 8))
    shifts = np.array(list(itertools.product(range(3), repeat=3)))
    places = ((copper[None] + shifts[:, None]) / 3).reshape(-1, 3)
    large = unique_voxels(Crystal.of(np.eye(3) * 10.8, [29] * 108, places), (24, 24, 24))
    assert (cell.n_operations, large.n_operations) == (192, 192 * 27)
    np.testing.assert_array_equal(large.multiplicities, cell.multiplicities * 27)
    np.testing.assert_array_equal(large.inverse, np.tile(cell.inverse, (3, 3, 3)))
