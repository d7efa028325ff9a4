"""``data.guess: fit``: a promolecule fitted to the training densities before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.data.cache import FlatFile, built
from tomat.lm.data.folds import Division, Fold
from tomat.lm.data.guess_check import in_drawn_order
from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tomat.lm.data.store import DensityStore

#: The word that stands for a fitted promolecule.
FIT = "fit"
#: Largest number of materials in the fit (more for rare elements), and the least number per element.
MATERIALS, OF_ELEMENT = 1024, 8
#: Number of voxels in the fit; least and largest number per material.
VOXELS, FEWEST, MOST = 1 << 21, 1 << 11, 1 << 14


def fitted_promolecule(
    store: DensityStore,
    *,
    without: Fold | None = None,
    earlier: Promolecule | None = None,
    threads: int | None = None,
) -> Promolecule:
    """A promolecule fitted to the densities in a store, or taken from the store's cache.

    The fit uses at most 1,024 materials (more if elements are rare) and about 2 million voxels, selected by the name of
    each material. It does not depend on the number of threads; processes that share a cache wait for one fit.

    Args:
        store: the densities.
        without: a fold of them that it is not fitted to.
        earlier: from an earlier part of the run; reused if it was fitted to the same densities.
        threads: number of threads.

    Raises:
        ValueError: the densities do not determine a promolecule, or are of fewer chemical systems than folds.
    """
    chosen = _chosen(store)
    if without is None:
        return _fitted(store, chosen, {}, earlier, threads)
    fold = Division.of(store, without.of).places(store)
    return _fitted_without(store, chosen, fold, without, earlier, threads)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Promolecules fitted without a fold of the materials each, so that no material has taught its own.

    Folds are divided by chemical system. A material with an element that no other fold has keeps the promolecule of all
    materials: there is nothing else to fit its function to.

    Attributes:
        fold: (materials,) int64, the fold of each.
        promolecules: of each fold, fitted to the others.
        alone: (materials,) bool, those that keep the promolecule of all.
    """

    fold: NDArray[np.int64]
    promolecules: tuple[Promolecule, ...]
    alone: NDArray[np.bool_]

    @classmethod
    def of(cls, store: DensityStore, folds: int, *, threads: int | None = None) -> CrossFit:
        """Fit to the densities in a store, or take the promolecules from the store's cache.

        Raises:
            ValueError: fewer chemical systems than folds, or densities that do not determine a promolecule.
        """
        fold = Division.of(store, folds).places(store)
        chosen = _chosen(store)
        fitted = [
            _fitted_without(store, chosen, fold, Fold(k + 1, folds), None, threads) for k in range(folds)
        ]
        alone = [
            not set(store.atomic_numbers(i)) <= (fitted[k].elements or frozenset())
            for i, k in enumerate(fold.tolist())
        ]
        return cls(fold, tuple(fitted), np.array(alone))


def _fitted_without(
    store: DensityStore,
    chosen: list[int],
    fold: NDArray[np.int64],
    without: Fold,
    earlier: Promolecule | None,
    threads: int | None,
) -> Promolecule:
    """The promolecule fitted to the ``chosen`` materials that are not in a fold; ``fold`` has that of each material."""
    k = without.number - 1
    rest = [i for i in chosen if fold[i] != k]
    return _fitted(store, rest, {"folds": without.of, "without": k}, earlier, threads)


def _fitted(
    store: DensityStore,
    chosen: list[int],
    about: dict[str, Any],
    earlier: Promolecule | None,
    threads: int | None,
) -> Promolecule:
    """The promolecule fitted to ``chosen`` materials, described by ``about``."""
    voxels = min(max(FEWEST, VOXELS // len(chosen)), MOST)
    identity = {"format": 1, "store": store.hash, "materials": len(chosen), "voxels": voxels, **about}
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
    """Materials to fit to: the first in drawn order, and more of those with rare elements."""
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
