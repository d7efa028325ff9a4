"""Slices through a cell along two of its lattice vectors, drawn to scale, with the atoms near them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.view.colours import DIVERGING, element_colour
from tomat.view.page import Figure, packed
from tomat.view.solid import with_images

#: Atoms within this distance of a slice are marked, in angstrom.
NEAR = 0.5
#: Decades of density that the colour scale spans.
DECADES = 4.0


@dataclass(frozen=True)
class NearAtom:
    """An atom near a slice.

    Attributes:
        atomic_number: of the element.
        u: first fractional coordinate in the plane, within [0, 1).
        v: the second one.
        away: how far above the plane, in angstrom; negative below.
    """

    atomic_number: int
    u: float
    v: float
    away: float


def atoms_near(crystal: Crystal, normal: int, height: float) -> Iterator[NearAtom]:
    """The atoms within :data:`NEAR` of the plane at the fractional coordinate ``height`` of axis ``normal``."""
    first, second = in_plane(normal)
    # Distance between opposite faces of the cell.
    faces = np.cross(crystal.lattice[first], crystal.lattice[second])
    thickness = crystal.volume / float(np.linalg.norm(faces))
    for z, frac in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords % 1.0, strict=True):
        away = ((float(frac[normal]) - height + 0.5) % 1.0 - 0.5) * thickness
        if abs(away) <= NEAR:
            yield NearAtom(z, float(frac[first]), float(frac[second]), away)


def in_plane(normal: int) -> tuple[int, int]:
    """The two other axes, in order."""
    first, second = (axis for axis in range(3) if axis != normal)
    return first, second


def plane_basis(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two lattice vectors as rows in the coordinates of their plane, the first along x."""
    along = float(np.linalg.norm(u))
    x = float(u @ v) / along
    return np.array([[along, 0.0], [x, float(np.sqrt(max(float(v @ v) - x * x, 0.0)))]])


def sampled(
    planes: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Periodic planes (..., nx, ny) interpolated linearly at fractional coordinates ``u`` and ``v`` of one shape."""
    nx, ny = planes.shape[-2:]
    p, q = (u % 1.0) * nx, (v % 1.0) * ny
    i, j = np.floor(p).astype(int), np.floor(q).astype(int)
    s, t = p - i, q - j
    corners = [planes[..., (i + di) % nx, (j + dj) % ny] for di in (0, 1) for dj in (0, 1)]
    weights = [(1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t]
    return np.asarray(sum(w * c for w, c in zip(weights, corners, strict=True)))


@dataclass(frozen=True, eq=False)
class Raster:
    """Values on square pixels in a plane.

    Attributes:
        values: (px, py), the first axis along x; NaN where nothing is drawn.
        origin: x and y of the low corner, angstrom.
        size: width and height, angstrom.
        atoms: (x, y, atom) of each mark.
        outline: corners (n, 2) of the cell; empty if the raster shows another part of the periodic plane.
    """

    values: NDArray[np.float64]
    origin: tuple[float, float]
    size: tuple[float, float]
    atoms: Sequence[tuple[float, float, NearAtom]]
    outline: NDArray[np.float64]


def cell_raster(
    crystal: Crystal, values: NDArray[np.floating], normal: int, height: float, pixels: int
) -> Raster:
    """The plane of a density (nx, ny, nz) nearest to ``height`` along axis ``normal``, within the cell.

    The longer side has ``pixels``.
    """
    first, second = in_plane(normal)
    n = values.shape[normal]
    plane = np.take(values, round(height * n) % n, axis=normal).astype(np.float64)
    basis = plane_basis(crystal.lattice[first], crystal.lattice[second])
    outline = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]) @ basis
    low, high = outline.min(axis=0), outline.max(axis=0)
    width, tall = (high - low).tolist()
    step = max(width, tall) / pixels
    counts = [max(2, round(length / step)) for length in (width, tall)]
    x, y = (low[i] + (np.arange(n) + 0.5) * (high[i] - low[i]) / n for i, n in enumerate(counts))
    u, v = np.moveaxis(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1) @ np.linalg.inv(basis), -1, 0)
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    shown = np.where(inside, sampled(plane, u, v), np.nan)
    atoms = []
    for atom in atoms_near(crystal, normal, height):
        for place in _images(atom):
            at = place @ basis
            atoms.append((float(at[0]), float(at[1]), atom))
    return Raster(shown, (float(low[0]), float(low[1])), (width, tall), atoms, outline)


def _images(atom: NearAtom) -> NDArray[np.float64]:
    return np.unique(with_images(np.array([atom.u, atom.v, 0.5]))[:, :2], axis=0)


def rectangle_atoms(crystal: Crystal, normal: int, height: float) -> list[tuple[float, float, NearAtom]]:
    """The marks of a raster that shows the periodic plane as a rectangle |u| by |v| sin(angle)."""
    first, second = in_plane(normal)
    basis = plane_basis(crystal.lattice[first], crystal.lattice[second])
    found = []
    for atom in atoms_near(crystal, normal, height):
        x, y = np.array([atom.u, atom.v]) @ basis
        found.append((float(x % basis[0, 0]), float(y), atom))
    return found


@dataclass(frozen=True)
class Scale:
    """Colours of values: logarithmic from ``low`` to ``high``, or linear from -``high`` to ``high`` if ``signed``."""

    low: float
    high: float
    signed: bool = False

    @classmethod
    def of(cls, *values: NDArray[np.floating]) -> Scale:
        """Of densities: :data:`DECADES` below the highest value."""
        high = max((float(one.max()) for one in values), default=0.0)
        high = high if high > 0 else 1.0
        least = min((float(one[one > 0].min(initial=high)) for one in values), default=high)
        return cls(min(max(high * 10**-DECADES, least), high * 0.5), high)

    @classmethod
    def of_difference(cls, values: NDArray[np.floating]) -> Scale:
        """Of a difference: up to the quantile 0.995 of its absolute values."""
        size = np.abs(values)
        return cls(0.0, float(np.quantile(size, 0.995)) or float(size.max()) or 1.0, signed=True)


def slice_figure(raster: Raster, scale: Scale, names: tuple[str, str], title: str, says: str) -> Figure:
    """A slice; ``names`` are those of the lattice vectors along the sides of its outline."""
    n, m = raster.values.shape
    (width, height), (x0, y0) = raster.size, raster.origin
    # The first axis of a plotly heatmap is vertical.
    z, colours = _coloured(raster.values.T, scale)
    heatmap = {
        "type": "heatmap",
        "z": packed(z),
        "x0": x0 + 0.5 * width / n,
        "dx": width / n,
        "y0": y0 + 0.5 * height / m,
        "dy": height / m,
        "hovertemplate": "%{x:.2f} Å, %{y:.2f} Å: "
        + ("%{z:.3g}" if scale.signed else "10^%{z:.2f}")
        + " e/Å³<extra></extra>",
        **colours,
    }
    data = [heatmap, *_outline(raster.outline, names), *_marks(raster.atoms)]
    axis = {"showgrid": False, "zeroline": False, "constrain": "domain", "ticksuffix": " Å", "nticks": 5}
    edge = 0.06 * max(width, height)
    layout = {
        "xaxis": {**axis, "range": [x0 - edge, x0 + width + edge]},
        "yaxis": {**axis, "range": [y0 - edge, y0 + height + edge], "scaleanchor": "x"},
        "margin": {"l": 10, "r": 10, "t": 8, "b": 30},
        "showlegend": False,
    }
    tall = round(60 + 300 * min(max(height / width, 0.4), 1.3))
    return Figure(says, data, layout, tall, title=title)


def _coloured(values: NDArray[np.float64], scale: Scale) -> tuple[NDArray[np.float64], dict[str, Any]]:
    bar: dict[str, Any] = {"thickness": 10, "len": 0.95, "title": {"text": "e/Å³"}}
    if scale.signed:
        bar["exponentformat"] = "power"
        return values, {"colorscale": DIVERGING, "zmin": -scale.high, "zmax": scale.high, "colorbar": bar}
    low, high = float(np.log10(scale.low)), float(np.log10(scale.high))
    ticks = [t for t in range(int(np.floor(low)), int(np.ceil(high)) + 1) if low <= t <= high]
    bar |= {"tickvals": ticks, "ticktext": [f"{10.0**t:g}" for t in ticks]}
    return np.log10(np.maximum(values, scale.low)), {
        "colorscale": "Viridis",
        "zmin": low,
        "zmax": high,
        "colorbar": bar,
    }


def _outline(corners: NDArray[np.float64], names: tuple[str, str]) -> list[dict[str, Any]]:
    if not len(corners):
        return []
    common = {"type": "scatter", "meta": "ink", "showlegend": False, "hoverinfo": "skip"}
    edges = {
        "mode": "lines",
        "line": {"width": 1.5},
        "x": corners[:, 0].tolist(),
        "y": corners[:, 1].tolist(),
    }
    u, v = corners[1], corners[3]
    size = 0.035 * float(np.ptp(corners, axis=0).max())
    places = np.array([w * (1.0 + size / np.linalg.norm(w)) for w in (u, v)])
    labels = {
        "mode": "text",
        "text": list(names),
        "textfont": {"size": 15},
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
    }
    return [{**common, **edges}, {**common, **labels}]


def _marks(atoms: Sequence[tuple[float, float, NearAtom]]) -> list[dict[str, Any]]:
    """Atoms in the colours of their elements, smaller the farther they are from the plane."""
    if not atoms:
        return []
    symbols = _core.elements()
    names = [symbols[atom.atomic_number - 1] for _, _, atom in atoms]
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [x for x, _, _ in atoms],
            "y": [y for _, y, _ in atoms],
            "text": names,
            "textposition": "middle right",
            "textfont": {"size": 12, "color": "#ffffff", "shadow": "0 0 3px #000, 0 0 3px #000"},
            "marker": {
                "size": [14.0 - 8.0 * abs(atom.away) / NEAR for _, _, atom in atoms],
                "color": [element_colour(atom.atomic_number) for _, _, atom in atoms],
                "line": {"width": 1.5, "color": "#222222"},
            },
            "hovertext": [
                f"{name}, {atom.away:+.2f} Å" for name, (_, _, atom) in zip(names, atoms, strict=True)
            ],
            "hoverinfo": "text",
            "showlegend": False,
            "cliponaxis": False,
        }
    ]
