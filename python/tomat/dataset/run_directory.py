"""The directory of one worker: its state, and the files written next to its shards."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tomat._seal import sealed
from tomat._threads import in_order
from tomat.clipping import ClippedTotals, Clipping
from tomat.codec import LogCodec
from tomat.dataset.crystal_table import write_table
from tomat.dataset.meta import (
    BUDGET,
    CODEC,
    COVERAGE,
    CRYSTALS,
    FORMAT_VERSION,
    META,
    REASONS,
    SEAL,
    read_meta,
    summed,
)
from tomat.storage.files import atomic_file, read_json, write_json
from tomat.storage.transfer import sha256_of
from tomat.workplace import identity_hash, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tomat.dataset.config import TokenizeConfig
    from tomat.storage.remote import Place

#: Ids of left-out materials that ``meta.json`` lists per reason.
_FIRST_IDS = 20

#: Keys of each material in a record. A record without them is of an earlier version, and its shard is written again.
_OF_A_MATERIAL = {"clipped", "warnings", "crystal"}

#: Files next to the shards, in the order in which they are removed: without the first, nothing looks finished.
BESIDE = (META, COVERAGE, CODEC, BUDGET, CRYSTALS)

PROGRESS = ".progress"
RUN = "run.json"

#: Seconds after which an unfinished file without changes counts as abandoned.
_ABANDONED_S = 600.0


def is_current(record: dict[str, Any], identity: str) -> bool:
    """Whether a shard's record is of the run with this hash of its identity, and has all current keys."""
    materials = record.get("materials", ())
    return record.get("identity") == identity and all(m.keys() >= _OF_A_MATERIAL for m in materials)


class RunDirectory:
    """The directory of one worker, unfinished until ``meta.json`` is written.

    Attributes:
        place: destination of the dataset.
        path: where the pipeline writes, here the same.
    """

    def __init__(self, path: Path) -> None:
        self.place: Place = path
        self.path = path

    def __str__(self) -> str:
        return str(self.place)

    @property
    def progress(self) -> Path:
        """Records of finished shards, and unfinished files."""
        return self.path / PROGRESS

    @property
    def is_finished(self) -> bool:
        """Whether there is ``meta.json``, which is written last."""
        return (self.place / META).exists()

    @property
    def is_started(self) -> bool:
        """Whether there is an unfinished run."""
        return not self.is_finished and (self.place / PROGRESS / RUN).exists()

    @contextmanager
    def locked(self, wait_s: float = 0.0) -> Iterator[None]:
        """Lock the directory; the lock ends with the process.

        Raises:
            FileExistsError: another run still holds it after ``wait_s`` seconds.
        """
        self.progress.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.progress / "lock")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise FileExistsError(
                f"{self}: another run is writing here; wait for it, or choose another --out"
            ) from None
        try:
            # The previous holder may have finished and removed the folder.
            self.progress.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            # While the lock is held: leave no empty folder.
            if self.progress.is_dir() and {entry.name for entry in self.progress.iterdir()} <= {"lock"}:
                self.clear_progress()
                if self.path.is_dir() and not any(self.path.iterdir()):
                    self.path.rmdir()
            lock.release()

    def strays(self) -> list[str]:
        """Names of all shards, of any run."""
        return [path.name for path in self.place.glob("shard-*.parquet")]

    def batches[T](self, pending: Sequence[T]) -> Iterable[Sequence[T]]:
        """The pending shards in batches, each followed by :meth:`publish`."""
        return [pending]

    def publish(self, names: Sequence[str]) -> None:
        """Move finished shards to their destination; here they are there already."""

    def settle(self) -> None:
        """Wait until everything published has arrived."""

    def clear(self) -> None:
        """Remove a dataset but no other files, ``meta.json`` first, so that it never looks finished."""
        for name in BESIDE:
            if (self.path / name).exists():
                (self.path / name).unlink()
        self._clear_debris()
        for path in (*self.path.glob("shard-*.parquet"), *self.progress.glob("*")):
            if path.name != "lock":
                path.unlink()

    def clear_progress(self) -> None:
        """Remove the records."""
        shutil.rmtree(self.progress, ignore_errors=True)

    def _clear_debris(self) -> None:
        """Remove temporary files that a killed run left behind."""
        for unfinished in (path for name in BESIDE for path in self.path.glob(f".{name}.*.tmp")):
            unfinished.unlink()

    def stored_identity(self) -> dict[str, Any]:
        """The identity of the run that began or finished here.

        Raises:
            ValueError: its file is damaged.
        """
        path = self.place / META if self.is_finished else self.place / PROGRESS / RUN
        try:
            stored = read_meta(self.place) if self.is_finished else read_json(path)
        except ValueError as error:
            raise ValueError(f"{error}; start again with --overwrite, or choose another --out") from error
        identity = stored.get("identity")
        if not isinstance(identity, dict):
            raise ValueError(f"{path}: no identity in it; it was not written by tomat-tokenize")
        return identity

    def check_vacant(self) -> None:
        """Check that there is no dataset, finished or not.

        Raises:
            FileExistsError: there is one.
        """
        if self.is_finished:
            raise FileExistsError(f"{self}: holds a finished dataset; give --overwrite to replace it")
        if self.is_started:
            raise FileExistsError(
                f"{self}: holds an unfinished run; give --resume to go on with it, or --overwrite to replace it"
            )

    def start(self, identity: dict[str, Any]) -> None:
        """Store the identity of the run, before anything else is written."""
        write_json(self.progress / RUN, {"identity": identity})

    def finished(self, identity: dict[str, Any]) -> set[str]:
        """Names of this run's shards whose size and SHA-256 match their record; files of killed runs are removed."""
        for path in self.progress.glob("*.unfinished"):
            if time.time() - path.lstat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        names = [name for name, _ in self._records(identity)]
        return {name for name, is_whole in in_order(self._is_whole, names) if is_whole}

    def missing(self, identity: dict[str, Any], shards: Sequence[str]) -> list[str]:
        """Which of ``shards``, all written or checked before, have vanished or changed size."""
        records = {name: record for name, record in self._records(identity) if self._has_size(record)}
        return [name for name in shards if name not in records]

    def _records(self, identity: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        expected = identity_hash(identity)
        for path in sorted(self.progress.glob("shard-*.json")):
            record = read_record(path)
            if record is not None and record.get("shard") == path.stem and is_current(record, expected):
                yield path.stem, record

    def _record(self, name: str) -> dict[str, Any]:
        """The record of a shard that was intact before."""
        path = self.progress / f"{name}.json"
        record = read_record(path)
        if record is None:
            raise OSError(f"{path}: damaged while the run went on; go on with tomat-tokenize --resume")
        return record

    def _has_size(self, record: dict[str, Any]) -> bool:
        shard = self.place / str(record["shard"])
        return shard.exists() and shard.stat().st_size == record.get("bytes")

    def _is_whole(self, name: str) -> bool:
        record = self._record(name)
        return self._has_size(record) and sha256_of(self.place / name) == record.get("sha256")

    def finish(
        self,
        config: TokenizeConfig,
        identity: dict[str, Any],
        shards: Sequence[str],
        patches: Mapping[str, int] | None = None,
    ) -> Totals:
        """Write all files other than ``shards``, ``meta.json`` last.

        ``patches`` of each listed material are stored unless the budget is ``equal``.
        """
        self._clear_debris()
        codec = config.tokenizer.density_codec
        if codec.parameters is None:
            codec.save(self.path / CODEC)
        if config.budget != "equal" and patches is not None:
            write_json(self.path / BUDGET, {"budget": config.budget, "patches": dict(patches)})
        materials = (material for name in shards for material in self._record(name)["materials"])
        write_table(self.path / CRYSTALS, materials)
        totals = Totals([config.tokenizer.patch_size] * 3)
        with atomic_file(self.path / COVERAGE) as file:
            file.write(b'{\n "per_material": {')
            _write_each(file, (totals.add(self._record(name)) for name in shards), itemgetter("coverage"))
            file.write(b'},\n "grids": {')
            _write_each(file, map(self._record, shards), totals.shapes)
            counts = {"n_materials": totals.n_materials, "histogram": totals.coverage}
            file.write(b"},\n " + json.dumps(counts)[1:].encode() + b"\n")
        write_json(self.path / META, sealed(_meta(self.path, config, identity, totals), SEAL))
        self._publish_beside()
        self.clear_progress()
        return totals

    def _publish_beside(self) -> None:
        """Move the other files to their destination; here they are there already."""


@dataclass
class Totals:
    """Sums over the records of all shards."""

    cube: list[int]
    n_materials: int = 0
    n_fallback: int = 0
    rows: int = 0
    #: Voxels covered 0, 1, 2, ... times, over all materials.
    coverage: list[int] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    #: First ids and messages by reason.
    first_left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Clipping of the materials with rows, by id.
    clipped: dict[str, Clipping] = field(default_factory=dict)
    n_warned: int = 0
    #: The first implausible materials with rows, and why.
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def shapes(self, material: dict[str, Any]) -> list[int]:
        """A material's grid shape, and its patch shape unless it is the cube."""
        patch: list[int] = material["patch_shape"]
        return [*material["grid_shape"], *(patch if patch != self.cube else ())]

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Add the record of one shard, and return it."""
        self.rows += record["rows"]
        self.shards.append(
            {key: record[key] for key in ("rows", "bytes", "sha256")} | {"name": record["shard"]}
        )
        for material in record["materials"]:
            self.n_materials += 1
            self.n_fallback += material["patch_shape"] != self.cube
            self.coverage = summed([self.coverage, material["coverage"]])
            if material["clipped"] is not None:
                self.clipped[material["task_id"]] = Clipping.of(material["clipped"])
            if material["warnings"]:
                self.n_warned += 1
                if len(self.warnings) < _FIRST_IDS:
                    self.warnings[material["task_id"]] = material["warnings"]
        for material in record["left_out"]:
            self.left_out[material["reason"]] += 1
            first = self.first_left_out.setdefault(material["reason"], {})
            if len(first) < _FIRST_IDS:
                first[material["task_id"]] = material["detail"]
        return record


def _write_each(
    file: IO[bytes], records: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], list[int]]
) -> None:
    """Write a line of JSON per material, with one record in memory at a time."""
    separator = "\n  "
    for record in records:
        for material in record["materials"]:
            line = f"{separator}{json.dumps(material['task_id'])}: {json.dumps(value(material))}"
            file.write(line.encode())
            separator = ",\n  "


def _meta(path: Path, config: TokenizeConfig, identity: dict[str, Any], totals: Totals) -> dict[str, Any]:
    tokenizer = config.tokenizer
    codec, vocabulary = tokenizer.density_codec, tokenizer.vocabulary
    meta: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
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
        "lmq_path": CODEC if codec.parameters is None else None,
        "unit": tokenizer.unit,
        "seed": config.seed,
        "epoch": config.epoch,
        "sampler": identity["sampler"],
        "budget": config.budget,
        "budget_sha256": None if config.budget == "equal" else sha256_of(path / BUDGET),
        "coverage_sha256": sha256_of(path / COVERAGE),
        "crystals_sha256": sha256_of(path / CRYSTALS),
        "codec_sha256": sha256_of(path / CODEC) if codec.parameters is None else None,
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
            "density_codec": codec.meta,
        },
    }
    for reason in REASONS:
        meta[f"n_materials_{reason}"] = totals.left_out[reason]
        meta[f"first_materials_{reason}"] = list(totals.first_left_out.get(reason, {}))
    meta |= {
        "max_clipped": config.max_clipped,
        "max_negative": config.max_negative,
        "clipped_voxels": sum(found.voxels for found in totals.clipped.values()),
        "clipped_electrons": math.fsum(found.electrons for found in totals.clipped.values()),
        "clipped_materials": {name: found.stored for name, found in totals.clipped.items()},
        "n_materials_warned": totals.n_warned,
        "warnings": totals.warnings,
    }
    meta["shards"] = totals.shards
    meta["identity"] = identity
    return meta


def clipped_totals(meta: dict[str, Any]) -> ClippedTotals:
    """The clipping of the materials with rows according to ``meta.json``; nothing if it is not stored.

    Raises:
        ValueError: it is stored in a wrong format.
    """
    totals = ClippedTotals()
    try:
        for task_id, stored in meta.get("clipped_materials", {}).items():
            totals.add(task_id, Clipping.of(stored))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{META}: clipped_materials does not hold what is clipped of each material: {error!r}"
        ) from error
    return totals
