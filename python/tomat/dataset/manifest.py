"""Opening finished datasets: their ``meta.json`` files, and whether all parts are there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tomat._threads import in_order
from tomat.codec import codec_of, load_codec
from tomat.dataset.bucket_directory import run_directory
from tomat.dataset.meta import (
    CODEC,
    COVERAGE,
    META,
    check_shard_name,
    is_own,
    read_coverage,
    read_meta,
)
from tomat.storage.remote import place
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tomat.codec import Codec
    from tomat.material import Unit
    from tomat.storage.remote import Place, UrlPath

_WORKER = re.compile(r"worker-[0-9]+")

#: Keys of meta.json that must be equal in all workers; the second part only in datasets written by tomat.
_SHARED = ("tokenizer_version", "patch_size", "pad_to", "vocab", "vocabulary_hash", "codec_hash")
_SHARED_BY_RUNS = ("n_workers", "seed", "epoch", "sampler", "budget", "patches_per_material", "unit", "split")


@dataclass(frozen=True)
class Worker:
    """One worker's part of a dataset: a directory with shards and their ``meta.json``."""

    path: Place
    meta: dict[str, Any]

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Name, rows, bytes and SHA-256 of each shard; only names in datasets of other programs."""
        listed = self.meta.get("shards")
        if listed is not None:
            return list(listed)
        found: Iterable[Place] = self.path.glob("shard-*.parquet")
        names = sorted(path.name for path in found)
        for name in names:
            check_shard_name(name, self.path)
        return [{"name": name} for name in names]

    @property
    def histogram(self) -> list[int]:
        """Voxels covered 0, 1, 2, ... times; empty if it is not stored."""
        is_there = (self.path / COVERAGE).exists()
        return list(read_coverage(self.path, self.meta).get("histogram", [])) if is_there else []


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, of one worker or of all, on disk or behind a URL."""

    path: Place
    workers: tuple[Worker, ...]

    @property
    def meta(self) -> dict[str, Any]:
        """``meta.json`` of the first worker."""
        return self.workers[0].meta

    @property
    def total_rows(self) -> int:
        """Number of rows of all workers."""
        return sum(int(worker.meta["total_rows"]) for worker in self.workers)

    def count(self, key: str) -> int:
        """The sum of a number in ``meta.json`` over workers; 0 where it is missing."""
        return sum(int(worker.meta.get(key, 0)) for worker in self.workers)

    def shard_paths(self) -> Iterator[Place]:
        """The paths or URLs of all shards, in order."""
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
        try:
            codec = self._codec()
            shapes = meta.get("fallback_shapes", [(18, 19, 19)])
            unit = self._unit(codec)
            tokenizer = PatchTokenizer(
                meta["tokenizer_version"], codec, meta["patch_size"], meta["pad_to"], shapes, unit
            )
        except (KeyError, ValueError) as error:
            # KeyError: an unknown layout or codec.
            message = str(error.args[0])
            known = message.startswith(str(folder))
            raise ValueError(message if known else f"{folder / META}: {message}; fetch it again") from error
        for key, value in (("codec_hash", codec.hash), ("vocabulary_hash", tokenizer.vocabulary.hash)):
            if key in meta and meta[key] != value:
                raise ValueError(f"{folder / META}: {key} is {meta[key]}, but the codec found gives {value}")
        if tokenizer.vocabulary.specials != meta["vocab"].get("specials", tokenizer.vocabulary.specials):
            raise ValueError(
                f"{folder / META}: the ids of the specials are not those of layout {tokenizer.layout.name}"
            )
        if tokenizer.vocabulary.total_size != meta["vocab"]["total_size"]:
            raise ValueError(
                f"{folder / META}: vocabulary of {meta['vocab']['total_size']} tokens, but layout and codec give "
                f"{tokenizer.vocabulary.total_size}"
            )
        return tokenizer

    def _codec(self) -> Codec:
        meta, folder = self.meta, self.workers[0].path
        if meta.get("lmq_path"):
            local = folder / CODEC
            is_local = local.exists() or meta["lmq_path"] == CODEC
            codec = load_codec(str(local) if is_local else meta["lmq_path"])
        else:
            codec = codec_of(meta["vocab"]["density_codec"])
        codec.name = meta["density_codec_name"]
        return codec

    def _unit(self, codec: Codec) -> Unit:
        """The unit in ``meta.json``; in datasets of other programs, the codec's, or ``chgcar``."""
        meta, path = self.meta, self.workers[0].path / META
        try:
            return codec.unit_for(meta.get("unit"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error.args[0]}") from error


def open_dataset(path: str | Path | UrlPath, *, allow_partial: bool = False) -> Dataset:
    """Open a finished dataset in a directory or at an fsspec URL.

    Raises:
        FileNotFoundError: no such directory.
        ValueError: not a dataset, not finished, or workers that differ or are missing (``allow_partial`` opens those
            that are there).
    """
    root = place(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such directory")
    folders: list[Place] = [root] if (root / META).exists() else sorted(root.glob("worker-*"), key=str)
    for folder in folders if folders != [root] else ():
        if not _WORKER.fullmatch(folder.name):
            raise ValueError(
                f"{root}: {folder.name!r} is no folder of a worker (worker-00); rename it or move it away"
            )
    if not folders:
        if run_directory(root).is_started:
            raise ValueError(f"{root}: the run is not finished; go on with tomat-tokenize --resume")
        raise ValueError(f"{root}: not a dataset (no meta.json, no worker-* folders)")
    metas = dict(in_order(_meta, folders))
    unfinished = [folder for folder, meta in metas.items() if meta is None]
    if len(unfinished) == len(folders) or (unfinished and not allow_partial):
        names = ", ".join(folder.name for folder in unfinished)
        raise ValueError(f"{root}: not finished: {names} (no meta.json); go on with tomat-tokenize --resume")
    workers = tuple(Worker(folder, meta) for folder, meta in metas.items() if meta is not None)
    _check_workers(root, workers, allow_partial=allow_partial)
    return Dataset(root, workers)


def _meta(folder: Place) -> dict[str, Any] | None:
    try:
        return read_meta(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None


def differing(meta: Mapping[str, Any], first: Mapping[str, Any]) -> str | None:
    """The first key that the ``meta.json`` of all workers must share, and that ``meta`` and ``first`` do not."""
    keys = (*_SHARED, *(_SHARED_BY_RUNS if is_own(first) else ()))
    return next((key for key in keys if meta.get(key) != first.get(key)), None)


def _check_workers(root: Place, workers: tuple[Worker, ...], *, allow_partial: bool) -> None:
    first = workers[0].meta
    for worker in workers:
        key = differing(worker.meta, first)
        if key is not None:
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
