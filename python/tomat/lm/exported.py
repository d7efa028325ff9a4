"""Folders of exported models: how they are written, opened and checked; no JAX, no Levanter."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.artefact.file import is_artefact, read_artefact
from tomat.lm.record import FILES, NOTE, part, read_note, seal_note
from tomat.storage.files import write_atomically, write_indented
from tomat.storage.remote import at_hand
from tomat.storage.remote import place as place_of
from tomat.storage.transfer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tomat.storage.remote import Place

#: File of the weights.
WEIGHTS = "model.safetensors"
#: Key of the SHA-256 of each weight in an export's note.
CHECKSUMS = "sha256"


def is_export(path: str, weights: str) -> bool:
    """Whether a path is an export, a folder or one file, which stands for the ``best`` and ``latest`` weights.

    Raises:
        FileNotFoundError: it is one, and its initial weights are asked for.
    """
    found = is_artefact(path) or bool(place_of(f"{path}/{WEIGHTS}").exists())
    if found and weights == "start":
        raise FileNotFoundError(f"{path}: an export has no initial weights; give the run it was made from")
    return found


def export_note(path: str) -> dict[str, Any]:
    """The note of an export, a folder or one file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    return read_artefact(path).note if is_artefact(path) else read_note(path)


@contextlib.contextmanager
def export_folder(directory: str | Path) -> Iterator[Path]:
    """A new folder, which takes the name ``directory`` when everything has been written into it.

    Raises:
        ValueError: ``directory`` holds something other than an export.
        OSError: it cannot be written.
    """
    target = Path(directory).resolve()
    if target.exists() and any(target.iterdir()) and not (target / NOTE).exists():
        raise ValueError(f"{target} exists and is not an exported model: choose another directory")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if target.exists():
        shutil.rmtree(target)
    partial.replace(target)


def write_description(folder: Path, metadata: dict[str, Any], card: str) -> None:
    """Write the note of an export, with digests of all files that are there, and its card."""
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    content = json.loads(json.dumps({**metadata, FILES: files}, default=str))
    write_indented(str(folder / NOTE), seal_note(content))
    write_atomically(folder / "README.md", card.encode())


def check_files(place: Place, metadata: dict[str, Any]) -> None:
    """Compare all files of an export but the weights, whose damage :func:`read_weights` names, with their digests.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is not the one that was exported.
    """
    stated = part(metadata, FILES, dict, str(place)) if FILES in metadata else {}
    for name, checksum in stated.items():
        if name != WEIGHTS and sha256_of(place / name) != checksum:
            raise ValueError(f"{place / name}: is not what was exported (SHA-256); fetch it again")


def read_weights(place: Place, metadata: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The weights of an export by name.

    Raises:
        OSError: their file is missing or cannot be read.
        ValueError: a weight contradicts ``tomat.json``.
    """
    with at_hand(place / WEIGHTS) as file:
        return _read_weights(file, metadata, str(place / WEIGHTS))


def _read_weights(path: Path, metadata: dict[str, Any], source: str) -> dict[str, NDArray[Any]]:
    """Read the weights file and compare every weight with its digest."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: damaged: {error}; fetch it again") from error
    for name, checksum in part(metadata, CHECKSUMS, dict, source).items():
        if name not in weights or _checksum(weights[name]) != checksum:
            raise ValueError(f"{source}: weight {name} is not the one that was exported; fetch it again")
    stated = part(metadata, FILES, dict, source).get(WEIGHTS) if FILES in metadata else None
    if stated is not None and sha256_of(path) != stated:
        raise ValueError(f"{source}: is not what was exported (SHA-256); fetch it again")
    return weights


def write_weights(path: Path, weights: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Write the weights, read them back and compare.

    Returns:
        Their SHA-256 by name.

    Raises:
        RuntimeError: the weights read back differ from those written.
        OSError: the file cannot be written.
    """
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file(weights, path, metadata={"format": "pt"})
    checksums = {name: _checksum(weight) for name, weight in weights.items()}
    with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
        if set(file.keys()) != set(weights):
            raise RuntimeError(f"{path}: the weights read back differ from those written")
        for name, weight in weights.items():
            read = file.get_tensor(name)
            if read.shape != weight.shape or _checksum(read) != checksums[name]:
                raise RuntimeError(f"{path}: weight {name} did not read back as it was written")
    return checksums


def _checksum(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
