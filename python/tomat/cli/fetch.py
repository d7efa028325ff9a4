"""Fetch densities of the Materials Project.

\b
Examples:
  tomat fetch mp-149 mp-1265 -o densities
  tomat-tokenize densities --out rows

ID is a task id. Each density is copied from the project's public bucket (AWS Open Data, no API key) to
OUT/ID.chgcar.json.gz, which tomat reads. To resume an interrupted fetch, run the same command again: files that are
there are kept. It needs network access and s3fs (tomat[s3]).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tomat.cli._shared import AsJson
from tomat.dataset.materials_project import BUCKET


def command(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Task ids: mp-149.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    bucket: Annotated[str, typer.Option(help="URL or folder with ID.json.gz.")] = BUCKET,
    as_json: AsJson = False,
) -> None:
    from tomat.dataset.materials_project import fetch_densities

    done = fetch_densities(ids, out, bucket, lambda one: print(f"fetching {one}", file=sys.stderr))
    for failure in done.failed.values():
        print(f"failed: {failure}", file=sys.stderr)
    if as_json:
        print(json.dumps({"output": str(out), **asdict(done)}))
    else:
        print(
            f"{out}: {len(done.fetched)} fetched, {len(done.there)} there already, {len(done.failed)} failed"
        )
    if done.failed:
        raise SystemExit(1)
