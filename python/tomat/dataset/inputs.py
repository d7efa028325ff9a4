"""Resolving inputs: files, folders, globs, list files and ``rho_gga`` roots, local or at fsspec URLs."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.formats import COMPRESSORS, FORMATS, format_by_name
from tomat.material import Entry, task_id_of
from tomat.storage.files import filesystem, is_url, open_bytes, parse_json
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tomat.storage.remote import Place

#: Endings of list files.
LIST_SUFFIXES = (".txt", ".list")


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
        if is_rho_gga(item):
            entries.extend(_rho_gga(place(item), split_file, split))
            uses_split = True
        else:
            entries.extend(Entry(task_id_of(path), path) for path in _files(str(item), place(item)))
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
    return (place(item) / "label").is_dir()


def splits_of(root: str | Path, split_file: str | Path | None = None) -> dict[str, str]:
    """The split of each material of a ``rho_gga`` root by id; empty if there is no split file.

    ``split_file`` defaults to the root's only ``split*.json``.

    Raises:
        ValueError: an invalid split file, or a material in two splits.
    """
    if split_file is None:
        candidates = _split_files(place(root))
        if len(candidates) != 1:
            return {}
        split_file = candidates[0]
    found: dict[str, str] = {}
    for name in _splits(split_file):
        for entry in _rho_gga(place(root), split_file, name):
            if found.setdefault(entry.task_id, name) != name:
                raise ValueError(
                    f"{split_file}: {entry.task_id} is in two splits, {found[entry.task_id]!r} and {name!r}"
                )
    return found


def _files(text: str, root: Place) -> Iterable[str]:
    """The densities of an input that is not a ``rho_gga`` root."""
    if any(character in text for character in "*?[") and not root.exists():
        found = matching(text)
        if not found:
            raise FileNotFoundError(f"{text}: nothing matches")
        return found
    form = format_by_name(text.rstrip("/"))
    if form is not None and not form.is_text:
        return [text.rstrip("/")]
    if root.is_dir():
        found = list(_search(root))
        if not found:
            raise FileNotFoundError(
                f"{text}: no densities in this folder (CHGCAR, cube, .zarr, .save or _DEN by name)"
            )
        return found
    if not root.exists():
        raise FileNotFoundError(f"{text}: no such file or folder")
    return listed(text) if text.endswith(LIST_SUFFIXES) else [text]


def matching(pattern: str) -> list[str]:
    """Paths or URLs that a glob matches, sorted."""
    if is_url(pattern):
        fs, inner = filesystem(pattern)
        return sorted(fs.unstrip_protocol(found) for found in fs.glob(inner))
    path = Path(pattern)
    return sorted(str(found) for found in Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _search(folder: Place) -> Iterable[str]:
    below: Iterable[Place] = folder.iterdir()
    for path in sorted(below, key=str):
        if _is_density(path.name):
            yield str(path)
        elif not path.name.startswith(".") and path.is_dir():
            yield from _search(path)


def _is_density(name: str) -> bool:
    for suffix in COMPRESSORS:
        name = name.removesuffix(suffix)
    return any(fnmatch(name, pattern) for one in FORMATS.values() for pattern in one.searched)


def listed(path: str) -> list[str]:
    """Paths in a list file, without blank lines and comments (#)."""
    lines = _text(path, "a list of paths").splitlines()
    found = []
    for line in lines:
        item = line.strip()
        if item and not item.startswith("#"):
            absolute = is_url(item) or Path(item).is_absolute()
            found.append(item if absolute else str(place(path).parent / item))
    if not found:
        raise ValueError(f"{path}: the list is empty; give one path or URL a line")
    return found


def _split_files(root: Place) -> list[str]:
    return [str(path) for path in root.glob("split*.json")]


def _rho_gga(root: Place, split_file: str | Path | None, split: str | None) -> Iterable[Entry]:
    """Materials of a ``rho_gga`` root; listed ids without a folder are kept and count as missing."""
    filelist, label = root / "mp_filelist.txt", root / "label"
    if filelist.exists():
        ids = _text(str(filelist), "a list of ids").split()
    else:
        names = sorted(path.name for path in label.iterdir())
        ids = [name.removesuffix(".zarr") for name in names if name.endswith(".zarr")]
    if split_file is None and split is not None:
        candidates = _split_files(root)
        if len(candidates) != 1:
            raise ValueError(
                f"{root}: {len(candidates)} files match split*.json; choose one with --split-file"
            )
        split_file = candidates[0]
    if split_file is not None:
        ids = _split_ids(str(split_file), split, ids)
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
