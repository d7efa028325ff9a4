"""The plan of a tokenization run, from a catalogue and a configuration."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.budget import patches_of
from tomat.plan.budgets import QUANTILES, budget_effect
from tomat.plan.expectation import expected_coverage, is_bound, mean_shares
from tomat.sampling import tiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.dataset.config import TokenizeConfig
    from tomat.plan.rate import Rate
    from tomat.tokenizer import PatchTokenizer

__all__ = ["Plan", "plan"]

#: Ids listed for each reason or shape.
SHOWN = 20

_LATTICE = ("a", "b", "c", "alpha", "beta", "gamma")


@dataclass(frozen=True)
class Plan:
    """The plan of a run; docs/catalogue.md explains the numbers.

    Attributes:
        facts: all numbers, for JSON.
        materials: for each material: id, rows, patch shape (None if left out), reason, tokens before padding, and
            expected coverage.
    """

    facts: dict[str, Any]
    materials: list[dict[str, Any]] = field(repr=False)


def plan(config: TokenizeConfig, rows: Sequence[Mapping[str, Any]], *, rate: Rate | None = None) -> Plan:
    """Plan a run over the materials of a catalogue.

    Args:
        config: of the run.
        rows: of the catalogue: ``id``, ``nx``, ``ny``, ``nz``, ``n_atoms``, and ``electrons`` for the budget electrons.
        rate: cost of a row; without it, bytes and hours are left out.

    Raises:
        ValueError: no materials, a material without grid or atoms, or without electrons if the budget needs them.
    """
    if not rows:
        raise ValueError("the catalogue has no materials to plan for")
    unknown = [row["id"] for row in rows if any(row.get(k) is None for k in ("nx", "ny", "nz", "n_atoms"))]
    if unknown:
        raise ValueError(
            f"{len(unknown)} materials have no grid or no number of atoms: {', '.join(unknown[:5])}"
        )
    ids = [str(row["id"]) for row in rows]
    patches = patches_of(config.budget, config.rows, ids, _electrons(config, rows))
    materials = [_material(config, row, int(n)) for row, n in zip(rows, patches.tolist(), strict=True)]
    written = [m for m in materials if m["reason"] is None]
    facts = {
        "configuration": _configuration(config),
        "materials": {"listed": len(rows), "written": len(written), "left_out": _left_out(materials)},
        "clipping": _clipping(config),
        "fallback": _fallback(written, config.tokenizer),
        **_amounts(config, written),
        "coverage": _coverage(config, written),
        # Over the materials written, or all if there are none.
        "study": _budget_effect(
            config, [row for row, m in zip(rows, materials, strict=True) if m["rows"]] or rows
        ),
    }
    if rate is not None:
        facts["cost"] = _cost(config, written, rate)
    return Plan(facts, materials)


def _electrons(config: TokenizeConfig, rows: Sequence[Mapping[str, Any]]) -> list[float] | None:
    if config.budget == "equal":
        return None
    unknown = [row["id"] for row in rows if row.get("electrons") is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} materials have no electrons in this catalogue: {', '.join(unknown[:5])}; build it from "
            "the densities"
        )
    return [float(row["electrons"]) for row in rows]


def _configuration(config: TokenizeConfig) -> dict[str, Any]:
    tokenizer = config.tokenizer
    return {
        "layout": config.layout,
        "codec": tokenizer.density_codec.name,
        "patch_size": tokenizer.patch_size,
        "patches_per_material": config.rows,
        "pad_to": config.pad_to,
        "fallback_shapes": [list(shape) for shape in config.fallback_shapes],
        "sampler": config.origins.spec,
        "budget": config.budget,
        "n_workers": config.n_workers,
        "rows_per_shard": config.rows_per_shard,
    }


def _material(config: TokenizeConfig, row: Mapping[str, Any], n: int) -> dict[str, Any]:
    grid = (int(row["nx"]), int(row["ny"]), int(row["nz"]))
    n_atoms = int(row["n_atoms"])
    lattice = [float(row[name]) for name in _LATTICE if row.get(name) is not None]
    known = lattice if len(lattice) == len(_LATTICE) else None
    refused = config.tokenizer.refusal(grid, known, n_atoms)
    reason, detail = refused or (None, "")
    found: dict[str, Any] = {
        "id": str(row["id"]),
        "reason": reason,
        "detail": detail,
        "voxels": int(np.prod(grid)),
    }
    if refused is not None:
        return found | {"rows": 0, "patch_shape": None, "tokens": 0, "coverage": None}
    shape, tokens = _sizes(config.tokenizer, n_atoms)
    coverage = expected_coverage(grid, shape, n, config.origins.sampler)
    return found | {"rows": n, "patch_shape": shape, "tokens": tokens, "coverage": coverage}


@lru_cache(maxsize=4096)
def _sizes(tokenizer: PatchTokenizer, n_atoms: int) -> tuple[tuple[int, int, int], int]:
    shape = tokenizer.shape_for(n_atoms)
    return shape, tokenizer.length(n_atoms, shape)


def _grouped(materials: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    groups: defaultdict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for material in materials:
        groups[material[key]].append(material)
    return groups


def _left_out(materials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        reason: {"count": len(found), "first": {m["id"]: m["detail"] for m in found[:SHOWN]}}
        for reason, found in _grouped(materials, "reason").items()
        if reason is not None
    }


def _clipping(config: TokenizeConfig) -> dict[str, Any]:
    """The limits of clipping; the materials they leave out are known only when the densities are read."""
    low, high = config.tokenizer.density_codec.range
    return {
        "range": [low, high],
        "unit": config.tokenizer.unit,
        "max_clipped": config.max_clipped,
        "max_negative": config.max_negative,
        "left_out": None,
    }


def _fallback(written: Sequence[Mapping[str, Any]], tokenizer: PatchTokenizer) -> dict[str, Any]:
    shapes = {
        " x ".join(map(str, shape)): {"count": len(found), "first": [m["id"] for m in found[:SHOWN]]}
        for shape, found in _grouped(written, "patch_shape").items()
        if shape != (tokenizer.patch_size,) * 3
    }
    return {"count": sum(entry["count"] for entry in shapes.values()), "shapes": shapes}


def _amounts(config: TokenizeConfig, written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = np.array([m["rows"] for m in written], dtype=np.int64)
    used = int((rows * np.array([m["tokens"] for m in written], dtype=np.int64)).sum())
    total = int(rows.sum()) * config.pad_to
    workers = [int(rows[k :: config.n_workers].sum()) for k in range(config.n_workers)]
    return {
        "rows": int(rows.sum()),
        "tokens": total,
        "padding": 1 - used / total if total else 0.0,
        "voxels": int(sum(m["voxels"] for m in written)),
        "rows_of_a_worker": {"min": min(workers), "max": max(workers)},
    }


def _coverage(config: TokenizeConfig, written: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    known = [(m["coverage"], m["voxels"]) for m in written if m["coverage"] is not None]
    if len(known) < len(written) or not known:
        return None
    coverage, voxels = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
    return {
        "is_upper_bound": is_bound(config.origins.sampler),
        **mean_shares(coverage, voxels),
        **{name: float(np.quantile(coverage, q)) for name, q in QUANTILES.items()},
    }


def _budget_effect(config: TokenizeConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The effect of the budgets; electrons are estimated from the atoms if the catalogue does not have them."""
    estimated = any(row.get("electrons") is None for row in rows)
    electrons = [float(row["n_atoms"] if estimated else row["electrons"]) for row in rows]
    cube = (config.tokenizer.patch_size,) * 3
    needed = [tiles((int(r["nx"]), int(r["ny"]), int(r["nz"])), cube)[1] for r in rows]
    ids = [str(row["id"]) for row in rows]
    return budget_effect(ids, electrons, config.rows, np.array(needed, dtype=np.int64), estimated=estimated)


def _cost(config: TokenizeConfig, written: Sequence[Mapping[str, Any]], rate: Rate) -> dict[str, Any]:
    rows = sum(m["rows"] for m in written)
    voxels = sum(m["voxels"] for m in written)
    size = None if rate.bytes_a_token is None else rows * config.pad_to * rate.bytes_a_token
    shards = len(config.shards([m["rows"] for m in written[:: config.n_workers]])) * config.n_workers
    return {
        "source": rate.source,
        "bytes_a_token": rate.bytes_a_token,
        "bytes": None if size is None else int(size),
        "shards": shards,
        "threads": rate.threads,
        "rows_a_second_of_a_worker": rows / max(rate.hours(rows, voxels, 1) * 3600, 1e-12),
        "hours_of_a_worker": rate.hours(rows, voxels, config.n_workers),
    }
