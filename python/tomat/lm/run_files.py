"""Where a training run keeps what, in a folder or a bucket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tomat.storage.files import filesystem, is_url, write_atomically


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: ``<out>/<name>/``.

    Attributes:
        root: the run's own folder, local or a URL that fsspec opens.
    """

    root: str

    #: Folder of the weights the run began with.
    START: ClassVar[str] = "start"

    @property
    def config(self) -> str:
        """``config.yaml``: the whole configuration, defaults included."""
        return f"{self.root}/config.yaml"

    @property
    def identity(self) -> str:
        """``tomat.json``: what a resumed run must share, and what prediction needs to know."""
        return f"{self.root}/tomat.json"

    @property
    def metrics(self) -> str:
        """``metrics.jsonl``: one JSON object a logged step."""
        return f"{self.root}/metrics.jsonl"

    @property
    def codec(self) -> str:
        """``codec.npz``: the density codec, where it is a Lloyd-Max one."""
        return f"{self.root}/codec.npz"

    @property
    def checkpoints(self) -> str:
        """Folder of Levanter's checkpoints, ``step-N`` each."""
        return f"{self.root}/checkpoints"

    @property
    def start(self) -> str:
        """Folder of the weights the run began with, step 0: no optimizer, nothing goes on from it."""
        return f"{self.root}/{self.START}"

    @property
    def best(self) -> str:
        """``best.json``: which evaluation was the best, and the folder of its weights."""
        return f"{self.root}/best.json"

    @property
    def local(self) -> Path:
        """A local folder: the run's own, or for a bucket one of the same name in the working directory."""
        return (
            Path("logs") / self.root.rstrip("/").rsplit("/", 1)[-1] if is_url(self.root) else Path(self.root)
        )

    def make(self) -> None:
        """Make the run's local folder; buckets have none, and checkpoints make their own."""
        self.local.mkdir(parents=True, exist_ok=True)


def write(path: str, data: bytes) -> None:
    """Write a file whole: atomically on a local disk; an object in a bucket appears whole by itself."""
    if not is_url(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        return
    fs, inner = filesystem(path)
    fs.pipe_file(inner, data)


def write_mapping(path: str, content: dict[str, Any]) -> None:
    """Write JSON for people: indented, keys as they come."""
    write(path, (json.dumps(content, indent=1) + "\n").encode())
