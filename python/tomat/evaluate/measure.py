"""The metrics of one material and method: a row of a result."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import metrics
from tomat.categories import category, chemical_system, reduced_formula
from tomat.evaluate.distances import nearest_atom
from tomat.evaluate.methods import Predicted
from tomat.hirshfeld import Hirshfeld
from tomat.material import Material

#: Lower ends of the bins of distance to the nearest atom, in angstrom; the last is open.
DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
#: Depth bins: grid points between a voxel and the nearest face of its patch, 0 at the face; the last is open.
DEPTHS = tuple(range(16))
#: Number of bins by position in the row-major order of a patch, in which its voxels are written.
ORDERS = 10

#: Metrics of a row: those of two densities, and more of a prediction.
METRICS = (
    "nmae",
    "nemd",
    "nmae_scaled",
    *(name for name in metrics.Metrics._fields if name != "nmae"),
    *metrics.INTERVALS,
)

#: Units of the numbers of a row that tables show.
UNITS = {**dict.fromkeys(METRICS, metrics.FRACTION), **metrics.UNITS, "seconds": metrics.Unit.of("s")}

#: Columns of a result, with their Arrow types. List columns hold one number per bin; sums are in electrons.
COLUMNS = {
    "task_id": "string",
    "mode": "string",
    "path": "string",
    "data_hash": "string",
    "formula": "string",
    "chemsys": "string",
    "category": "string",
    "n_atoms": "int32",
    "n_electrons": "float64",
    "n_voxels": "int64",
    "nx": "int32",
    "ny": "int32",
    "nz": "int32",
    "volume": "float64",
    **dict.fromkeys(METRICS, "float64"),
    "seconds": "float64",
    "n_patches": "int64",
    **{
        f"{binning}_{part}": f"list<{kind}>"
        for binning in ("distance", "depth", "order")
        for part, kind in (("error", "float64"), ("density", "float64"), ("voxels", "int64"))
    },
}


@dataclass(frozen=True, eq=False)
class Truth:
    """A true density, with what is the same for all methods.

    Attributes:
        material: its density, in the unit of the evaluation.
        facts: the columns that do not depend on the method.
        distance_bin: (nx, ny, nz) index into :data:`DISTANCES`.
        atoms: the weights of the atoms, by which charges are counted.
    """

    material: Material
    facts: dict[str, Any]
    distance_bin: NDArray[np.int8]
    atoms: Hirshfeld

    @classmethod
    def of(cls, material: Material, path: str, unit: str) -> Truth:
        """Compute the columns that depend on the material alone."""
        inside = material.in_unit(unit)
        total = float(np.abs(inside.density).sum(dtype=np.float64))
        if not total > 0.0 or not inside.n_electrons > 0.0:
            raise ValueError(
                f"{material.task_id}: the true density has no electrons; relative errors are undefined"
            )
        nx, ny, nz = material.grid_shape
        facts = {
            "task_id": material.task_id,
            "path": path,
            "data_hash": material.hash,
            "formula": reduced_formula(int(z) for z in material.atomic_numbers),
            "chemsys": chemical_system(material.atomic_numbers),
            "category": category(int(z) for z in material.atomic_numbers),
            "n_atoms": len(material.atomic_numbers),
            "n_electrons": inside.n_electrons,
            "n_voxels": inside.density.size,
            "nx": nx,
            "ny": ny,
            "nz": nz,
            "volume": material.volume,
        }
        distance = nearest_atom(material.lattice, material.frac_coords, (nx, ny, nz), DISTANCES[-1])
        bins = np.searchsorted(np.asarray(DISTANCES[1:], dtype=np.float32), distance, side="right")
        return cls(inside, facts, bins.astype(np.int8), Hirshfeld.of(material.crystal, (nx, ny, nz)))


def row(truth: Truth, predicted: Predicted, mode: str) -> dict[str, Any]:
    """The columns of :data:`COLUMNS` for one method."""
    material = truth.material
    if predicted.unit != material.unit:
        raise ValueError(f"the prediction is in {predicted.unit}, the true density in {material.unit}")
    values = np.asarray(predicted.density, dtype=np.float64)
    true = material.density.astype(np.float64)
    measured = metrics.measure(values, true, unit=material.unit, lattice=material.lattice, atoms=truth.atoms)
    mean = float(values.mean())
    scaled = metrics.nmae(values * (float(true.mean()) / mean), true) if mean > 0.0 else math.nan
    expected = predicted.expected_error
    error = np.abs(values - true)
    per_voxel = (1.0 if material.unit == "chgcar" else material.volume) / true.size
    sums = functools.partial(_sums, error.ravel() * per_voxel, np.abs(true).ravel() * per_voxel)
    return {
        **truth.facts,
        "mode": mode,
        **measured._asdict(),
        "nemd": measured.nmae if expected is None else metrics.nemd(expected, true),
        "nmae_scaled": None if math.isnan(scaled) else scaled,
        **{
            name: None if predicted.pit is None else metrics.coverage(predicted.pit, probability)
            for name, probability in metrics.INTERVALS.items()
        },
        "seconds": predicted.seconds,
        "n_patches": predicted.n_patches,
        **sums("distance", truth.distance_bin.ravel(), len(DISTANCES)),
        **_by_place(predicted, sums),
    }


def _by_place(predicted: Predicted, sums: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Sums by depth and by order in the patch; empty lists if the positions in patches are not known."""
    if predicted.place is None or predicted.patch_shape is None:
        return {name: [] for name in COLUMNS if name.startswith(("depth_", "order_"))}
    place = np.asarray(predicted.place).ravel()
    size = math.prod(predicted.patch_shape)
    if place.min() < 0 or place.max() >= size:
        raise ValueError(f"positions {place.min()} to {place.max()} do not fit a patch of {size} voxels")
    depths = np.minimum(_depths(predicted.patch_shape)[place], DEPTHS[-1])
    orders = place * ORDERS // size
    return {**sums("depth", depths, len(DEPTHS)), **sums("order", orders, ORDERS)}


def _depths(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Grid points between each voxel of a patch and the nearest face, flat."""
    axes = [np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.asarray(np.minimum(np.minimum(x, y), z).ravel(), dtype=np.int64)


def _sums(
    error: NDArray[np.float64], density: NDArray[np.float64], name: str, bins: NDArray[np.integer], n: int
) -> dict[str, Any]:
    """The three list columns of one way of binning |error| and |true density|, flat, in electrons."""
    index = bins.astype(np.int64)
    return {
        f"{name}_error": np.bincount(index, error, n).tolist(),
        f"{name}_density": np.bincount(index, density, n).tolist(),
        f"{name}_voxels": np.bincount(index, minlength=n).tolist(),
    }
