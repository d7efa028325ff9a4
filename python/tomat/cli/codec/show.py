"""Show what a codec is and how it was made.

\b
Examples:
  tomat codec show l1-16k-e_per_A3-1e4
  tomat codec show rows/codec.npz --json
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomat.cli._shared import AsJson, print_facts
from tomat.codec import load_codec

if TYPE_CHECKING:
    from tomat.codec import Codec


def command(
    codec: Annotated[str, typer.Argument(metavar="CODEC", help="Name, path or URL.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    loaded = facts(load_codec(codec))
    if as_json:
        print(json.dumps(loaded))
    else:
        print_facts(loaded)


def facts(codec: Codec) -> dict[str, Any]:
    """The facts to show about a codec, in order."""
    shown: dict[str, Any] = {
        "name": codec.name,
        "tokens_a_voxel": len(codec.sizes),
        "bins": " x ".join(f"{n:,}" for n in codec.sizes),
    }
    return {**shown, **codec.facts, "hash": codec.hash}
