"""Copy a dataset and verify the copy.

\b
Examples:
  tomat sync rows gs://bucket/rows
  tomat sync gs://bucket/rows /scratch/rows --threads 16
  tomat sync rows s3://bucket/rows --allow-partial

SRC and DST are directories or URLs. Every shard is checked against the SHA-256 in meta.json as it is read, and by its
checksum after it has arrived; a worker's meta.json is copied after its shards. To resume an interrupted copy, run the
same command again: identical files are kept. A dataset with missing workers is copied only with --allow-partial.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from tomat._threads import MAX_THREADS
from tomat.cli._shared import AsJson
from tomat.dataset.sync import THREADS, sync_dataset


def command(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A dataset: a directory or a URL.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The copy: a directory or a URL.")],
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Copy what is there if workers are missing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another dataset at DST.")] = False,
    threads: Annotated[int, typer.Option(help="Files copied at once.", min=1, max=MAX_THREADS)] = THREADS,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: AsJson = False,
) -> None:
    from rich.console import Console

    start = time.monotonic()
    console = Console(stderr=True, quiet=quiet or as_json)
    with console.status("copying") as status:
        report = sync_dataset(
            source,
            target,
            allow_partial=allow_partial,
            overwrite=overwrite,
            threads=threads,
            watch=lambda done, total: status.update(f"copying: {done} of {total} files"),
        )
    if as_json:
        print(json.dumps(asdict(report)))
    elif not quiet:
        copied = (
            f"{report.copied:,} files copied ({report.bytes / 1e6:,.1f} MB), {report.present:,} were there"
        )
        print(
            f"{target}: {report.workers} of {report.n_workers} workers, {report.rows:,} rows; {copied} "
            f"({time.monotonic() - start:.1f} s)"
        )
        if report.missing:
            print(f"missing workers: {', '.join(map(str, report.missing))}")
