"""Reads the metrics a run logged; needs neither JAX nor Levanter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tomat._files import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_metrics"]


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The logged steps in order, one dictionary each.

    Where a step stands more than once (a resumed run logs steps after its checkpoint again), the later value counts.
    A line that a kill cut off is left out.

    Raises:
        OSError: it cannot be read.
    """
    steps: dict[int, dict[str, Any]] = {}
    for line in _lines(path):
        if line.get("step") is not None:
            step = int(line["step"])
            steps[step] = {**steps.get(step, {}), **line}
    return [steps[step] for step in sorted(steps)]


def _lines(path: str | Path) -> Iterator[dict[str, Any]]:
    for text in open_bytes(path).decode("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
