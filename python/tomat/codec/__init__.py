"""Codecs: a density value to token components and back, and the files they live in.

A kind of codec is a file here and a line in :data:`KINDS`, and in the core the same.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from tomat.codec.base import Codec
from tomat.codec.lloyd_max import ALIASES, LloydMaxCodec, bundled_codecs
from tomat.codec.log import LOG_CODECS, LogCodec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "ALIASES",
    "FLOORS",
    "KINDS",
    "LOG_CODECS",
    "Codec",
    "LloydMaxCodec",
    "LogCodec",
    "bundled_codecs",
    "bundled_floor",
    "codec_of",
    "load_codec",
]

#: All kinds, in the order in which they are asked whether a name is theirs.
KINDS: tuple[type[Codec], ...] = (LogCodec, LloydMaxCodec)

#: Beside the bundled codecs: what each loses on unseen crystals, with the hash of the codec that was measured.
FLOORS = "floors.json"


def load_codec(name: str | Path) -> Codec:
    """A codec of any kind: by name, or a file by path or URL.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
        OSError: the file cannot be read.
        ValueError: the file is not a codec.
    """
    text = str(name)
    kind = next((kind for kind in KINDS if kind.knows(text)), None)
    if kind is None:
        known = ", ".join([*bundled_codecs(), *LOG_CODECS])
        raise KeyError(f"unknown codec {text!r}; known: {known}, or give the path of an .npz file")
    return kind.load(text)


def codec_of(stored: Mapping[str, Any]) -> Codec:
    """The codec that ``density_codec`` of a ``meta.json`` says all of.

    Raises:
        ValueError, TypeError, OverflowError: it does not.
    """
    # Other programs call the one kind they have there as they like.
    kind = next((kind for kind in KINDS if kind.kind == stored.get("kind")), LogCodec)
    return kind.from_parameters(stored)


def bundled_floor(codec: Codec) -> float | None:
    """Mean NMAE of a codec of the package on crystals it was not fitted to, as a fraction; None where not measured."""
    path = resources.files("tomat").joinpath("codecs", FLOORS)
    measured = json.loads(path.read_text()) if path.is_file() else {}
    of = measured.get(ALIASES.get(codec.name, codec.name))
    return float(of["nmae_mean"]) if of and of["hash"] == codec.hash else None
