"""All densities of a training set in one memory-mapped flat array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat import _core
from tomat._threads import in_order
from tomat.crystal import Crystal
from tomat.lm.data.cache import Arrays, FlatFile, built
from tomat.material import Material, Unit, read
from tomat.storage.files import filesystem, is_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.material import Entry
    from tomat.starting import StartingDensity

#: Number of materials named in an error.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class DensityStore:
    """Densities in one unit, row-major one after another, with their crystals.

    Attributes:
        arrays: ``density`` float32 flat, ``grid`` (n, 3), ``lattice`` (n, 3, 3), ``atoms`` (n,) counts, ``numbers``
            and ``coordinates`` of all atoms, ``mean_abs``, ``mean``, ``min`` and ``max`` (n,) of each density.
        unit: of the densities.
        left_out: ids of materials that are ``missing``, ``unreadable`` or ``oversized``, by reason.
    """

    arrays: Arrays
    unit: Unit
    left_out: dict[str, list[str]]
    cache: str | Path | None = None

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        unit: Unit,
        *,
        cache: str | Path | None = None,
        on_error: str = "raise",
        threads: int | None = None,
    ) -> DensityStore:
        """The store of ``entries`` in ``unit``, from the cache unless it is missing or a file has changed.

        Raises:
            ValueError: a material cannot be read and ``on_error`` is not ``skip``, or the data exceed the memory limit.
        """
        identity = {
            "format": 2,
            "unit": unit,
            "entries": [[entry.task_id, *_stamp(entry.path)] for entry in entries],
        }

        def build(folder: Path, limit: int | None) -> dict[str, Any]:
            return _build(folder, limit, entries, unit, skip=on_error == "skip", threads=threads)

        arrays = built(cache, "densities", identity, build)
        left_out = {str(reason): list(names) for reason, names in arrays.notes["left_out"].items()}
        if on_error != "skip":
            _refuse(left_out, arrays.notes["problems"])
        return cls(arrays, unit, left_out, cache)

    @property
    def task_ids(self) -> list[str]:
        """Ids of the materials, in the order of the arrays."""
        return list(self.arrays.notes["task_ids"])

    def __len__(self) -> int:
        return len(self.arrays.notes["task_ids"])

    @cached_property
    def density(self) -> NDArray[np.float32]:
        """All values, flat."""
        return self.arrays["density"]

    @cached_property
    def grid(self) -> NDArray[np.int32]:
        """(n, 3) grid points along x, y, z."""
        return self.arrays["grid"].reshape(-1, 3)

    @cached_property
    def lattice(self) -> NDArray[np.float64]:
        """(n, 3, 3) rows a, b, c in angstrom."""
        return self.arrays["lattice"].reshape(-1, 3, 3)

    @cached_property
    def _starts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start of each material among the values and among the atoms."""
        values = np.concatenate([[0], np.cumsum(self.grid.astype(np.int64).prod(axis=1))])
        return values, np.concatenate([[0], np.cumsum(self.arrays["atoms"], dtype=np.int64)])

    @cached_property
    def crystals(self) -> _core.Crystals:
        """The crystals in the form of the Rust core."""
        return _core.Crystals([self._crystal(index) for index in range(len(self))])

    def _crystal(self, index: int) -> tuple[tuple[int, int, int], NDArray[np.float64], list[int], Any]:
        atoms = slice(*self._starts[1][index : index + 2])
        nx, ny, nz = self.grid[index].tolist()
        coordinates = self.arrays["coordinates"].reshape(-1, 3)[atoms]
        return (nx, ny, nz), self.lattice[index], self.arrays["numbers"][atoms].tolist(), coordinates

    def material(self, index: int) -> Material:
        """One material; its density is a view of the store."""
        grid, lattice, numbers, coordinates = self._crystal(index)
        values = self.density[slice(*self._starts[0][index : index + 2])].reshape(grid)
        name = self.arrays.notes["task_ids"][index]
        crystal = Crystal.of_checked(lattice, np.array(numbers, dtype=np.int32), coordinates, name)
        return Material.of_checked(crystal, values, self.unit, {})

    def span(self, index: int) -> tuple[int, int]:
        """Where the values of a material begin and end among all."""
        first, last = self._starts[0][index : index + 2].tolist()
        return first, last

    def volume(self, index: int) -> float:
        """Cell volume in cubic angstrom."""
        return _core.cell_volume(self.lattice[index])

    @cached_property
    def n_electrons(self) -> NDArray[np.float64]:
        """(n,) electrons in each cell, from the stored means."""
        mean: NDArray[np.float64] = self.arrays["mean"]
        if self.unit == "chgcar":
            return mean
        volumes = np.array([self.volume(index) for index in range(len(self))], dtype=np.float64)
        counts: NDArray[np.float64] = mean * volumes
        return counts

    @cached_property
    def extents(self) -> NDArray[np.float64]:
        """(n, 3) sum, minimum and maximum of each density, from stored statistics."""
        points = self.grid.astype(np.int64).prod(axis=1)
        arrays = self.arrays
        return np.stack([arrays["mean"] * points, arrays["min"], arrays["max"]], axis=1)

    def atomic_numbers(self, index: int) -> list[int]:
        """Atomic numbers of one material."""
        return self._crystal(index)[2]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the materials' names and contents; independent of paths."""
        lines = "\n".join(
            f"{name} {content}"
            for name, content in zip(self.task_ids, self.arrays.notes["hashes"], strict=True)
        )
        return hashlib.sha256(f"{self.unit}\n{lines}".encode()).hexdigest()

    def guess(
        self,
        guess: StartingDensity,
        threads: int | None = None,
        own: Mapping[int, StartingDensity] | None = None,
    ) -> NDArray[np.float32]:
        """Starting densities of all materials, in the order and unit of :attr:`density`; cached.

        Args:
            guess: the starting density.
            threads: number of threads.
            own: starting densities of materials that have another.

        Raises:
            ValueError: a starting density fails; the message names the material.
        """
        others = own or {}

        def build(folder: Path, limit: int | None) -> dict[str, Any]:
            with FlatFile(folder, "guess", np.float32, limit) as file:
                for _, values in in_order(self._guess_of(guess, others), range(len(self)), threads):
                    file.append(values)
            return {}

        identity: dict[str, Any] = {"format": 1, "store": self.hash, "guess": guess.identity}
        if others:
            materials: dict[str, list[int]] = {}
            for index in sorted(others):
                materials.setdefault(others[index].identity, []).append(index)
            identity["own"] = materials
        return built(self.cache, "guess", identity, build)["guess"]

    def _guess_of(self, guess: StartingDensity, own: Mapping[int, StartingDensity]) -> Any:
        def one(index: int) -> NDArray[np.float32]:
            material = self.material(index)
            try:
                values = own.get(index, guess).density(material.crystal, material.grid_shape, self.unit)
            except ValueError as error:
                raise ValueError(f"{self.task_ids[index]}: {error}") from error
            return values.astype(np.float32)

        return one


@dataclass(frozen=True, eq=False)
class _Read:
    """A material in the unit of the store, or the reason it is left out."""

    material: Material | None
    content: str = ""
    reason: str = ""
    problem: str = ""


def _build(
    folder: Path, limit: int | None, entries: Sequence[Entry], unit: Unit, *, skip: bool, threads: int | None
) -> dict[str, Any]:
    """Write the arrays of :class:`DensityStore`, with few materials in memory at a time."""
    task_ids: list[str] = []
    hashes: list[str] = []
    left_out: dict[str, list[str]] = {}
    problems: list[str] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    with FlatFile(folder, "density", np.float32, limit) as file:
        for entry, result in in_order(lambda entry: _read(entry, unit), entries, threads):
            material = result.material
            if material is None:
                left_out.setdefault(result.reason, []).append(entry.task_id)
                problems.append(result.problem)
                if not skip and len(problems) >= _NAMED:
                    _refuse(left_out, problems)
                continue
            values = material.density
            file.append(values)
            task_ids.append(entry.task_id)
            hashes.append(result.content)
            row: dict[str, ArrayLike] = {
                "grid": values.shape,
                "lattice": material.lattice,
                "atoms": len(material.atomic_numbers),
                "numbers": material.atomic_numbers,
                "coordinates": material.frac_coords,
                "mean": values.mean(dtype=np.float64),
                "min": values.min(),
                "max": values.max(),
                "mean_abs": np.abs(values).mean(dtype=np.float64),
            }
            for name, column in columns.items():
                column.append(np.ravel(row[name]))
    if not skip:
        _refuse(left_out, problems)
    if not task_ids:
        raise ValueError(f"none of the {len(entries)} materials can be read: {'; '.join(problems[:_NAMED])}")
    for name, dtype in _COLUMNS.items():
        with FlatFile(folder, name, dtype) as file:
            file.append(np.concatenate(columns[name]))
    return {"task_ids": task_ids, "hashes": hashes, "left_out": left_out, "problems": problems[:_NAMED]}


_COLUMNS: dict[str, Any] = {
    "grid": np.int32,
    "lattice": np.float64,
    "atoms": np.int32,
    "numbers": np.uint8,
    "coordinates": np.float64,
    "mean": np.float64,
    "min": np.float64,
    "max": np.float64,
    "mean_abs": np.float64,
}


def _read(entry: Entry, unit: Unit) -> _Read:
    try:
        material = read(entry.path).in_unit(unit)
    except FileNotFoundError as error:
        return _Read(None, reason="missing", problem=str(error))
    except (OSError, ValueError) as error:
        # The core distinguishes damaged files from grids that the format cannot hold.
        reason = getattr(error, "reason", "unreadable")
        return _Read(None, reason=reason, problem=f"{entry.task_id}: {error}")
    # Not ``Material.hash``: existing caches and notes have this one.
    digest = hashlib.sha256()
    for array in (material.density, material.lattice, material.atomic_numbers, material.frac_coords):
        digest.update(repr(array.shape).encode())
        digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
    return _Read(material, digest.hexdigest())


def _refuse(left_out: dict[str, list[str]], problems: list[str]) -> None:
    n = sum(map(len, left_out.values()))
    if n:
        counts = ", ".join(f"{len(names)} {reason}" for reason, names in left_out.items())
        raise ValueError(
            f"{counts} of the materials (set data.on_error = skip to train without them): "
            + "; ".join(problems[:_NAMED])
            + ("; ..." if n > _NAMED else "")
        )


def _stamp(path: str) -> list[Any]:
    """Absolute path with size and modification time, or that it is missing; includes all files of a Zarr group."""
    if is_url(path):
        fs, inner = filesystem(path)
        try:
            found = fs.find(inner, detail=True) if fs.isdir(inner) else {inner: fs.info(inner)}
        except FileNotFoundError:
            return [path, "missing"]
        stamps = [
            [info.get("size"), str(info.get("etag") or info.get("md5Hash") or info.get("mtime"))]
            for info in found.values()
        ]
        return [path, *sorted(stamps)]
    place = Path(path).absolute()
    if not place.exists():
        return [str(place), "missing"]
    files = sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else [place]
    stats = [file.stat() for file in files]
    return [str(place), *([stat.st_size, stat.st_mtime_ns] for stat in stats)]
