"""The real pipeline over thousands of materials of the catalogue's sizes, killed in the middle and resumed.

128 synthetic crystals (sums of periodic Gaussians) have the grids and atoms of ``grids.csv``: the Materials Project
training set in 128 strata of equal size, sorted by voxels. Any number of materials are links to them, each with an id,
and so with patches, of its own. Nothing is made while the pipeline runs: what is timed is tomat.

    python benches/at_size.py --materials 6000 --kills 3 --out /scratch/at-size --json at_size.json

Prints the rate and the memory of each third of the work, the seconds before a worker begins, the files it keeps, and
what that comes to for other numbers of materials. ``--startup 77466`` also times the start with as long a list.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from tomat.dataset import open_dataset

type Grid = tuple[int, int, int, int]

GRIDS = Path(__file__).with_name("grids.csv")
#: Seconds between samples of a running worker.
LOOK_S = 0.1
PROGRAM = "from tomat.cli import tokenize_main\ntokenize_main()"
#: Angstrom between grid points.
SPACING = 0.09
#: Elements of the synthetic crystals.
ELEMENTS = ("O", "Si", "Fe", "Ba")


# --- materials ----------------------------------------------------------------------------------------------


def read_grids(path: Path = GRIDS, scale: float = 1.0) -> list[Grid]:
    """nx, ny, nz and atoms of each stratum; ``scale`` shrinks every axis."""
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    return [
        (*(max(8, round(int(n) * scale)) for n in row[:3]), int(row[3]))  # type: ignore[misc]
        for row in rows
    ]


def density(grid: Grid, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A positive periodic density, (nx, ny, nz), with ``10 * atoms`` electrons in the ``chgcar`` convention.

    Gaussians of half an angstrom to two, where the axes have a point every 0.09 angstrom.
    """
    rng = np.random.default_rng(seed)
    total = np.full(grid[:3], 0.002, dtype=np.float32)
    for k in range(min(max(grid[3], 4), 24)):
        factors = []
        width = (0.5, 1.0, 2.0)[k % 3] / SPACING
        for n in grid[:3]:
            distance = np.abs((np.arange(n) / n - rng.random() + 0.5) % 1.0 - 0.5) * n
            factors.append(np.exp(-((distance / width) ** 2)).astype(np.float32))
        total += factors[0][:, None, None] * factors[1][None, :, None] * factors[2][None, None, :]
    return total * np.float32(10 * grid[3] / total.mean(dtype=np.float64))


def structure(grid: Grid, seed: int) -> str:
    """The JSON text of a pymatgen ``Structure`` dict with an orthorhombic cell."""
    rng = np.random.default_rng(seed)
    sites = [
        {"species": [{"element": ELEMENTS[k % len(ELEMENTS)], "occu": 1}], "abc": rng.random(3).tolist()}
        for k in range(grid[3])
    ]
    return json.dumps(
        {"lattice": {"matrix": np.diag([SPACING * n for n in grid[:3]]).tolist()}, "sites": sites}
    )


def make_materials(root: Path, count: int, grids: Sequence[Grid]) -> Path:
    """A ``rho_gga`` root of ``count`` materials, links to one crystal per grid."""
    pool = root / "pool"
    for index, grid in enumerate(grids):
        place = pool / f"{index:03d}.zarr"
        if (place / "charge_density_total" / "c").exists():
            continue
        group = zarr.open_group(place, mode="w", zarr_format=3)
        group.attrs["structure"] = structure(grid, index)
        values = density(grid, index)
        group.create_array("charge_density_total", data=values, chunks=values.shape)
    label = root / "label"
    shutil.rmtree(label, ignore_errors=True)
    label.mkdir()
    luck, ids = random.Random(0), [f"synthetic-{k:07d}" for k in range(count)]
    order: list[int] = []
    for name in ids:
        if not order:
            order = luck.sample(range(len(grids)), len(grids))
        (label / f"{name}.zarr").symlink_to(pool / f"{order.pop():03d}.zarr")
    (root / "mp_filelist.txt").write_text("\n".join(ids) + "\n")
    return root


# --- a worker, watched --------------------------------------------------------------------------------------


@dataclass
class Look:
    """A sample of a running worker."""

    seconds: float
    #: CPU time of the worker, over all threads.
    cpu_s: float
    shards: int
    memory_mb: float
    files: int


@dataclass
class Segment:
    """One process, until it ends or is killed."""

    startup_s: float = 0.0
    startup_cpu_s: float = 0.0
    seconds: float = 0.0
    shards_before: int = 0
    shards: int = 0
    peak_mb: float = 0.0
    was_killed: bool = False
    looks: list[Look] = field(default_factory=list)


def memory_mb(process: int) -> float:
    """Resident memory of a process; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def cpu_s(process: int) -> float:
    """CPU seconds of a process; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def count(out: Path, pattern: str) -> int:
    return sum(1 for _ in out.glob(pattern))


def run_segment(root: Path, out: Path, options: Sequence[object], stop_at: int | None) -> Segment:
    """Run or resume a worker; kill it once its directory has ``stop_at`` shards."""
    before = count(out, "shard-*.parquet")
    command = [sys.executable, "-c", PROGRAM, str(root), "--out", str(out), "--resume", "--quiet"]
    debris = set(out.glob(".progress/*.unfinished"))
    start = time.monotonic()
    process = subprocess.Popen([*command, *map(str, options)])
    segment = Segment(shards_before=before)
    while process.poll() is None:
        now = time.monotonic() - start
        if not segment.startup_s and set(out.glob(".progress/*.unfinished")) - debris:
            segment.startup_s, segment.startup_cpu_s = now, cpu_s(process.pid)
        shards = count(out, "shard-*.parquet")
        files = sum(len(names) for _, _, names in os.walk(out))
        segment.looks.append(Look(now, cpu_s(process.pid), shards, memory_mb(process.pid), files))
        if stop_at is not None and shards >= stop_at:
            process.send_signal(signal.SIGKILL)
            segment.was_killed = True
            break
        time.sleep(LOOK_S)
    code = process.wait()
    if code != (-signal.SIGKILL if segment.was_killed else 0):
        raise SystemExit(f"the worker ended with exit code {code}")
    segment.seconds = time.monotonic() - start
    segment.shards = count(out, "shard-*.parquet") - before
    segment.peak_mb = max((look.memory_mb for look in segment.looks), default=0.0)
    return segment


def drive(root: Path, out: Path, options: Sequence[object], shards: int, kills: int) -> list[Segment]:
    """A worker that is killed ``kills`` times at equal intervals, and then finishes."""
    stops = [round(shards * (k + 1) / (kills + 1)) for k in range(kills)]
    return [run_segment(root, out, options, stop) for stop in [*stops, None]]


def thirds(segments: Sequence[Segment], materials_a_shard: int) -> list[dict[str, float]]:
    """Rate and memory in the first, middle and last third of the shards, without the starts."""
    last = max(look.shards for segment in segments for look in segment.looks)
    found = []
    for third in range(3):
        low, high = last * third / 3, last * (third + 1) / 3
        seconds = cpu = shards = 0.0
        memory = []
        for segment in segments:
            for earlier, later in itertools.pairwise(segment.looks):
                if low <= earlier.shards < high and earlier.seconds > segment.startup_s > 0 and later.cpu_s:
                    seconds += later.seconds - earlier.seconds
                    cpu += later.cpu_s - earlier.cpu_s
                    shards += later.shards - earlier.shards
                    memory.append(later.memory_mb)
        found.append(
            {
                "materials_a_second": shards * materials_a_shard / seconds if seconds else 0.0,
                "materials_a_cpu_second": shards * materials_a_shard / cpu if cpu else 0.0,
                "peak_mb": max(memory, default=0.0),
            }
        )
    return found


# --- the report ---------------------------------------------------------------------------------------------


def summary(segments: Sequence[Segment], out: Path, materials: int, materials_a_shard: int) -> dict[str, Any]:
    """The numbers of a run."""
    dataset = open_dataset(out)
    size = sum(path.stat().st_size for path in dataset.shard_paths())
    seconds = sum(segment.seconds for segment in segments)
    n_shards = sum(len(worker.shards) for worker in dataset.workers)
    return {
        "materials": materials,
        "rows": dataset.total_rows,
        "bytes": size,
        "seconds": seconds,
        "kills": sum(segment.was_killed for segment in segments),
        "startup_s": [round(segment.startup_s, 2) for segment in segments],
        "startup_cpu_s": [round(segment.startup_cpu_s, 2) for segment in segments],
        "thirds": thirds(segments, materials_a_shard),
        "shards": n_shards,
        "most_files": max(look.files for segment in segments for look in segment.looks),
        "files_left": sum(len(names) for _, _, names in os.walk(out)),
        "made_twice": sum(segment.shards for segment in segments) - n_shards,
    }


def plan(figures: dict[str, Any]) -> list[dict[str, float]]:
    """Extrapolation of the measured work per material to other numbers of materials and cores."""
    rates = [third["materials_a_cpu_second"] for third in figures["thirds"]]
    if min(rates) <= 0:
        raise SystemExit(f"{figures['seconds']:.1f} s are too short to measure a rate; give more materials")
    rate = float(np.median(rates))
    a_material = figures["bytes"] / figures["materials"]
    return [
        {
            "materials": materials,
            "cores": cores,
            "core_hours": materials / rate / 3600,
            "hours": materials / rate / cores / 3600,
            "terabytes": materials * a_material / 1e12,
            "shards": materials / (figures["materials"] / figures["shards"]),
        }
        for materials in (77_466, 10_000_000)
        for cores in (4, 64, 1024)
    ]


def print_report(figures: dict[str, Any]) -> None:
    print(
        f"{figures['materials']:,} materials, {figures['rows']:,} rows, {figures['bytes'] / 1e9:.2f} GB in "
        f"{figures['seconds']:.0f} s, {figures['kills']} kills, {figures['made_twice']} shards made twice"
    )
    for name, third in zip(("first", "middle", "last"), figures["thirds"], strict=True):
        print(
            f"  {name:6} third: {third['materials_a_second']:6.1f} materials/s, {third['materials_a_cpu_second']:6.1f} "
            f"a second of processor, at most {third['peak_mb']:.0f} MB"
        )
    print(f"  seconds before a worker begins: {', '.join(map(str, figures['startup_s']))}")
    print(f"    of processor: {', '.join(map(str, figures['startup_cpu_s']))}")
    most, left = figures["most_files"], figures["files_left"]
    print(f"  {figures['shards']} shards, at most {most} files at a time, {left} in the end")
    if "startup_of_a_long_list_s" in figures:
        wall, cpu = figures["startup_of_a_long_list_s"]
        print(f"  start with {figures['startup']:,} materials listed: {wall:.2f} s, {cpu:.2f} of processor")
    print("   materials    cores core hours     hours   terabytes    shards")
    for line in plan(figures):
        who = f"{line['materials']:10,} {line['cores']:8,} {line['core_hours']:10.1f}"
        print(f"  {who} {line['hours']:9.2f} {line['terabytes']:11.3f} {line['shards']:9,.0f}")


def time_startup(root: Path, out: Path, listed: int, options: Sequence[object]) -> tuple[float, float]:
    """Wall and CPU seconds before one worker of 16 begins, with ``listed`` materials."""
    ids = [path.stem for path in sorted((root / "label").iterdir())]
    label = root / "long" / "label"
    shutil.rmtree(root / "long", ignore_errors=True)
    label.mkdir(parents=True)
    for name in ids[:64]:
        (label / f"{name}.zarr").symlink_to((root / "label" / f"{name}.zarr").resolve())
    names = [*ids[:64], *(f"listed-{k:08d}" for k in range(listed - 64))]
    (root / "long" / "mp_filelist.txt").write_text("\n".join(names) + "\n")
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(root / "long"),
        "--out",
        str(out),
        "--n-workers",
        "16",
        "--quiet",
    ]
    start = time.monotonic()
    process = subprocess.Popen([*command, "--on-error", "skip", *map(str, options)])
    while not any(out.glob("worker-00/.progress/*.unfinished")) and process.poll() is None:
        time.sleep(0.01)
    seconds = time.monotonic() - start, cpu_s(process.pid)
    process.kill()
    process.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--materials", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks the axes of all grids")
    parser.add_argument("--startup", type=int, help="also time the start with so many materials listed")
    parser.add_argument(
        "--out", type=Path, default=Path("at-size"), help="folder of the materials and the dataset"
    )
    parser.add_argument("--keep", action="store_true", help="keep the dataset")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    root, out = arguments.out / "materials", arguments.out / "rows"
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    make_materials(root, arguments.materials, read_grids(scale=arguments.scale))
    print(f"materials made in {time.monotonic() - start:.0f} s")
    options = ["--threads", arguments.threads]
    n_shards = -(-arguments.materials // 32)
    segments = drive(root, out, options, n_shards, arguments.kills)
    figures = summary(segments, out, arguments.materials, 32)
    if arguments.startup:
        figures["startup"] = arguments.startup
        figures["startup_of_a_long_list_s"] = time_startup(
            root, arguments.out / "long", arguments.startup, options
        )
        shutil.rmtree(arguments.out / "long", ignore_errors=True)
    print_report(figures)
    if arguments.json:
        segments_json = [asdict(segment) for segment in segments]
        arguments.json.write_text(json.dumps(figures | {"segments": segments_json}, indent=1) + "\n")
    if not arguments.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
