"""What is shown of a density: itself, the truth, differences and spread, as surfaces and as slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.view.colours import COLOURS, LESS, MORE
from tomat.view.isosurface import half_level
from tomat.view.page import Figure
from tomat.view.plane import NEAR, Scale, cell_raster, in_plane, slice_figure
from tomat.view.resampling import drawn_shape, resampled
from tomat.view.solid import Surface, solid

#: Said of slices.
MARKS = f"Atoms within {NEAR:g} Å of a plane are marked, the smaller the farther they are from it."
#: Pixels of a slice along its longer side.
_PIXELS = 150
_SPREAD = COLOURS[6]
#: Differences below this part of the highest density are rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Shown:
    """A quantity that is shown.

    Attributes:
        title: above its figures.
        name: in sentences.
        values: (nx, ny, nz), or a slice of it, in electrons per cubic angstrom.
        scale: of the colours in slices.
        level: of its surface, likewise; of a difference, of its absolute value.
        encloses: what half of lies within the surface.
        colour: of its surface, if it is no difference.
    """

    title: str
    name: str
    values: NDArray[np.float64]
    scale: Scale
    level: float
    encloses: str
    colour: str = COLOURS[2]

    def bodies(self, shape: tuple[int, int, int]) -> list[Surface]:
        """Its isosurfaces on a grid of ``shape``: two for a difference."""
        values = resampled(self.values, shape)
        if self.scale.signed:
            return [
                Surface(f"+{self.level:.2g} e/Å³", values, self.level, MORE, 0.65),
                Surface(f"\u2212{self.level:.2g} e/Å³", -values, self.level, LESS, 0.65),
            ]
        return [Surface(f"{self.level:.2g} e/Å³", values, self.level, self.colour, 0.45)]


def compared(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> list[Shown]:
    """Predicted, true and predicted minus true; densities share their colours and their level, that of the truth."""
    one, other = predicted.astype(np.float64), true.astype(np.float64)
    return [
        *_densities({"predicted": one, "true": other}, half_level(other)),
        _difference(one - other, "true"),
    ]


def alone(
    predicted: NDArray[np.floating],
    start: NDArray[np.floating] | None,
    spread: NDArray[np.floating] | None,
) -> list[Shown]:
    """Predicted, and as far as they are there, predicted minus the promolecule ``start`` and the ``spread``."""
    one = predicted.astype(np.float64)
    shown = _densities({"predicted": one}, half_level(one))
    if start is not None:
        difference = one - start
        if np.abs(difference).max() > _ROUNDING * np.abs(one).max():
            shown.append(_difference(difference, "promolecule"))
    if spread is not None and spread.max() > 0:
        values = spread.astype(np.float64)
        name, encloses = "standard deviation of the prediction", "its integral"
        shown.append(Shown("spread", name, values, Scale.of(values), half_level(values), encloses, _SPREAD))
    return shown


def _densities(named: dict[str, NDArray[np.float64]], level: float) -> list[Shown]:
    scale = Scale.of(*named.values())
    return [Shown(name, name, values, scale, level, "the electrons") for name, values in named.items()]


def _difference(values: NDArray[np.float64], other: str) -> Shown:
    name = f"predicted minus {other}"
    size = np.abs(values)
    return Shown(name, name, values, Scale.of_difference(values), half_level(size), "the absolute difference")


def surfaces(
    crystal: Crystal, shown: Sequence[Shown], shape: tuple[int, int, int] | None = None
) -> list[Figure]:
    """One solid figure each, on a grid of ``shape``, or of :func:`tomat.view.resampling.drawn_shape`."""
    shape = shape or drawn_shape(crystal.lattice)
    found = []
    for one in shown:
        sign = "\u00b1" if one.scale.signed else ""
        says = (
            f"{crystal.name}, {one.name}: isosurface at {sign}{one.level:.2g} e/Å³, which encloses half of "
            f"{one.encloses}."
        )
        found.append(solid(crystal, one.bodies(shape), one.title, says))
    return found


def slices(crystal: Crystal, shown: Sequence[Shown], normal: int, height: float) -> list[Figure]:
    """One figure each of the plane at the fractional coordinate ``height`` of axis ``normal``."""
    first, second = in_plane(normal)
    names = ("abc"[first], "abc"[second])
    found = []
    for one in shown:
        raster = cell_raster(crystal, one.values, normal, height, _PIXELS)
        where = f"plane of {names[0]} and {names[1]} at {height:.3f} {'abc'[normal]}"
        says = f"{crystal.name}, {one.name}: {where}."
        found.append(slice_figure(raster, one.scale, names, one.title, says))
    return found
