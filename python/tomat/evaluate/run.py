"""Evaluate methods on whole held-out materials; every finished material is kept, so a run can resume."""

from __future__ import annotations

import functools
import itertools
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from tomat import _core
from tomat._threads import in_order
from tomat.evaluate.aggregate import Settings, aggregate
from tomat.evaluate.measure import Truth, row
from tomat.evaluate.methods import EXPECTED, Method, primary_mode
from tomat.evaluate.result import Result
from tomat.evaluate.volumes import Gallery, Picture
from tomat.material import Entry, Material
from tomat.workplace import Workplace

#: A material, its part of the result, and the picture of each of its rows that ranks.
type Measured = tuple[Entry, dict[str, Any], Sequence[Picture | None]]
#: Measures materials; the gallery says which of them are drawn.
type Measure = Callable[[Gallery, Sequence[Entry]], Iterator[Measured]]

#: Packages whose versions are recorded if installed.
_PACKAGES = ("numpy", "pyarrow", "jax", "jaxlib", "marin-levanter", "haliax", "equinox")


@dataclass(frozen=True)
class Evaluation:
    """Settings of an evaluation.

    Attributes:
        methods: one per mode.
        entries: the materials.
        unit: density unit of all numbers: the codec's.
        data: origin of the materials (inputs, split), as JSON.
        name: name of the result in tables.
        command: the command line.
        settings: of the intervals.
        pictures: number of best and of worst materials whose volumes are kept.
    """

    methods: Sequence[Method]
    entries: Sequence[Entry]
    unit: str
    data: dict[str, Any]
    name: str = ""
    command: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    pictures: int = 2

    def identity(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        return {
            "tomat": _core.__version__,
            "name": self.name,
            "unit": self.unit,
            "methods": {method.mode: method.identity() for method in self.methods},
            "data": {**self.data, "materials": [[e.task_id, e.path] for e in self.entries]},
            "command": list(self.command),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def evaluate(
    plan: Evaluation,
    folder: Path,
    *,
    overwrite: bool = False,
    watch: Callable[[str], None] | None = None,
    measure: Measure | None = None,
) -> Result:
    """Measure every material in every mode, resuming what ``folder`` holds, and write the result there.

    Materials that fail are listed in ``errors`` and tried again by the next call.

    Args:
        plan: what to measure.
        folder: of the result; created if needed.
        overwrite: start over if the folder holds another evaluation.
        watch: called with the id of each finished material.
        measure: measures materials for this call, in any order; by default, one after the other in this process.

    Raises:
        ValueError: two methods of one mode, a folder of another evaluation, or every material failed.
    """
    modes = [method.mode for method in plan.methods]
    if len(set(modes)) != len(modes) or not modes:
        raise ValueError(f"modes {', '.join(modes) or '(none)'}: give at least one, each once")
    place = Workplace(folder, plan.identity(), overwrite=overwrite)
    done = {entry.task_id: place.read(entry.task_id, entry.path) for entry in plan.entries}
    waiting = [entry for entry in plan.entries if not _whole(done[entry.task_id])]
    for entry in plan.entries:
        if watch and _whole(done[entry.task_id]):
            watch(entry.task_id)
    gallery = Gallery(folder / "volumes", primary_mode(modes), plan.pictures)
    gallery.know(line for part in done.values() if part for line in part["rows"])
    measure = measure or functools.partial(measured, plan.methods, plan.unit)
    for entry, part, pictures in measure(gallery, waiting):
        for line, picture in zip(part["rows"], pictures, strict=True):
            gallery.keep(line, picture)
        place.write(entry.task_id, part)
        done[entry.task_id] = part
        if watch:
            watch(entry.task_id)
    parts = [found for entry in plan.entries if (found := done[entry.task_id])]
    rows = [line for part in parts for line in part["rows"]]
    errors = [error for part in parts for error in part["errors"]]
    if not rows:
        raise ValueError(
            f"none of {len(plan.entries)} materials could be measured; the first: {errors[0]['task_id']}: "
            f"{errors[0]['error']}"
        )
    result = Result(
        folder, rows, place.identity, aggregate(rows, plan.settings), errors, asdict(plan.settings)
    )
    result.save()
    return result


def _whole(part: dict[str, Any] | None) -> bool:
    return part is not None and not part["errors"]


def measured(
    methods: Sequence[Method], unit: str, gallery: Gallery, entries: Iterable[Entry]
) -> Iterator[Measured]:
    """Yield the part of each material in order; a method may read ahead to fill its batches.

    Args:
        methods: one per mode.
        unit: of the numbers.
        gallery: says which materials are drawn.
        entries: the materials, taken as needed.
    """
    opened = in_order(functools.partial(_read, unit=unit), entries, 1)
    own, *streams = itertools.tee(opened, len(methods) + 1)
    found = [method.predict_all(_materials(stream)) for method, stream in zip(methods, streams, strict=True)]
    for entry, truth in own:
        if isinstance(truth, Exception):
            yield entry, failed_part(entry, message(truth)), ()
            continue
        part: dict[str, Any] = {"task_id": entry.task_id, "path": entry.path, "rows": [], "errors": []}
        pictures: list[Picture | None] = []
        for method, predictions in zip(methods, found, strict=True):
            predicted = next(predictions)
            try:
                if isinstance(predicted, Exception):
                    raise predicted
                line = row(truth, predicted, method.mode)
            except EXPECTED as error:
                failed = {"task_id": entry.task_id, "mode": method.mode, "error": message(error)}
                part["errors"].append(failed)
                continue
            part["rows"].append(line)
            pictures.append(gallery.draw(truth.material, predicted.density, line))
        yield entry, part, pictures


def failed_part(entry: Entry, error: str) -> dict[str, Any]:
    """The part of a material of which nothing could be measured."""
    errors = [{"task_id": entry.task_id, "mode": None, "error": error}]
    return {"task_id": entry.task_id, "path": entry.path, "rows": [], "errors": errors}


def _read(entry: Entry, unit: str) -> Truth | Exception:
    """Read a material; an expected error is returned, since reading runs ahead of use."""
    try:
        # The id is the one in the list, not the file's own.
        return Truth.of(entry.read(), entry.path, unit)
    except EXPECTED as error:
        return error


def _materials(stream: Iterable[tuple[Entry, Truth | Exception]]) -> Iterator[Material]:
    return (truth.material for _, truth in stream if not isinstance(truth, Exception))


def message(error: Exception) -> str:
    """The message of an error, with its type unless it is a ``ValueError`` or ``KeyError``."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text if isinstance(error, ValueError | KeyError) and text else f"{type(error).__name__}: {text}"


def called() -> tuple[str, ...]:
    """The command line of this process."""
    return ("tomat", *sys.argv[1:])
