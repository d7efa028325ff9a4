"""The measured coverage of a dataset, with the expected one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.dataset.meta import COVERAGE, read_coverage, summed
from tomat.plan.expectation import added, expected_coverage, expected_histogram, is_bound, mean_shares
from tomat.sampling import load_sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tomat.dataset.manifest import Dataset, Worker
    from tomat.sampling import Sampler

type Shape = tuple[int, int, int]


@dataclass(frozen=True)
class MaterialCoverage:
    """One material: its rows, the share of its voxels they cover, and the expected share."""

    task_id: str
    voxels: int
    rows: int
    covered: float
    planned: float | None


@dataclass
class Coverage:
    """A dataset's coverage.

    Attributes:
        histogram: voxels covered 0, 1, 2, ... times.
        planned: the expected numbers; None if unknown for the sampler.
        materials: coverage of each material.
        notes: on what could not be compared.
        facts: the numbers, for JSON.
    """

    histogram: list[int] = field(default_factory=list)
    planned: list[float] | None = None
    materials: list[MaterialCoverage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_planned(self) -> bool:
        """Whether the expected coverage is known."""
        return bool(self.materials) and all(m.planned is not None for m in self.materials)


def measured_coverage(dataset: Dataset, grids: Mapping[str, Shape] | None = None) -> Coverage:
    """Add up the workers' histograms, and compute the expected ones.

    Args:
        dataset: of all workers, or of those that are there.
        grids: grid shapes of the materials by id, for datasets that do not store them.

    Raises:
        OSError, ValueError: a worker's histograms are missing, damaged or inconsistent.
    """
    found, grids = Coverage(), grids or {}
    planned, has_grids = np.zeros(0), False
    sampler = _sampler(dataset, found)
    is_known = sampler is not None
    for worker in dataset.workers:
        stored = _stored(worker)
        has_grids |= "grids" in stored
        found.histogram = summed([found.histogram, stored["histogram"]])
        for task_id, counts, grid, patch in _materials(worker, stored, grids):
            voxels = int(sum(counts))
            rows = sum(k * n for k, n in enumerate(counts)) // math.prod(patch)
            share = expectation = None
            if sampler is not None and grid is not None:
                share = expected_coverage(grid, patch, rows, sampler)
                expectation = expected_histogram(grid, patch, rows, sampler)
            if expectation is None:
                is_known = False
            else:
                planned = added(planned, expectation)
            covered = 1 - counts[0] / voxels
            found.materials.append(MaterialCoverage(task_id, voxels, rows, covered, share))
    unknown = any(m.planned is None and m.task_id not in grids for m in found.materials)
    if unknown and not has_grids:
        found.notes.append("the dataset does not store the grids: give --catalogue for the expected coverage")
    found.planned = planned.tolist() if is_known and len(planned) else None
    found.facts = _facts(found, sampler)
    return found


def _sampler(dataset: Dataset, found: Coverage) -> Sampler | None:
    """The sampler of a dataset; datasets of other programs state none and are uniform."""
    try:
        return load_sampler(str(dataset.meta.get("sampler") or "uniform")).sampler
    except (KeyError, ValueError) as error:
        found.notes.append(f"nothing to compare with: {error.args[0] if error.args else error}")
        return None


def _stored(worker: Worker) -> dict[str, Any]:
    path = worker.path / COVERAGE
    stored = read_coverage(worker.path, worker.meta)
    counts, materials = stored.get("histogram"), stored.get("per_material")
    if not isinstance(counts, list) or not isinstance(materials, dict):
        raise ValueError(f"{path}: not the histograms of a dataset (histogram, per_material)")
    if summed(materials.values()) != counts:
        raise ValueError(f"{path}: the histogram is not the sum of those of its materials; see tomat verify")
    return stored


def _materials(
    worker: Worker, stored: dict[str, Any], grids: Mapping[str, Shape]
) -> Iterator[tuple[str, list[int], Shape | None, Shape]]:
    """Id, histogram, grid and patch of each material."""
    edge = int(worker.meta["patch_size"])
    known = stored.get("grids", {})
    for task_id, counts in stored["per_material"].items():
        shapes = known.get(task_id, ())
        x, y, z = shapes[3:] or (edge, edge, edge)
        own = shapes[:3] or grids.get(task_id)
        grid = None if own is None else (int(own[0]), int(own[1]), int(own[2]))
        if grid is not None and math.prod(grid) != sum(counts):
            raise ValueError(
                f"{worker.path / COVERAGE}: {task_id} has {sum(counts)} voxels, its grid is {grid}"
            )
        yield task_id, counts, grid, (x, y, z)


def _facts(found: Coverage, sampler: Sampler | None) -> dict[str, Any]:
    voxels = np.array([m.voxels for m in found.materials], dtype=np.float64)
    covered = np.array([m.covered for m in found.materials])
    facts: dict[str, Any] = {
        "materials": len(found.materials),
        "voxels": int(sum(found.histogram)),
        "rows": sum(m.rows for m in found.materials),
        "histogram": found.histogram,
        "planned_histogram": found.planned,
        "measured": mean_shares(covered, voxels),
        "planned": None,
    }
    if found.is_planned and sampler is not None:
        expected = np.array([m.planned for m in found.materials], dtype=np.float64)
        facts["planned"] = {**mean_shares(expected, voxels), "is_upper_bound": is_bound(sampler)}
    return facts | {"notes": found.notes}
