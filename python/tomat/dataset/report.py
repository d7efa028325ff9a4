"""The report of a verification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tomat.clipping import ClippedTotals


@dataclass
class Report:
    """What was checked, and all problems; each names its file and row."""

    shards: int = 0
    rows: int = 0
    materials: int = 0
    materials_compared: int = 0
    voxels_compared: int = 0
    #: What the codec clips, according to ``meta.json``; see :class:`tomat.clipping.ClippedTotals`.
    clipped: dict[str, Any] = field(default_factory=lambda: ClippedTotals().stored)
    #: For each material compared with its source: ``voxels`` in its rows, and for these, ``nmae`` against the unclipped
    #: density, ``electrons``, ``electrons_decoded``, ``electrons_clipped``.
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Materials with more clipping than the default limits allow; not a problem if the run allowed it.
    lossy: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    #: What could not be checked, and why.
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether there are neither problems nor lossy materials."""
        return not self.problems and not self.lossy

    @property
    def nmae(self) -> dict[str, Any] | None:
        """``mean`` and ``worst`` NMAE of the materials compared, and the ``task_id`` of the worst."""
        known = {name: error["nmae"] for name, error in self.errors.items() if error["nmae"] is not None}
        if not known:
            return None
        worst = max(known, key=lambda name: known[name])
        return {"mean": sum(known.values()) / len(known), "worst": known[worst], "task_id": worst}
