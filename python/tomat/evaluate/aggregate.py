"""Statistics over the materials of a result: means with intervals, and the error by group of materials or voxels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomat import metrics
from tomat.categories import CATEGORIES
from tomat.evaluate.bootstrap import LEVEL, RESAMPLES, Resampler
from tomat.evaluate.measure import DEPTHS, DISTANCES, METRICS, ORDERS
from tomat.evaluate.methods import MODES

#: Columns that are summarised, as the means of absolute values.
SUMMARISED = (*METRICS, "seconds")
#: Groups of equally many materials by electron count.
N_GROUPS = 10

type Row = Mapping[str, Any]
type Group = Callable[[NDArray[np.bool_]], dict[str, Any]]
type Units = Literal["material", "chemsys"]


@dataclass(frozen=True)
class Settings:
    """Settings of the bootstrap intervals.

    Attributes:
        by: resampling unit: a single ``material``, or all materials of a chemical system (``chemsys``).
        resamples: number of resamples.
        level: confidence level.
        seed: of the random draws.
    """

    by: Units = "chemsys"
    resamples: int = RESAMPLES
    level: float = LEVEL
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in ("material", "chemsys"):
            raise ValueError(f"unknown resampling unit {self.by!r}; choose material or chemsys")

    def resampler(self, rows: Sequence[Row]) -> Resampler:
        """A resampler for ``rows``, which hold one row per material."""
        clusters = [row["chemsys"] for row in rows] if self.by == "chemsys" else None
        return Resampler(len(rows), clusters, resamples=self.resamples, level=self.level, seed=self.seed)


def modes_of(rows: Sequence[Row]) -> list[str]:
    """The modes in ``rows``, in table order; unknown ones last."""
    there = dict.fromkeys(str(row["mode"]) for row in rows)
    return [mode for mode in MODES if mode in there] + [mode for mode in there if mode not in MODES]


def aggregate(rows: Sequence[Row], settings: Settings | None = None) -> dict[str, Any]:
    """A JSON-ready summary of each mode in ``rows``; ``docs/evaluation.md`` defines the numbers.

    The order of the rows does not matter.
    """
    chosen = settings or Settings()
    found: dict[str, Any] = {}
    for mode in modes_of(rows):
        members = sorted((row for row in rows if row["mode"] == mode), key=lambda row: str(row["task_id"]))
        found[mode] = _one_mode(members, chosen)
    return found


def _one_mode(rows: Sequence[Row], settings: Settings) -> dict[str, Any]:
    resampler = settings.resampler(rows)
    electrons = np.array([row["n_electrons"] for row in rows], dtype=np.float64)
    group = functools.partial(_group, _column(rows, "nmae"), electrons, resampler)
    summaries = {}
    for name in SUMMARISED:
        values = [row.get(name) for row in rows]  # results of earlier versions lack some
        if all(value is not None and math.isfinite(value) for value in values):
            summaries[name] = _summary(np.abs(np.array(values, dtype=np.float64)), electrons, resampler)
    return {
        "n": len(rows),
        "n_chemsys": len({row["chemsys"] for row in rows}),
        "n_voxels": int(sum(row["n_voxels"] for row in rows)),
        "n_electrons": float(electrons.sum()),
        "metrics": summaries,
        "by_decile": _by_decile(electrons, group),
        "by_category": _by_category(np.array([row["category"] for row in rows]), group),
        "by_distance": _by_bin(rows, "distance", DISTANCES, resampler),
        "by_depth": _by_bin(rows, "depth", DEPTHS, resampler),
        "by_order": _by_bin(rows, "order", range(ORDERS), resampler),
    }


def _summary(
    values: NDArray[np.float64], electrons: NDArray[np.float64], resampler: Resampler
) -> dict[str, Any]:
    return {
        "mean": resampler.mean(values)._asdict(),
        "median": resampler.quantile(values, 0.5)._asdict(),
        "p99": resampler.quantile(values, 0.99)._asdict(),
        "max": float(values.max()),
        "per_electron": resampler.mean(values, electrons)._asdict(),
    }


def deciles(electrons: NDArray[np.float64]) -> NDArray[np.int64]:
    """Electron-count decile of each material, 0 the smallest. Groups are as equal in size as possible."""
    order = np.argsort(electrons, kind="stable")
    groups = np.empty(len(electrons), dtype=np.int64)
    groups[order] = np.arange(len(electrons)) * N_GROUPS // len(electrons)
    return groups


def _by_decile(electrons: NDArray[np.float64], group: Group) -> list[dict[str, Any]]:
    groups = deciles(electrons)
    return [
        {
            "decile": number + 1,
            "electrons_from": float(electrons[groups == number].min()),
            "electrons_to": float(electrons[groups == number].max()),
            **group(groups == number),
        }
        for number in np.unique(groups).tolist()
    ]


def _by_category(names: NDArray[np.str_], group: Group) -> list[dict[str, Any]]:
    there = [name for name in CATEGORIES if name in names]
    order = (*there, *sorted(set(names.tolist()) - set(there)))
    return [{"category": name, **group(names == name)} for name in order]


def _group(
    nmae: NDArray[np.float64],
    electrons: NDArray[np.float64],
    resampler: Resampler,
    inside: NDArray[np.bool_],
) -> dict[str, Any]:
    return {
        "n": int(inside.sum()),
        "nmae": resampler.mean(nmae, inside.astype(np.float64))._asdict(),
        "median": float(np.median(nmae[inside])),
        "per_electron": metrics.weighted_mean(nmae[inside], electrons[inside]),
    }


def _by_bin(
    rows: Sequence[Row], name: str, starts: Sequence[float], resampler: Resampler
) -> list[dict[str, Any]]:
    """Error in bins of voxels; every material has the same weight, as in the mean NMAE.

    With E and D the sums of |error| and |true| of a material in the bin and T the sum of |true| in the material:
    ``nmae`` is sum(E / T) / sum(D / T) over materials; ``contribution`` the mean of E / T, which adds up to the mean
    NMAE over the bins; ``density`` the mean of D / T; ``voxels`` the mean share of voxels.
    """
    if any(not row[f"{name}_error"] for row in rows):
        return []
    error, density, voxels = (
        np.array([row[f"{name}_{part}"] for row in rows], dtype=np.float64)
        for part in ("error", "density", "voxels")
    )
    total = density.sum(axis=1)
    found = []
    for i, start in enumerate(starts):
        if not voxels[:, i].any():
            continue
        parts, of = error[:, i] / total, density[:, i] / total
        ratio = resampler.mean(np.divide(parts, of, out=np.zeros_like(parts), where=of > 0), of)
        found.append(
            {
                "from": start,
                "to": starts[i + 1] if i + 1 < len(starts) else None,
                "nmae": ratio._asdict(),
                "contribution": float(parts.mean()),
                "density": float(of.mean()),
                "voxels": float((voxels[:, i] / voxels.sum(axis=1)).mean()),
            }
        )
    return found


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], dtype=np.float64)


def spread(
    runs: Sequence[Sequence[Row]], number: Callable[[Sequence[Row]], float] | None = None
) -> dict[str, Any]:
    """Mean and standard deviation of one number over several runs that differ in seed or checkpoint.

    Args:
        runs: for each run, its rows of one mode.
        number: computes the number from the rows of a run; None is the mean NMAE.

    Returns:
        ``n``, ``mean``, ``values``, and ``sd``: the sample standard deviation (n - 1); None for one run.
    """
    if not runs:
        raise ValueError("no runs")
    of = number or (lambda rows: float(_column(rows, "nmae").mean()))
    values = [of(rows) for rows in runs]
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"n": len(values), "mean": float(np.mean(values)), "sd": sd, "values": values}
