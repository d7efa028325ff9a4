"""CPU seconds a million voxels of the field model in the package: sums, and the layers behind them by core and by JAX.

The bar is five seconds for the whole; the exit status is 1 if it is missed.

  python benches/field_model.py [--rounds 3]

Both read the same sums of the same voxels, in one process, in turn; JAX on one thread. Predictions do not keep the
sums: the network reads them from the cache, which the first and third line do not show. The whole is
``predict_density`` on a grid of 72 x 72 x 72, the second call.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import tomat
from bars import Bars
from tomat.lm.decode.opening import open_predictor
from tomat.lm.field.answers import ANSWERS
from tomat.lm.field.checkpoint import open_field
from tomat.lm.field.inference import BLOCK, FieldInference
from tomat.lm.field.levels import in_density, relative
from tomat.lm.field.opened import OpenField
from tomat.models import DEFAULT, bundled
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import Sampling

MATERIAL = Path(__file__).resolve().parent.parent / "tests" / "data" / "rho_gga" / "label" / "qe-0954.zarr"
POINTS = 8 * BLOCK
GRID = (72, 72, 72)
WANTED = ("median", "spread")
#: CPU seconds a million voxels.
BAR = 5.0


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """The median CPU time of some calls after one more."""
    work()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    model = bundled(DEFAULT)
    assert model is not None
    crystal = tomat.read(MATERIAL).crystal
    opened, trained = OpenField.read(str(model.folder)), open_field(str(model.folder))
    run = FieldInference(trained.model, trained.surroundings, trained.codec)
    weights = opened.of_atoms(crystal)
    points = np.argwhere(np.ones((POINTS // 1024, 32, 32))) / GRID
    guess = np.full(POINTS, 0.1, np.float32)

    def sums() -> np.ndarray:
        return opened.surroundings.contracted(crystal, points, guess, weights)

    seen, x = sums(), relative(opened.codec, guess, guess)

    def core() -> None:
        outputs = opened._readout.read(seen, guess)
        found = ANSWERS[opened.shape.head](outputs, opened.levels, x, guess, Sampling(), WANTED)
        in_density(opened.codec, found, guess)

    predictor = open_predictor(DEFAULT)
    seconds = {
        "sums over atoms (core)": cpu_seconds(sums, rounds) / POINTS,
        "layers and statistics, JAX": cpu_seconds(lambda: run.read(WANTED, seen, guess, guess), rounds)
        / POINTS,
        "layers and statistics, core and NumPy": cpu_seconds(core, rounds) / POINTS,
        "predict_density": cpu_seconds(lambda: predict_density(predictor, crystal, GRID), rounds)
        / np.prod(GRID),
    }
    print(f"{crystal.n_atoms} atoms; CPU seconds a million voxels, median of {rounds}")
    for name, one in seconds.items():
        print(f"  {name:40s} {1e6 * one:6.2f}")
    _, jax, mine, whole = seconds.values()
    print(f"core and NumPy against JAX: {jax / mine:.2f}x")
    bars = Bars()
    bars.at_most("predict_density with the model in the package", BAR, 1e6 * whole, "CPU s a million voxels")
    bars.finish()


if __name__ == "__main__":
    main()
