"""The card of an exported dataset: a YAML header for the Hub, and a description."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The Hub's size categories by number of rows.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)


@dataclass
class Split:
    """The numbers of one split, counted in the exported files.

    Attributes:
        name: of the split on the Hub.
        materials, rows: in the split.
        tokens: in all rows, without padding.
        n_shards, bytes: number and size of the parquet files.
        memory_bytes: size of the columns in memory.
        voxels, covered: grid points of all materials, and those covered by at least one patch.
        left_out: number of materials left out, by reason.
        workers: workers in the export, and workers of the dataset.
        configuration: of the run that wrote it.
    """

    name: str
    materials: int = 0
    rows: int = 0
    tokens: int = 0
    n_shards: int = 0
    bytes: int = 0
    memory_bytes: int = 0
    voxels: int = 0
    covered: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    workers: tuple[int, int] = (0, 0)
    configuration: dict[str, Any] = field(default_factory=dict)


def card(name: str, license_id: str | None, splits: Sequence[Split], facts: dict[str, Any]) -> str:
    """The text of ``README.md``.

    Args:
        name: of the dataset.
        license_id: as the Hub names it; omitted if None.
        splits: with their numbers.
        facts: layout, codec and vocabulary, as :func:`tomat.dataset.export_hf` collects them.
    """
    header = yaml.safe_dump(_header(name, license_id, splits), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{_body(name, splits, facts)}"


def _header(name: str, license_id: str | None, splits: Sequence[Split]) -> dict[str, Any]:
    rows = sum(split.rows for split in splits)
    features = [
        {"name": "task_id", "dtype": "string"},
        *({"name": f"offset_{axis}", "dtype": "int32"} for axis in "xyz"),
        {"name": "input_ids", "list": "int32"},
    ]
    header: dict[str, Any] = {
        "pretty_name": name,
        "size_categories": [next((word for limit, word in _SIZES if rows < limit), "n>1T")],
        "tags": ["chemistry", "materials-science", "electron-density", "density-functional-theory", "tomat"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split.name, "path": f"data/{split.name}-*.parquet"} for split in splits
                ],
            }
        ],
        "dataset_info": {
            "features": features,
            "splits": [
                {"name": split.name, "num_bytes": split.memory_bytes, "num_examples": split.rows}
                for split in splits
            ],
            "download_size": sum(split.bytes for split in splits),
            "dataset_size": sum(split.memory_bytes for split in splits),
        },
    }
    return ({"license": license_id} if license_id else {}) | header


def _body(name: str, splits: Sequence[Split], facts: dict[str, Any]) -> str:
    rows = sum(split.rows for split in splits)
    codec = facts["codec"]
    load = f'load_codec("{facts["codec_file"]}")' if facts["codec_file"] else f'load_codec("{codec}")'
    partial = [split for split in splits if split.workers[0] < split.workers[1]]
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in facts["fallback_shapes"]) or "left out"
    missing = "".join(
        f"**Not all of it:** split `{split.name}` holds the parts of {split.workers[0]} of {split.workers[1]} "
        "workers.\n\n"
        for split in partial
    )
    return f"""# {name}

Electron densities of crystals as token sequences: {rows:,} rows of {facts["pad_to"]:,} tokens, made with tomat
{facts["tomat_version"]}. A row is one patch of one material's density, after the cell, the atoms and their positions.

{missing}{_table(splits, facts["pad_to"])}
## How it was made

| | |
|---|---|
| layout | {facts["layout"]} |
| patch | {facts["patch_size"]} grid points along each axis; where that does not fit: {shapes} |
| density codec | {codec}, hash `{facts["codec_hash"]}` |
| unit of the density | `{facts["unit"]}` |
| vocabulary | {facts["vocabulary_size"]:,} tokens, hash `{facts["vocabulary_hash"]}` |
| tokens a row | {facts["pad_to"]:,}, padded on the right with `[PAD]` |
{_configuration(splits)}
## Columns

| column | type | |
|---|---|---|
| `task_id` | string | the material |
| `offset_x`, `offset_y`, `offset_z` | int32 | low corner of the patch, in grid points |
| `input_ids` | list of int32 | the tokens |

## Reading

```python
from datasets import load_dataset
from transformers import AutoTokenizer

rows = load_dataset("PATH", split="{splits[0].name}")
tokenizer = AutoTokenizer.from_pretrained("PATH")
print(tokenizer.decode(rows[0]["input_ids"], skip_special_tokens=False)[:200])
```

and back to a density, with the codec file of this folder:

```python
from tomat import PatchTokenizer, load_codec

tokenizer = PatchTokenizer(
    "{facts["layout"]}", {load}, {facts["patch_size"]}, {facts["pad_to"]}, unit="{facts["unit"]}"
)
patch = tokenizer.decode(rows[0]["input_ids"])
```

`tomat.json` holds the same numbers for programs.
"""


def _table(splits: Sequence[Split], pad_to: int) -> str:
    lines = [
        "| split | materials | rows | tokens | padding | voxels covered | parquet files | size | left out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for split in splits:
        padding = f"{1 - split.tokens / (split.rows * pad_to):.1%}" if split.rows else "none"
        covered = f"{split.covered / split.voxels:.1%} of {split.voxels:,}" if split.voxels else "unknown"
        left_out = ", ".join(f"{n:,} {reason}" for reason, n in split.left_out.items()) or "none"
        lines.append(
            f"| {split.name} | {split.materials:,} | {split.rows:,} | {split.tokens:,} | {padding} | {covered} "
            f"| {split.n_shards:,} | {split.bytes / 1e6:,.1f} MB | {left_out} |"
        )
    return "\n".join(lines) + "\n"


def _configuration(splits: Sequence[Split]) -> str:
    """Rows with the other options of the runs, by split if they differ."""
    named = {
        "layout",
        "patch_size",
        "fallback_shapes",
        "codec_hash",
        "vocabulary_hash",
        "unit",
        "pad_to",
        "split",
    }
    keys = [key for key in splits[0].configuration if key not in named]
    lines = []
    for key in keys:
        values = {str(split.configuration.get(key)) for split in splits}
        shown = (
            values.pop()
            if len(values) == 1
            else ", ".join(f"{split.name}: {split.configuration.get(key)}" for split in splits)
        )
        lines.append(f"| {key.replace('_', ' ')} | {shown} |\n")
    return "".join(lines)
