"""Slices: values and atoms where they lie in space."""

from __future__ import annotations

import numpy as np
import pytest

from tomat.crystal import Crystal
from tomat.view.plane import Scale, atoms_near, cell_raster, plane_basis, rectangle_atoms, slice_figure

LATTICE = np.array([[4.0, 0.0, 0.0], [-1.5, 3.0, 0.0], [0.4, 0.8, 5.0]])
CRYSTAL = Crystal.of(LATTICE, [8, 14, 1], [[0.0, 0.5, 0.25], [0.25, 1.3, -0.7], [0.5, 0.5, 0.5]], "m")


def test_lengths_and_angles_in_the_plane() -> None:
    u, v = LATTICE[1], LATTICE[2]
    basis = plane_basis(u, v)
    np.testing.assert_allclose(basis @ basis.T, [[u @ u, u @ v], [u @ v, v @ v]])


def test_a_slice_of_a_skewed_cell_shows_what_is_there() -> None:
    n = 48
    x, y, z = np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij")
    values = np.cos(2 * np.pi * x) + 0.5 * np.sin(2 * np.pi * y) + z
    raster = cell_raster(CRYSTAL, values, 2, 0.25, 80)
    assert raster.size == pytest.approx((5.5, 3.0))
    assert raster.origin == pytest.approx((-1.5, 0.0))
    px, py = raster.values.shape
    assert max(px, py) == 80
    cx = raster.origin[0] + (np.arange(px) + 0.5) * raster.size[0] / px
    cy = raster.origin[1] + (np.arange(py) + 0.5) * raster.size[1] / py
    v = np.broadcast_to(cy[None, :] / 3.0, (px, py))
    u = (cx[:, None] + 1.5 * v) / 4.0
    inside = (u >= 0) & (u <= 1)
    np.testing.assert_array_equal(np.isnan(raster.values), ~inside)
    expected = np.cos(2 * np.pi * u) + 0.5 * np.sin(2 * np.pi * v) + 0.25
    np.testing.assert_allclose(raster.values[inside], expected[inside], atol=0.01)


def test_atoms_near_a_slice_and_their_images() -> None:
    found = {atom.atomic_number: atom for atom in atoms_near(CRYSTAL, 2, 0.25)}
    assert set(found) == {8, 14}
    assert found[8].away == pytest.approx(0.0)
    # 0.05 of 5 angstrom between the faces.
    assert found[14].away == pytest.approx(0.25)
    values = np.ones((8, 8, 8))
    marks = [(atom.atomic_number, x, y) for x, y, atom in cell_raster(CRYSTAL, values, 2, 0.25, 40).atoms]
    at = sorted(mark for mark in marks if mark[0] == 8)
    np.testing.assert_allclose(at, [(8, -0.75, 1.5), (8, 3.25, 1.5)])
    assert len(marks) == 3
    # On the rectangle that covers the periodic plane once, every atom is there once.
    on = sorted((atom.atomic_number, x, y) for x, y, atom in rectangle_atoms(CRYSTAL, 2, 0.25))
    np.testing.assert_allclose(on, [(8, 3.25, 1.5), (14, 0.55, 0.9)])


def test_scales_and_marks_of_a_figure() -> None:
    values = np.linspace(-1.0, 3.0, 512).reshape(8, 8, 8)
    raster = cell_raster(CRYSTAL, values, 2, 0.25, 40)
    signed = slice_figure(raster, Scale.of_difference(values), ("a", "b"), "t", "s").data
    assert signed[0]["zmax"] == -signed[0]["zmin"] == pytest.approx(3.0, rel=0.02)
    density = slice_figure(raster, Scale.of(np.abs(values)), ("a", "b"), "t", "s").data
    assert density[0]["zmax"] == pytest.approx(np.log10(3.0))
    assert density[0]["zmin"] >= np.log10(3.0) - 4.0 - 1e-9
    assert [trace.get("text") for trace in density[1:3]] == [None, ["a", "b"]]
    sizes = dict(zip(density[3]["text"], density[3]["marker"]["size"], strict=True))
    assert sizes["O"] > sizes["Si"]
    assert Scale.of(np.zeros((2, 2, 2))).high == 1.0
    assert Scale.of_difference(np.zeros((2, 2, 2))).high == 1.0
