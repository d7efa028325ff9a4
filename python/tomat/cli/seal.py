"""Add digests to checkpoints, runs and exports written by earlier versions.

PATH is the folder or URL of a run (with all its checkpoints), of one checkpoint, or of an export. Files are digested as
they are now, including any damage, so seal only files you trust. Existing digests are kept.

\b
Examples:
  tomat seal runs/guess-30M
  tomat seal gs://bucket/runs/guess-30M/checkpoints/step-20000 --json
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tomat.lm.digests import seal_trained


def command(
    path: Annotated[str, typer.Argument(help="Folder or URL of a run, a checkpoint or an export.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the files written as JSON.")] = False,
) -> None:
    written = seal_trained(path)
    if as_json:
        print(json.dumps({"written": written}))
        return
    print("\n".join(written) if written else f"{path}: already has its digests")
