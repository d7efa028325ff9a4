"""The account of a dataset: what an audit found, and the numbers that follow from it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Account", "MaterialAccount", "entropy_bits"]


@dataclass
class MaterialAccount:
    """One material.

    Attributes:
        task_id: its id.
        grid: grid points along x, y, z of the source.
        electrons: in its cell, by the source.
        n_atoms: in its cell.
        patch_shape: of its rows.
        is_fallback: whether that is not the cube.
        nmae: of the source through the codec, over the whole cell: the floor of any model on these tokens. None if the
            source is zero everywhere.
        electrons_decoded: in its cell, through the codec.
        clipped_voxels: beyond the range of the codec.
        clipped_electrons: lost there.
        reader: what read the source.
        source_bytes: of its files.
        rows: counted in the shards.
        row_voxels: in these rows; a voxel in several counts in each.
        row_electrons: of the source in these voxels.
        row_electrons_decoded: of the tokens.
        coverage: grid points covered 0, 1, 2, ... times.
        edges: voxels on the edge of two levels, whose tokens say the neighbouring one.
    """

    task_id: str
    grid: tuple[int, int, int]
    electrons: float
    n_atoms: int
    patch_shape: tuple[int, int, int]
    is_fallback: bool
    nmae: float | None
    electrons_decoded: float
    clipped_voxels: int
    clipped_electrons: float
    reader: str
    source_bytes: int
    rows: int = 0
    row_voxels: int = 0
    row_electrons: float = 0.0
    row_electrons_decoded: float = 0.0
    coverage: list[int] = field(default_factory=list)
    edges: int = 0

    @property
    def voxels(self) -> int:
        """Grid points of the source."""
        return math.prod(self.grid)

    @property
    def covered(self) -> tuple[int, int, int]:
        """Grid points in no row, in one, and in several."""
        none, once = ([*self.coverage, 0, 0])[:2]
        return none, once, sum(self.coverage) - none - once

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        return vars(self) | {"voxels": self.voxels, "covered": list(self.covered)}


@dataclass
class Account:
    """What an audit compared, and all problems; each names its file, and the material and row where there is one.

    Attributes:
        n_materials: with rows in the dataset.
        n_rows: in its shards.
        sizes: values of each component of a voxel's token word.
        pad_to: tokens of a row.
        shard_bytes: of the shards on disk.
        token_bytes: of the column of tokens in them.
        sequence_tokens: of the audited rows, without padding.
        materials: audited.
        left_out: materials without rows, by the reason found from the source.
        levels: counts of the values of each component in the audited rows.
        source_levels: the same, computed from the sources.
        problems: what does not agree.
        notes: what could not be checked.
    """

    n_materials: int = 0
    n_rows: int = 0
    sizes: tuple[int, ...] = ()
    pad_to: int = 0
    patch_size: int = 0
    shard_bytes: int = 0
    token_bytes: int = 0
    sequence_tokens: int = 0
    materials: list[MaterialAccount] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    levels: list[NDArray[np.int64]] = field(default_factory=list)
    source_levels: list[NDArray[np.int64]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether all materials of the dataset were audited."""
        return len(self.materials) == self.n_materials

    def _sum(self, name: str) -> Any:
        return math.fsum(getattr(m, name) for m in self.materials)

    def _count(self, name: str) -> int:
        return sum(int(getattr(m, name)) for m in self.materials)

    @property
    def totals(self) -> dict[str, Any]:
        """Sums over the audited materials."""
        return {
            "materials": len(self.materials),
            "rows": self._count("rows"),
            "voxels": self._count("voxels"),
            "electrons": self._sum("electrons"),
            "row_voxels": self._count("row_voxels"),
            "row_electrons": self._sum("row_electrons"),
            "row_electrons_decoded": self._sum("row_electrons_decoded"),
            "rows_a_covered_voxel": _ratio(
                self._count("row_voxels"), self._count("voxels") - sum(m.covered[0] for m in self.materials)
            ),
            "readers": dict(Counter(m.reader for m in self.materials)),
            "edges": self._count("edges"),
        }

    @property
    def bits(self) -> dict[str, dict[str, float | None]]:
        """Bits a voxel and bits an electron; of the rows, but for the two of the source, which count its grids.

        ``parquet`` is there if all materials were audited: pages cannot be divided among materials.
        """
        voxels, electrons = self._count("row_voxels"), self._sum("row_electrons")
        grid_voxels, grid_electrons = self._count("voxels"), self._sum("electrons")
        width = math.fsum(math.log2(size) for size in self.sizes)
        found = {
            "source_float32": (32.0 * grid_voxels, grid_voxels, grid_electrons),
            "source_files": (8.0 * self._count("source_bytes"), grid_voxels, grid_electrons),
            "tokens_int32": (32.0 * len(self.sizes) * voxels, voxels, electrons),
            "raw_width": (width * voxels, voxels, electrons),
            "unigram": (sum(map(entropy_bits, self.levels)), voxels, electrons),
            "unigram_of_sources": (sum(map(entropy_bits, self.source_levels)), voxels, electrons),
        }
        if self.is_complete:
            found["parquet"] = (8.0 * self.shard_bytes, voxels, electrons)
        return {
            name: {"bits": bits, "a_voxel": _ratio(bits, n), "an_electron": _ratio(bits, e)}
            for name, (bits, n, e) in found.items()
        }

    @property
    def tokens(self) -> dict[str, Any]:
        """What the tokens of the audited rows are spent on; shares are of all of them."""
        total = self._count("rows") * self.pad_to
        density = self._count("row_voxels") * len(self.sizes)
        fallback = [m for m in self.materials if m.is_fallback]
        # The voxels that a cube would have held.
        lost = sum(m.rows * self.patch_size**3 - m.row_voxels for m in fallback)
        parts = {
            "density": density,
            "preamble": self.sequence_tokens - density,
            "padding": total - self.sequence_tokens,
        }
        return {
            "total": total,
            **parts,
            "shares": {name: _ratio(n, total) for name, n in parts.items()},
            "fallback": {
                "materials": len(fallback),
                "rows": sum(m.rows for m in fallback),
                "voxels_lost": lost,
                "share_of_voxels_lost": _ratio(lost, self._count("row_voxels") + lost),
            },
        }

    @property
    def losses(self) -> dict[str, Any]:
        """What the codec costs, over the whole cells: its floor, and what it clips."""
        known = {m.task_id: m.nmae for m in self.materials if m.nmae is not None}
        worst = max(known, key=lambda name: known[name], default=None)
        clipped = [m for m in self.materials if m.clipped_voxels]
        electrons = self._sum("electrons")
        return {
            "nmae_mean": math.fsum(known.values()) / len(known) if known else None,
            "nmae_median": float(np.median(list(known.values()))) if known else None,
            "nmae_worst": None if worst is None else known[worst],
            "worst": worst,
            "electrons": electrons,
            "electrons_decoded": self._sum("electrons_decoded"),
            "clipped_materials": len(clipped),
            "clipped_voxels": self._count("clipped_voxels"),
            "clipped_electrons": self._sum("clipped_electrons"),
            "clipped_share": _ratio(self._sum("clipped_electrons"), electrons),
        }

    @property
    def coverage(self) -> dict[str, Any]:
        """Grid points of the sources in no row, in one, and in several."""
        counts = np.array([m.covered for m in self.materials], dtype=np.int64).reshape(-1, 3)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        names = ("zero", "one", "many")
        total = int(counts.sum())
        least = min(self.materials, key=lambda m: 1 - m.covered[0] / m.voxels, default=None)
        return {
            "voxels": dict(zip(names, counts.sum(axis=0).tolist(), strict=True)),
            "of_all_voxels": {
                name: _ratio(n, total) for name, n in zip(names, counts.sum(axis=0).tolist(), strict=True)
            },
            "of_the_mean_material": dict(zip(names, shares.mean(axis=0).tolist(), strict=True))
            if len(counts)
            else None,
            "least": None
            if least is None
            else {"task_id": least.task_id, "covered": 1 - least.covered[0] / least.voxels},
        }

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "is_sound": not self.problems,
            "problems": self.problems,
            "notes": self.notes,
            "is_complete": self.is_complete,
            "dataset": {
                "materials": self.n_materials,
                "rows": self.n_rows,
                "shard_bytes": self.shard_bytes,
                "token_bytes": self.token_bytes,
                "levels": list(self.sizes),
                "pad_to": self.pad_to,
                "left_out": dict(self.left_out),
            },
            "audited": self.totals,
            "bits": self.bits,
            "tokens": self.tokens,
            "losses": self.losses,
            "coverage": self.coverage,
            "materials": [material.stored for material in self.materials],
        }


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """The bits of an ideal code for so many of each symbol, ``-sum n log2(n / N)``."""
    n = counts[counts > 0].astype(np.float64)
    return float((n * np.log2(n.sum() / n)).sum()) if len(n) else 0.0


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None
