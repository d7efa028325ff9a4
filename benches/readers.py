"""Densities from files on disk, on one core: tomat beside zarr-python, pymatgen and ASE.

Zarr groups of float32 at three levels of zstd, each with a CRC32C as ``tomat`` writes it, and one real crystal; the
text of a CHGCAR, a CHG (``G11.5``, of numbers that need an exponent and of such that do not) and a cube file. The grid
is 96 x 108 x 112. Every reader must give the same values. Times are CPU seconds, the best of all rounds, taken in
turns. Beside the groups stands libzstd alone, unpacking the same chunk from memory: the floor of any reader, and so the
highest ratio there can be.

    python benches/readers.py [--rounds 15] [--baseline-rounds 1]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io.cube
import numpy as np
import pyarrow as pa
import zarr
from pymatgen.io.vasp.outputs import Chgcar
from zarr.codecs import Crc32cCodec, ZstdCodec

import tomat
from bars import Bars
from end_to_end import GRID, material

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

LEVELS = (0, 3, 9)
#: The Bohr radius in angstrom.
BOHR = 0.529177210903
ARRAY = "charge_density_total"
REAL = Path(__file__).parents[1] / "tests" / "data" / "rho_gga" / "label" / "qe-0913.zarr"
#: Times as fast as zarr-python; GB of text a second.
ZARR_BAR = 3.0
TEXT_BARS = {"CHGCAR": 1.4, "CHG": 1.2, "CHG, few exponents": 1.2, "cube": 1.2}

type Reader = Callable[[], NDArray[Any]]


def zarr_group(m: tomat.Material, path: Path, level: int) -> Path:
    """The group as ``tomat`` writes it, the array again by zarr-python at another level."""
    m.write(path)
    codecs = [ZstdCodec(level=level, checksum=True), Crc32cCodec()]
    settings: dict[str, Any] = {"shape": GRID, "chunks": GRID, "dtype": "float32", "compressors": codecs}
    array = zarr.open_group(path, mode="r+").create_array(ARRAY, overwrite=True, **settings)
    array[:] = m.density
    return path


def by_zarr(path: Path) -> NDArray[Any]:
    values = zarr.open_group(path, mode="r")[ARRAY]
    assert isinstance(values, zarr.Array)
    return np.asarray(values[:])


def by_tomat(path: Path) -> NDArray[np.float32]:
    return tomat.read(path).density


def zstd_alone(path: Path) -> Reader:
    """Unpacks the one chunk of a group, which is in memory."""
    metadata = json.loads((path / ARRAY / "zarr.json").read_text())
    chunk = (path / ARRAY / "c" / "0" / "0" / "0").read_bytes()
    if metadata["codecs"][-1]["name"] == "crc32c":
        chunk = chunk[:-4]
    codec, size = pa.Codec("zstd"), 4 * math.prod(metadata["shape"])
    return lambda: np.frombuffer(codec.decompress(chunk, size), np.float32)


def by_pymatgen(path: Path) -> NDArray[Any]:
    values: NDArray[Any] = Chgcar.from_file(str(path)).data["total"]
    return values


def by_ase(path: Path) -> NDArray[Any]:
    with path.open() as file:
        values: NDArray[Any] = ase.io.cube.read_cube(file)["data"]  # type: ignore[no-untyped-call]
    return values / BOHR**3


def fortran(value: float, decimals: int) -> str:
    """``E`` of Fortran: a zero before the point, or a sign in its place."""
    mantissa, exponent = f"{abs(value):.{decimals - 1}E}".split("E")
    power = int(exponent) + 1 if value else 0
    return f"{'-' if value < 0 else '0'}.{mantissa.replace('.', '')}E{power:+03}"


def general(value: float) -> str:
    """``G11.5`` of Fortran: without an exponent from 0.1 to 99999."""
    if not 0.1 <= float(f"{abs(value):.4E}") < 1e5:
        return fortran(value, 5)
    size = float(f"{abs(value):.4E}")
    whole = len(str(int(size))) if size >= 1 else 0
    text = f"{size:.{5 - whole}f}".removeprefix("-") + ("." if whole == 5 else "")
    return f"{('-' if value < 0 else '') + (text if value >= 0 else text.removeprefix('0')):>7}    "


def lines(fields: list[str], per_line: int, gap: str) -> Iterator[str]:
    for start in range(0, len(fields), per_line):
        yield "".join(gap + field for field in fields[start : start + per_line]) + "\n"


def text_files(folder: Path, m: tomat.Material) -> dict[str, Path]:
    """The text formats, by what they are called in the table; an eighth of the values, eight times, for speed."""
    paths = {
        name: folder / file
        for name, file in zip(TEXT_BARS, ("CHGCAR", "CHG", "CHG.few", "bench.cube"), strict=True)
    }
    values = m.density.ravel()[: m.density.size // 8].tolist()
    small = [value * 1e-4 for value in values]
    head = "".join(
        f"{' '.join(map(str, row))}\n" for row in [("Si",), (1.0,), (9, 0, 0), (0, 10, 0), (0, 0, 11)]
    )
    head += f"Si\n1\nDirect\n0 0 0\n\n{GRID[0]} {GRID[1]} {GRID[2]}\n"
    for name, fields, per_line in (
        ("CHGCAR", [fortran(value, 11) for value in values], 5),
        ("CHG", [general(value) for value in small], 10),
        ("CHG, few exponents", [general(value) for value in values], 10),
    ):
        paths[name].write_text(head + "".join(lines(8 * fields, per_line, " ")))
    head = "\n\n1 0 0 0\n" + "".join(
        f"{n} {' '.join('.2' if i == axis else '0' for i in range(3))}\n" for axis, n in enumerate(GRID)
    )
    fields = 8 * [fortran(value, 5) for value in small]
    rows = (fields[start : start + GRID[2]] for start in range(0, len(fields), GRID[2]))
    paths["cube"].write_text(
        head + "14 0 0 0 0\n" + "".join(line for row in rows for line in lines(row, 6, "  "))
    )
    return paths


def cpu_seconds(work: Reader) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(readers: dict[str, tuple[Reader, int]]) -> dict[str, float]:
    """The best time of each reader, which runs so many times."""
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(max(rounds for _, rounds in readers.values())):
        for name, (work, rounds) in readers.items():
            if turn < rounds:
                taken[name].append(cpu_seconds(work))
    return {name: min(times) for name, times in taken.items()}


def zarr_rows(folder: Path, m: tomat.Material, rounds: int, bars: Bars) -> None:
    groups = {
        f"zstd {level} + crc32c": zarr_group(m, folder / f"level-{level}.zarr", level) for level in LEVELS
    }
    for name, path in {**groups, "a real crystal, 40 x 40 x 40": REAL}.items():
        assert (by_tomat(path) == by_zarr(path)).all(), f"{name}: the readers differ"
        readers: dict[str, Reader] = {
            "tomat": partial(by_tomat, path),
            "zarr-python": partial(by_zarr, path),
            "libzstd alone": zstd_alone(path),
        }
        best = in_turns({of: (read, rounds) for of, read in readers.items()})
        ratio = best["zarr-python"] / best["tomat"]
        times = ", ".join(f"{of} {1e3 * seconds:.2f} ms" for of, seconds in best.items())
        most = best["zarr-python"] / best["libzstd alone"]
        print(f"Zarr, {name}: {times}; no reader can be above {most:.1f}x")
        bars.at_least(f"Zarr over zarr-python, {name}", ZARR_BAR, ratio)


def text_rows(folder: Path, m: tomat.Material, rounds: int, baseline_rounds: int, bars: Bars) -> None:
    for name, path in text_files(folder, m).items():
        other = "ASE" if name == "cube" else "pymatgen"
        baseline = partial(by_ase if name == "cube" else by_pymatgen, path)
        assert np.allclose(by_tomat(path), baseline(), rtol=1e-6, atol=0), f"{name}: the readers differ"
        best = in_turns({"tomat": (partial(by_tomat, path), rounds), other: (baseline, baseline_rounds)})
        speed, ratio = path.stat().st_size / best["tomat"] / 1e9, best[other] / best["tomat"]
        print(f"{name}: {speed:.2f} GB/s, {ratio:.0f}x {other}")
        bars.at_least(f"{name}, read from disk", TEXT_BARS[name], speed, "GB/s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--baseline-rounds", type=int, default=1, help="of pymatgen and ASE, which take seconds"
    )
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    m = material()
    print(f"load {os.getloadavg()[0]:.1f}")
    bars = Bars()
    with tempfile.TemporaryDirectory() as folder:
        zarr_rows(Path(folder), m, given.rounds, bars)
        text_rows(Path(folder), m, given.rounds, given.baseline_rounds, bars)
    bars.finish()


if __name__ == "__main__":
    main()
