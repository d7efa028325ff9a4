"""Say what a codec is and how it was made.

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
from tomat.codec import LogCodec, load_codec

if TYPE_CHECKING:
    from tomat.codec import Codec


def command(
    codec: Annotated[str, typer.Argument(metavar="CODEC", help="Name, path or URL.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Load, print."""
    loaded = facts(load_codec(codec))
    if as_json:
        print(json.dumps(loaded))
    else:
        print_facts(loaded)


def facts(codec: Codec) -> dict[str, Any]:
    """What there is to say about a codec, in the order a reader asks."""
    shown: dict[str, Any] = {
        "name": codec.name,
        "tokens_a_voxel": len(codec.sizes),
        "bins": " x ".join(f"{n:,}" for n in codec.sizes),
    }
    if isinstance(codec, LogCodec):
        low, high = 10**codec.log_min, 10**codec.log_max
        return {
            **shown,
            "unit": "any",
            "range": f"+-{low:.3g} to +-{high:.4g}",
            **codec.parameters,
            "hash": codec.hash,
        }
    shown |= {"unit": codec.unit, "range": f"{codec.clip_min:.4g} to {codec.clip_max:.4g}"}
    return {
        **shown,
        **{key: value for key, value in codec.about.items() if key != "hash"},
        "hash": codec.hash,
    }
