"""A dataset directory: the state it is in, ``meta.json``, and how a finished one is opened."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat._files import write_atomically
from tomat.codec import LloydMaxCodec, LogCodec, load_codec
from tomat.dataset.config import identity_hash
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tomat.codec import Codec
    from tomat.dataset.config import TokenizeConfig

__all__ = ["REASONS", "Dataset", "RunDirectory", "Worker", "open_dataset"]

#: Reasons for leaving a material out, in the order of ``meta.json``.
REASONS = ("missing", "oversized", "bad_lattice", "overflow", "unreadable")

#: How many ids of left out materials ``meta.json`` names for each reason.
_FIRST_IDS = 20

_META = "meta.json"
_COVERAGE = "coverage_histogram.json"
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
        return (self.path / _META).exists()

    @property
    def is_started(self) -> bool:
        """Whether a run has begun here and not finished."""
        return not self.is_finished and (self.progress / _RUN).exists()

    def clear(self) -> None:
        """Remove a dataset, ``meta.json`` first, so that what is left never looks finished; other files stay."""
        for name in (_META, _COVERAGE, "codec.npz"):
            (self.path / name).unlink(missing_ok=True)
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

    def stored_identity(self) -> dict[str, Any]:
        """The identity of the run that began or finished here.

        Raises:
            ValueError: the file that holds it is damaged.
        """
        path = self.path / _META if self.is_finished else self.progress / _RUN
        stored = read_json(path)
        identity = stored.get("identity")
        if not isinstance(identity, dict):
            raise ValueError(f"{path}: no identity in it; it was not written by tomat-tokenize")
        return identity

    def start(self, identity: dict[str, Any]) -> None:
        """Note which run this is, before anything else is written."""
        write_json(self.progress / _RUN, {"identity": identity})

    def records(self, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Records of this run's finished shards whose file is there in the size it should have, by name."""
        expected = identity_hash(identity)
        found = {}
        for path in sorted(self.progress.glob("shard-*.json")):
            record = read_json(path)
            shard = self.path / str(record.get("shard"))
            is_whole = shard.exists() and shard.stat().st_size == record.get("bytes")
            if record.get("identity") == expected and is_whole:
                found[shard.name] = record
        return found

    def finish(
        self, config: TokenizeConfig, identity: dict[str, Any], records: Sequence[dict[str, Any]]
    ) -> None:
        """Write everything beside the shards, ``meta.json`` last."""
        codec = config.tokenizer.density_codec
        if isinstance(codec, LloydMaxCodec):
            codec.save(self.path / "codec.npz")
        write_json(self.path / _COVERAGE, _coverage(records))
        write_json(self.path / _META, _meta(config, identity, records))
        self.clear_progress()


def _meta(
    config: TokenizeConfig, identity: dict[str, Any], records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    tokenizer = config.tokenizer
    codec, vocabulary = tokenizer.density_codec, tokenizer.vocabulary
    materials = [material for record in records for material in record["materials"]]
    left_out = [material for record in records for material in record["left_out"]]
    cube = [tokenizer.patch_size] * 3
    meta: dict[str, Any] = {
        "format_version": _FORMAT_VERSION,
        "split": config.split,
        "n_materials": len(materials),
        "n_materials_listed": identity["n_materials_listed"],
        "patches_per_material": config.rows,
        "shape": "cube",
        "tokenizer_version": config.layout,
        "patch_size": tokenizer.patch_size,
        "fallback_shapes": identity["fallback_shapes"],
        "n_materials_fallback": sum(material["patch_shape"] != cube for material in materials),
        "density_codec_name": codec.name,
        "lmq_path": "codec.npz" if isinstance(codec, LloydMaxCodec) else None,
        "unit": config.data_unit,
        "seed": config.seed,
        "epoch": config.epoch,
        "sampler": identity["sampler"],
        "pad_to": config.pad_to,
        "total_rows": sum(record["rows"] for record in records),
        "n_shards": len(records),
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
        ids = [material["task_id"] for material in left_out if material["reason"] == reason]
        meta[f"n_materials_{reason}"] = len(ids)
        meta[f"first_materials_{reason}"] = ids[:_FIRST_IDS]
    meta["shards"] = [
        {"name": r["shard"], "rows": r["rows"], "bytes": r["bytes"], "sha256": r["sha256"]} for r in records
    ]
    meta["identity"] = identity
    return meta


def _codec_meta(codec: Codec) -> dict[str, Any]:
    if isinstance(codec, LogCodec):
        return {"kind": "log", **codec.parameters}
    return {"kind": "lmq", "n_bins": codec.sizes[0], "clip_max": codec.clip_max, "unit": codec.unit}


def _coverage(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The histograms of all materials, and their sum; those of several workers add up in the same way."""
    per_material = {m["task_id"]: m["coverage"] for record in records for m in record["materials"]}
    total = [0] * max((len(counts) for counts in per_material.values()), default=0)
    for counts in per_material.values():
        for times, voxels in enumerate(counts):
            total[times] += voxels
    return {"n_materials": len(per_material), "histogram": total, "per_material": per_material}


@dataclass(frozen=True)
class Worker:
    """One worker's part of a dataset: a directory with shards and their ``meta.json``."""

    path: Path
    meta: dict[str, Any]

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Name, rows, bytes and SHA-256 of each shard; only names for datasets of other writers."""
        listed = self.meta.get("shards")
        if listed is not None:
            return list(listed)
        return [{"name": path.name} for path in sorted(self.path.glob("shard-*.parquet"))]


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, of one worker or of all."""

    path: Path
    workers: tuple[Worker, ...]

    @property
    def meta(self) -> dict[str, Any]:
        """``meta.json`` of the first worker; what all workers share is equal in the others."""
        return self.workers[0].meta

    @property
    def total_rows(self) -> int:
        """Rows of all workers."""
        return sum(int(worker.meta["total_rows"]) for worker in self.workers)

    def count(self, key: str) -> int:
        """Sum of a number in ``meta.json`` over workers; absent counts as zero."""
        return sum(int(worker.meta.get(key, 0)) for worker in self.workers)

    def shard_paths(self) -> Iterator[Path]:
        """All shards, in order."""
        for worker in self.workers:
            for shard in worker.shards:
                yield worker.path / shard["name"]

    @cached_property
    def tokenizer(self) -> PatchTokenizer:
        """The tokenizer the rows were written with.

        Raises:
            ValueError: the codec or vocabulary found is not the one the dataset names.
        """
        meta, folder = self.meta, self.workers[0].path
        stored = meta["vocab"]["density_codec"]
        codec: Codec
        if meta.get("lmq_path"):
            local = folder / "codec.npz"
            codec = load_codec(local if local.exists() else meta["lmq_path"])
            codec.name = meta["density_codec_name"]
        else:
            codec = LogCodec(stored["log_min"], stored["log_max"], stored["token_mag_bits"])
            codec.name = meta["density_codec_name"]
        tokenizer = PatchTokenizer(
            meta["tokenizer_version"],
            codec,
            meta["patch_size"],
            meta["pad_to"],
            meta.get("fallback_shapes", [(18, 19, 19)]),
        )
        found = {
            "codec_hash": codec.hash,
            "vocabulary_hash": tokenizer.vocabulary.hash,
        }
        for key, value in found.items():
            if key in meta and meta[key] != value:
                raise ValueError(f"{folder / _META}: {key} is {meta[key]}, but the codec found gives {value}")
        if tokenizer.vocabulary.total_size != meta["vocab"]["total_size"]:
            raise ValueError(
                f"{folder / _META}: vocabulary of {meta['vocab']['total_size']} tokens, but layout and codec give "
                f"{tokenizer.vocabulary.total_size}"
            )
        return tokenizer


def open_dataset(path: str | Path, *, allow_partial: bool = False) -> Dataset:
    """Open a finished dataset directory.

    Raises:
        FileNotFoundError: no such directory.
        ValueError: not a dataset, not finished, or workers that are missing or differ (``allow_partial`` opens what
            is there).
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such directory")
    folders = [root] if (root / _META).exists() else sorted(root.glob("worker-*"))
    if not folders:
        if RunDirectory(root).is_started:
            raise ValueError(f"{root}: the run is not finished; go on with tomat-tokenize --resume")
        raise ValueError(f"{root}: not a dataset (no meta.json, no worker-* folders)")
    unfinished = [folder for folder in folders if not (folder / _META).exists()]
    finished = [folder for folder in folders if folder not in unfinished]
    if not finished or (unfinished and not allow_partial):
        names = ", ".join(folder.name for folder in unfinished)
        raise ValueError(f"{root}: not finished: {names} (no meta.json); go on with tomat-tokenize --resume")
    workers = tuple(Worker(folder, read_json(folder / _META)) for folder in finished)
    _check_workers(root, workers, allow_partial=allow_partial)
    return Dataset(root, workers)


def _check_workers(root: Path, workers: tuple[Worker, ...], *, allow_partial: bool) -> None:
    first = workers[0].meta
    for worker in workers:
        for key in ("tokenizer_version", "patch_size", "pad_to", "total_rows", "vocab", "density_codec_name"):
            if key not in worker.meta:
                raise ValueError(f"{worker.path / _META}: no {key!r} in it; not a dataset of the format")
        for key in ("tokenizer_version", "patch_size", "pad_to", "vocab", "vocabulary_hash", "codec_hash"):
            if worker.meta.get(key) != first.get(key):
                raise ValueError(
                    f"{root}: workers differ in {key}: {worker.path.name} has {worker.meta.get(key)!r}, "
                    f"{workers[0].path.name} has {first.get(key)!r}"
                )
    n_workers = first.get("n_workers", len(workers))
    there = {worker.meta.get("worker_index", index) for index, worker in enumerate(workers)}
    absent = sorted(set(range(n_workers)) - there)
    if absent and not allow_partial:
        raise ValueError(
            f"{root}: {len(absent)} of {n_workers} workers are missing: {absent[:10]}; run them, or open what is there "
            "with --allow-partial"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: not one.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON object, atomically, one top-level key a line."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    write_atomically(path, f"{{\n{lines}\n}}\n".encode())
