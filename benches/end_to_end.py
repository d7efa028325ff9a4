"""From a density in memory to parquet on disk, on one core: tomat beside two ways to do it in Python.

``loop``: one voxel at a time, as the first tokenizers did. ``numpy``: vectorised with NumPy and pyarrow, the best one
gets without compiled code of one's own. All three write the same tokens (checked), at v3, P = 19, M = 64, 16,384 bins,
a 96 x 108 x 112 grid with 20 atoms. Times are medians, in turns, in one run; the ratios are what counts.

    python benches/end_to_end.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tomat
from tomat import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    type Rows = NDArray[np.int32]

GRID = (96, 108, 112)
N_ATOMS = 20
M = 64
P = 19
PAD_TO = 8192
#: Materials a timed pipeline run writes: starting threads and syncing the file are spread over them, as in a real run.
MATERIALS = 32

TOKENIZER = tomat.PatchTokenizer("v3", "lmq-16k")
CODEC = TOKENIZER.density_codec


def material() -> tomat.Material:
    """A smooth periodic density with exponential tails around the atoms, as valence densities have them."""
    rng = np.random.default_rng(0)
    positions = rng.random((N_ATOMS, 3))
    axes = [np.arange(n) / n for n in GRID]
    density = np.full(GRID, 1.0)
    for x in positions:
        squared = [np.minimum(abs(a - p), 1 - abs(a - p)) ** 2 for a, p in zip(axes, x, strict=True)]
        distance = np.sqrt(squared[0][:, None, None] + squared[1][None, :, None] + squared[2][None, None, :])
        density += 900 * np.exp(-40 * distance)
    lattice = np.diag([9.6, 10.8, 11.2])
    numbers = np.resize([8, 14, 26, 56], N_ATOMS)
    return tomat.Material.of("bench", density, "chgcar", lattice, numbers, positions)


def preamble(m: tomat.Material, offset: NDArray[np.int32]) -> list[int]:
    """Tokens of a v3 sequence before its first voxel (vectorised over atoms)."""
    vocabulary = TOKENIZER.vocabulary
    special = vocabulary.specials
    first_int, first_atom = vocabulary.int_range[0], vocabulary.atom_range[0]
    bins = [96 * 2, 108 * 2, 112 * 2, 450, 450, 450]
    frac = (m.frac_coords % 1.0 - offset / np.array(GRID)) % 1.0
    magnitude = np.abs(frac)
    log = np.log10(np.where(magnitude < 1e-15, 1.0, magnitude)).clip(-4, 0)
    n = np.where(magnitude < 1e-15, 0, ((log + 4) / 4 * (2**24 - 1)).astype(np.int64))
    p = vocabulary.position_range[0]
    words = np.stack([p + (n >> 16), p + 512 + (n >> 8 & 255), p + 768 + (n & 255)], axis=-1)
    return [
        special["[BOS]"],
        *(special["[GRID_START]"], *(first_int + n for n in GRID), special["[GRID_END]"]),
        *(special["[LATTICE_START]"], *(first_int + b for b in bins), special["[LATTICE_END]"]),
        *(special["[ATOMS_START]"], *(first_atom + m.atomic_numbers - 1), special["[ATOMS_END]"]),
        *(special["[POS_START]"], *words.ravel(), special["[POS_END]"]),
        special["[DENS_START]"],
    ]


def rows_by_numpy(m: tomat.Material, offsets: NDArray[np.int32]) -> Rows:
    """Fancy indexing for all patches at once, one searchsorted, one array of rows."""
    index = [(offsets[:, axis, None] + np.arange(P)) % GRID[axis] for axis in range(3)]
    patches = m.density[index[0][:, :, None, None], index[1][:, None, :, None], index[2][:, None, None, :]]
    clipped = np.clip(patches.reshape(M, -1), 0, CODEC.clip_max)
    tokens = np.searchsorted(BOUNDARIES, clipped, side="right") + TOKENIZER.vocabulary.density_range[0]
    rows = np.zeros((M, PAD_TO), np.int32)
    special = TOKENIZER.vocabulary.specials
    for row, offset, voxels in zip(rows, offsets, tokens, strict=True):
        head = preamble(m, offset)
        row[: len(head)] = head
        row[len(head) : len(head) + P**3] = voxels
        row[len(head) + P**3 : len(head) + P**3 + 2] = special["[DENS_END]"], special["[EOS]"]
    return rows


def rows_by_loop(m: tomat.Material, offsets: NDArray[np.int32]) -> list[list[int]]:
    """One voxel at a time, by bisection."""
    from bisect import bisect_right

    boundaries = BOUNDARIES.tolist()
    first = TOKENIZER.vocabulary.density_range[0]
    special = TOKENIZER.vocabulary.specials
    rows = []
    for ox, oy, oz in offsets.tolist():
        row = [int(token) for token in preamble(m, np.array([ox, oy, oz]))]
        for i in range(P):
            for j in range(P):
                for k in range(P):
                    value = float(m.density[(ox + i) % GRID[0], (oy + j) % GRID[1], (oz + k) % GRID[2]])
                    value = min(max(value, 0.0), CODEC.clip_max)
                    row.append(first + bisect_right(boundaries, value))
        row += [special["[DENS_END]"], special["[EOS]"]]
        row += [0] * (PAD_TO - len(row))
        rows.append(row)
    return rows


BOUNDARIES: NDArray[np.float32] = CODEC.boundaries


def write_table(path: Path, offsets: NDArray[np.int32], rows: Any) -> None:
    """The same columns with pyarrow: dictionary and zstd, its ordinary way."""
    columns = {"task_id": pa.array(["bench"] * M)}
    columns |= {f"offset_{axis}": pa.array(offsets[:, i]) for i, axis in enumerate("xyz")}
    if isinstance(rows, np.ndarray):
        ends = pa.array(np.arange(0, rows.size + 1, PAD_TO, dtype=np.int32))
        columns["input_ids"] = pa.ListArray.from_arrays(ends, pa.array(rows.ravel()))
    else:
        columns["input_ids"] = pa.array(rows, pa.list_(pa.int32()))
    pq.write_table(pa.table(columns), path, compression="zstd")


def run_tomat(m: tomat.Material, directory: Path, n: int) -> dict[str, int]:
    """The pipeline of tomat-tokenize over ``n`` materials in memory."""
    arrays = (m.density, m.unit, m.lattice, m.atomic_numbers, m.frac_coords)
    run = _core.ShardRun(
        TOKENIZER._core,
        [("bench", "memory")] * n,
        lambda _index: arrays,
        seed=0,
        epoch=0,
        patches_per_material=M,
        unit="chgcar",
        directory=directory,
        metadata=[],
        encoding="byte_stream_split",
        compression_level=1,
        skip_errors=False,
        threads=1,
        identity="bench",
    )
    run.run([("shard-00000.parquet", 0, n)])
    return dict(run.progress())


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    m = material()
    offsets = tomat.sample_offsets(GRID, M, seed=0, task_id="bench")
    expected = TOKENIZER.encode(m.density, m.lattice, m.atomic_numbers, m.frac_coords, offsets)
    assert (rows_by_numpy(m, offsets) == expected).all(), "the NumPy baseline writes other tokens"

    times: dict[str, list[float]] = {"tomat": [], "numpy": [], "loop": []}
    values = np.resize(m.density.ravel(), 4_000_000)
    quantise: dict[str, list[float]] = {"tomat": [], "numpy": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for turn in range(arguments.rounds):
            times["tomat"].append(seconds(lambda: run_tomat(m, place, MATERIALS)) / MATERIALS)
            times["numpy"].append(
                seconds(lambda: write_table(place / "numpy.parquet", offsets, rows_by_numpy(m, offsets)))
            )
            if turn == 0:
                loop_rows: list[Any] = []
                times["loop"].append(
                    seconds(lambda: loop_rows.append(rows_by_loop(m, offsets)))
                    + seconds(lambda: write_table(place / "loop.parquet", offsets, loop_rows[0]))
                )
                assert (np.array(loop_rows[0]) == expected).all(), "the loop writes other tokens"
            quantise["tomat"].append(seconds(lambda: CODEC.encode(values)))
            quantise["numpy"].append(seconds(lambda: np.searchsorted(BOUNDARIES, values, side="right")))
        stages = run_tomat(m, place, MATERIALS)
    report(times, quantise, stages, len(values), arguments.json)


def report(
    times: dict[str, list[float]],
    quantise: dict[str, list[float]],
    stages: dict[str, int],
    n_values: int,
    path: Path | None,
) -> None:
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    speed = {name: n_values / statistics.median(taken) / 1e6 for name, taken in quantise.items()}
    figures = {
        "ms_a_material": {name: 1e3 * taken for name, taken in middle.items()},
        "ratio_over_numpy": middle["numpy"] / middle["tomat"],
        "ratio_over_loop": middle["loop"] / middle["tomat"],
        "million_tokens_a_second": M * PAD_TO / middle["tomat"] / 1e6,
        "stages_ms_a_material": {
            k.removesuffix("_ns"): v / 1e6 / MATERIALS for k, v in stages.items() if "_ns" in k
        },
        "quantise_million_voxels_a_second": speed,
        "quantise_ratio": speed["tomat"] / speed["numpy"],
    }
    print(f"grid {GRID}, {N_ATOMS} atoms, v3, P = {P}, M = {M}, 16,384 bins, one core")
    for name, taken in figures["ms_a_material"].items():
        print(f"  {name:6} {taken:9.2f} ms a material")
    print(
        f"  tomat is {figures['ratio_over_numpy']:.1f}x the vectorised baseline, {figures['ratio_over_loop']:.0f}x the loop"
    )
    parts = ", ".join(f"{stage} {taken:.2f}" for stage, taken in figures["stages_ms_a_material"].items())
    print(f"  tomat's stages, ms a material: {parts}")
    print(
        f"  quantising alone: {speed['tomat']:.0f} million voxels a second, np.searchsorted {speed['numpy']:.1f}: "
        f"{figures['quantise_ratio']:.1f}x"
    )
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
