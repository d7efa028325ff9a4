"""The speed of writing rows and their size, measured on a few materials."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomat.dataset.meta import COVERAGE
from tomat.engine.local import Run
from tomat.material import Entry, Material
from tomat.storage.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.dataset.config import TokenizeConfig


@dataclass(frozen=True)
class Rate:
    """The cost of a row.

    Attributes:
        seconds_a_row: of one thread, for sampling, encoding, compressing and writing.
        seconds_a_voxel: of one thread, for reading and decompressing the density.
        bytes_a_token: bytes of the files per token.
        threads: threads per worker.
        source: where these numbers come from.
    """

    seconds_a_row: float
    seconds_a_voxel: float
    bytes_a_token: float | None
    threads: int
    source: str

    def hours(self, rows: int, voxels: int, n_workers: int) -> float:
        """Wall time of each worker if all parts are equally large."""
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
    """Measure the cost on this machine by tokenizing a few materials with ``config``.

    Args:
        config: of the planned run; the budget is ignored.
        entries: densities to measure with; if empty, synthetic ones.
        grid, n_atoms, n_materials: of the synthetic densities.

    Raises:
        OSError, ValueError: the densities cannot be read, or none of them can be written.
    """
    equal = replace(config, budget="equal", catalogue=None, worker_index=0, n_workers=1)
    if not entries:  # never leave out a synthetic density
        equal = replace(equal, max_clipped=1.0, max_negative=1.0, strict=False)
    with tempfile.TemporaryDirectory(prefix="tomat-plan-") as folder:
        place = Path(folder)
        chosen = list(entries)
        if not chosen:
            chosen = [_synthetic(place / f"made-{k}.zarr", grid, n_atoms, seed=k) for k in range(n_materials)]
        # One thread, since the time of several depends on the load of the machine.
        run = Run(equal, chosen, place / "rows", on_error="skip", threads=1)
        summary = run.execute()
        voxels = sum(read_json(place / "rows" / COVERAGE)["histogram"])
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


def _synthetic(path: Path, grid: tuple[int, int, int], n_atoms: int, seed: int) -> Entry:
    """Write a synthetic density: Gaussians at random positions in an orthorhombic cell with 0.1 A per grid point."""
    rng = np.random.default_rng(seed)
    positions, lengths = rng.random((n_atoms, 3)), np.array(grid) * 0.1
    density = np.zeros(grid)
    for position in positions:
        width = rng.uniform(0.3, 0.8)
        factors = [
            np.exp(-0.5 * ((np.abs((np.arange(n) / n - x + 0.5) % 1 - 0.5) * a) / width) ** 2)
            for n, x, a in zip(grid, position, lengths, strict=True)
        ]
        density += 8.0 * np.einsum("i,j,k->ijk", *factors)
    density *= 8.0 * n_atoms / density.mean()
    Material.of(path.stem, density, "chgcar", np.diag(lengths), [8] * n_atoms, positions).write(path)
    return Entry(path.stem, str(path))
