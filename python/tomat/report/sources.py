"""Load the sources of a report; folders and files are recognised by their content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomat.dataset.meta import META, read_coverage, read_meta
from tomat.evaluate.probes import load_probes
from tomat.evaluate.result import Result, load_result
from tomat.report.runs import METRICS_FILE, TrainingRun, load_training_run
from tomat.storage.files import read_json


@dataclass(frozen=True)
class Sources:
    """The sources of a report, in the order given.

    Attributes:
        runs: training runs.
        results: of ``tomat eval``.
        probes: of ``tomat probe``.
        comparisons: of ``tomat compare``.
        studies: JSON of a study: a ``title`` and ``tables``, see :class:`tomat.evaluate.tables.Table`.
        coverages: coverage histograms of datasets, by folder.
        floors: comparisons of codecs (``tomat codec compare --json``).
    """

    runs: list[TrainingRun] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    studies: list[dict[str, Any]] = field(default_factory=list)
    coverages: list[tuple[str, list[int]]] = field(default_factory=list)
    floors: list[dict[str, Any]] = field(default_factory=list)


def load_sources(paths: Sequence[str | Path]) -> Sources:
    """Load all paths; one folder may hold several sources, but subfolders are not searched."""
    found = Sources()
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if not (_folder(path, found) if path.is_dir() else _file(path, found)):
            raise ValueError(
                f"{path}: not a source of a report; give a training run ({METRICS_FILE}), a result of tomat eval "
                "(result.json) or tomat probe, a dataset (coverage_histogram.json), or JSON of tomat compare, tomat "
                "codec compare or a study"
            )
    return found


def _folder(path: Path, found: Sources) -> bool:
    before = _count(found)
    if (path / METRICS_FILE).exists():
        found.runs.append(load_training_run(path))
    if (path / "result.json").exists() or (path / "evaluation.json").exists():
        if (path / "probes.json").exists():
            found.probes.append(load_probes(path))
        else:
            found.results.append(load_result(path))
    histograms = sorted(
        {*path.glob("coverage_histogram.json"), *path.glob("worker-*/coverage_histogram.json")}
    )
    if histograms:
        found.coverages.append((str(path), _coverage(histograms)))
    return _count(found) > before


def _file(path: Path, found: Sources) -> bool:
    if path.name == METRICS_FILE:
        found.runs.append(load_training_run(path))
        return True
    if path.suffix != ".json":
        return False
    content = read_json(path)
    kind = content.get("format")
    if kind == "tomat result":
        found.results.append(load_result(path))
    elif kind == "tomat probes":
        found.probes.append(content)
    elif kind == "tomat comparison":
        found.comparisons.append(content)
    elif "title" in content and "tables" in content:
        found.studies.append(content)
    elif "sketch_hash" in content and "curves" in content:
        found.floors.append(content)
    elif isinstance(content.get("histogram"), list):
        found.coverages.append((str(path), [int(n) for n in content["histogram"]]))
    else:
        return False
    return True


def _coverage(paths: Sequence[Path]) -> list[int]:
    """The sum of the histograms of all workers."""
    total: list[int] = []
    for path in paths:
        meta = read_meta(path.parent) if (path.parent / META).exists() else {}
        counts = read_coverage(path.parent, meta).get("histogram")
        if not isinstance(counts, list):
            raise ValueError(f"{path}: has no histogram")
        total += [0] * (len(counts) - len(total))
        for times, voxels in enumerate(counts):
            total[times] += int(voxels)
    return total


def _count(found: Sources) -> int:
    return sum(len(part) for part in vars(found).values())
