"""Pictures of the best and worst materials: coarse volumes and one plane of the true and predicted densities."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.material import Material
from tomat.storage.files import write_atomically
from tomat.view.plane import sampled
from tomat.workplace import file_name

#: Points along the longest axis of a volume, and of a plane.
VOLUME, PLANE = 24, 96


@dataclass(frozen=True, eq=False)
class Picture:
    """The picture of one material in a report; densities in electrons per cubic angstrom.

    Attributes:
        about: ``task_id``, ``mode``, ``nmae``, ``formula``, ``fraction`` (fractional coordinate of the plane along c),
            ``size`` (of the plane in angstrom).
        lattice: (3, 3) rows a, b, c in angstrom.
        atomic_numbers: (n,).
        frac_coords: (n, 3).
        volumes: (2, mx, my, mz) float32, true and predicted, on a subset of the grid points.
        planes: (2, px, py) float32, true and predicted, in the ab plane through the largest error, on a rectangle |a|
            by |b| sin(gamma), which covers the periodic plane once.
    """

    about: dict[str, Any]
    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int32]
    frac_coords: NDArray[np.float64]
    volumes: NDArray[np.float32]
    planes: NDArray[np.float32]

    @property
    def crystal(self) -> Crystal:
        """The crystal, under the id of the material."""
        return Crystal.of(self.lattice, self.atomic_numbers, self.frac_coords, self.about["task_id"])


_ARRAYS = ("lattice", "atomic_numbers", "frac_coords", "volumes", "planes")


def picture_of(material: Material, predicted: NDArray[np.float64], facts: Mapping[str, Any]) -> Picture:
    """The picture of a material and its prediction (nx, ny, nz), both in the material's unit."""
    factor = 1.0 / material.volume if material.unit == "chgcar" else 1.0
    pair = np.stack([material.density.astype(np.float64), predicted]) * factor
    worst = np.unravel_index(int(np.argmax(np.abs(pair[1] - pair[0]))), material.grid_shape)
    longest = max(material.grid_shape)
    kept = [(n, min(n, max(2, round(n * VOLUME / longest)))) for n in material.grid_shape]
    small = [np.arange(few) * n // few for n, few in kept]  # evenly spread
    plane, size = _rectangle(pair[..., worst[2]], material.lattice)
    about = {
        **{key: facts[key] for key in ("task_id", "mode", "nmae", "formula")},
        "fraction": float(worst[2]) / material.grid_shape[2],
        "size": size,
    }
    return Picture(
        about,
        material.lattice,
        material.atomic_numbers,
        material.frac_coords,
        pair[np.ix_([0, 1], *small)].astype(np.float32),
        plane.astype(np.float32),
    )


def _rectangle(
    planes: NDArray[np.float64], lattice: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Periodic planes (2, nx, ny) interpolated linearly to a rectangle, and its size in angstrom."""
    a, b = lattice[0], lattice[1]
    length = float(np.linalg.norm(a))
    along = float(a @ b) / length
    across = float(np.sqrt(max(float(b @ b) - along * along, 0.0)))
    step = max(length, across) / PLANE
    x = (np.arange(max(2, round(length / step))) + 0.5) * step
    y = (np.arange(max(2, round(across / step))) + 0.5) * step
    v = y[None, :] / across
    u = x[:, None] / length - v * along / length
    return sampled(planes, u, np.broadcast_to(v, u.shape)), (length, across)


class Gallery:
    """Keeps the pictures of the best and worst materials of one mode while they are evaluated.

    A picture that drops out of the ranking never returns to it.

    Args:
        folder: of the pictures.
        mode: mode whose rows are ranked.
        each: number of best, and of worst, materials.
    """

    def __init__(self, folder: Path, mode: str, each: int) -> None:
        self._folder, self._mode, self._each = folder, mode, each
        self._ranked: list[tuple[float, str]] = []

    def know(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows that were measured before."""
        more = [(float(row["nmae"]), str(row["task_id"])) for row in rows if row["mode"] == self._mode]
        ordered = sorted({*self._ranked, *more})
        worst = ordered[max(0, len(ordered) - self._each) :]
        self._ranked = list(dict.fromkeys([*ordered[: self._each], *worst]))

    def draw(
        self, material: Material, predicted: NDArray[np.float64], row: Mapping[str, Any]
    ) -> Picture | None:
        """The picture of a material if it ranks among the rows that are known here."""
        if not self._is_ranked(row):
            return None
        return picture_of(material, np.asarray(predicted, dtype=np.float64), row)

    def keep(self, row: Mapping[str, Any], picture: Picture | None) -> None:
        """Save the picture of a row if it ranks, and remove those that no longer do."""
        if picture is not None and self._is_ranked(row):
            save_picture(self._folder, picture)
        kept = {f"{file_name(name)}.npz" for _, name in self._ranked}
        for path in self._folder.glob("*.npz"):
            if path.name not in kept:
                path.unlink()

    def _is_ranked(self, row: Mapping[str, Any]) -> bool:
        if row["mode"] != self._mode or not self._each:
            return False
        self.know([row])
        return row["task_id"] in {name for _, name in self._ranked}


def save_picture(folder: Path, picture: Picture) -> None:
    """Write a picture as ``.npz`` without pickling."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        about=np.frombuffer(json.dumps(picture.about).encode(), dtype=np.uint8),
        **{name: getattr(picture, name) for name in _ARRAYS},
    )
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{file_name(picture.about['task_id'])}.npz", buffer.getvalue())


def load_pictures(folder: Path) -> list[Picture]:
    """The pictures of a result, the largest NMAE first."""
    found = []
    for path in sorted((folder / "volumes").glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as archive:
                about = json.loads(archive["about"].tobytes())
                found.append(Picture(about, *(archive[name] for name in _ARRAYS)))
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: damaged: {error}; evaluate again with --overwrite") from error
    return sorted(found, key=lambda picture: -float(picture.about["nmae"]))
