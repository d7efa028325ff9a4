"""A folder of results, one file per material, from which interrupted work resumes.

A part is complete or absent. A record holds the identity of the work: everything the results depend on. Parts of other
folders (the shards of a tokenization) have records that hold their own SHA-256 in a second line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tomat.storage.files import read_json, write_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger("tomat")

#: Parts of an identity that may change when work is resumed.
_FREE = ("command", "versions", "created")


class Workplace:
    """The folder of unfinished work.

    Args:
        folder: created if it does not exist.
        identity: of the work.
        overwrite: start over if the folder holds other work.
        record: name of the file with the identity.
        what: name of the work in messages.
        results: files and folders, besides the record and ``parts``, to remove when starting over. If empty, other
            files may be in ``folder``, but not in ``parts``.

    Raises:
        ValueError: the folder holds other work (the message says what differs) or other files.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        overwrite: bool = False,
        record: str = "evaluation.json",
        what: str = "evaluation",
        results: Sequence[str] = ("result.json", "materials.parquet", "volumes"),
    ) -> None:
        self.parts, self.identity = folder / "parts", plain(dict(identity))
        stated = folder / record
        own = folder if results else self.parts
        try:
            own.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"{own}: not a directory; give another place for the results") from error
        if stated.exists():
            differing = differences(read_json(stated), self.identity)
            if differing and not overwrite:
                raise ValueError(
                    f"{folder} holds another {what}; different: {', '.join(differing)}. Give another folder, or "
                    "--overwrite to replace it"
                )
            for stale in [folder / name for name in (*results, "parts")] if differing else []:
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink(missing_ok=True)
        elif any(own.iterdir()):
            raise ValueError(
                f"{own} holds files, but there is no {stated}; give another folder for the results"
            )
        self.parts.mkdir(exist_ok=True)
        write_atomically(stated, (json.dumps(self.identity, indent=1) + "\n").encode())

    def read(self, task_id: str, path: str) -> dict[str, Any] | None:
        """The part of a material; None if it is missing, damaged, or of another source file."""
        try:
            content = json.loads(self._part(task_id).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return content if isinstance(content, dict) and content.get("path") == path else None

    def write(self, task_id: str, content: Mapping[str, Any]) -> None:
        """Store the part of a material."""
        write_atomically(self._part(task_id), json.dumps(plain(dict(content)), allow_nan=False).encode())

    def _part(self, task_id: str) -> Path:
        return self.parts / f"{file_name(task_id)}.json"


def file_name(task_id: str) -> str:
    """A unique, mostly readable file name for any task id, without a suffix."""
    digest = hashlib.sha256(task_id.encode()).hexdigest()[:12]
    return f"{quote(task_id, safe='')[:100]}-{digest}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any], free: Collection[str] = _FREE) -> list[str]:
    """The keys, sorted, in which two identities differ, except the ``free`` ones, which may change."""
    return sorted(key for key in {**one, **other} if key not in free and one.get(key) != other.get(key))


def identity_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity in canonical JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def parse_record(content: bytes, source: object) -> dict[str, Any] | None:
    """The record of a part; None, with a warning that names ``source``, if it is damaged."""
    text, _, digest = content.removesuffix(b"\n").rpartition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() == digest:
        record = json.loads(text)
        if isinstance(record, dict):
            return record
    logger.warning("%s: the record is damaged; its shard is written again", source)
    return None


def read_record(path: Path) -> dict[str, Any] | None:
    """:func:`parse_record` of a file."""
    return parse_record(path.read_bytes(), path)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record of a part atomically: a line of JSON and a line with its SHA-256."""
    text = json.dumps(record).encode()
    write_atomically(path, text + b"\n" + hashlib.sha256(text).hexdigest().encode() + b"\n")


def plain(value: Any) -> Any:
    """``value`` in JSON types: text keys, lists, and None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
