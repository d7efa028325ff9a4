"""The file in which wandb keeps a run that was logged offline, read record by record.

The container is LevelDB's log: after a header of 7 bytes, blocks of 32 KiB of chunks, each a CRC-32, a length and a
type (whole, or first, middle or last part of a record). The records are wandb's protocol buffers.
wandb has no reader in Python from version 0.31 on.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER = struct.Struct("<4sHB")
_IDENT, _MAGIC, _VERSION = b":W&B", 0xBEE1, 0
_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def payloads(path: Path) -> Iterator[bytes]:
    """The records of a file as bytes; a record that the end of the file cuts off is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or is damaged before its end; the message says where.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data) != (_IDENT, _MAGIC, _VERSION):
        raise ValueError(f"{path}: not a file of an offline wandb run; give wandb/offline-run-*")
    at, record = _HEADER.size, b""
    while at + _CHUNK.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _CHUNK.size:  # a block ends with zeros that are too short for a chunk
            at += left
            continue
        checksum, length, kind = _CHUNK.unpack_from(data, at)
        content = data[at + _CHUNK.size : at + _CHUNK.size + length]
        if len(content) < length:
            return
        if (
            kind not in (_FULL, _FIRST, _MIDDLE, _LAST)
            or zlib.crc32(content, zlib.crc32(bytes([kind]))) != checksum
        ):
            raise ValueError(
                f"{path}: damaged at byte {at} of {len(data)}; copy it again from where the run was trained"
            )
        record = content if kind in (_FULL, _FIRST) else record + content
        if kind in (_FULL, _LAST):
            yield record
        at += _CHUNK.size + length


def records(path: Path) -> Iterator[Any]:
    """The records of a file as wandb's ``Record`` messages.

    Raises:
        OSError: the file cannot be read.
        ValueError: as :func:`payloads`, wandb is not installed, or a record is not what it should be.
    """
    try:
        from google.protobuf.message import DecodeError
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # made when imported
    except ImportError as error:
        raise ValueError(
            f"reading runs of wandb needs wandb: pip install 'tomat[train]' ({error})"
        ) from error
    for payload in payloads(path):
        record = Record()
        try:
            record.ParseFromString(payload)
        except DecodeError as error:
            raise ValueError(f"{path}: a record is damaged ({error}); copy it again") from error
        yield record
