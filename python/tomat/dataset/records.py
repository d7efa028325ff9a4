"""Records of finished shards in ``.progress``, from which runs resume and ``meta.json`` is made.

A record is a line of JSON and a line with its SHA-256. The shard of a damaged record is written again.
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
    """Parse a record; None, with a warning that names ``source``, if it is damaged."""
    text, _, digest = content.removesuffix(b"\n").rpartition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() == digest:
        record = json.loads(text)
        if isinstance(record, dict):
            return record
    logger.warning("%s: the record is damaged; its shard is written again", source)
    return None


def read_record(path: Place) -> dict[str, Any] | None:
    """Read a record; None if it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    return parse_record(path.read_bytes(), path)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record atomically."""
    text = json.dumps(record).encode()
    write_atomically(path, text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")
