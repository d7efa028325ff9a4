"""Pictures of crystals in space: spheres, images, the cell and its frame."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from tomat.crystal import Crystal
from tomat.view.colours import element_colour
from tomat.view.solid import Surface, _sphere, solid, upright, with_images

LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, -5.2]])
CRYSTAL = Crystal.of(LATTICE, [8, 14, 8], [[0.0, 0.5, 0.999], [0.25, 1.3, -0.4], [0.5, 0.5, 0.5]], "m")


def unpacked(content: dict[str, str]) -> Any:
    kinds = {"f4": "<f4", "u2": "<u2", "i4": "<i4"}
    return np.frombuffer(base64.b64decode(content["bdata"]), kinds[content["dtype"]])


def places(trace: dict[str, Any]) -> Any:
    return np.stack([unpacked(trace[axis]) for axis in "xyz"], axis=1)


def test_atoms_on_faces_are_drawn_on_all_of_them() -> None:
    assert len(with_images(np.array([0.0, 0.0, 0.0]))) == 8
    np.testing.assert_allclose(
        sorted(with_images(np.array([0.3, -0.5, 0.995])).tolist()), [[0.3, 0.5, -0.005], [0.3, 0.5, 0.995]]
    )
    assert with_images(np.array([0.02, 0.5, 0.98])).shape == (1, 3)


def test_turning_keeps_lengths_and_angles_and_puts_c_up() -> None:
    for lattice in (LATTICE, LATTICE[[1, 0, 2]]):
        turned = upright(lattice)
        np.testing.assert_allclose(turned @ turned.T, lattice @ lattice.T, atol=1e-12)
        assert np.sign(np.linalg.det(turned)) == np.sign(np.linalg.det(lattice))
        np.testing.assert_allclose(turned[2, :2], 0.0, atol=1e-12)
        assert turned[2, 2] > 0
        assert turned[0, 0] > 0


def test_spheres_are_round_and_turned_outward() -> None:
    points, triangles = _sphere(2)
    assert (points.shape, triangles.shape) == ((162, 3), (320, 3))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    volume = np.einsum("nd,nd->n", a, np.cross(b, c)).sum() / 6.0
    assert 0.94 < volume / (4 / 3 * np.pi) < 1.0


def test_a_crystal_has_its_atoms_its_cell_and_names_of_edges_in_the_frame() -> None:
    x, y, z = np.meshgrid(*[np.arange(n) / n for n in (12, 14, 16)], indexing="ij")
    values = np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y) + np.cos(2 * np.pi * z)
    shown = [Surface("up", values, 1.0, "#112233"), Surface("nowhere", values, 9.0, "#445566")]
    figure = solid(CRYSTAL, shown, "predicted", "what it says")
    by_name = {trace["name"]: trace for trace in figure.data}
    assert set(by_name) == {"up", "O", "Si", "cell", "edges"}
    assert by_name["O"]["color"] == element_colour(8)
    # Two oxygen atoms, one of them on two faces.
    assert len(places(by_name["O"])) == 162 * 5
    assert len(places(by_name["Si"])) == 162
    turned = upright(LATTICE)
    centre = places(by_name["Si"]).mean(axis=0)
    np.testing.assert_allclose(centre, [0.25, 0.3, 0.6] @ turned, atol=1e-5)
    assert by_name["edges"]["text"] == ["a", "b", "c"]
    # The edges are as long as the lattice vectors, four of each.
    path = list(zip(*(by_name["cell"][axis] for axis in "xyz"), strict=True))
    lengths = [np.linalg.norm(np.subtract(path[i], path[i + 1])) for i in range(0, len(path), 3)]
    expected = np.repeat(np.linalg.norm(LATTICE, axis=1), 4)
    np.testing.assert_allclose(sorted(lengths), sorted(expected))
    # Nothing is outside the frame, and its axes have one scale.
    scene = figure.layout["scene"]
    ranges = np.array([scene[f"{axis}axis"]["range"] for axis in "xyz"])
    ratio = np.array([scene["aspectratio"][axis] for axis in "xyz"])
    np.testing.assert_allclose(np.ptp(ranges, axis=1) / ratio, np.ptp(ranges, axis=1)[0] / ratio[0])
    for name in ("up", "O", "Si"):
        assert (places(by_name[name]) >= ranges[:, 0]).all()
        assert (places(by_name[name]) <= ranges[:, 1]).all()
    assert figure.key[0] == ("up", "#112233")
    assert figure.key[-2:] == (("O", element_colour(8)), ("Si", element_colour(14)))
