"""A picture of a density: slices through the cell, drawn to scale."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.material import Material
from tomat.prediction.picture import Sight
from tomat.storage.files import write_atomically
from tomat.view.plane import DECADES, atoms_near, in_plane, plane_basis

#: Largest number of points of a slice along an axis.
_MOST_POINTS = 300


def preview(sight: Sight, path: str | Path) -> None:
    """Write a PNG of three slices through the heaviest atom, one along each pair of lattice vectors.

    Colours are logarithmic, in electrons per cubic angstrom; atoms within 0.5 angstrom of a slice are marked. With a
    truth on the same grid, two more rows show the true density and, on a linear scale, predicted minus true.

    Raises:
        ValueError: a truth on another grid, or matplotlib is not installed (``tomat[plot]``).
        OSError: it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"{path}: a preview needs matplotlib: pip install 'tomat[plot]'") from error
    material, true = sight.material, sight.true_density()
    rows = [("density" if true is None else "predicted", material.in_unit("e_per_A3").density)]
    if true is not None:
        rows += [("true", true), ("predicted - true", rows[0][1] - true)]
    # Not pyplot, which keeps state and wants a display.
    figure = Figure(figsize=(11.0, 3.6 * len(rows) + 0.4))
    FigureCanvasAgg(figure)
    # Fixed margins: automatic layouts draw everything twice.
    axes = figure.subplots(len(rows), 3, squeeze=False)
    inch = 1.0 / float(figure.get_figheight())
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.5 * inch, top=1 - 0.7 * inch)
    norms = _norms([values for _, values in rows])
    for row, ((label, values), norm) in enumerate(zip(rows, norms, strict=True)):
        for column, normal in enumerate((2, 1, 0)):
            mesh = _draw(axes[row, column], material, values, normal, norm, signed=row == 2)
            if row == 0:
                vectors = " and ".join("abc".replace("abc"[normal], ""))
                axes[row, column].set_title(f"plane of {vectors}", fontsize=9)
        axes[row, 0].set_ylabel(label)
        figure.colorbar(mesh, ax=axes[row, :].tolist(), label="electrons / A$^3$", shrink=0.9, pad=0.02)
    figure.suptitle(
        f"{material.task_id}, {material.n_electrons:.4g} electrons", fontsize=10, y=1 - 0.15 * inch
    )
    buffer = io.BytesIO()
    # No version of matplotlib, so that equal densities give equal files.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _norms(values: list[NDArray[np.float32]]) -> list[Any]:
    from matplotlib.colors import LogNorm, Normalize

    highest = max(float(density.max()) for density in values[:2])
    highest = highest if highest > 0 else 1.0
    lowest = max(highest * 10**-DECADES, min(float(v[v > 0].min(initial=highest)) for v in values[:2]))
    densities = LogNorm(min(lowest, highest * 0.5), highest)
    if len(values) == 1:
        return [densities]
    largest = float(np.percentile(np.abs(values[2]), 99.5)) or 1.0
    return [densities, densities, Normalize(-largest, largest)]


def _draw(
    axes: Any, material: Material, values: NDArray[np.float32], normal: int, norm: Any, *, signed: bool
) -> Any:
    """Draw one slice and its atoms; returns the mesh."""
    first, second = in_plane(normal)
    n = values.shape[normal]
    heaviest = int(np.argmax(material.atomic_numbers))
    height = float(material.frac_coords[heaviest, normal]) % 1.0
    plane = np.take(values, round(height * n) % n, axis=normal)
    steps = [-(-size // _MOST_POINTS) for size in plane.shape]
    thinned = plane[:: steps[0], :: steps[1]]
    basis = plane_basis(material.lattice[first], material.lattice[second])
    # Corners of cells centred on the points.
    edges = [
        (np.arange(size + 1) - 0.5) * step / whole
        for size, step, whole in zip(thinned.shape, steps, plane.shape, strict=True)
    ]
    u, v = np.meshgrid(*edges, indexing="ij")
    corners = np.stack([u, v], axis=-1) @ basis
    shown = thinned if signed else np.maximum(thinned, norm.vmin)
    mesh = axes.pcolormesh(
        corners[..., 0],
        corners[..., 1],
        shown,
        norm=norm,
        cmap="RdBu_r" if signed else "viridis",
        rasterized=True,
    )
    _mark_atoms(axes, material, normal, height, basis)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
    axes.set_xlabel("angstrom", fontsize=7)
    return mesh


def _mark_atoms(
    axes: Any, material: Material, normal: int, height: float, basis: NDArray[np.float64]
) -> None:
    symbols = _core.elements()
    for atom in atoms_near(material.crystal, normal, height):
        x, y = np.array([atom.u, atom.v]) @ basis
        axes.plot(x, y, "o", ms=4, mfc="none", mec="red")
        axes.annotate(
            symbols[atom.atomic_number - 1],
            (x, y),
            (3, 3),
            textcoords="offset points",
            fontsize=7,
            color="red",
        )
