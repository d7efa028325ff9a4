"""The main workflow on the repository's real densities: tokenize, inspect, verify, audit, decode a patch."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import tomat
from tomat.dataset import open_dataset

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("tests/data/rho_gga")
OUT = Path("demo-out")


def run(command: str) -> None:
    """Print a command and run it."""
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    subprocess.run([str(Path(sysconfig.get_path("scripts")) / program), *arguments], check=True, cwd=ROOT)


def decode_back() -> None:
    """Decode one row and compare it with its source density."""
    dataset = open_dataset(ROOT / OUT)
    row = pq.read_table(next(dataset.shard_paths())).slice(3, 1).to_pylist()[0]
    material = tomat.read(ROOT / SOURCE / "label" / f"{row['task_id']}.zarr")
    patch = dataset.tokenizer.decode(row["input_ids"])
    offset = [row[f"offset_{axis}"] for axis in "xyz"]
    index = [
        (o + np.arange(p)) % n for o, p, n in zip(offset, patch.patch_shape, material.grid_shape, strict=True)
    ]
    # The patch has the unit of the dataset, not that of the file.
    true = material.in_unit(dataset.tokenizer.unit).density[np.ix_(*index)].astype(float)
    error = np.abs(patch.density - true).sum() / np.abs(true).sum()
    if error > 0.001:
        raise SystemExit(f"row 3 is {error:.2%} off the density it was cut from")
    print(f"\n{material}")
    print(f"row 3 is its patch at {tuple(offset)}: {patch.density.size:,} voxels, decoded")
    print(f"error of the round trip: {error:.4%} of the density (the codec's bins, nothing else)")


def main() -> None:
    """Run everything in a new ``demo-out``."""
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    print(f"tomat {tomat.__version__}: {SOURCE} holds real electron densities of crystals")
    run(f"tomat-tokenize {SOURCE} --out {OUT}")
    run(f"tomat show {OUT}/shard-00000.parquet --row 3")
    run(f"tomat verify {OUT} --source {SOURCE}")
    run(f"tomat audit {OUT} --source {SOURCE}")
    decode_back()
    print(f"\nDone. The dataset is in {OUT}; `tomat info {OUT}` says what it holds.")


if __name__ == "__main__":
    main()
