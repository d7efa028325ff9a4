"""Size and speed of the shard encodings on rows of real densities: the table of docs/parquet.md.

    python benches/parquet_encodings.py ROOT

ROOT is a directory of densities in the `rho_gga` layout. Two sets of rows are made of it, 64 patches of
19 x 19 x 19 voxels a material, quantised to 16,384 bins placed by the square root of the distribution of the
values:

- `small`: the densities as they are. Small symmetric cells, whose patches overlap many times over.
- `large`: densities interpolated (Fourier) to about a million grid points, the size of a typical relaxed cell
  in the Materials Project, from those with the lowest symmetry; patches overlap little.

The rows go through the example program `shard_encodings` (one thread, memory to memory, best of nine passes
for each material); each file is then read with pyarrow (one thread, best of three) and compared to the rows.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

PAD_TO = 8192
ROWS = 64
PATCH = 19
BINS = 16_384
FIRST_DENSITY_ID = 2186
REPOSITORY = Path(__file__).resolve().parents[1]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int32]


def read(root: Path, task_id: str) -> Float:
    """The density of one material, in row-major order."""
    group: Any = zarr.open_group(str(root / "label" / f"{task_id}.zarr"), mode="r")
    return np.asarray(group["charge_density_total"][:], dtype=np.float64)


def interpolate(density: Float, shape: tuple[int, ...]) -> Float:
    """The density on a finer grid, by padding its Fourier coefficients with zeros."""
    fine = np.zeros(shape, dtype=np.complex128)
    window = tuple(
        slice(s // 2 - n // 2, s // 2 - n // 2 + n) for s, n in zip(shape, density.shape, strict=True)
    )
    fine[window] = np.fft.fftshift(np.fft.fftn(density))
    scale = fine.size / density.size
    return np.maximum(np.fft.ifftn(np.fft.ifftshift(fine)).real * scale, 0.0)


def boundaries(densities: list[Float]) -> Float:
    """Bin boundaries with a density of points proportional to the square root of the density of values."""
    values = np.concatenate([density.ravel() for density in densities])
    edges = np.logspace(-8, 5, 200_001)
    counts = np.histogram(values, bins=edges)[0].astype(np.float64)
    kernel = np.ones(301) / 301
    widths = np.diff(edges)
    smooth = np.convolve(counts, kernel, "same") / np.convolve(widths, kernel, "same")
    mass = np.cumsum(np.sqrt(smooth) * widths)
    placed: Float = np.interp(np.arange(1, BINS) / BINS, mass / mass[-1], edges[1:])
    return placed


def rows(density: Float, bounds: Float, n_atoms: int, rng: np.random.Generator) -> Int:
    """Padded rows of random patches; the preamble has the length and the id ranges of a real one."""
    ids = (np.searchsorted(bounds, density.ravel(), side="right") + FIRST_DENSITY_ID).reshape(density.shape)
    out = np.zeros((ROWS, PAD_TO), dtype=np.int32)
    atoms = rng.integers(20, 138, n_atoms)
    for row in out:
        patch = ids
        for axis, points in enumerate(density.shape):
            patch = np.take(patch, np.arange(PATCH) + rng.integers(points), axis=axis, mode="wrap")
        positions = rng.integers(1162, FIRST_DENSITY_ID, 9 * n_atoms)
        block = np.concatenate([np.arange(1, 23), atoms, positions, [15], patch.ravel(), [16, 2]])
        row[: len(block)] = block
    return out


def make_rows(root: Path, kind: str, n_materials: int) -> Int:
    """All rows of a set."""
    materials = [json.loads(line) for line in (root / "materials.jsonl").read_text().splitlines()]
    if kind == "small":
        chosen = [m for m in materials if m["task_id"].startswith("qe-")]
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, n_materials).astype(int)]
        densities = [read(root, m["task_id"]) for m in chosen]
    else:
        chosen = sorted(
            (m for m in materials if m["task_id"].startswith("qev-")), key=lambda m: (m["sg"], -m["natoms"])
        )
        chosen = chosen[:n_materials]
        densities = []
        for material in chosen:
            density = read(root, material["task_id"])
            factor = (1.0e6 / density.size) ** (1 / 3)
            densities.append(interpolate(density, tuple(2 * round(n * factor / 2) for n in density.shape)))
    bounds = boundaries(densities)
    rng = np.random.default_rng(0)
    return np.concatenate(
        [
            rows(d, bounds, max(m["natoms"], int(rng.integers(2, 40))), rng)
            for d, m in zip(densities, chosen, strict=True)
        ]
    )


def read_seconds(path: Path, expected: Int) -> float:
    """The time to read a file with pyarrow; it must hold ``expected``."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        table = pq.read_table(path, use_threads=False)
        best = min(best, time.perf_counter() - start)
    ids = table["input_ids"].combine_chunks().flatten().to_numpy().reshape(-1, PAD_TO)
    if not np.array_equal(ids, expected):
        raise SystemExit(f"{path.name}: pyarrow reads other ids than were written")
    return best


def measure(ids: Int, folder: Path) -> None:
    """Print the table of one set of rows."""
    raw = folder / "rows.i32"
    ids.tofile(raw)
    command = ["cargo", "run", "--quiet", "--release", "-p", "tomat-io", "--example", "shard_encodings", "--"]
    arguments = [str(raw), str(PAD_TO), str(folder)]
    done = subprocess.run(command + arguments, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    print("| writer | encoding | level | bytes a token | write, Mtoken/s | ms a material | read, Mtoken/s |")
    print("|---|---|---|---|---|---|---|")
    for line in done.stdout.splitlines():
        writer, encoding, level, size, seconds, name = line.split("\t")
        write, per_read = float(seconds), read_seconds(folder / name, ids)
        print(
            f"| {writer} | {encoding} | {level} | {int(size) / ids.size:.3f} | {ids.size / write / 1e6:.0f} "
            f"| {write * 1e3 * ROWS * PAD_TO / ids.size:.2f} | {ids.size / per_read / 1e6:.0f} |"
        )


def main() -> None:
    """Make both sets of rows and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="densities in the rho_gga layout")
    parser.add_argument("--materials", type=int, default=24, help="materials in each set (default 24)")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    for kind in ("small", "large"):
        ids = make_rows(options.root, kind, options.materials)
        padding = float((ids == 0).mean())
        print(
            f"\n{kind}: {options.materials} materials, {len(ids)} rows, {padding:.1%} padding\n", flush=True
        )
        with tempfile.TemporaryDirectory() as folder:
            measure(ids, Path(folder))


if __name__ == "__main__":
    main()
