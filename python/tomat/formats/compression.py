"""Compressed text: written by suffix, read by content and within a limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPRESSORS", "unpacked"]

#: The most bytes that a text may unpack to: so many, and so many for each of its own. Numbers do not pack that well.
_FREE, _RATIO = 64 << 20, 100
_CHUNK = 1 << 20


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def _open_zstd(file: IO[bytes]) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


#: Compression of text formats, by suffix.
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, compresslevel=6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}

_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", _open_zstd),
)


def unpacked(data: bytes, name: str) -> bytes:
    """The content of a file, decompressed if it begins as gzip, bzip2, xz or Zstandard do; ``name`` is for messages.

    Raises:
        ValueError: damaged or cut off, or it unpacks to far more than text does.
    """
    opener = next((opener for start, opener in _OPENERS if data.startswith(start)), None)
    if opener is None:
        return data
    parts, size, most = [], 0, _FREE + _RATIO * len(data)
    try:
        with opener(io.BytesIO(data)) as stream:
            while part := stream.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise ValueError(f"{name}: it unpacks to more than {most} bytes; not read")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name}: damaged or cut off: {error}; fetch the file again") from error
    return b"".join(parts)
