"""Reads the metrics a run logged; needs neither JAX nor Levanter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tomat._files import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["read_metrics", "records"]


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The logged steps in order, one dictionary each.

    Where a step stands more than once (a resumed run logs steps after its checkpoint again), the later value counts.
    A line that a kill cut off is left out.

    Raises:
        OSError: it cannot be read.
    """
    steps: dict[int, dict[str, Any]] = {}
    for line in records(open_bytes(path).splitlines()):
        if line is not None and line.get("step") is not None:
            step = int(line["step"])
            steps[step] = {**steps.get(step, {}), **line}
    return [steps[step] for step in sorted(steps)]


def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """The JSON object of each line; None for a line that is none, as one that was cut off."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        yield record if isinstance(record, dict) else None
