"""A folder of parts, one a material: what is there stays when work is stopped, and goes on with the same command.

A part is there completely or not at all. A record says whose folder it is: the identity of the work, all that its
numbers depend on.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tomat.storage.files import read_json, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Parts of an identity that may change between the runs of one work.
_FREE = ("command", "versions", "created")


class Workplace:
    """The folder of work under way.

    Args:
        folder: made if need be.
        identity: of the work.
        overwrite: begin anew where the folder holds other work.
        record: the file of the identity.
        what: what the work is called in messages.
        results: files and folders beside the record and ``parts`` that go when it begins anew; where there are any, a
            folder of other files is refused, and else one whose ``parts`` are not empty.

    Raises:
        ValueError: the folder holds other work, and the message says what differs; or other files.
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
        """Claim the folder."""
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
                    "--overwrite to begin anew"
                )
            for stale in [folder / name for name in (*results, "parts")] if differing else []:
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink(missing_ok=True)
        elif any(own.iterdir()):
            raise ValueError(
                f"{own} holds files, but {stated} is not there; give another folder for the results"
            )
        self.parts.mkdir(exist_ok=True)
        write_atomically(stated, (json.dumps(self.identity, indent=1) + "\n").encode())

    def read(self, task_id: str, path: str) -> dict[str, Any] | None:
        """The part of a material; None where there is none, it is damaged, or of another file."""
        try:
            content = json.loads(self._part(task_id).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("path") != path:
            return None
        return content

    def write(self, task_id: str, content: Mapping[str, Any]) -> None:
        """Keep the part of a material."""
        write_atomically(self._part(task_id), json.dumps(plain(dict(content)), allow_nan=False).encode())

    def _part(self, task_id: str) -> Path:
        return self.parts / f"{file_name(task_id)}.json"


def file_name(task_id: str) -> str:
    """A file name from any task id, without a suffix: readable where it can be, distinct always."""
    digest = hashlib.sha256(task_id.encode()).hexdigest()[:12]
    return f"{quote(task_id, safe='')[:100]}-{digest}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The parts in which two identities differ, those apart that may change."""
    keys = [key for key in {**one, **other} if key not in _FREE]
    return sorted(key for key in keys if one.get(key) != other.get(key))


def plain(value: Any) -> Any:
    """``value`` as JSON takes it: mappings with text keys, lists, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
