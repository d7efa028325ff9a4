"""A page of a predicted density: surfaces and slices, beside the truth and their difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomat.crystal import Crystal
from tomat.prediction.assemble import Prediction
from tomat.prediction.picture import Sight
from tomat.storage.files import write_atomically
from tomat.view.density import MARKS, alone, compared, slices, surfaces
from tomat.view.page import Page
from tomat.view.plane import in_plane
from tomat.view.resampling import drawn_shape
from tomat.view.table import Table


def write_page(sight: Sight, path: str | Path) -> None:
    """Write a self-contained HTML page of a prediction.

    With a truth it shows predicted, true and predicted minus true; without one, predicted, predicted minus the
    promolecule, and the spread, as far as they are there: as surfaces, and in three slices through the heaviest atom.

    Raises:
        ValueError: a truth on another grid.
        OSError: it cannot be written.
    """
    material = sight.material.in_unit("e_per_A3")
    crystal, predicted = material.crystal, material.density
    true = sight.true_density()
    shown = (
        compared(predicted, true)
        if true is not None
        else alone(predicted, sight.start_density(), sight.spread_density())
    )
    page = Page(f"{crystal.name}: predicted electron density", _lead(crystal))
    page.section("Surfaces")
    page.figures(*surfaces(crystal, shown))
    page.text(_drawn(crystal, material.grid_shape), "note")
    heaviest = int(np.argmax(crystal.atomic_numbers))
    page.section("Slices")
    page.text(MARKS, "note")
    for normal in (2, 1, 0):
        height = float(crystal.frac_coords[heaviest, normal]) % 1.0
        u, v = ("abc"[axis] for axis in in_plane(normal))
        page.heading(f"Plane of {u} and {v} at {height:.3f} {'abc'[normal]}")
        page.figures(*slices(crystal, shown, normal, height))
    page.section("Numbers")
    page.table(_numbers(sight))
    write_atomically(path, page.render().encode())


def facts_of(prediction: Prediction, extra: Mapping[str, Any]) -> dict[str, str]:
    """What the table of the page says of a prediction, and of ``extra`` in its record."""
    facts = {"mode": prediction.mode.replace("_", " "), "patches": f"{prediction.n_patches:,}"}
    if prediction.electrons.expected is not None:
        facts["valence electrons of the atoms"] = f"{prediction.electrons.expected:g}"
    for name, words in (("nmae", "NMAE against the truth"), ("nmae_scaled", "NMAE scaled")):
        if name in extra.get("metrics", {}):
            facts[words] = f"{100 * extra['metrics'][name]:.3g} %"
    for number, doubt in enumerate(extra.get("warnings", []), 1):
        facts[f"warning {number}"] = doubt
    return facts


def _lead(crystal: Crystal) -> str:
    a, b, c = np.linalg.norm(crystal.lattice, axis=1)
    return (
        f"{crystal.n_atoms} atoms, {crystal.volume:.1f} Å³; a = {a:.3f} Å, b = {b:.3f} Å, c = {c:.3f} Å. "
        "Drag a surface to turn it, and those beside it; pinch or scroll for size. All values are in electrons per Å³."
    )


def _drawn(crystal: Crystal, grid: tuple[int, int, int]) -> str:
    drawn, given = (" x ".join(map(str, shape)) for shape in (drawn_shape(crystal.lattice), grid))
    return (
        f"Surfaces are drawn on {drawn} grid points, interpolated by Fourier from the {given} of the density. What the "
        "faces of the cell cut off is closed; atoms on a face are drawn on the other side too."
    )


def _numbers(sight: Sight) -> Table:
    grid = " x ".join(map(str, sight.material.grid_shape))
    facts = {"grid points": grid, "electrons in the cell": f"{sight.material.n_electrons:.6g}", **sight.facts}
    return Table("Prediction", ("", ""), tuple(facts.items()))
