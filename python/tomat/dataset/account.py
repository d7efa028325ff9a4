"""What rows lose against their source densities: the clipping counted when they were written, and the error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, ClippedTotals, Clipping, recount
from tomat.dataset.meta import META
from tomat.dataset.run_directory import clipped_totals

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from tomat.codec import Codec
    from tomat.dataset.manifest import Worker
    from tomat.dataset.report import Report
    from tomat.material import Material

#: Relative tolerance of sums computed in another order.
_SLACK = 1e-9
#: Numbers of a clipping that are compared with this tolerance.
_SUMS = ("electrons", "share", "share_below", "worst")


@dataclass
class RowError:
    """The voxels in the rows of a material against its unclipped density, in electrons.

    Attributes:
        voxels: number of voxels; those in several rows count in each.
        source: electrons in the source.
        decoded: electrons in the decoded rows.
        clipped: electrons of the source outside the codec's range.
        absolute: sum of ``|decoded - source|``.
        magnitude: sum of ``|source|``.
    """

    voxels: int = 0
    source: float = 0.0
    decoded: float = 0.0
    clipped: float = 0.0
    absolute: float = 0.0
    magnitude: float = 0.0

    def add(
        self, codec: Codec, truth: NDArray[np.float64], decoded: NDArray[np.float64], scale: float
    ) -> None:
        """Add the voxels of a row; ``scale`` converts their values to electrons."""
        self.voxels += len(truth)
        self.source += float(truth.sum()) * scale
        self.decoded += float(decoded.sum()) * scale
        self.clipped += float(np.abs(truth - np.clip(truth, *codec.range)).sum()) * scale
        self.absolute += float(np.abs(decoded - truth).sum()) * scale
        self.magnitude += float(np.abs(truth).sum()) * scale

    @property
    def nmae(self) -> float | None:
        """NMAE as a fraction; None if the source is zero everywhere."""
        return self.absolute / self.magnitude if self.magnitude > 0 else None

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "voxels": self.voxels,
            "nmae": self.nmae,
            "electrons": self.source,
            "electrons_decoded": self.decoded,
            "electrons_clipped": self.clipped,
        }


class _Account:
    """Clipping as stored in ``meta.json`` of a worker."""

    def __init__(self, worker: Worker) -> None:
        place = worker.path / META
        self.is_kept = "clipped_materials" in worker.meta
        limits = {"max_clipped": MAX_CLIPPED, "max_negative": MAX_NEGATIVE}
        limits = {name: worker.meta.get(name, value) for name, value in limits.items()}
        for name, limit in limits.items():
            if not isinstance(limit, int | float) or not 0 <= limit <= 1:
                raise ValueError(f"{place}: {name} is {limit!r}, not a share between 0 and 1")
        self.limits = (float(limits["max_clipped"]), float(limits["max_negative"]))
        self.allowed = ", ".join(f"{name} = {limit:g}" for name, limit in limits.items())
        stored = worker.meta.get("clipped_materials", {})
        if not isinstance(stored, dict):
            raise ValueError(f"{place}: clipped_materials does not hold what is clipped of each material")
        self.materials: dict[str, Any] = stored


def compare_clipped(
    worker: Worker, codec: Codec, name: str, material: Material, place: str, report: Report
) -> None:
    """Check the clipping of a density, counted again, against what ``meta.json`` states and allows."""
    try:
        account = _Account(worker)
        stated = Clipping.of(account.materials[name]) if name in account.materials else None
    except (ValueError, KeyError, TypeError):
        return  # reported when the totals are checked
    found = recount(codec, material.density, material.unit, material.volume)
    if found is not None and found.exceeds(*account.limits):
        report.problems.append(f"{place}: the codec loses {found}, more than {account.allowed}")
    if account.is_kept and not _same(found, stated):
        report.problems.append(
            f"{place}: meta.json says that {stated or 'nothing'} is clipped, the source says {found or 'nothing'}"
        )
    if found is not None and found.exceeds():
        report.lossy[name] = str(found)


def check_clipped(worker: Worker, materials: Collection[str], report: Report) -> ClippedTotals:
    """Check that the stored clipping is consistent with itself and with the rows."""
    place = worker.path / META
    try:
        account, totals = _Account(worker), clipped_totals(worker.meta)
    except (ValueError, KeyError, TypeError) as error:
        report.problems.append(f"{worker.path}: {error}")
        return ClippedTotals()
    if not account.is_kept:
        report.notes.append(f"{worker.path}: what is clipped was not counted when the rows were written")
        return totals
    for key, counted in (("clipped_voxels", totals.voxels), ("clipped_electrons", totals.electrons)):
        stated = worker.meta.get(key)
        if not isinstance(stated, int | float) or not _close(float(stated), float(counted)):
            report.problems.append(f"{place}: {key} = {stated}, but its materials add up to {counted}")
    for name, stored in account.materials.items():
        lost = Clipping.of(stored)
        if name not in materials:
            report.problems.append(f"{place}: clipped_materials has {name}, which has no rows")
        if lost.exceeds(*account.limits):
            report.problems.append(f"{place}: {name} loses {lost}, more than {account.allowed}")
        if lost.exceeds():
            report.lossy.setdefault(name, str(lost))
    return totals


def _same(a: Clipping | None, b: Clipping | None) -> bool:
    if a is None or b is None:
        return a is b
    return (a.voxels, a.worst_voxel) == (b.voxels, b.worst_voxel) and all(
        _close(getattr(a, name), getattr(b, name)) for name in _SUMS
    )


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_SLACK)
