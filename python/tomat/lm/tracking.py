"""The tracker of every run: appends one JSON object per logged step to a file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from levanter.tracker.tracker import NoopTracker, Tracker, TrackerConfig

from tomat.lm.metrics_file import continue_from, end_last_line
from tomat.storage.files import is_url, write


class JsonLines(NoopTracker):
    """Appends ``{"step": ..., "time": ..., "train/loss": ..., ...}`` lines to a file.

    Everything logged for a step forms one line, written when the next step comes. A resumed run appends, so a step may
    occur twice; the later line counts, see :func:`tomat.lm.metrics_file.read_metrics`. Hyperparameters and artifacts
    have files of their own.

    Args:
        path: local file.
        mirror: URL the file is copied to at the end of the run and every ``mirror_s`` seconds, or None. Lines that it
            has from another machine are taken over.
    """

    name = "jsonl"

    def __init__(self, path: Path, mirror: str | None = None, mirror_s: float = 300.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._mirror = mirror if mirror is not None and is_url(mirror) else None
        if self._mirror is not None:
            continue_from(path, self._mirror)
        end_last_line(path)
        self._file: IO[str] | None = path.open("a", encoding="utf-8")
        self._mirror_s = mirror_s
        self._mirrored = time.monotonic()
        self._step: int | None = None
        self._line: dict[str, Any] = {}

    def log(self, metrics: Mapping[str, Any], *, step: int | None, commit: bool | None = None) -> None:
        """Add metrics of a step."""
        if step != self._step:
            self._write()
            self._step = step
        self._line.update(_flat(metrics))
        if commit:
            self._write()

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Write a line without a step."""
        self._append({"event": "summary", **_flat(metrics)})

    def finish(self) -> None:
        """Write the pending line and close the file."""
        if self._file is None:
            return
        self._write()
        self._file.close()
        self._file = None
        self._copy()

    def _write(self) -> None:
        if self._line:
            self._append({"step": self._step, **self._line})
            self._line = {}
        if time.monotonic() - self._mirrored > self._mirror_s:
            self._copy()

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")
        self._file.flush()

    def _copy(self) -> None:
        self._mirrored = time.monotonic()
        if self._mirror is not None:
            write(self._mirror, self._path.read_bytes())


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to ``a/b`` and arrays of one element to numbers; drop what JSON cannot represent."""
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{name}/"))
            continue
        number = _number(value)
        if number is not None:
            found[name] = number
    return found


def _number(value: Any) -> float | int | str | bool | None:
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if np.size(value) != 1:
            return None
        value = np.asarray(value).reshape(()).item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, int) else None


@TrackerConfig.register_subclass("jsonl")
@dataclass
class JsonLinesConfig(TrackerConfig):
    """The tracker in Levanter's configuration; every run adds it.

    Attributes:
        path: local file.
        mirror: URL the file is copied to; ignored if it is not a URL.
    """

    path: str = "metrics.jsonl"
    mirror: str | None = None

    def init(self, run_id: str | None) -> Tracker:
        """Make the tracker; on all hosts but the first, one that does nothing."""
        return JsonLines(Path(self.path), self.mirror) if jax.process_index() == 0 else NoopTracker()
