"""Train the tiny field model on the real densities of the repository; what it is worth beside what it began with.

Fields of the configuration can be given as to `tomat train`: --trainer.num_train_steps 60. The exit code is 1 where
training made the held-out numbers worse than they were at step 0.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from tomat.lm.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "training/configs/demo.yaml"
DATA = "tests/data/rho_gga"
NMAE = "eval/one_pass/nmae_median"
BITS = "eval/one_pass/bits_per_voxel"


@dataclass(frozen=True)
class Course:
    """Held-out evaluations of a run, on drawn voxels, in order.

    Attributes:
        steps: done before each: the first is 0.
        nmae: as fractions.
        bits: a voxel.
        unigram: bits a voxel by the frequencies of levels alone.
    """

    steps: list[int]
    nmae: list[float]
    bits: list[float]
    unigram: float

    @classmethod
    def of(cls, lines: list[dict[str, Any]]) -> Course:
        """From the lines of ``metrics.jsonl``; step 0 is evaluated before it is done, all others after."""
        held_out = [line for line in lines if NMAE in line]
        return cls(
            [line["step"] + 1 if line["step"] else 0 for line in held_out],
            [line[NMAE] for line in held_out],
            [line[BITS] for line in held_out],
            held_out[-1]["eval/unigram_bits_per_voxel"],
        )

    def worse(self) -> str | None:
        """Why the run is not fit to show; None if it is."""
        if self.steps[0] != 0:
            return f"the first evaluation is after {self.steps[0]} steps: there is no step 0 to compare with"
        if self.nmae[-1] > self.nmae[0]:
            return (
                f"training made the held-out NMAE worse: {100 * self.nmae[0]:.3f} % at step 0, "
                f"{100 * self.nmae[-1]:.3f} % after {self.steps[-1]} steps"
            )
        if self.bits[-1] >= self.unigram:
            return f"the model does not beat the unigram line: {self.bits[-1]:.2f} and {self.unigram:.2f} bits a voxel"
        return None


def draw(lines: list[dict[str, Any]], course: Course, path: Path) -> None:
    """Print bits per voxel and NMAE by step, from step 0."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    trained = [(line["step"], line["train/cross_entropy"]) for line in lines if "train/cross_entropy" in line]
    if trained:
        above.plot(
            *zip(*((s, x / math.log(2)) for s, x in trained), strict=True),
            lw=0.8,
            label="training crystals, weighted as in the loss",
        )
    above.plot(course.steps, course.bits, "o-", label="held-out crystals")
    above.axhline(course.unigram, color="k", ls="--", label="unigram: frequencies of levels alone")
    above.set(ylabel="bits a voxel", title="field-tiny on tests/data")
    below.plot(course.steps, [100 * x for x in course.nmae], "o-", label="held-out crystals")
    below.axhline(100 * course.nmae[0], color="k", ls="--", label="start (step 0)")
    below.set(xlabel="steps", ylabel="NMAE, %")
    for axes in (above, below):
        axes.legend()
    figure.savefig(path, dpi=150)


def table(
    course: Course, fixed: dict[str, float], whole: dict[str, Any], best: dict[str, Any]
) -> list[tuple[str, str, str, str]]:
    """Print promolecule, initial weights, trained model and the codec's floor: drawn voxels, bits, whole crystals."""

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.3f}"

    def crystals(mode: str) -> float:
        return float(whole[mode]["metrics"]["nmae"]["mean"]["value"])

    at_best = course.steps.index(best["steps"])
    return [
        ("", "NMAE of drawn voxels, %", "bits a voxel", "NMAE of whole crystals, %"),
        ("promolecule", percent(fixed["eval/promolecule/nmae"]), "", percent(crystals("promolecule"))),
        ("start (step 0)", percent(course.nmae[0]), f"{course.bits[0]:.2f}", percent(crystals("start"))),
        (f"trained, last (step {course.steps[-1]})", percent(course.nmae[-1]), f"{course.bits[-1]:.2f}", ""),
        (
            f"trained, best (step {best['steps']}): what predicts",
            percent(course.nmae[at_best]),
            f"{course.bits[at_best]:.2f}",
            percent(crystals("one_pass")),
        ),
        ("codec floor", percent(fixed["eval/codec_floor/nmae"]), "", percent(crystals("codec_floor"))),
    ]


def run(command: list[str]) -> None:
    """Print a command and run it."""
    print(f"\n$ {' '.join(command)}", flush=True)
    tomat = Path(sysconfig.get_path("scripts")) / command[0]
    subprocess.run([str(tomat), *command[1:]], check=True, cwd=ROOT)


def main() -> None:
    """Train, evaluate on the validation crystals, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", default="demo-train-out", help="folder, made anew")
    chosen, fields = parser.parse_known_args()
    out = Path(chosen.out)
    shutil.rmtree(ROOT / out, ignore_errors=True)
    run(["tomat", "train", CONFIG, "--out", str(out), *fields])
    folder = ROOT / out / "demo"
    lines = read_metrics(folder / "metrics.jsonl")
    course = Course.of(lines)
    draw(lines, course, ROOT / out / "curve.png")
    held_out = ["tomat", "eval", f"{out}/demo", DATA, "--split", "validation", "--mode", "one_pass"]
    run([*held_out, "--quiet", "--pictures", "0", "-o", f"{out}/held-out"])
    whole = json.loads((ROOT / out / "held-out" / "result.json").read_text())
    best = json.loads((folder / "best.json").read_text())
    rows = table(course, next(line for line in lines if NMAE in line), whole["aggregates"], best)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    unseen = f"{whole['n_materials']} crystals it has not seen"
    print(f"\n{unseen}; frequencies of levels alone need {course.unigram:.2f} bits a voxel")
    for row in rows:
        print(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
        )
    print(
        f"\nThe run is in {out}/demo, its curve in {out}/curve.png; next: tomat predict {out}/demo POSCAR -o predicted"
    )
    why = course.worse()
    if why is not None:
        sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
