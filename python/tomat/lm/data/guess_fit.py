"""``data.guess: fit``: a promolecule of the training data's own, fitted before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.data.cache import FlatFile, built
from tomat.lm.data.guess_check import in_drawn_order
from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from pathlib import Path

    from tomat.lm.data.store import DensityStore

__all__ = ["FIT", "fitted_promolecule"]

#: The word in place of a promolecule's name.
FIT = "fit"
#: Materials fitted to at most, but for rare elements; of an element at least so many, where there are.
MATERIALS, OF_ELEMENT = 1024, 8
#: Voxels of all materials together; of each at least and at most so many.
VOXELS, FEWEST, MOST = 1 << 21, 1 << 11, 1 << 14


def fitted_promolecule(
    store: DensityStore, *, earlier: Promolecule | None = None, threads: int | None = None
) -> Promolecule:
    """A promolecule of the densities in a store, from its cache where it was fitted to the same ones before.

    At most 1,024 materials (more where elements are rare) and 2 million voxels (2,048 of each at least), drawn by
    the materials' names: the work does not grow with the data. The same densities give the same promolecule,
    whatever the threads; processes that share a cache wait for the one that fits.

    Args:
        store: the densities.
        earlier: that of an earlier part of the run, taken where it is of the same densities.
        threads: to fit with.

    Raises:
        ValueError: the densities do not determine one.
    """
    chosen = _chosen(store)
    voxels = min(max(FEWEST, VOXELS // len(chosen)), MOST)
    identity = {"format": 1, "store": store.hash, "materials": len(chosen), "voxels": voxels}
    if earlier is not None and earlier.about.get("fitted_to") == identity:
        return earlier

    def build(folder: Path, limit: int | None) -> dict[str, Any]:
        materials = [store.material(index) for index in chosen]
        fitted = Promolecule.fit(materials, voxels=voxels, threads=threads)
        fitted.about["fitted_to"] = identity
        with FlatFile(folder, "npz", np.uint8, limit) as file:
            file.append(np.frombuffer(fitted.to_bytes(), dtype=np.uint8))
        return {}

    content = built(store.cache, "promolecule", identity, build)["npz"]
    return Promolecule.from_bytes(content.tobytes(), "the fitted promolecule in data.cache")


def _chosen(store: DensityStore) -> list[int]:
    """Materials to fit to: the first in drawn order, and more for elements that are rare among these."""
    order = in_drawn_order(store.task_ids)
    chosen = order[:MATERIALS]
    met: dict[int, int] = {}
    for place, index in enumerate(order):
        elements = set(store.atomic_numbers(index))
        if place >= MATERIALS:
            if all(met.get(z, 0) >= OF_ELEMENT for z in elements):
                continue
            chosen.append(index)
        for z in elements:
            met[z] = met.get(z, 0) + 1
    return chosen
