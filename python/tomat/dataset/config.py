"""What decides the bytes of a dataset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tomat._core import __version__
from tomat.budget import Shares, check_budget, patches_of
from tomat.catalogue.table import electrons_of
from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, check_limits
from tomat.sampling import NamedSampler, load_sampler
from tomat.tokenizer import FALLBACK_SHAPES, LAYOUTS, PAD_TO, PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.material import Entry

#: Encodings of the ``input_ids`` column; docs/parquet.md compares them.
ENCODINGS = ("plain", "byte_stream_split", "delta_binary_packed")

#: The lowest and the highest level of zstd.
_ZSTD_LEVELS = (-131072, 22)


@dataclass(frozen=True)
class TokenizeConfig:
    """The configuration of a tokenization run.

    Attributes:
        layout: ``v1``, ``v2``, ``v2-lat`` or ``v3``.
        codec: name, path or URL of the density codec; the layout's default where None.
        patch_size: edge of the patch in grid points; the layout's default where None.
        patches_per_material: rows a material; the layout's default where None.
        pad_to: tokens a row.
        fallback_shapes: patch shapes tried in order where the cube does not fit.
        seed: of the sampler.
        epoch: of the sampler: another epoch draws other patches.
        sampler: where patches are cut: ``uniform``, ``electrons``, ``tiling`` or one of another package, with its
            options (``uniform:replacement=false``).
        budget: how many of a material: ``equal``, or ``electrons``, in proportion to its electrons, on average
            ``patches_per_material``.
        catalogue: with the electrons of each material, for the budget ``electrons`` alone.
        rows_per_shard: rows in a parquet file, at most (one material's rows are never split).
        worker_index: which part of the materials this worker does.
        n_workers: into how many parts they are split.
        unit: convention that log codecs encode, ``chgcar`` (where None) or ``e_per_A3``. Lloyd-Max codecs know
            their own; another one is refused.
        split: name of the split, for ``meta.json``.
        encoding: of the ``input_ids`` column.
        compression_level: of zstd.
        max_clipped: the largest share of a material's electrons that may lie above the codec's range; more leaves it
            out.
        max_negative: the same of what lies below the range: negative voxels, which PAW densities have a little of.
        strict: take an implausible density for unreadable, instead of a warning.
    """

    layout: str = "v3"
    codec: str | None = None
    patch_size: int | None = None
    patches_per_material: int | None = None
    pad_to: int = PAD_TO
    fallback_shapes: tuple[tuple[int, int, int], ...] = FALLBACK_SHAPES
    seed: int = 0
    epoch: int = 0
    sampler: str = "uniform"
    budget: str = "equal"
    catalogue: str | None = None
    rows_per_shard: int = 2048
    worker_index: int = 0
    n_workers: int = 1
    unit: str | None = None
    split: str = "all"
    encoding: str = "byte_stream_split"
    compression_level: int = 1
    max_clipped: float = MAX_CLIPPED
    max_negative: float = MAX_NEGATIVE
    strict: bool = False

    def __post_init__(self) -> None:
        """Check ranges; what the tokenizer checks is left to it.

        Raises:
            KeyError: an unknown layout, sampler or budget.
            ValueError: a number out of range.
        """
        if self.layout not in LAYOUTS:
            raise KeyError(f"unknown layout {self.layout!r}; known: {', '.join(LAYOUTS)}")
        if check_budget(self.budget) == "electrons" and self.catalogue is None:
            raise ValueError(
                "budget electrons needs the electrons of each material before anything is written: give --catalogue, "
                "made by tomat catalogue build"
            )
        if self.rows < 1:
            raise ValueError(f"patches_per_material = {self.rows} must be at least 1")
        if self.rows > self.rows_per_shard:
            raise ValueError(
                f"{self.rows} rows a material do not fit rows_per_shard = {self.rows_per_shard}: a material's rows are "
                "never split; raise rows_per_shard"
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
        """Rows a material."""
        default = LAYOUTS[self.layout].patches_per_material
        return default if self.patches_per_material is None else self.patches_per_material

    def shares(self, entries: Sequence[Entry]) -> Shares:
        """Patches of each of all materials, those of every worker.

        Raises:
            OSError: the catalogue cannot be read.
            ValueError: a material it does not have, or without electrons; more patches than a shard may have rows.
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
        """Name, first material and end of each shard: as many materials as fit whole, in order."""
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

    @cached_property
    def tokenizer(self) -> PatchTokenizer:
        """The tokenizer of this configuration; its ``unit`` is that of the data.

        Raises:
            KeyError, OSError, ValueError: as :class:`PatchTokenizer` and :func:`tomat.load_codec`.
        """
        codec = self.codec or LAYOUTS[self.layout].default_codec
        return PatchTokenizer(
            self.layout, codec, self.patch_size, self.pad_to, self.fallback_shapes, self.unit
        )

    def own[T](self, of_all: Sequence[T]) -> list[T]:
        """This worker's part of a list over all materials: every ``n_workers``-th, from ``worker_index``."""
        return list(of_all[self.worker_index :: self.n_workers])

    def identity(self, entries: Sequence[Entry], budget_hash: str | None = None) -> dict[str, Any]:
        """Everything that decides the bytes of this worker's files, with hashes in place of long lists.

        Two runs with equal identities over unchanged sources write equal files; a run resumes only its own.

        Args:
            entries: this worker's materials.
            budget_hash: of the patches of all materials, where they differ: workers that share them out by different
                catalogues do not make one dataset.
        """
        fields = asdict(self)
        for name in ("codec", "unit", "catalogue"):
            del fields[name]
        if budget_hash is not None:
            fields["budget_hash"] = budget_hash
        if self.origins.source is not None:
            fields["sampler_source"] = self.origins.source
        ids = hashlib.sha256("\0".join(entry.task_id for entry in entries).encode()).hexdigest()
        return {
            **fields,
            "fallback_shapes": [list(shape) for shape in self.fallback_shapes],
            "patch_size": self.tokenizer.patch_size,
            "patches_per_material": self.rows,
            "sampler": self.origins.spec,
            "unit": self.tokenizer.unit,
            "codec_hash": self.tokenizer.density_codec.hash,
            "vocabulary_hash": self.tokenizer.vocabulary.hash,
            "n_materials_listed": len(entries),
            "materials_hash": ids,
            "tomat_version": __version__,
        }


def identity_hash(identity: dict[str, Any]) -> str:
    """SHA-256 of an identity in canonical JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
