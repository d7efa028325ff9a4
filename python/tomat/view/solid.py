"""Rotatable pictures of a crystal: surfaces of a density, atoms as spheres, the cell with its edges a, b, c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.view.colours import element_colour
from tomat.view.isosurface import isosurface
from tomat.view.page import Figure, packed

#: Atoms this near to a face of the cell, in fractions of it, are drawn on the other side as well.
_AT_FACE = 0.01
#: Radius of the sphere of an atom, in angstrom: of hydrogen, and of all others.
_SMALL, _LARGE = 0.22, 0.36
#: Up to so many spheres are drawn with 162 vertices, more with 42.
_ROUND = 120
#: How much of a figure its cell fills, and the view: along b, a little from the right and from above, without
#: perspective.
_ZOOM = 1.75
_CAMERA = {
    "eye": {"x": 0.55, "y": -1.5, "z": 0.45},
    "up": {"x": 0, "y": 0, "z": 1},
    "projection": {"type": "orthographic"},
}


@dataclass(frozen=True, eq=False)
class Surface:
    """An isosurface to draw.

    Attributes:
        name: in the key and under the pointer.
        values: (nx, ny, nz), periodic.
        level: the surface is that of the body where the values are above it.
        colour: as ``#rrggbb``.
        opacity: from 0 to 1.
    """

    name: str
    values: NDArray[np.floating]
    level: float
    colour: str
    opacity: float = 0.5


def solid(crystal: Crystal, surfaces: Sequence[Surface], title: str, says: str) -> Figure:
    """Surfaces with the atoms and the cell of a crystal; figures of one row turn together."""
    crystal = replace(crystal, lattice=upright(crystal.lattice))
    drawn = [_mesh(surface, crystal.lattice) for surface in surfaces]
    atoms, key = _atoms(crystal)
    edges, labels = _cell(crystal.lattice)
    data = [*(mesh for mesh in drawn if mesh is not None), *atoms, edges, labels]
    layout = {
        "scene": {**_frame(crystal.lattice), "camera": _CAMERA},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "showlegend": False,
    }
    shown = [(surface.name, surface.colour) for surface in surfaces]
    return Figure(says, data, layout, 380, solid=True, title=title, key=(*shown, *key))


def upright(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lattice turned so that c is along z, and a to the right of it: plotly turns its figures about z."""
    c = lattice[2] / np.linalg.norm(lattice[2])
    right = lattice[0] - (lattice[0] @ c) * c
    right /= np.linalg.norm(right)
    return np.asarray(lattice @ np.stack([right, np.cross(c, right), c], axis=1))


def _mesh(surface: Surface, lattice: NDArray[np.float64]) -> dict[str, Any] | None:
    points, triangles = isosurface(surface.values, surface.level, lattice, closed=True)
    if not len(triangles):
        return None
    return {
        **_triangles(points, triangles),
        "name": surface.name,
        "color": surface.colour,
        "opacity": surface.opacity,
        "hoverinfo": "name",
        "lighting": {"ambient": 0.6, "diffuse": 0.6, "specular": 0.15, "roughness": 0.6},
    }


def _triangles(points: NDArray[np.floating], triangles: NDArray[np.integer]) -> dict[str, Any]:
    return {
        "type": "mesh3d",
        **{axis: packed(points[:, i]) for i, axis in enumerate("xyz")},
        **{corner: packed(triangles[:, i]) for i, corner in enumerate("ijk")},
    }


def with_images(frac: NDArray[np.float64]) -> NDArray[np.float64]:
    """An atom at fractional coordinates (3,) within the cell, and its images on the faces that it is on, (m, 3)."""
    axes = [[x, x + 1.0] if x < _AT_FACE else [x, x - 1.0] if x > 1.0 - _AT_FACE else [x] for x in frac % 1.0]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _atoms(crystal: Crystal) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """A mesh of spheres for each element, and the key of the elements."""
    symbols = _core.elements()
    centres = {
        int(z): np.concatenate([with_images(x) for x in crystal.frac_coords[crystal.atomic_numbers == z]])
        @ crystal.lattice
        for z in np.unique(crystal.atomic_numbers)
    }
    many = sum(map(len, centres.values())) > _ROUND
    points, triangles = _sphere(1 if many else 2)
    meshes = []
    for z, of in centres.items():
        radius = _SMALL if z == 1 else _LARGE
        vertices = (of[:, None, :] + radius * points[None, :, :]).reshape(-1, 3)
        corners = (triangles[None, :, :] + len(points) * np.arange(len(of))[:, None, None]).reshape(-1, 3)
        meshes.append(
            {
                **_triangles(vertices, corners),
                "name": symbols[z - 1],
                "color": element_colour(z),
                "hoverinfo": "name",
                "lighting": {"ambient": 0.55, "diffuse": 0.7, "specular": 0.3, "roughness": 0.4},
            }
        )
    return meshes, [(symbols[z - 1], element_colour(z)) for z in centres]


def _sphere(divisions: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (n, 3) and triangles (m, 3) of an icosahedron whose triangles are quartered ``divisions`` times."""
    golden = (1.0 + 5.0**0.5) / 2.0
    points = np.array(
        [np.roll([0.0, s, t * golden], turn) for turn in range(3) for s in (-1, 1) for t in (-1, 1)]
    )
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    near = np.isclose(distances, 2.0)
    triangles = np.array(
        [t for t in combinations(range(12), 3) if all(near[i, j] for i, j in combinations(t, 2))]
    )
    for _ in range(divisions):
        a, b, c = (points[triangles[:, i]] for i in range(3))
        ends = np.concatenate([a, b, c, a + b, b + c, c + a])
        ends /= np.linalg.norm(ends, axis=1, keepdims=True)
        points, number = np.unique(ends.round(12), axis=0, return_inverse=True)
        a, b, c, ab, bc, ca = number.reshape(6, -1)
        triangles = np.concatenate(
            [np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        )
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    outward = np.einsum("nd,nd->n", np.cross(b - a, c - a), a) > 0
    return points, np.where(outward[:, None], triangles, triangles[:, ::-1])


_CORNERS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=np.float64)


def _cell(lattice: NDArray[np.float64]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The twelve edges of the cell, and the names of the three from the origin."""
    corners = _CORNERS @ lattice
    path: list[list[float] | None] = []
    for one in range(8):
        for axis in (4, 2, 1):
            if not one & axis:
                path += [corners[one].tolist(), corners[one | axis].tolist(), None]
    coordinates = [[None if point is None else point[i] for point in path] for i in range(3)]
    common = {"type": "scatter3d", "meta": "ink", "showlegend": False, "hoverinfo": "skip"}
    edges = {
        **common,
        "mode": "lines",
        "name": "cell",
        "line": {"width": 2},
        **dict(zip("xyz", coordinates, strict=True)),
    }
    places = _label_places(lattice)
    labels = {
        **common,
        "mode": "text",
        "name": "edges",
        "text": list("abc"),
        "textfont": {"size": 16},
        **{axis: places[:, i].tolist() for i, axis in enumerate("xyz")},
    }
    return edges, labels


def _label_places(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beyond the ends of the edges from the origin, (3, 3)."""
    lengths = np.linalg.norm(lattice, axis=1, keepdims=True)
    return np.asarray(lattice * (1.0 + (_LARGE + 0.06 * lengths.max()) / lengths))


def _frame(lattice: NDArray[np.float64]) -> dict[str, Any]:
    """Axes that are not drawn and hold the cell, its atoms and its labels, with one scale."""
    held = np.concatenate([_CORNERS @ lattice, _label_places(lattice)])
    low, high = held.min(axis=0) - _LARGE, held.max(axis=0) + _LARGE
    size = high - low
    ratio = _ZOOM * size / size.max()
    hidden = {"visible": False, "showbackground": False}
    frame: dict[str, Any] = {
        f"{axis}axis": {**hidden, "range": [float(low[i]), float(high[i])]} for i, axis in enumerate("xyz")
    }
    return {**frame, "aspectmode": "manual", "aspectratio": dict(zip("xyz", ratio.tolist(), strict=True))}
