"""A prediction of a million voxels without the model: from patches to files.

The promolecule stands for the model; its own time is told apart. Times are medians of rounds.

    python benches/prediction.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import tomat
from tomat.lm.decode.opening import open_predictor
from tomat.prediction.assemble import predict_density
from tomat.prediction.picture import Sight
from tomat.prediction.preview import preview
from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = (100, 100, 100)
SILICON = Path(__file__).parents[1] / "tests" / "data" / "rho_gga" / "label" / "qe-0039.zarr"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    crystal = tomat.read(SILICON).supercell((3, 3, 2)).crystal
    promolecule = Promolecule.load("qe-sg15")
    predictor = open_predictor("promolecule")
    predicted = predict_density(predictor, crystal, GRID).material
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        work: dict[str, Callable[[], object]] = {
            "promolecule alone": lambda: promolecule.evaluate(crystal, GRID),
            "predict": lambda: predict_density(predictor, crystal, GRID),
            "predict, overlap 4": lambda: predict_density(predictor, crystal, GRID, overlap=4),
            ".CHGCAR": lambda: predicted.write(out / "x.CHGCAR"),
            ".CHGCAR.gz": lambda: predicted.write(out / "x.CHGCAR.gz"),
            ".cube": lambda: predicted.write(out / "x.cube"),
            ".zarr": lambda: predicted.write(out / "x.zarr"),
            ".png": lambda: preview(Sight(predicted), out / "x.png"),
        }
        print(f"{crystal.n_atoms} atoms, grid {' x '.join(map(str, GRID))}, median of {rounds}")
        for name, run in work.items():
            run()
            print(f"  {name:20s} {statistics.median(_seconds(run) for _ in range(rounds)):7.3f} s")


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
