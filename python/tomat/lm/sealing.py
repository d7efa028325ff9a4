"""Digests for what was written before there were any; needs neither JAX nor Levanter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tomat.lm.digests import DIGESTS, checkpoint_folders, is_complete, seal
from tomat.lm.note import FILES, NOTE, SEAL, check_note, write_note
from tomat.storage.files import is_url, read_json
from tomat.storage.remote import place
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from typing import Any

#: The file that tells an export from a run.
_CONFIG = "config.json"


def seal_trained(path: str) -> list[str]:
    """Write the digests that a run, a checkpoint or an export lacks, of its files as they are now.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: no run, checkpoint or export there.
        ValueError: digests that are there and do not fit.
    """
    root = path.rstrip("/")
    if not place(f"{root}/{NOTE}").exists():
        raise FileNotFoundError(
            f"{root}: no {NOTE} there; give the folder of a run, a checkpoint or an export"
        )
    written = _seal_note(root)
    for folder in [root] if is_complete(root) else [*_kept(root), *checkpoint_folders(f"{root}/checkpoints")]:
        if folder != root:
            written += _seal_note(folder)
        if not (place(folder) / DIGESTS).exists():
            seal(folder)
            written.append(f"{folder}/{DIGESTS}")
    return written


def _kept(root: str) -> list[str]:
    """Weights that a run keeps beside its checkpoints."""
    top = place(root)
    names = sorted(path.name for pattern in ("start", "best-*") for path in top.glob(pattern))
    return [f"{root}/{name}" for name in names if is_complete(f"{root}/{name}")]


def _seal_note(folder: str) -> list[str]:
    path = place(f"{folder}/{NOTE}")
    content = read_json(path)
    if SEAL in content or content.get("format") != 1:
        check_note(content, path)
        return []
    if not is_url(folder) and (place(folder) / _CONFIG).exists():
        content[FILES] = _files(folder)
    write_note(folder, content)
    return [str(path)]


def _files(folder: str) -> dict[str, Any]:
    """The files of an export but the note and the card."""
    return {
        file.name: sha256_of(file)
        for file in sorted(Path(folder).iterdir())
        if file.is_file() and file.name not in (NOTE, "README.md")
    }
