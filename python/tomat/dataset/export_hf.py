"""Export of datasets for the Hugging Face Hub: parquet files by split, a dataset card, a tokenizer."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from tomat import _core
from tomat._threads import in_order
from tomat.dataset.hf_card import Split, card
from tomat.dataset.hf_tokenizer import write_tokenizer
from tomat.dataset.manifest import open_dataset
from tomat.dataset.meta import REASONS, changed
from tomat.storage.files import write_atomically, write_json
from tomat.storage.remote import UrlPath, at_hand
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tomat.dataset.manifest import Dataset
    from tomat.storage.remote import Place

#: File with the facts of the export, for programs.
FACTS = "tomat.json"
#: Keys of meta.json that must be equal in all splits.
_SHARED = (
    "tokenizer_version",
    "patch_size",
    "pad_to",
    "vocabulary_hash",
    "codec_hash",
    "density_codec_name",
    "unit",
)


@dataclass(frozen=True)
class Export:
    """What was exported."""

    directory: Path
    splits: tuple[Split, ...]
    facts: dict[str, Any]


def export_hf(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    license_id: str | None = None,
    allow_partial: bool = False,
    link: bool = True,
    watch: Callable[[int, int], None] | None = None,
) -> Export:
    """Write datasets, one per split, as a folder that ``datasets.load_dataset`` and the Hub read.

    Args:
        sources: datasets of one layout and codec, each of another split, local or at URLs.
        out: a new or empty local directory.
        name: of the dataset on its card; by default that of the directory.
        license_id: license on the card, as the Hub names it (``cc-by-4.0``).
        allow_partial: export what is there if workers are missing; the card says so.
        link: make hard links instead of copies if possible.
        watch: called after each shard with the numbers of shards done and in all.

    Raises:
        FileExistsError: ``out`` is not empty.
        FileNotFoundError, ValueError: as :func:`open_dataset`; two splits with one name, or with different layouts.
        OSError: a shard does not match its digest.
    """
    root = Path(out)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root}: exists and is not empty; choose another folder")
    datasets = [open_dataset(source, allow_partial=allow_partial) for source in sources]
    names = [_split_name(dataset) for dataset in datasets]
    _check_together(datasets, names)
    (root / "data").mkdir(parents=True, exist_ok=True)
    total = sum(len(worker.shards) for dataset in datasets for worker in dataset.workers)
    done = itertools.count(1)

    def tell() -> None:
        if watch is not None:
            watch(next(done), total)

    splits = tuple(
        _export_split(dataset, split, root, link=link, tell=tell)
        for dataset, split in zip(datasets, names, strict=True)
    )
    facts = _write_beside(datasets[0], splits, root)
    text = card(name or root.resolve().name, license_id, splits, facts)
    write_atomically(root / "README.md", text.encode())
    return Export(root, splits, facts)


def _split_name(dataset: Dataset) -> str:
    """The name of the split in characters the Hub accepts; ``train`` for a dataset of all materials."""
    split = str(dataset.meta.get("split") or "all")
    return "train" if split == "all" else re.sub(r"\W", "_", split)


def _check_together(datasets: Sequence[Dataset], names: Sequence[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two datasets are of the split {sorted(twice)[0]!r}; export one of them elsewhere")
    first = datasets[0]
    for dataset in datasets[1:]:
        for key in _SHARED:
            if dataset.meta.get(key) != first.meta.get(key):
                ours, theirs = dataset.meta.get(key), first.meta.get(key)
                raise ValueError(
                    f"{dataset.path}: {key} is {ours!r}, but {first.path} has {theirs!r}; the splits of one export "
                    "share layout and codec"
                )


def _export_split(dataset: Dataset, name: str, root: Path, *, link: bool, tell: Callable[[], None]) -> Split:
    shards = [(worker, entry) for worker in dataset.workers for entry in worker.shards]
    planned = [
        (
            worker.path / entry["name"],
            entry.get("sha256"),
            root / "data" / f"{name}-{k:05d}-of-{len(shards):05d}.parquet",
        )
        for k, (worker, entry) in enumerate(shards)
    ]
    split = Split(name, n_shards=len(shards))
    pad = dataset.tokenizer.vocabulary.specials["[PAD]"]
    export = partial(_export_shard, pad=pad, link=link)
    for (_, _, target), (rows, tokens, memory) in in_order(export, planned):
        split.rows += rows
        split.tokens += tokens
        split.memory_bytes += memory
        split.bytes += target.stat().st_size
        tell()
    if split.rows != dataset.total_rows:
        raise ValueError(
            f"{dataset.path}: the shards hold {split.rows} rows, meta.json says {dataset.total_rows}"
        )
    _add_facts(split, dataset)
    return split


def _export_shard(shard: tuple[Place, str | None, Path], *, pad: int, link: bool) -> tuple[int, int, int]:
    """Link or copy a shard and verify it; its rows, tokens without padding, and bytes in memory."""
    source, stated, target = shard
    if isinstance(source, UrlPath) or not (link and _linked(source, target)):
        with at_hand(source) as local:
            shutil.copyfile(local, target)
    digest = sha256_of(target)
    if stated is not None and digest != stated:
        raise OSError(changed(source, digest, stated))
    rows = tokens = memory = 0
    with pq.ParquetFile(target) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            rows += table.num_rows
            memory += table.nbytes
            flat = table["input_ids"].combine_chunks().flatten().to_numpy()
            tokens += int(np.count_nonzero(flat != pad))
    return rows, tokens, memory


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _add_facts(split: Split, dataset: Dataset) -> None:
    meta = dataset.meta
    split.materials = dataset.count("n_materials")
    split.left_out = {reason: n for reason in REASONS if (n := dataset.count(f"n_materials_{reason}"))}
    split.workers = (len(dataset.workers), int(meta.get("n_workers", len(dataset.workers))))
    for worker in dataset.workers:
        histogram = worker.histogram
        split.voxels += sum(histogram)
        split.covered += sum(histogram[1:])
    own = {"worker_index", "n_materials_listed", "materials_hash", "tomat_version"}
    identity = meta.get("identity") or {
        key: meta.get(key) for key in ("seed", "patches_per_material", "patch_size", "pad_to", "unit")
    }
    split.configuration = {key: value for key, value in identity.items() if key not in own}


def _write_beside(dataset: Dataset, splits: Sequence[Split], root: Path) -> dict[str, Any]:
    tokenizer = dataset.tokenizer
    write_tokenizer(root, tokenizer.vocabulary, max_length=tokenizer.pad_to)
    codec = tokenizer.density_codec
    is_in_file = codec.parameters is None
    if is_in_file:
        codec.save(root / codec.file_name)
    facts: dict[str, Any] = {
        "tomat_version": _core.__version__,
        **tokenizer.identity,
        "codec": codec.name,
        "codec_file": codec.file_name if is_in_file else None,
        "codec_parameters": codec.parameters,
        "vocabulary_size": tokenizer.vocabulary.total_size,
        "splits": {split.name: {**vars(split), "workers": list(split.workers)} for split in splits},
    }
    write_json(root / FACTS, facts)
    return facts
