"""``digests.json``: size and SHA-256 of every file of a checkpoint; needs neither JAX nor Levanter.

It is written after all other files of a checkpoint except ``metadata.json``, which marks the checkpoint as complete. It
lists all files, ``metadata.json`` included, and has a digest of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tomat._seal import check_seal, sealed
from tomat._threads import in_order
from tomat.lm.record import FILES, NOTE, SEAL, RunFiles, check_note, write_note
from tomat.storage.files import filesystem, read_json, write, write_indented
from tomat.storage.remote import place
from tomat.storage.retry import retried
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.storage.remote import Place

DIGESTS = "digests.json"
#: Levanter's mark of a complete checkpoint.
METADATA = "metadata.json"
#: Key of the file's own digest.
_SEAL = "sha256"
_FORMAT = 1
_STEP = re.compile(r"step-(\d+)")
#: Files read in parallel.
_READERS = 8
#: Number of files named in an error.
_SHOWN = 3


def checkpoint_folders(root: str) -> list[str]:
    """The complete checkpoints below ``root``, sorted by the step in their name."""
    top = place(root)
    if not top.is_dir():
        return []
    found = sorted(((step_of(path.name), path.name) for path in top.iterdir()), key=lambda one: one[0])
    folders = [f"{root}/{name}" for step, name in found if step >= 0]
    return [folder for folder in folders if is_complete(folder)]


def step_of(folder: str) -> int:
    """The step in the name of a checkpoint's folder; -1 for any other name."""
    match = _STEP.fullmatch(folder.rstrip("/").rsplit("/", 1)[-1])
    return -1 if match is None else int(match[1])


def is_complete(folder: str) -> bool:
    """Whether a checkpoint is complete."""
    return (place(folder) / METADATA).exists()


def begin(folder: str) -> None:
    """Mark a folder as incomplete, before a checkpoint is written into it again."""
    top = place(folder)
    if isinstance(top, Path):
        for name in (METADATA, DIGESTS):
            (top / name).unlink(missing_ok=True)
    else:
        top.remove([METADATA])
        top.remove([DIGESTS])


def complete(folder: str, metadata: dict[str, Any]) -> None:
    """Write the digests of a folder, then ``metadata.json``, which completes the checkpoint.

    Raises:
        OSError: a file cannot be read or written.
    """
    content = json.dumps(metadata).encode()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = _found(folder) | {METADATA: entry}
    _write(folder, files)
    write(f"{folder}/{METADATA}", content)


def seal_trained(path: str) -> list[str]:
    """Write the missing digests of a run, a checkpoint or an export, for its files as they are now.

    Returns:
        The paths of the files written.

    Raises:
        FileNotFoundError: there is no run, checkpoint or export.
        ValueError: existing digests do not match.
    """
    root = path.rstrip("/")
    if not place(f"{root}/{NOTE}").exists():
        raise FileNotFoundError(
            f"{root}: no {NOTE} there; give the folder of a run, a checkpoint or an export"
        )
    written = _seal_note(root)
    single = is_complete(root)
    for folder in [root] if single else [*_kept(root), *checkpoint_folders(RunFiles(root).checkpoints)]:
        if folder != root:
            written += _seal_note(folder)
        if not (place(folder) / DIGESTS).exists():
            _write(folder, _found(folder))
            written.append(f"{folder}/{DIGESTS}")
    return written


def _kept(root: str) -> list[str]:
    """The folders of weights that a run keeps beside its checkpoints."""
    top = place(root)
    names = sorted(path.name for pattern in ("start", "best-*") for path in top.glob(pattern))
    return [f"{root}/{name}" for name in names if is_complete(f"{root}/{name}")]


def _seal_note(folder: str) -> list[str]:
    path = place(f"{folder}/{NOTE}")
    content = read_json(path)
    if SEAL in content or content.get("format") != 1:
        check_note(content, path)
        return []
    if (place(folder) / "config.json").exists():  # an export, not a run
        content[FILES] = {
            name: entry["sha256"] for name, entry in _found(folder).items() if name not in (NOTE, "README.md")
        }
    write_note(folder, content)
    return [str(path)]


def check_folder(folder: str, only: Sequence[str] | None = None) -> None:
    """Check that a checkpoint has exactly the files that were written, unchanged.

    Args:
        folder: of the checkpoint, local or a URL.
        only: check only these files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, missing or not listed, or there are no digests.
    """
    listed = _listed(folder)
    names = list(listed) if only is None else [name for name in only if name in listed]
    problems = []
    if only is None:
        there = set(_names(folder)) - {DIGESTS}
        problems += [f"{name} is missing" for name in sorted(listed.keys() - there)]
        problems += [f"{name} is not listed in {DIGESTS}" for name in sorted(there - listed.keys())]
        names = sorted(there & listed.keys())
    for name, found in in_order(lambda name: _digest(place(f"{folder}/{name}")), names, _READERS):
        if found != listed[name]:
            problems.append(f"{name} is not what was written (SHA-256)")
    if problems:
        more = f", and {len(problems) - _SHOWN} files more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{folder}: the checkpoint is damaged: {', '.join(problems[:_SHOWN])}{more}; fetch it again, or delete "
            "this folder to resume from the checkpoint before it"
        )


def _listed(folder: str) -> dict[str, dict[str, Any]]:
    path = place(folder) / DIGESTS
    if not path.exists():
        raise ValueError(
            f"{folder}: has no {DIGESTS}, so its files cannot be checked: it was made by an earlier version of tomat, "
            f"or the file was lost. Fetch it again, or, if you trust the files, run: tomat seal {folder}"
        )
    content = read_json(path)
    check_seal(content, _SEAL, path)
    files = content.get("files")
    if content.get("format") != _FORMAT or not isinstance(files, dict):
        raise ValueError(
            f"{path}: of format {content.get('format')!r}, this program reads {_FORMAT}; update tomat"
        )
    return cast("dict[str, dict[str, Any]]", files)


def _write(folder: str, files: dict[str, dict[str, Any]]) -> None:
    content = sealed({"format": _FORMAT, "files": dict(sorted(files.items()))}, _SEAL)
    write_indented(f"{folder}/{DIGESTS}", content)


def _found(folder: str) -> dict[str, dict[str, Any]]:
    """Size and digest of every file except ``digests.json``."""
    names = [name for name in _names(folder) if name != DIGESTS]
    return dict(in_order(lambda name: _digest(place(f"{folder}/{name}")), names, _READERS))


def _names(folder: str) -> list[str]:
    """Relative paths of all files below a folder, with ``/`` as separator."""
    top = place(folder)
    if isinstance(top, Path):
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if not path.is_dir())
    fs, inner = filesystem(folder)

    def find() -> list[str]:
        fs.invalidate_cache()
        return [str(name) for name in fs.find(inner)]

    start = inner.strip("/") + "/"
    found = (name.strip("/") for name in retried(find, folder) if not name.endswith("/"))
    return sorted(name.removeprefix(start) for name in found)


def _digest(path: Place) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
