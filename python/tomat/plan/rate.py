"""How fast and how large rows are: measured on some, for the plan of all."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tomat.engine.local import Run
from tomat.material import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.dataset.config import TokenizeConfig


@dataclass(frozen=True)
class Rate:
    """What a row costs.

    Attributes:
        seconds_a_row: of one thread: drawing, cutting, quantising, compressing, writing.
        seconds_a_voxel: of one thread: reading and decompressing the density.
        bytes_a_token: of the files.
        threads: of a worker.
        source: where these numbers come from.
    """

    seconds_a_row: float
    seconds_a_voxel: float
    bytes_a_token: float | None
    threads: int
    source: str

    def hours(self, rows: int, voxels: int, n_workers: int) -> float:
        """Wall time of a worker, its part of the materials being as large as that of any other."""
        seconds = rows * self.seconds_a_row + voxels * self.seconds_a_voxel
        return seconds / self.threads / n_workers / 3600


def measure(
    config: TokenizeConfig,
    *,
    entries: Sequence[Entry] = (),
    grid: tuple[int, int, int] = (108, 108, 108),
    n_atoms: int = 12,
    n_materials: int = 3,
) -> Rate:
    """Tokenize a little with ``config`` and see what it takes, on this machine.

    Args:
        config: what is planned; a budget counts as equal.
        entries: densities to measure with; synthetic ones of ``grid`` where there are none.
        grid, n_atoms, n_materials: of the synthetic densities.

    Raises:
        OSError, ValueError: the densities cannot be read, or nothing of them can be written.
    """
    equal = replace(config, budget="equal", catalogue=None, worker_index=0, n_workers=1)
    if not entries:  # what is made up here is made to be timed
        equal = replace(equal, max_clipped=1.0, max_negative=1.0, strict=False)
    with tempfile.TemporaryDirectory(prefix="tomat-plan-") as folder:
        place = Path(folder)
        chosen = list(entries)
        if not chosen:
            chosen = [
                write_synthetic(place / f"made-{k}.zarr", grid, n_atoms, seed=k) for k in range(n_materials)
            ]
        # One thread: what two cost depends on what else the machine does.
        run = Run(equal, chosen, place / "rows", on_error="skip", threads=1)
        summary = run.execute()
        voxels = _voxels(place / "rows" / "coverage_histogram.json")
    if not summary.rows:
        raise ValueError("none of the densities to measure with could be written: give others")
    stages = summary.stage_seconds
    work = stages["encode"] + stages["compress"] + stages["write"]
    made = f"{len(chosen)} densities given" if entries else f"{len(chosen)} synthetic densities of {grid}"
    return Rate(
        seconds_a_row=work / summary.rows,
        seconds_a_voxel=stages["read"] / voxels,
        bytes_a_token=summary.bytes / summary.tokens,
        threads=1,
        source=f"measured on {made}",
    )


def _voxels(coverage: Path) -> int:
    return int(sum(json.loads(coverage.read_text())["histogram"]))


def write_synthetic(path: Path, grid: tuple[int, int, int], n_atoms: int, seed: int = 0) -> Entry:
    """A made density in the ``rho_gga`` layout: Gaussians on random places of an orthorhombic cell, 0.1 A a point."""
    rng = np.random.default_rng(seed)
    places, lengths = rng.random((n_atoms, 3)), np.array(grid) * 0.1
    density = np.zeros(grid)
    for position in places:
        width = rng.uniform(0.3, 0.8)
        factors = [
            np.exp(-0.5 * ((np.abs((np.arange(n) / n - x + 0.5) % 1 - 0.5) * a) / width) ** 2)
            for n, x, a in zip(grid, position, lengths, strict=True)
        ]
        density += 8.0 * np.einsum("i,j,k->ijk", *factors)
    density *= 8.0 * n_atoms / density.mean()
    sites = [{"species": [{"element": "O", "occu": 1}], "abc": position.tolist()} for position in places]
    lattice = {"matrix": np.diag(lengths).tolist()}
    structure = {
        "@class": "Structure",
        "@module": "pymatgen.core.structure",
        "lattice": lattice,
        "sites": sites,
    }
    _write_zarr(path, density.astype(np.float32), json.dumps(structure))
    return Entry(path.stem, str(path))


def _write_zarr(path: Path, density: NDArray[np.float32], structure: str) -> None:
    array = path / "charge_density_total"
    chunk = array.joinpath("c", *"000")
    chunk.parent.mkdir(parents=True)
    shape = list(density.shape)
    metadata: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
        ],
        "attributes": {},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"structure": structure}}
    group["attributes"]["metadata"] = json.dumps({"task_id": path.stem})  # type: ignore[index]
    (path / "zarr.json").write_text(json.dumps(group))
    (array / "zarr.json").write_text(json.dumps(metadata))
    chunk.write_bytes(pa.Codec("zstd", compression_level=1).compress(density.tobytes(), asbytes=True))
    assert math.prod(shape) == density.size
