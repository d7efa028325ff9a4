"""Local paths and fsspec URLs: whole files in, whole files out."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, cast

__all__ = ["filesystem", "is_url", "open_bytes", "write_atomically"]


def is_url(path: str | Path) -> bool:
    """Whether ``path`` names a place that fsspec reaches (``gs://bucket/x``), not a local file."""
    return "://" in str(path) or str(path).startswith("memory:")


def filesystem(url: str | Path) -> tuple[Any, str]:
    """The fsspec filesystem of ``url`` and the path inside it.

    Raises:
        ValueError: a protocol without its package; the message names what to install.
    """
    import fsspec

    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(str(url)))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: {error}") from error


def open_bytes(path: str | Path) -> bytes:
    """The content of a local file or URL.

    Raises:
        OSError: it cannot be read; ``FileNotFoundError`` where it is not there.
    """
    if not is_url(path):
        return Path(path).read_bytes()
    fs, inner = filesystem(path)
    return cast("bytes", fs.cat_file(inner))


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a local file beside its place, flush it to disk, and rename it there: all of it or nothing."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
