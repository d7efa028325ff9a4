"""Show what a dataset contains, or a model that tomat export wrote into one file.

Of a model, all digests are checked.

\b
Examples:
  tomat info rows
  tomat info rows --json
  tomat info small.tomat
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
from tomat.lm.artefact.file import is_artefact, read_artefact


def command(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="A dataset: a directory or a URL; or a file NAME.tomat.")
    ],
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Open what is there if workers are missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    if is_artefact(directory):
        facts = describe_artefact(directory)
        tensors = facts.pop("tensors")
        if as_json:
            print(json.dumps({**facts, "tensors": tensors}))
        else:
            print_facts({name: _in_words(value) for name, value in facts.items()})
        return
    dataset = open_dataset(directory, allow_partial=allow_partial)
    facts = describe(dataset)
    if as_json:
        print(json.dumps(facts))
        return
    clipped = facts["clipped"]
    told = "not counted" if clipped is None else str(ClippedTotals.from_stored(clipped))
    print_facts({name: _in_words(value) for name, value in {**facts, "clipped": told}.items()})


def _in_words(value: Any) -> Any:
    """Counts by name as text; anything else as it is."""
    return (
        ", ".join(f"{count} {key}" for key, count in value.items()) or "none"
        if isinstance(value, dict)
        else value
    )


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


def describe_artefact(path: str) -> dict[str, Any]:
    """A summary of a model in one file, with a line for each weight under ``tensors``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    artefact = read_artefact(path)
    about, note = artefact.header["about"], artefact.note
    parameters = sum(weight.size for weight in artefact.weights().values())
    packed = artefact.header["sections"]["weights"]
    # A transformer's codec is that of its tokenizer.
    tokenizer, codec = note.get("tokenizer") or {}, note.get("codec") or {}
    facts = {
        "file": path,
        "bytes": artefact.size,
        "model": about["name"],
        "kind": about["kind"],
        "steps": about.get("steps"),
        "parameters": parameters,
        **{
            f"weights_{key}" if key == "layers" else key: value
            for key, value in about.get("quantized", {}).items()
        },
        "bits_a_weight": round(8 * packed["bytes"] / max(parameters, 1), 3),
        "weights_sha256": packed["sha256"],
        "objective": (note.get("objective") or {}).get("kind"),
        "layout": tokenizer.get("layout"),
        "codec": codec.get("name") or tokenizer.get("codec"),
        "codec_hash": codec.get("hash") or tokenizer.get("codec_hash"),
        "vocabulary_hash": note.get("vocabulary_hash"),
        "promolecule_hash": (note.get("promolecule") or {}).get("hash"),
        "written_by": f"tomat {artefact.header['tomat']}",
        "files": {name: len(data) for name, data in artefact.files.items()},
        "tensors": artefact.header["weights"],
    }
    return {name: value for name, value in facts.items() if value is not None}


def _clipped(dataset: Dataset) -> dict[str, Any] | None:
    """What the codec clips, summed over all workers; None if a worker did not count it."""
    if any("clipped_materials" not in worker.meta for worker in dataset.workers):
        return None
    totals = ClippedTotals()
    for worker in dataset.workers:
        totals.merge(clipped_totals(worker.meta).stored)
    return totals.stored
