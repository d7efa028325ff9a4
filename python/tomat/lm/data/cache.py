"""Cached folders of flat arrays, built once and atomically, and reused while their identity is unchanged."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from filelock import FileLock

from tomat.storage.files import atomic_folder, read_json, write_json
from tomat.workplace import identity_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

#: Index of a folder; written last, so that a folder without it is unfinished.
_COMPLETE = "complete.json"
#: Largest size in bytes of arrays kept in memory without a cache folder.
LARGEST_IN_MEMORY = 4 << 30
_SAMPLES, _SAMPLE = 256, 4096


@dataclass(frozen=True, eq=False)
class Arrays:
    """Flat arrays by name, and notes about them."""

    arrays: dict[str, NDArray[Any]]
    notes: dict[str, Any]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]


class FlatFile:
    """A one-dimensional array on disk that values can be appended to."""

    def __init__(self, folder: Path, name: str, dtype: DTypeLike, limit: int | None = None) -> None:
        """Create the file; appending beyond ``limit`` bytes is an error."""
        self.dtype = np.dtype(dtype)
        self._limit, self._bytes = limit, 0
        self._file = (folder / f"{name}.{self.dtype.str[1:]}").open("wb")

    def append(self, values: NDArray[Any]) -> None:
        """Add ``values``, in C order.

        Raises:
            ValueError: the limit is exceeded.
        """
        data = np.ascontiguousarray(values, dtype=self.dtype)
        self._bytes += data.nbytes
        if self._limit is not None and self._bytes > self._limit:
            raise ValueError(
                f"the data take more than {self._limit / 2**30:.3g} GiB of memory; set data.cache to a folder "
                "on a disk with enough space"
            )
        self._file.write(data.tobytes() if data.size == 0 else memoryview(data).cast("B"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def built(
    cache: str | Path | None,
    name: str,
    identity: dict[str, Any],
    build: Callable[[Path, int | None], dict[str, Any]],
) -> Arrays:
    """The arrays that ``build`` writes, from the cache if they are there and intact.

    Args:
        cache: folder of all caches; None builds in a temporary folder and keeps the arrays in memory.
        name: a name for the folder.
        identity: everything that determines the content, as JSON; every identity has its own folder.
        build: called with a folder for :class:`FlatFile` arrays and the size limit of each in bytes; returns notes as
            JSON.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="tomat-") as folder:
            notes = build(Path(folder), LARGEST_IN_MEMORY)
            return _open(Path(folder), notes, in_memory=True)
    root = Path(cache)
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{name}-{identity_hash(identity)[:20]}"
    with FileLock(root / f".{target.name}.lock"):
        notes_there = _sound(target, identity)
        if notes_there is None:
            for stale in (target, *root.glob(f".{target.name}.*.tmp*")):
                shutil.rmtree(stale, ignore_errors=True)
            with atomic_folder(target) as folder:
                made = {"identity": identity, "notes": build(folder, None)}
                prints = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
                write_json(folder / _COMPLETE, made | {"files": prints})
            notes_there = _sound(target, identity)
        if notes_there is None:
            raise OSError(f"{target}: what was just written does not read back; check the disk")
    return _open(target, notes_there, in_memory=False)


def _sound(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The notes of a finished folder with intact files; else None."""
    try:
        stated = read_json(folder / _COMPLETE)
        prints = {name: _fingerprint(folder / name) for name in stated["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = stated["identity"] == json.loads(json.dumps(identity)) and prints == stated["files"]
    return dict(stated["notes"]) if sound else None


def _fingerprint(path: Path) -> list[Any]:
    """Size, and SHA-256 of up to 1 MB in blocks spread over the file; whole files would take hours to read."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in np.unique(np.linspace(0, max(size - _SAMPLE, 0), _SAMPLES).astype(np.int64)):
            file.seek(int(place))
            digest.update(file.read(_SAMPLE))
    return [size, digest.hexdigest()]


def _open(folder: Path, notes: dict[str, Any], *, in_memory: bool) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.name == _COMPLETE:
            continue
        dtype = np.dtype(path.suffix[1:])
        if in_memory or path.stat().st_size == 0:
            arrays[path.stem] = np.fromfile(path, dtype=dtype)
        else:
            # Without the subclass, whose slices cost microseconds each.
            arrays[path.stem] = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
    return Arrays(arrays, notes)
