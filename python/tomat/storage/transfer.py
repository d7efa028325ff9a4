"""Verified transfer of files, by the checksums a store keeps or by reading back."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tomat.storage.files import filesystem
from tomat.storage.remote import UrlPath
from tomat.storage.retry import retried

if TYPE_CHECKING:
    from tomat.storage.remote import Place

_BLOCK = 1 << 22


class DamagedError(OSError):
    """A file was damaged in transfer; sending it again may help."""


@dataclass(frozen=True)
class Sums:
    """The size and checksums of a file: SHA-256, and those that stores keep."""

    size: int
    sha256: str
    md5: str
    #: As in Google Cloud Storage (base 64 of the big-endian word); None without the package ``google-crc32c``.
    crc32c: str | None


def sha256_of(path: Place) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def sums_of(path: Place) -> Sums:
    """Compute all checksums of a file."""
    sha256, md5, crc32c, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), _crc32c(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            sha256.update(block)
            md5.update(block)
            if crc32c is not None:
                crc32c.update(block)
    word = None if crc32c is None else base64.b64encode(crc32c.digest()).decode()
    return Sums(size, sha256.hexdigest(), md5.hexdigest(), word)


def _crc32c() -> Any:
    try:
        import google_crc32c  # comes with gcsfs
    except ImportError:
        return None
    return google_crc32c.Checksum()  # type: ignore[no-untyped-call]


def says(info: dict[str, Any], sums: Sums) -> bool | None:
    """Whether a store's metadata of a file match its checksums; None if they have nothing comparable."""
    if int(info["size"]) != sums.size:
        return False
    if "md5Hash" in info:  # Google Cloud Storage; composite objects have none
        return bool(info["md5Hash"] == base64.b64encode(bytes.fromhex(sums.md5)).decode())
    if "crc32c" in info and sums.crc32c is not None:
        return bool(info["crc32c"] == sums.crc32c)
    # S3: the MD5, except for multipart uploads or customer keys, so only equality is conclusive.
    etag = str(info.get("ETag", "")).strip('"')
    return True if etag == sums.md5 else None


def is_same(path: Place, sums: Sums, info: dict[str, Any] | None = None) -> bool:
    """Whether a file has these checksums, by the store's metadata (``info``, if known), else by reading it.

    Raises:
        OSError: it cannot be read; ``FileNotFoundError`` if it does not exist.
    """
    if isinstance(path, UrlPath):
        answer = says(path.info() if info is None else info, sums)
        if answer is not None:
            return answer
    elif path.stat().st_size != sums.size:
        return False
    return sums_of(path).sha256 == sums.sha256


def put(source: Path, target: Place, sums: Sums | None = None) -> Sums:
    """Copy a local file to ``target`` and verify it there, with retries; ``target`` is replaced atomically.

    Raises:
        OSError: all attempts failed.
    """
    expected = sums_of(source) if sums is None else sums
    if isinstance(target, Path):
        unfinished = target.with_name(f".{target.name}.tmp")
        with source.open("rb") as original, unfinished.open("wb") as copy:
            shutil.copyfileobj(original, copy, _BLOCK)
            copy.flush()
            os.fsync(copy.fileno())
        _check(unfinished, expected)
        unfinished.replace(target)
        return expected
    fs, inner = filesystem(target.url)

    def send() -> None:
        with suppress(NotImplementedError):
            fs.makedirs(fs._parent(inner), exist_ok=True)
        fs.put_file(str(source), inner)
        _check(target, expected)

    retried(send, str(target))
    return expected


def _check(path: Place, sums: Sums) -> None:
    if not is_same(path, sums):
        raise DamagedError(f"{path}: what arrived is not what was sent")
