"""Read the metrics of a run; needs neither JAX nor Levanter."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

from tomat.storage.files import open_bytes, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


#: Name of the page of a run that is also logged with wandb, in a line without a step.
WANDB_URL = "wandb/url"


class CutLineWarning(UserWarning):
    """A metrics file has lines that cannot be read."""


def end_last_line(path: Path) -> None:
    """Terminate the last line of a file before appending to it, since a kill may have cut it off."""
    try:
        with path.open("r+b") as file:
            if not file.seek(0, os.SEEK_END):
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except FileNotFoundError:
        return


def continue_from(path: Path, copy: str) -> None:
    """Bring the lines of a run's copied metrics to a machine on which the run goes on.

    Lines that only one of the files has are ordered by the time they were written at.

    Args:
        path: of this machine; missing or older if the run was elsewhere since.
        copy: URL of the copy, which need not exist.

    Raises:
        OSError: a file cannot be read or written.
    """
    try:
        theirs = open_bytes(copy).splitlines(keepends=True)
    except FileNotFoundError:
        return
    mine = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if mine[: len(theirs)] == theirs:
        return
    known = set(theirs)
    lines = theirs + [line for line in mine if line not in known]
    times: list[float] = []
    for record in records(lines):
        time = (record or {}).get("time")
        # A line that was cut off stays behind the one before it.
        times.append(float(time) if isinstance(time, int | float) else times[-1] if times else 0.0)
    order = sorted(range(len(lines)), key=times.__getitem__)
    write_atomically(path, b"".join(lines[i].rstrip(b"\n") + b"\n" for i in order))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The logged steps in ascending order, one dictionary each.

    If a step occurs more than once (a resumed run repeats steps after its checkpoint), the later value counts.
    Unreadable lines are skipped with a warning that numbers them, except a last line without an end, which the run may
    still be writing.

    Raises:
        OSError: the file cannot be read.
    """
    steps: dict[int, dict[str, Any]] = {}
    broken: list[int] = []
    lines = open_bytes(path).split(b"\n")
    for number, line in enumerate(records(lines), 1):
        if line is None:
            if lines[number - 1].strip() and number < len(lines):
                broken.append(number)
        elif isinstance(line.get("step"), int):
            step = int(line["step"])
            steps[step] = {**steps.get(step, {}), **line}
    if broken:
        which = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        warnings.warn(
            f"{path}: {len(broken)} lines cannot be read and are left out: {which}",
            CutLineWarning,
            stacklevel=2,
        )
    return [steps[step] for step in sorted(steps)]


def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """The JSON object of each line; None for a line that is not one, such as one that was cut off."""
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else None
