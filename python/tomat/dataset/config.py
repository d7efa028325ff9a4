"""The configuration of a tokenization run: everything that determines the bytes of a dataset."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tomat._core import __version__
from tomat.budget import Shares, check_budget, patches_of
from tomat.catalogue.table import electrons_of
from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, check_limits
from tomat.sampling import NamedSampler, load_sampler
from tomat.tokenizer import LAYOUTS, TokenizerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.material import Entry

#: Encodings of the ``input_ids`` column; docs/parquet.md compares them.
ENCODINGS = ("plain", "byte_stream_split", "delta_binary_packed")

#: The lowest and the highest level of zstd.
_ZSTD_LEVELS = (-131072, 22)


@dataclass(frozen=True)
class TokenizeConfig(TokenizerConfig):
    """The configuration of a tokenization run: its tokenizer, patches, files and workers.

    Attributes:
        patches_per_material: rows per material, on average; the layout's default if None.
        seed: of the sampler.
        epoch: of the sampler; each epoch draws different patches.
        sampler: how patches are placed: ``uniform``, ``electrons``, ``tiling`` or a sampler of another package, with
            options (``uniform:replacement=false``).
        budget: rows of each material: ``equal``, or ``electrons``, proportional to its electrons.
        catalogue: catalogue with the electrons of each material; only for the budget ``electrons``.
        rows_per_shard: maximum rows in a parquet file (a material's rows are never split).
        worker_index: the part of the materials that this worker writes.
        n_workers: number of parts.
        split: name of the split, for ``meta.json``.
        encoding: Parquet encoding of the ``input_ids`` column, one of :data:`ENCODINGS`.
        compression_level: of zstd.
        max_clipped: largest share of a material's electrons above the codec's range; beyond it, it is left out.
        max_negative: the same below the range, for the negative voxels of PAW densities.
        strict: treat implausible densities as unreadable instead of warning.
    """

    patches_per_material: int | None = None
    seed: int = 0
    epoch: int = 0
    sampler: str = "uniform"
    budget: str = "equal"
    catalogue: str | None = None
    rows_per_shard: int = 2048
    worker_index: int = 0
    n_workers: int = 1
    split: str = "all"
    encoding: str = "byte_stream_split"
    compression_level: int = 1
    max_clipped: float = MAX_CLIPPED
    max_negative: float = MAX_NEGATIVE
    strict: bool = False

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            KeyError: an unknown layout, sampler or budget.
            ValueError: a number out of range.
        """
        super().__post_init__()
        if check_budget(self.budget) == "electrons" and self.catalogue is None:
            raise ValueError(
                "budget electrons needs the electrons of each material before anything is written: give --catalogue, "
                "made by tomat catalogue build"
            )
        if self.rows < 1:
            raise ValueError(f"patches_per_material = {self.rows} must be at least 1")
        if self.rows > self.rows_per_shard:
            raise ValueError(
                f"{self.rows} rows per material do not fit rows_per_shard = {self.rows_per_shard}: a material's rows "
                "are never split; raise rows_per_shard"
            )
        load_sampler(self.sampler)
        if not 0 <= self.worker_index < self.n_workers:
            raise ValueError(
                f"worker_index = {self.worker_index} with n_workers = {self.n_workers}; workers count from 0"
            )
        check_limits(self.max_clipped, self.max_negative)
        if not (0 <= self.seed < 2**64 and 0 <= self.epoch < 2**64):
            raise ValueError(f"seed = {self.seed} and epoch = {self.epoch} must be between 0 and 2**64 - 1")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding {self.encoding!r} is not one of {', '.join(ENCODINGS)}")
        if not _ZSTD_LEVELS[0] <= self.compression_level <= _ZSTD_LEVELS[1]:
            raise ValueError(
                f"compression_level = {self.compression_level} is not a zstd level; use {_ZSTD_LEVELS[0]} to "
                f"{_ZSTD_LEVELS[1]}"
            )

    @property
    def rows(self) -> int:
        """Rows per material, on average."""
        default = LAYOUTS[self.layout].patches_per_material
        return default if self.patches_per_material is None else self.patches_per_material

    def shares(self, entries: Sequence[Entry]) -> Shares:
        """The patches of each material, given the materials of all workers.

        Raises:
            OSError: the catalogue cannot be read.
            ValueError: a material is missing from the catalogue or has no electrons there, or more patches than
                ``rows_per_shard``.
        """
        ids = [entry.task_id for entry in entries]
        electrons = None
        if self.budget == "electrons" and self.catalogue is not None:
            electrons = electrons_of(self.catalogue, ids)
        patches: list[int] = patches_of(self.budget, self.rows, ids, electrons).tolist()
        most = max(patches, default=0)
        if most > self.rows_per_shard:
            name = ids[patches.index(most)]
            raise ValueError(
                f"{name} is given {most} rows, more than rows_per_shard = {self.rows_per_shard}: a material's rows are "
                "never split; raise rows_per_shard"
            )
        return Shares.of(self.budget, ids, patches)

    def shards(self, patches: Sequence[int]) -> list[tuple[str, int, int]]:
        """Name, first material and end of each shard, with as many whole materials as fit."""
        bounds, rows = [0], 0
        for index, n in enumerate(patches):
            if rows + n > self.rows_per_shard and index > bounds[-1]:
                bounds.append(index)
                rows = 0
            rows += n
        ends = [*bounds[1:], len(patches)]
        return [
            (f"shard-{k:05d}.parquet", start, end)
            for k, (start, end) in enumerate(zip(bounds, ends, strict=True))
            if end > start
        ]

    @cached_property
    def origins(self) -> NamedSampler:
        """The sampler of this configuration.

        Raises:
            KeyError, ValueError: as :func:`tomat.sampling.load_sampler`.
        """
        return load_sampler(self.sampler)

    def own[T](self, of_all: Sequence[T]) -> list[T]:
        """This worker's part of a list over all materials: every ``n_workers``-th, from ``worker_index``."""
        return list(of_all[self.worker_index :: self.n_workers])

    def identity(self, entries: Sequence[Entry], budget_hash: str | None = None) -> dict[str, Any]:
        """Everything that determines the bytes of this worker's files, with hashes in place of long lists.

        Runs with equal identities over unchanged sources write equal files; a run can only be resumed by an equal one.

        Args:
            entries: this worker's materials.
            budget_hash: digest of the patches of all materials, unless the budget is equal.
        """
        # The order of the keys in meta.json, which is digested.
        first = ("layout", "patch_size", "patches_per_material", "pad_to", "fallback_shapes")
        fields = dict.fromkeys(first) | asdict(self)
        for name in ("codec", "unit", "catalogue"):
            del fields[name]
        if budget_hash is not None:
            fields["budget_hash"] = budget_hash
        if self.origins.source is not None:
            fields["sampler_source"] = self.origins.source
        ids = hashlib.sha256("\0".join(entry.task_id for entry in entries).encode()).hexdigest()
        return {
            **fields,
            "patches_per_material": self.rows,
            "sampler": self.origins.spec,
            **self.tokenizer.identity,
            "n_materials_listed": len(entries),
            "materials_hash": ids,
            "tomat_version": __version__,
        }
