"""Reading and writing whole files, local or at fsspec URLs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from tomat.storage.retry import retried

if TYPE_CHECKING:
    from collections.abc import Iterator


class Readable(Protocol):
    """A path or URL whose content can be read."""

    def read_bytes(self) -> bytes: ...  # noqa: D102


def is_url(path: str | Path) -> bool:
    """Whether ``path`` is an fsspec URL (``gs://bucket/x``), not a local file."""
    return "://" in str(path) or str(path).startswith("memory:")


def filesystem(url: str | Path) -> tuple[Any, str]:
    """The fsspec filesystem of ``url`` and the path inside it.

    Raises:
        ValueError: an unknown protocol, or its package is not installed.
    """
    import fsspec

    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(str(url)))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: {error}") from error


def open_bytes(path: str | Path) -> bytes:
    """The content of a local file or URL.

    Raises:
        OSError: it cannot be read; ``FileNotFoundError`` if it does not exist.
    """
    if not is_url(path):
        return Path(path).read_bytes()
    fs, inner = filesystem(path)
    try:
        return cast("bytes", retried(lambda: fs.cat_file(inner), str(path)))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a local file atomically; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def write(path: str, data: bytes) -> None:
    """Write a local file atomically, or an object in a bucket, which is atomic by itself."""
    if is_url(path):
        fs, inner = filesystem(path)
        fs.pipe_file(inner, data)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def write_indented(path: str, content: dict[str, Any]) -> None:
    """Write an indented JSON object to a path or URL."""
    write(path, (json.dumps(content, indent=1) + "\n").encode())


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A temporary file next to ``path``, flushed to disk and renamed to it if the block succeeds."""
    import tempfile

    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder next to ``path``, which it replaces if the block succeeds."""
    import tempfile

    target = Path(path)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        folder.chmod(0o755)
        yield folder
        old = folder.with_name(folder.name + ".old")
        replaces = target.exists()
        if replaces:
            target.rename(old)
        folder.rename(target)
        if replaces:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_json(path: Readable) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: not a JSON object.
    """
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes, source: object) -> dict[str, Any]:
    """Parse a JSON object; ``source`` is named in errors.

    Raises:
        ValueError: not a JSON object.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source}: not a JSON object")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object atomically, as :func:`json_bytes`."""
    write_atomically(path, json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    """A JSON object with one top-level key per line."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    return f"{{\n{lines}\n}}\n".encode()
