"""Structures an hour by one worker and by several, side by side: ``tomat predict --workers``.

Each round predicts the same supercells by one process alone (the baseline) and by crews of 1 and more workers, which
start and open the predictor within the time that is measured.

    python benches/many.py [--checkpoint promolecule] [--structures 24] [--workers 1,2] [--rounds 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tomat
from tomat._threads import processors
from tomat.engine import Crew, ProcessEngine
from tomat.lm.decode.opening import open_predictor
from tomat.prediction.many import predict_many
from tomat.prediction.run import RunOptions, predict_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.prediction.predictor import PatchPredictor

LABEL = Path(__file__).parents[1] / "tests" / "data" / "rho_gga" / "label"
#: Materials, with the supercells that are made of each.
NAMES = ("qe-0039", "qe-0003", "qe-0040", "qe-0211")
SUFFIXES = (".zarr", ".CHGCAR")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="promolecule")
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    opener = partial(open_predictor, given.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        paths = _structures(Path(folder), given.structures)
        runs: dict[str, Callable[[Path], None]] = {"this process": partial(_alone, opener, paths)}
        for workers in map(int, given.workers.split(",")):
            runs[f"--workers {workers}"] = partial(_by, workers, opener, paths)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(given.rounds):
            for name, run in runs.items():
                started = time.perf_counter()
                run(Path(folder, f"{turn} {name}"))
                seconds[name].append(time.perf_counter() - started)
    print(
        f"{len(paths)} structures, {given.checkpoint}, {processors()} processors, load {os.getloadavg()[0]:.1f}"
    )
    base = statistics.median(seconds["this process"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"  {name:14s} {median:7.1f} s {3600 * len(paths) / median:8,.0f}/h   x {base / median:.2f}")


def _structures(folder: Path, count: int) -> list[str]:
    """Supercells of 2 x 2 x 2 with different names, as POSCARs."""
    paths = []
    for index in range(count):
        crystal = tomat.read(LABEL / f"{NAMES[index % len(NAMES)]}.zarr").supercell((2, 2, 2)).crystal
        path = folder / f"s-{index:04d}.vasp"
        crystal.to_pymatgen().to_file(str(path), fmt="poscar")
        paths.append(str(path))
    return paths


def _alone(opener: Callable[[], PatchPredictor], paths: list[str], out: Path) -> None:
    summary = predict_files(opener(), paths, out, SUFFIXES, RunOptions())
    assert len(summary.predicted) == len(paths), summary.failed


def _by(workers: int, opener: Callable[[], PatchPredictor], paths: list[str], out: Path) -> None:
    summary = predict_many(opener, paths, out, SUFFIXES, RunOptions(), Crew(ProcessEngine(), workers))
    assert len(summary.predicted) == len(paths), summary.failed


if __name__ == "__main__":
    main()
