"""Runs of other machines as folders that reports read: ``metrics.jsonl``, ``run.json``, and a table of all of them."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tomat._seal import check_seal, sealed
from tomat.storage.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

METRICS = "metrics.jsonl"
#: Says what a pulled run is. It is written last: a folder without it is not finished.
RUN = "run.json"
#: Table of the runs of a folder, written when all of them are there.
RUNS = "runs.csv"
_FORMAT = "tomat pulled run"
_SEAL = "run_sha256"
#: Names that wandb gives to what JSON cannot represent.
_NOT_FINITE = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
#: States in which a run is still being written.
_GOING_ON = ("running", "pending", "preempting")


@dataclass(frozen=True)
class RemoteRun:
    """What is known of a run besides its history.

    Attributes:
        id: unique in its project.
        name: shown in reports.
        state: ``finished``, ``running``, ``crashed``, ...
        url: its page; empty if it has none.
        created: when it began, ISO 8601.
        last_step: the last step of its history, -1 if it has none.
        config: hyperparameters.
        summary: last values.
    """

    id: str
    name: str
    state: str
    url: str
    created: str
    last_step: int
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


def flat(values: Mapping[str, Any], join: str = "/", prefix: str = "") -> dict[str, Any]:
    """Nested mappings as ``a/b``; numbers, strings and truth values only."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found.update(flat(value, join, f"{name}{join}"))
        elif isinstance(value, float) and not math.isfinite(value):
            found[name] = str(value)
        elif isinstance(value, str | bool | int | float):
            found[name] = _NOT_FINITE.get(value, value) if isinstance(value, str) else value
    return found


def metrics_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A history as ``metrics.jsonl``: one line a step, rows of the same step merged, in ascending order."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = row.get("_step")
        if step is None:
            continue
        line = steps.setdefault(int(step), {"step": int(step)})
        if isinstance(row.get("_timestamp"), int | float):
            line["time"] = row["_timestamp"]
        line.update({name: value for name, value in flat(row).items() if not name.startswith("_")})
    return b"".join(json.dumps(steps[step]).encode() + b"\n" for step in sorted(steps))


def write_run(folder: Path, run: RemoteRun, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a run's folder; ``run.json`` comes last.

    Raises:
        OSError: the folder cannot be written.
    """
    (folder / RUN).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / METRICS, metrics_lines(rows))
    about = {
        "format": _FORMAT,
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "url": run.url,
        "created": run.created,
        "last_step": run.last_step,
        "config": flat(run.config, "."),
        "summary": flat(run.summary),
    }
    write_json(folder / RUN, sealed(about, _SEAL))


def read_about(folder: Path) -> dict[str, Any]:
    """What ``run.json`` of a folder says; empty without one.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / RUN
    if not path.exists():
        return {}
    about = read_json(path)
    if about.get("format") != _FORMAT:
        raise ValueError(f"{path}: not written by tomat runs pull; choose another folder")
    check_seal(about, _SEAL, path)
    return about


def check_folder(folder: Path, run_id: str) -> None:
    """Check that a folder is empty, missing or holds this run.

    Raises:
        ValueError: it holds another run, or its ``run.json`` is damaged.
    """
    about = read_about(folder)
    if about and about["id"] != run_id:
        raise ValueError(f"{folder}: holds run {about['id']}, not {run_id}; choose another folder")


def is_there(folder: Path, run: RemoteRun) -> bool:
    """Whether a folder has all of a run: pulled whole, ended, and not continued since."""
    about = read_about(folder)
    if not about:
        return False
    same = (about["state"], about["last_step"]) == (run.state, run.last_step)
    return same and run.state not in _GOING_ON and (folder / METRICS).exists()


def table(folders: Sequence[Path]) -> bytes:
    """The runs of some folders as CSV: what they are, last values, then hyperparameters."""
    abouts = [read_about(folder) for folder in folders]
    first = ("id", "name", "state", "created", "last_step", "url")
    summary = sorted({name for about in abouts for name in about["summary"] if not name.startswith("_")})
    config = sorted({name for about in abouts for name in about["config"] if not name.startswith("_")})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["folder", *first, *summary, *(f"config.{name}" for name in config)])
    for folder, about in zip(folders, abouts, strict=True):
        writer.writerow(
            [
                folder.name,
                *(about[name] for name in first),
                *(about["summary"].get(name, "") for name in summary),
                *(about["config"].get(name, "") for name in config),
            ]
        )
    return out.getvalue().encode()
