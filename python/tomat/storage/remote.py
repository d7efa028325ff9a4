"""fsspec URLs with the interface of local paths.

Not universal-pathlib, which answers from listings cached by fsspec; here each request goes to the store and is retried
(:mod:`tomat.storage.retry`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tomat._threads import in_order
from tomat.storage.files import filesystem, is_url, open_bytes
from tomat.storage.retry import is_transient, retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Concurrent small requests.
_REQUESTS = 8


@dataclass(frozen=True)
class Stat:
    """The size of a remote file, as in :class:`os.stat_result`."""

    st_size: int


@dataclass(frozen=True)
class UrlPath:
    """A URL with the methods of :class:`pathlib.Path` that readers of datasets use.

    Nothing is cached, since others may be writing.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> UrlPath:
        return UrlPath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> UrlPath:
        """All but the last part."""
        return UrlPath(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is a file, or anything below it."""
        return bool(self._ask(lambda fs, path: fs.exists(path)))

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self._ask(lambda fs, path: fs.isfile(path)))

    def is_dir(self) -> bool:
        """Whether there is anything below it."""
        return bool(self._ask(lambda fs, path: fs.isdir(path)))

    def read_bytes(self) -> bytes:
        """The content; errors as :func:`tomat.storage.files.open_bytes`."""
        return open_bytes(self.url)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open for reading."""
        if mode != "rb":
            raise ValueError(f"{self.url}: mode {mode!r}; URLs can only be opened with mode 'rb'")
        return cast("IO[bytes]", self._ask(lambda fs, path: fs.open(path, "rb")))

    def stat(self) -> Stat:
        """The size of the file; ``FileNotFoundError`` if it does not exist."""
        return Stat(int(self.info()["size"]))

    def info(self) -> dict[str, Any]:
        """The store's metadata of the file: ``size``, ``type``, checksums."""
        return cast("dict[str, Any]", self._ask(lambda fs, path: fs.info(path)))

    def iterdir(self) -> list[UrlPath]:
        """The paths directly below, sorted by name."""
        try:
            found = self._ask(lambda fs, path: {*fs.ls(path, detail=False)} - {path, f"{path}/"})
        except FileNotFoundError:
            return []
        names = {str(name).rstrip("/").rpartition("/")[2] for name in found}
        return [self / name for name in sorted(names - {""})]

    def list_files(self) -> dict[str, dict[str, Any]]:
        """The store's metadata of each file directly below, by name, in one request."""
        try:
            found = self._ask(lambda fs, path: fs.ls(path, detail=True))
        except FileNotFoundError:
            return {}
        files = (entry for entry in found if entry.get("type") == "file")
        return {str(entry["name"]).rpartition("/")[2]: dict(entry) for entry in files}

    def remove(self, names: Sequence[str]) -> None:
        """Delete files below it, if they exist."""

        def delete(name: str) -> None:
            fs, inner = filesystem(self.url)
            with contextlib.suppress(FileNotFoundError):
                retried(lambda: fs.rm_file(f"{inner.rstrip('/')}/{name}"), f"{self.url}/{name}")

        for _ in in_order(delete, names, _REQUESTS):
            pass

    def download(self, target: Path) -> None:
        """Copy the file to a local one; errors as :meth:`read_bytes`."""
        self._ask(lambda fs, path: fs.get_file(path, str(target)))

    def __lt__(self, other: UrlPath) -> bool:
        return self.url < other.url

    def glob(self, pattern: str) -> list[UrlPath]:
        """The paths directly below whose names match, sorted."""
        return [path for path in self.iterdir() if fnmatchcase(path.name, pattern)]

    def _ask(self, question: Callable[[Any, str], Any]) -> Any:
        fs, inner = filesystem(self.url)

        def ask() -> Any:
            fs.invalidate_cache()
            return question(fs, inner)

        return retried(ask, self.url)


type Place = Path | UrlPath


def place(path: str | Path | UrlPath) -> Place:
    """A local path or a URL."""
    if isinstance(path, UrlPath):
        return path
    return UrlPath(str(path).rstrip("/")) if is_url(path) else Path(path)


@contextlib.contextmanager
def at_hand(path: Place) -> Iterator[Path]:
    """A local file with the content of ``path``: itself, or a temporary copy."""
    if isinstance(path, Path):
        yield path
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tomat-") as folder:
        local = Path(folder) / path.name
        path.download(local)
        yield local


def fetch_files(url: str, names: Sequence[str]) -> dict[str, bytes]:
    """The content of the files below a URL that exist, by name, fetched concurrently.

    Raises:
        OSError: the store does not answer.
    """
    fs, inner = filesystem(url)
    files: dict[str, bytes] = {}
    waiting = list(names)

    def ask() -> None:
        answers = fs.cat_ranges([f"{inner.rstrip('/')}/{name}" for name in waiting], None, None)
        failed: list[BaseException] = []
        for name, answer in zip(tuple(waiting), answers, strict=True):
            if isinstance(answer, bytes):
                files[name] = answer
            elif not isinstance(answer, FileNotFoundError):
                failed.append(answer)
                continue
            waiting.remove(name)
        if failed:
            # A permanent error first: retrying would not help.
            raise min(failed, key=is_transient)

    if waiting:
        retried(ask, url)
    return files
