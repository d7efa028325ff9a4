"""Codecs: from density values to token components and back, and their files.

A kind of codec is a file here and an entry in :data:`KINDS`, and likewise in the core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomat._npz import bundled_file
from tomat.codec.base import Codec
from tomat.codec.lloyd_max import ALIASES, LloydMaxCodec, bundled_codecs
from tomat.codec.log import LOG_CODECS, LogCodec
from tomat.codec.relative import RelativeCodec, bundled_relative_codecs

__all__ = [
    "ALIASES",
    "FLOORS",
    "KINDS",
    "LOG_CODECS",
    "Codec",
    "LloydMaxCodec",
    "LogCodec",
    "RelativeCodec",
    "bundled_codecs",
    "bundled_floor",
    "bundled_relative_codecs",
    "codec_of",
    "load_codec",
]

#: All kinds; the first whose ``knows`` accepts a name loads it.
KINDS: tuple[type[Codec], ...] = (LogCodec, RelativeCodec, LloydMaxCodec)

#: File with the error floor of each bundled codec on unseen crystals, and the hash of the codec measured.
FLOORS = "floors.json"


def load_codec(name: str | Path) -> Codec:
    """Load a codec of any kind by name, path or URL.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
        OSError: the file cannot be read.
        ValueError: the file is not a codec.
    """
    text = str(name)
    kind = next((kind for kind in KINDS if kind.knows(text)), None)
    if kind is None:
        known = ", ".join([*bundled_codecs(), *bundled_relative_codecs(), *LOG_CODECS])
        raise KeyError(f"unknown codec {text!r}; known: {known}, or give the path of an .npz file")
    return kind.load(text)


def codec_of(stored: Mapping[str, Any]) -> Codec:
    """The codec described completely by ``density_codec`` of a ``meta.json``.

    Raises:
        KeyError, ValueError, TypeError, OverflowError: the description is incomplete or invalid.
    """
    # Other programs store only log codecs there, under any name.
    kind = next((kind for kind in KINDS if kind.kind == stored.get("kind")), LogCodec)
    return kind.from_parameters(stored)


def bundled_floor(codec: Codec) -> float | None:
    """Mean NMAE of a bundled codec on crystals it was not fitted to, as a fraction; None if not measured."""
    path = bundled_file("codecs", FLOORS)
    measured = json.loads(path.read_text()) if path.is_file() else {}
    of = measured.get(ALIASES.get(codec.name, codec.name))
    return float(of["nmae_mean"]) if of and of["hash"] == codec.hash else None
