"""From a density in memory to parquet on disk, on one core: tomat against two implementations in Python.

``loop``: one voxel at a time, as the first tokenizers did. ``numpy``: vectorised with NumPy and pyarrow, the best one
gets without compiled code of one's own. All three write the same tokens (checked), at v3, P = 19, M = 64, 16,384 bins,
a 96 x 108 x 112 grid with 20 atoms. Times are medians, in turns, in one run; the ratios are what counts.

``zstd alone``: pyarrow compresses the byte planes of the same rows at the level of the shards, and nothing else. What a
shard holds is fixed to the byte, so ``tomat`` has to do this too, in memory that it keeps.

    python benches/end_to_end.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import functools
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
from bars import Bars
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
#: The default encoding of shards (small files), and the fastest one.
WAYS = {"tomat": ("byte_stream_split", 1), "tomat, fast files": ("delta_binary_packed", -1)}
#: Materials a timed pipeline run writes, and those a shard holds by default: starting threads is spread over them, and
#: all shards but the last are flushed to disk while others are made, as in a real run.
MATERIALS = 128
A_SHARD = 32

CODEC = tomat.LloydMaxCodec.load("lmq-16k")
BOUNDARIES: NDArray[np.float32] = CODEC.boundaries
TOKENIZER = tomat.PatchTokenizer("v3", CODEC)


def material() -> tomat.Material:
    """A smooth periodic density with exponential tails around the atoms, like a valence density."""
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


def write_table(path: Path, offsets: NDArray[np.int32], rows: Any) -> None:
    """The same columns with pyarrow's defaults, dictionary encoding, and zstd."""
    columns = {"task_id": pa.array(["bench"] * M)}
    columns |= {f"offset_{axis}": pa.array(offsets[:, i]) for i, axis in enumerate("xyz")}
    if isinstance(rows, np.ndarray):
        ends = pa.array(np.arange(0, rows.size + 1, PAD_TO, dtype=np.int32))
        columns["input_ids"] = pa.ListArray.from_arrays(ends, pa.array(rows.ravel()))
    else:
        columns["input_ids"] = pa.array(rows, pa.list_(pa.int32()))
    pq.write_table(pa.table(columns), path, compression="zstd")


def in_memory(m: tomat.Material) -> dict[str, bytes]:
    """The files of a Zarr group with the density as it is in memory: neither compressed nor checked."""
    with tempfile.TemporaryDirectory() as folder:
        group = Path(folder) / "bench.zarr"
        m.write(group)
        files = {
            str(path.relative_to(group)): path.read_bytes() for path in group.rglob("*") if path.is_file()
        }
    array = "charge_density_total/zarr.json"
    metadata = json.loads(files[array])
    metadata["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    files[array] = json.dumps(metadata).encode()
    files["charge_density_total/c/0/0/0"] = m.density.astype("<f4").tobytes()
    return files


def page(rows: Rows) -> bytes:
    """What a page of 64 rows is before compression: the lowest bytes of all ids, then the second, and so on."""
    return rows.astype("<i4").view(np.uint8).reshape(-1, 4).T.tobytes()


def run_tomat(
    files: dict[str, bytes], directory: Path, n: int, way: tuple[str, int], threads: int = 1
) -> dict[str, int]:
    """The pipeline of tomat-tokenize over ``n`` materials in memory, by encoding and zstd level."""
    run = _core.ShardRun(
        TOKENIZER._core,
        [("bench", "memory")] * n,
        lambda _index: files,
        seed=0,
        epoch=0,
        patches=[M] * n,
        sampler=("uniform", True),
        draw=None,
        directory=directory,
        metadata=[],
        encoding=way[0],
        compression_level=way[1],
        max_clipped=0.001,
        max_negative=0.01,
        strict=False,
        skip_errors=False,
        threads=threads,
        identity="bench",
    )
    run.run([(f"shard-{k:05d}.parquet", k, k + A_SHARD) for k in range(0, n, A_SHARD)])
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
    files = in_memory(m)
    offsets = tomat.sample_offsets(GRID, M, seed=0, task_id="bench")
    expected = TOKENIZER.encode(m.density, m.lattice, m.atomic_numbers, m.frac_coords, offsets)
    assert (rows_by_numpy(m, offsets) == expected).all(), "the NumPy baseline writes other tokens"

    times: dict[str, list[float]] = {name: [] for name in (*WAYS, "zstd alone", "numpy", "loop")}
    zstd, planes = pa.Codec("zstd", compression_level=WAYS["tomat"][1]), page(expected)
    values = np.resize(m.density.ravel(), 4_000_000)
    quantise: dict[str, list[float]] = {"tomat": [], "numpy": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = time.perf_counter()
        by_loop = rows_by_loop(m, offsets)
        write_table(place / "loop.parquet", offsets, by_loop)
        times["loop"].append(time.perf_counter() - start)
        assert (np.array(by_loop) == expected).all(), "the loop writes other tokens"
        for _ in range(arguments.rounds):
            for name, way in WAYS.items():
                taken = seconds(functools.partial(run_tomat, files, place, MATERIALS, way))
                times[name].append(taken / MATERIALS)
            times["zstd alone"].append(seconds(lambda: zstd.compress(planes)))
            times["numpy"].append(
                seconds(lambda: write_table(place / "numpy.parquet", offsets, rows_by_numpy(m, offsets)))
            )
            quantise["tomat"].append(seconds(lambda: CODEC.encode(values)))
            quantise["numpy"].append(seconds(lambda: np.searchsorted(BOUNDARIES, values, side="right")))
        runs = {name: run_tomat(files, place, MATERIALS, way) for name, way in WAYS.items()}
    report(times, quantise, runs, len(values), arguments.json)


def report(
    times: dict[str, list[float]],
    quantise: dict[str, list[float]],
    runs: dict[str, dict[str, int]],
    n_values: int,
    path: Path | None,
) -> None:
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    speed = {name: n_values / statistics.median(taken) / 1e6 for name, taken in quantise.items()}
    tokens = MATERIALS * M * PAD_TO
    figures: dict[str, Any] = {"ms_a_material": {name: 1e3 * taken for name, taken in middle.items()}}
    for name, counters in runs.items():
        figures[name] = {
            "ratio_over_numpy": middle["numpy"] / middle[name],
            "ratio_over_loop": middle["loop"] / middle[name],
            "bytes_a_token": counters["bytes"] / tokens,
            "stages_ms_a_material": {
                key.removesuffix("_ns"): value / 1e6 / MATERIALS
                for key, value in counters.items()
                if "_ns" in key
            },
        }
    figures["ratio_of_zstd_alone_over_numpy"] = middle["numpy"] / middle["zstd alone"]
    figures["quantise_million_voxels_a_second"] = speed
    figures["quantise_ratio"] = speed["tomat"] / speed["numpy"]
    print(f"grid {GRID}, {N_ATOMS} atoms, v3, P = {P}, M = {M}, 16,384 bins, one core")
    for name, taken in figures["ms_a_material"].items():
        print(f"  {name:18} {taken:8.2f} ms a material")
    for name in runs:
        it = figures[name]
        print(
            f"  {name}: {it['ratio_over_numpy']:.1f}x the vectorised baseline, {it['ratio_over_loop']:.0f}x the loop, "
            f"{it['bytes_a_token']:.2f} bytes a token"
        )
        parts = ", ".join(f"{stage} {taken:.2f}" for stage, taken in it["stages_ms_a_material"].items())
        print(f"    stages, ms a material: {parts}")
    print(f"  zstd alone: {figures['ratio_of_zstd_alone_over_numpy']:.1f}x the vectorised baseline")
    print(
        f"  quantising alone: {speed['tomat']:.0f} million voxels a second, np.searchsorted {speed['numpy']:.1f}: "
        f"{figures['quantise_ratio']:.1f}x"
    )
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    bars = Bars()
    bars.at_least("memory to parquet over NumPy and pyarrow", 12, figures["tomat"]["ratio_over_numpy"])
    bars.at_least("memory to parquet over a loop in Python", 180, figures["tomat"]["ratio_over_loop"])
    bars.at_most("its size", 0.86, figures["tomat"]["bytes_a_token"], "bytes a token")
    bars.at_least("quantising over np.searchsorted", 25, figures["quantise_ratio"])
    bars.finish()


if __name__ == "__main__":
    main()
