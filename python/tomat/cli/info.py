"""Show what a dataset contains.

\b
Examples:
  tomat info rows
  tomat info rows --json
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tomat._threads import in_order
from tomat.cli._shared import AsJson, print_facts
from tomat.clipping import ClippedTotals
from tomat.dataset.manifest import Dataset, open_dataset
from tomat.dataset.meta import REASONS
from tomat.dataset.run_directory import clipped_totals


def command(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A dataset: a directory or a URL.")],
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Open what is there if workers are missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    dataset = open_dataset(directory, allow_partial=allow_partial)
    facts = describe(dataset)
    if as_json:
        print(json.dumps(facts))
        return
    said: dict[str, Any] = {}
    for name, value in facts.items():
        if name == "clipped":
            value = "not counted" if value is None else str(ClippedTotals.from_stored(value))
        elif isinstance(value, dict):
            value = ", ".join(f"{count} {key}" for key, count in value.items()) or "none"
        said[name] = value
    print_facts(said)


def describe(dataset: Dataset) -> dict[str, Any]:
    """A summary of a dataset, added up over workers."""
    meta = dataset.meta
    paths = list(dataset.shard_paths())
    size = sum(size for _, size in in_order(lambda path: path.stat().st_size, paths))
    histograms = [found for worker in dataset.workers if (found := worker.histogram)]
    voxels = sum(map(sum, histograms))
    return {
        "directory": str(dataset.path),
        "layout": meta["tokenizer_version"],
        "split": meta.get("split"),
        "materials": dataset.count("n_materials"),
        "rows": dataset.total_rows,
        "tokens_a_row": meta["pad_to"],
        "patch_size": meta["patch_size"],
        "patches_per_material": meta.get("patches_per_material"),
        "sampler": meta.get("sampler"),
        "budget": meta.get("budget", "equal"),
        "codec": meta["density_codec_name"],
        "unit": dataset.tokenizer.unit,
        "vocabulary_size": meta["vocab"]["total_size"],
        "vocabulary_hash": meta.get("vocabulary_hash"),
        "seed": meta.get("seed"),
        "workers": len(dataset.workers),
        "shards": len(paths),
        "bytes": size,
        "voxels_covered": f"{1 - sum(found[0] for found in histograms) / voxels:.1%}"
        if voxels
        else "unknown",
        "clipped": _clipped(dataset),
        "warnings": dataset.count("n_materials_warned"),
        "left_out": {r: n for r in REASONS if (n := dataset.count(f"n_materials_{r}"))},
    }


def _clipped(dataset: Dataset) -> dict[str, Any] | None:
    """What the codec clips, summed over all workers; None if a worker did not count it."""
    if any("clipped_materials" not in worker.meta for worker in dataset.workers):
        return None
    totals = ClippedTotals()
    for worker in dataset.workers:
        totals.merge(clipped_totals(worker.meta).stored)
    return totals.stored
