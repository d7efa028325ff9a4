"""Export datasets as a folder for the Hugging Face Hub.

\b
Examples:
  tomat export-hf rows-train densities
  tomat export-hf rows-train rows-validation gs://bucket/rows-test densities --license cc-by-4.0
  hf upload me/densities densities --repo-type dataset

DIR are datasets, one a split (that of their meta.json), of one layout and codec; OUT is a new folder: data/*.parquet, a
README.md whose header tells load_dataset what is there, tokenizer.json for transformers, the codec file, and tomat.json
with the numbers for programs. Every shard is checked and counted on the way; on one file system shards are linked, not
copied.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tomat.cli._shared import AsJson
from tomat.dataset.export_hf import export_hf


def command(
    paths: Annotated[list[str], typer.Argument(metavar="DIR... OUT", help="Datasets, then the new folder.")],
    name: Annotated[str | None, typer.Option(help="Of the dataset, on its card.  [default: OUT's]")] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="As the Hub names it, for the card: cc-by-4.0, ...")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Export what is there when workers are missing.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy shards that could be linked.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export, print."""
    from rich.console import Console

    if len(paths) < 2:
        raise typer.BadParameter("give at least one dataset and the folder to write")
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
