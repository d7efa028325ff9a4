"""Records of finished shards, under ``.progress``: what a run resumes from and ``meta.json`` is made of.

A record is a line of JSON and a line with the SHA-256 of that. One that is damaged is no record: its shard is written
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from tomat.storage.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from tomat.storage.remote import Place

logger = logging.getLogger("tomat")


def parse_record(content: bytes, source: object) -> dict[str, Any] | None:
    """A record from its bytes; None, and a word in the log that names ``source``, where they are damaged."""
    text, _, digest = content.removesuffix(b"\n").rpartition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() == digest:
        record = json.loads(text)
        if isinstance(record, dict):
            return record
    logger.warning("%s: the record is damaged; its shard is written again", source)
    return None


def read_record(path: Place) -> dict[str, Any] | None:
    """The record in a file; None where it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    return parse_record(path.read_bytes(), path)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record, all of it or nothing."""
    text = json.dumps(record).encode()
    write_atomically(path, text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")
