"""Export datasets as a folder for the Hugging Face Hub.

\b
Examples:
  tomat export-hf rows-train densities
  tomat export-hf rows-train rows-validation gs://bucket/rows-test densities --license cc-by-4.0
  hf upload me/densities densities --repo-type dataset

Each DIR is a dataset of one split (the one in its meta.json); all have the same layout and codec. OUT is a new folder
with data/*.parquet, a dataset card (README.md) whose header configures load_dataset, tokenizer.json for transformers,
the codec file, and tomat.json with the card's numbers for programs. Every shard is verified and counted; on the same
file system shards are hard-linked, not copied.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tomat.cli._shared import AsJson
from tomat.dataset.export_hf import export_hf


def command(
    paths: Annotated[list[str], typer.Argument(metavar="DIR... OUT", help="Datasets, then the new folder.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset on its card.  [default: OUT's]")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="License on the card, as the Hub names it: cc-by-4.0, ...")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Export what is there if workers are missing.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy shards instead of linking them.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: AsJson = False,
) -> None:
    from rich.console import Console

    if len(paths) < 2:
        raise typer.BadParameter("give at least one dataset, then the folder to write")
    with Console(stderr=True, quiet=quiet or as_json).status("exporting") as status:
        export = export_hf(
            paths[:-1],
            paths[-1],
            name=name,
            license_id=license_id,
            allow_partial=allow_partial,
            link=not copy,
            watch=lambda done, total: status.update(f"exporting: {done} of {total} shards"),
        )
    if as_json:
        print(json.dumps(export.facts))
    elif not quiet:
        for split in export.splits:
            print(
                f"{export.directory}: split {split.name}: {split.rows:,} rows of {split.materials:,} materials in "
                f"{split.n_shards:,} files, {split.bytes / 1e6:,.1f} MB"
            )
