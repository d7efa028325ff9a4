"""Train the tiny model on the real densities of the repository, and draw its loss against the unigram line."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from tomat.lm.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-train-out"
CONFIG = "training/configs/demo.yaml"


def draw(run: Path) -> tuple[float, float]:
    """Write curve.png; the model's bits a voxel on held-out crystals, and those of the unigram line."""
    lines = read_metrics(run / "metrics.jsonl")
    steps = [line["step"] for line in lines]
    training = [line["train/cross_entropy"] / math.log(2) for line in lines]
    held_out = [line for line in lines if "eval/one_pass/bits_per_voxel" in line]
    bits = [line["eval/one_pass/bits_per_voxel"] for line in held_out]
    unigram = held_out[-1]["eval/unigram_bits_per_voxel"]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(steps, training, lw=0.8, label="training crystals")
    axes.plot([line["step"] for line in held_out], bits, "o-", label="held-out crystals, one pass")
    axes.axhline(unigram, color="k", ls="--", label="unigram: token frequencies alone")
    axes.set(xlabel="step", ylabel="bits a voxel", title="tiny, objective guess, on tests/data")
    axes.legend()
    figure.savefig(OUT / "curve.png", dpi=150)
    return bits[-1], unigram


def main() -> None:
    """Train anew in ``demo-train-out``."""
    shutil.rmtree(OUT, ignore_errors=True)
    print(f"$ tomat train {CONFIG}", flush=True)
    tomat = Path(sysconfig.get_path("scripts")) / "tomat"
    subprocess.run([str(tomat), "train", CONFIG], check=True, cwd=ROOT)
    bits, unigram = draw(OUT / "demo")
    print(
        f"\n{bits:.2f} bits a voxel on crystals it has not seen; {unigram:.2f} by token frequencies alone (unigram)"
    )
    print("The run is in demo-train-out/demo, its curve in demo-train-out/curve.png; next: make demo-predict")
    if bits >= unigram:
        sys.exit("the model does not beat the unigram line: something is wrong")


if __name__ == "__main__":
    main()
