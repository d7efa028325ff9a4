"""The directory one worker writes: the state it is in, and what stands beside its shards when all are there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat._files import atomic_file, read_json, write_json
from tomat.codec import LloydMaxCodec, LogCodec
from tomat.dataset.config import identity_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomat.codec import Codec
    from tomat.dataset.config import TokenizeConfig

__all__ = ["BUDGET", "CODEC", "COVERAGE", "META", "REASONS", "RunDirectory", "Totals", "sha256_of"]

META = "meta.json"
COVERAGE = "coverage_histogram.json"
CODEC = "codec.npz"
#: Patches of each material, where they are not the same for all.
BUDGET = "budget.json"

#: Reasons for leaving a material out, in the order of ``meta.json``.
REASONS = ("missing", "oversized", "bad_lattice", "overflow", "unreadable")

#: How many ids of left out materials ``meta.json`` names for each reason.
_FIRST_IDS = 20

_PROGRESS = ".progress"
_RUN = "run.json"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunDirectory:
    """The directory one worker writes: unfinished while ``meta.json`` is not there."""

    path: Path

    @property
    def progress(self) -> Path:
        """Records of finished shards, and unfinished files."""
        return self.path / _PROGRESS

    @property
    def is_finished(self) -> bool:
        """Whether ``meta.json``, which is written last, is there."""
        return (self.path / META).exists()

    @property
    def is_started(self) -> bool:
        """Whether a run has begun here and not finished."""
        return not self.is_finished and (self.progress / _RUN).exists()

    def clear(self) -> None:
        """Remove a dataset, ``meta.json`` first, so that what is left never looks finished; other files stay."""
        for name in (META, COVERAGE, CODEC, BUDGET):
            (self.path / name).unlink(missing_ok=True)
        self._clear_debris()
        for shard in self.path.glob("shard-*.parquet"):
            shard.unlink()
        self.clear_progress(keep="lock")

    def clear_progress(self, keep: str | None = None) -> None:
        """Remove the records, all but ``keep``."""
        if keep is None:
            shutil.rmtree(self.progress, ignore_errors=True)
            return
        for entry in self.progress.glob("*"):
            if entry.name != keep:
                entry.unlink()

    def _clear_debris(self) -> None:
        """Remove what a run that was killed left of the files beside the shards."""
        for name in (META, COVERAGE, CODEC, BUDGET):
            for unfinished in self.path.glob(f".{name}.*.tmp"):
                unfinished.unlink()

    def stored_identity(self) -> dict[str, Any]:
        """The identity of the run that began or finished here.

        Raises:
            ValueError: the file that holds it is damaged.
        """
        path = self.path / META if self.is_finished else self.progress / _RUN
        stored = read_json(path)
        identity = stored.get("identity")
        if not isinstance(identity, dict):
            raise ValueError(f"{path}: no identity in it; it was not written by tomat-tokenize")
        return identity

    def start(self, identity: dict[str, Any]) -> None:
        """Note which run this is, before anything else is written."""
        write_json(self.progress / _RUN, {"identity": identity})

    def finished(self, identity: dict[str, Any]) -> set[str]:
        """Names of this run's shards that have a record, and the size it says."""
        expected = identity_hash(identity)
        names = set()
        for path in self.progress.glob("shard-*.json"):
            record = read_json(path)
            shard = self.path / str(record.get("shard"))
            is_whole = shard.exists() and shard.stat().st_size == record.get("bytes")
            if record.get("identity") == expected and is_whole:
                names.add(shard.name)
        return names

    def finish(
        self,
        config: TokenizeConfig,
        identity: dict[str, Any],
        shards: Sequence[str],
        patches: Mapping[str, int] | None = None,
    ) -> Totals:
        """Write everything beside ``shards``, ``meta.json`` last, one record in memory at a time.

        ``patches`` of each material that was listed are kept where the budget is not ``equal``.
        """
        self._clear_debris()
        codec = config.tokenizer.density_codec
        if isinstance(codec, LloydMaxCodec):
            codec.save(self.path / CODEC)
        if config.budget != "equal" and patches is not None:
            write_json(self.path / BUDGET, {"budget": config.budget, "patches": dict(patches)})
        totals = Totals([config.tokenizer.patch_size] * 3)
        with atomic_file(self.path / COVERAGE) as file:
            file.write(b'{\n "per_material": {')
            separator = b"\n  "
            for name in shards:
                record = read_json(self.progress / f"{name}.json")
                totals.add(record)
                for material in record["materials"]:
                    line = f"{json.dumps(material['task_id'])}: {json.dumps(material['coverage'])}"
                    file.write(separator + line.encode())
                    separator = b",\n  "
            counts = {"n_materials": totals.n_materials, "histogram": totals.coverage}
            file.write(b"},\n " + json.dumps(counts)[1:].encode() + b"\n")
        write_json(self.path / META, _meta(self.path, config, identity, totals))
        self.clear_progress()
        return totals


@dataclass
class Totals:
    """What the records of all shards add up to."""

    cube: list[int]
    n_materials: int = 0
    n_fallback: int = 0
    rows: int = 0
    #: Voxels covered 0, 1, 2, ... times, over all materials; those of several workers add up in the same way.
    coverage: list[int] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    #: By reason: the first ids, with the reason in words.
    first_left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, record: dict[str, Any]) -> None:
        """Add one shard."""
        self.rows += record["rows"]
        self.shards.append(
            {key: record[key] for key in ("rows", "bytes", "sha256")} | {"name": record["shard"]}
        )
        for material in record["materials"]:
            self.n_materials += 1
            self.n_fallback += material["patch_shape"] != self.cube
            counts = material["coverage"]
            self.coverage.extend([0] * (len(counts) - len(self.coverage)))
            for times, voxels in enumerate(counts):
                self.coverage[times] += voxels
        for material in record["left_out"]:
            self.left_out[material["reason"]] += 1
            first = self.first_left_out.setdefault(material["reason"], {})
            if len(first) < _FIRST_IDS:
                first[material["task_id"]] = material["detail"]


def _meta(path: Path, config: TokenizeConfig, identity: dict[str, Any], totals: Totals) -> dict[str, Any]:
    tokenizer = config.tokenizer
    codec, vocabulary = tokenizer.density_codec, tokenizer.vocabulary
    meta: dict[str, Any] = {
        "format_version": _FORMAT_VERSION,
        "split": config.split,
        "n_materials": totals.n_materials,
        "n_materials_listed": identity["n_materials_listed"],
        "patches_per_material": config.rows,
        "shape": "cube",
        "tokenizer_version": config.layout,
        "patch_size": tokenizer.patch_size,
        "fallback_shapes": identity["fallback_shapes"],
        "n_materials_fallback": totals.n_fallback,
        "density_codec_name": codec.name,
        "lmq_path": CODEC if isinstance(codec, LloydMaxCodec) else None,
        "unit": config.data_unit,
        "seed": config.seed,
        "epoch": config.epoch,
        "sampler": identity["sampler"],
        "budget": config.budget,
        "budget_sha256": None if config.budget == "equal" else sha256_of(path / BUDGET),
        "pad_to": config.pad_to,
        "total_rows": totals.rows,
        "n_shards": len(totals.shards),
        "worker_index": config.worker_index,
        "n_workers": config.n_workers,
        "codec_hash": codec.hash,
        "vocabulary_hash": vocabulary.hash,
        "vocab": {
            "total_size": vocabulary.total_size,
            "specials": vocabulary.specials,
            "position_codec": LogCodec(*vocabulary.position_codec).parameters,
            "density_codec": _codec_meta(codec),
        },
    }
    for reason in REASONS:
        meta[f"n_materials_{reason}"] = totals.left_out[reason]
        meta[f"first_materials_{reason}"] = list(totals.first_left_out.get(reason, {}))
    meta["shards"] = totals.shards
    meta["identity"] = identity
    return meta


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _codec_meta(codec: Codec) -> dict[str, Any]:
    if isinstance(codec, LogCodec):
        return {"kind": "log", **codec.parameters}
    meta = {"kind": "lmq", "n_bins": codec.sizes[0], "clip_max": codec.clip_max, "unit": codec.unit}
    return meta | ({"clip_min": codec.clip_min} if codec.clip_min < 0.0 else {})
