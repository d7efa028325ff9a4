"""What training data say about grids and electrons: defaults of predictions; needs no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.data.on_the_fly import DensitySource

if TYPE_CHECKING:
    from tomat.lm.data import DataConfig, DensityStore, Rows

__all__ = ["data_facts", "grid_spacing", "valence_counts"]

#: How far from a whole number an element's electrons may come out.
_TOLERANCE = 0.02


def data_facts(rows: Rows, config: DataConfig) -> dict[str, Any]:
    """What predictions take from the training data, JSON.

    ``guess``: the starting density's name. Of densities also ``spacing`` and ``valence``, see below; rows of a dataset
    hold no whole grids.
    """
    facts: dict[str, Any] = {"guess": config.guess}
    source = rows.source
    if isinstance(source, DensitySource):
        facts |= {"spacing": grid_spacing(source.store), "valence": valence_counts(source.store)}
    return facts


def grid_spacing(store: DensityStore) -> float:
    """Median over materials of (cell volume / grid points)^(1/3), in angstrom."""
    points = store.grid.astype(np.int64).prod(axis=1)
    volumes = np.array([store.volume(index) for index in range(len(store))])
    return float(np.median(np.cbrt(volumes / points)))


def valence_counts(store: DensityStore) -> dict[str, float]:
    """Valence electrons by atomic number: the whole numbers that the materials' electron counts add up from.

    Elements that the materials do not tell apart, or whose counts come out broken (two kinds of pseudopotentials),
    are left out.
    """
    materials = [store.material(index) for index in range(len(store))]
    elements = sorted({int(z) for material in materials for z in material.atomic_numbers})
    atoms = np.array([[(m.atomic_numbers == z).sum() for z in elements] for m in materials], dtype=np.float64)
    electrons = np.array([material.n_electrons for material in materials])
    inverse = np.linalg.pinv(atoms)
    told = np.abs(np.diag(inverse @ atoms) - 1) < _TOLERANCE
    counts = inverse @ electrons
    whole = np.abs(counts - np.round(counts)) < _TOLERANCE
    return {
        str(z): float(np.round(count))
        for z, count, ok in zip(elements, counts, told & whole, strict=True)
        if ok
    }
