"""Resolving inputs: files, folders, globs, list files and ``rho_gga`` roots, local or at fsspec URLs."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.formats import COMPRESSORS, FORMATS
from tomat.material import Entry, task_id_of
from tomat.storage.files import filesystem, is_url, open_bytes, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LIST_SUFFIXES = (".txt", ".list")


def resolve_inputs(
    inputs: Sequence[str | Path],
    *,
    split_file: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """The materials of ``inputs``, in the order of the inputs, and by name within a folder or glob.

    Args:
        inputs: files, folders, globs, list files (one path or URL per line, relative to the list), or ``rho_gga`` roots
            (folders with ``label/``), local or URLs.
        split_file: JSON ``{"train": [...], ...}`` of ids, or of indices into the root's ``mp_filelist.txt``; for
            ``rho_gga`` roots only. If only ``split`` is given, the root's only ``split*.json``.
        split: list of the split file to use.
        limit: use only the first ``limit`` materials.

    Raises:
        FileNotFoundError: an input does not exist, or a glob has no match.
        ValueError: an invalid list or split file, two materials with one id, or no materials.
    """
    entries: list[Entry] = []
    uses_split = False
    for item in inputs:
        text = str(item)
        place = _Place.of(text)
        if _is_root(place):
            entries.extend(_rho_gga(place, split_file, split))
            uses_split = True
        else:
            entries.extend(Entry(task_id_of(path), path) for path in _files(text, place))
    if (split or split_file) and not uses_split:
        raise ValueError(
            "--split and --split-file need a rho_gga root (a folder with label/); none was given"
        )
    if not entries:
        raise ValueError("no densities found; give files, folders, globs, a list file or a rho_gga root")
    _check_ids(entries)
    return entries[:limit]


def is_rho_gga(item: str | Path) -> bool:
    """Whether an input is a ``rho_gga`` root, which may have a split file."""
    return _is_root(_Place.of(str(item)))


def splits_of(root: str | Path, split_file: str | Path | None = None) -> dict[str, str]:
    """The split of each material of a ``rho_gga`` root by id; empty if there is no split file.

    ``split_file`` defaults to the root's only ``split*.json``.

    Raises:
        ValueError: an invalid split file, or a material in two splits.
    """
    place = _Place.of(str(root))
    if split_file is None:
        candidates = [name for name in place.names(place.root) if fnmatch(name, "split*.json")]
        if len(candidates) != 1:
            return {}
        split_file = place.join(candidates[0])
    found: dict[str, str] = {}
    for name in _splits(split_file):
        for entry in _rho_gga(place, split_file, name):
            if found.setdefault(entry.task_id, name) != name:
                raise ValueError(
                    f"{split_file}: {entry.task_id} is in two splits, {found[entry.task_id]!r} and {name!r}"
                )
    return found


def _is_root(place: _Place) -> bool:
    return place.is_dir(place.join("label"))


@dataclass(frozen=True)
class _Place:
    root: str
    fs: Any

    @classmethod
    def of(cls, text: str) -> _Place:
        if is_url(text):
            fs, _ = filesystem(text)
            return cls(text.rstrip("/"), fs)
        return cls(text, None)

    def join(self, name: str) -> str:
        return f"{self.root}/{name}" if self.fs is not None else str(Path(self.root) / name)

    def _inner(self, path: str) -> str:
        return str(self.fs._strip_protocol(path))

    def is_dir(self, path: str) -> bool:
        return Path(path).is_dir() if self.fs is None else bool(self.fs.isdir(self._inner(path)))

    def exists(self, path: str) -> bool:
        return Path(path).exists() if self.fs is None else bool(self.fs.exists(self._inner(path)))

    def glob(self, pattern: str) -> list[str]:
        if self.fs is not None:
            return sorted(self.fs.unstrip_protocol(found) for found in self.fs.glob(self._inner(pattern)))
        path = Path(pattern)
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        return sorted(str(found) for found in anchor.glob(str(path.relative_to(anchor))))

    def names(self, path: str) -> list[str]:
        """Names in a folder, sorted."""
        if self.fs is None:
            return sorted(entry.name for entry in Path(path).iterdir())
        found = self.fs.ls(self._inner(path), detail=False)
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)


def _files(text: str, place: _Place) -> Iterable[str]:
    """The densities of an input that is not a ``rho_gga`` root."""
    if any(character in text for character in "*?[") and not place.exists(place.root):
        found = place.glob(text)
        if not found:
            raise FileNotFoundError(f"{text}: nothing matches")
        return found
    if text.rstrip("/").endswith(".zarr"):
        return [text.rstrip("/")]
    if place.is_dir(place.root):
        found = list(_search(place, place.root))
        if not found:
            raise FileNotFoundError(f"{text}: no densities in this folder (CHGCAR, cube or .zarr by name)")
        return found
    if not place.exists(place.root):
        raise FileNotFoundError(f"{text}: no such file or folder")
    return _listed(text) if text.endswith(_LIST_SUFFIXES) else [text]


def _search(place: _Place, folder: str) -> Iterable[str]:
    for name in place.names(folder):
        path = _Place(folder, place.fs).join(name)
        if _is_density(name):
            yield path
        elif place.is_dir(path) and not name.startswith("."):
            yield from _search(place, path)


def _is_density(name: str) -> bool:
    for suffix in COMPRESSORS:
        name = name.removesuffix(suffix)
    return any(fnmatch(name, pattern) for one in FORMATS.values() for pattern in one.searched)


def _listed(path: str) -> list[str]:
    """Paths in a list file, without blank lines and comments (#)."""
    lines = _text(path, "a list of paths").splitlines()
    base = path.rsplit("/", 1)[0] if is_url(path) else str(Path(path).parent)
    found = []
    for line in lines:
        item = line.strip()
        if item and not item.startswith("#"):
            absolute = is_url(item) or Path(item).is_absolute()
            found.append(item if absolute else f"{base}/{item}" if is_url(base) else str(Path(base) / item))
    if not found:
        raise ValueError(f"{path}: the list is empty; give one path or URL a line")
    return found


def _rho_gga(place: _Place, split_file: str | Path | None, split: str | None) -> Iterable[Entry]:
    """Materials of a ``rho_gga`` root; listed ids without a folder are kept and count as missing."""
    filelist = place.join("mp_filelist.txt")
    if place.exists(filelist):
        ids = _text(filelist, "a list of ids").split()
    else:
        names = place.names(place.join("label"))
        ids = [name.removesuffix(".zarr") for name in names if name.endswith(".zarr")]
    if split_file is None and split is not None:
        candidates = [name for name in place.names(place.root) if fnmatch(name, "split*.json")]
        if len(candidates) != 1:
            raise ValueError(
                f"{place.root}: {len(candidates)} files match split*.json; choose one with --split-file"
            )
        split_file = place.join(candidates[0])
    if split_file is not None:
        ids = _split_ids(str(split_file), split, ids)
    label = place.join("label")
    return [Entry(name, f"{label}/{name}.zarr") for name in ids]


def _split_ids(path: str, split: str | None, ids: list[str]) -> list[str]:
    splits = _splits(path)
    if split is None or split not in splits:
        raise ValueError(
            f"{path}: no split {split!r}; choose one with --split: {', '.join(map(str, splits))}"
        )
    if not isinstance(splits[split], list):
        raise ValueError(f"{path}: split {split!r} is not a list of ids or indices")
    chosen = []
    for item in splits[split]:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise ValueError(f"{path}: {item!r} in split {split!r} is neither an id nor an index")
        if isinstance(item, int):
            if not 0 <= item < len(ids):
                raise ValueError(
                    f"{path}: index {item} in split {split!r}, but mp_filelist.txt has {len(ids)} ids"
                )
            item = ids[item]
        chosen.append(item)
    return chosen


def _splits(path: str | Path) -> dict[str, Any]:
    try:
        return parse_json(open_bytes(path), path)
    except ValueError as error:
        problem = str(error).removeprefix(f"{path}: ")
        raise ValueError(
            f'{path}: not a split file: {problem}; it should read {{"train": [...], "validation": [...], ...}}'
        ) from error


def _text(path: str, what: str) -> str:
    try:
        return open_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {what}: it is not UTF-8 text ({error})") from error


def _check_ids(entries: list[Entry]) -> None:
    """Check that ids are unique and valid file names; lists and split files may hold anything."""
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.task_id in ("", ".", "..") or set(entry.task_id) & set("/\0"):
            raise ValueError(
                f"{entry.path}: {entry.task_id!r} is not a valid id of a material; correct the list or split file"
            )
        if entry.task_id in seen:
            raise ValueError(
                f"two materials are called {entry.task_id!r}: {seen[entry.task_id]} and {entry.path}; rename one, or "
                "tokenize them into two datasets"
            )
        seen[entry.task_id] = entry.path
