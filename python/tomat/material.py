"""Materials: a crystal with its density and unit, read from a file or converted from pymatgen or ASE."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from tomat import _core
from tomat.crystal import Crystal, as_array, content_hash
from tomat.formats import FORMATS, format_by_name, format_of, write, zarr
from tomat.storage.files import is_url, open_bytes

if TYPE_CHECKING:
    from ase.atoms import Atoms
    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core.structure import IStructure
    from pymatgen.io.vasp.outputs import Chgcar

    from tomat.formats.contents import Reader

__all__ = ["UNITS", "Entry", "Material", "Unit", "fetch", "is_read_by_core", "read", "task_id_of"]

type Unit = Literal["chgcar", "e_per_A3"]

#: ``chgcar``: rho * V_cell in electrons, the mean over the grid is the electron count. ``e_per_A3``: electrons per
#: cubic angstrom.
UNITS: tuple[Unit, Unit] = ("chgcar", "e_per_A3")


@dataclass(frozen=True, slots=True)
class Entry:
    """A material not yet read: its id, and the path or URL of its density."""

    task_id: str
    path: str

    def read(self) -> Material:
        """Read the material, under this id.

        Raises:
            OSError, ValueError: as :func:`read`.
        """
        return read(self.path).renamed(self.task_id)


@dataclass(frozen=True, eq=False)
class Material:
    """A crystal and its density, checked when it is made.

    Attributes:
        crystal: cell, atoms and name; sampling depends on the name.
        density: (nx, ny, nz) float32, point (i, j, k) at fractional coordinates (i/nx, j/ny, k/nz).
        unit: of the density, ``chgcar`` or ``e_per_A3``.
        source: facts about its file (``format``, ``has_spin``, ...); empty if made in memory.

    Raises:
        ValueError: a wrong shape, values that are not finite, an unknown unit.
    """

    crystal: Crystal
    density: NDArray[np.float32]
    unit: Unit
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.task_id}: {error}") from error

    def _check(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r} is not one of {', '.join(UNITS)}")
        values = as_array(self, "density", np.float32)
        if values.ndim != 3 or values.size == 0:
            raise ValueError(f"the density has shape {values.shape}; give (nx, ny, nz), none of them 0")
        if not np.isfinite(values).all():
            raise ValueError("the density holds NaN or infinite values")

    @classmethod
    def of(
        cls,
        task_id: str,
        density: ArrayLike,
        unit: str,
        lattice: ArrayLike,
        atomic_numbers: ArrayLike,
        frac_coords: ArrayLike,
        source: dict[str, Any] | None = None,
    ) -> Self:
        """A material from anything NumPy converts to arrays.

        Raises:
            ValueError: as the class, and as :class:`tomat.crystal.Crystal`.
        """
        return cls.on(Crystal.of(lattice, atomic_numbers, frac_coords, task_id), density, unit, source)

    @classmethod
    def on(
        cls, crystal: Crystal, density: ArrayLike, unit: str, source: dict[str, Any] | None = None
    ) -> Self:
        """A crystal with a density (nx, ny, nz) in ``unit``.

        Raises:
            ValueError: as the class.
        """
        given: tuple[Any, ...] = (density, unit, dict(source or {}))  # converted by the class
        return cls(crystal, *given)

    @classmethod
    def of_checked(
        cls, crystal: Crystal, density: NDArray[np.float32], unit: Unit, source: dict[str, Any]
    ) -> Self:
        """From parts that are already checked."""
        material = object.__new__(cls)
        material.__dict__.update(crystal=crystal, density=density, unit=unit, source=source)
        return material

    @property
    def task_id(self) -> str:
        """The name of the crystal."""
        return self.crystal.name

    @property
    def lattice(self) -> NDArray[np.float64]:
        """(3, 3) float64, rows a, b, c in angstrom."""
        return self.crystal.lattice

    @property
    def atomic_numbers(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.crystal.atomic_numbers

    @property
    def frac_coords(self) -> NDArray[np.float64]:
        """(n, 3) float64."""
        return self.crystal.frac_coords

    @property
    def hash(self) -> str:
        """SHA-256 of the density, its unit and its crystal, without the name."""
        density = np.asarray(self.density, dtype="<f4")
        return content_hash(f"tomat material 1 {self.unit} {self.grid_shape}\n", self.crystal, density)

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Grid points along x, y, z."""
        nx, ny, nz = self.density.shape
        return nx, ny, nz

    @property
    def volume(self) -> float:
        """Cell volume in cubic angstrom."""
        return self.crystal.volume

    @property
    def n_electrons(self) -> float:
        """Electrons in the cell: the integral of the density."""
        mean = float(self.density.mean(dtype=np.float64))
        return mean if self.unit == "chgcar" else mean * self.volume

    def in_unit(self, unit: str) -> Material:
        """The material with its density in another unit.

        Raises:
            ValueError: an unknown unit.
        """
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r} is not one of {', '.join(UNITS)}")
        if unit == self.unit:
            return self
        factor = self.volume if unit == "chgcar" else 1.0 / self.volume
        return replace(self, density=(self.density * np.float64(factor)).astype(np.float32), unit=unit)

    def supercell(self, repeats: tuple[int, int, int]) -> Material:
        """The crystal and its density repeated along a, b, c.

        Raises:
            ValueError: a repeat below one.
        """
        if any(n < 1 for n in repeats):
            raise ValueError(f"repeats {repeats} must be at least one along each axis")
        n_cells = int(np.prod(repeats))
        # rho * V_cell grows with the cell; rho itself does not.
        factor = n_cells if self.unit == "chgcar" else 1
        shifts = np.stack(np.meshgrid(*[np.arange(n) for n in repeats], indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        coordinates = (self.frac_coords[:, None, :] + shifts[None, :, :]) / np.asarray(repeats)
        return replace(
            self,
            density=np.ascontiguousarray(np.tile(self.density * np.float32(factor), repeats)),
            crystal=replace(
                self.crystal,
                lattice=self.lattice * np.asarray(repeats, dtype=np.float64)[:, None],
                atomic_numbers=np.repeat(self.atomic_numbers, n_cells),
                frac_coords=coordinates.reshape(-1, 3),
            ),
        )

    def subgrid(self, voxels: int) -> Material:
        """The material on a regular subset of its grid points: at most ``voxels``, as far as the axes are divisible.

        Steps divide the axes (a prime axis stays whole); the densest axis is thinned first. The first point, which
        becomes the origin, is drawn from the material's name, so that the subsets do not all begin at an atom.

        Raises:
            ValueError: ``voxels`` below one.
        """
        if voxels < 1:
            raise ValueError(f"voxels is {voxels}; give 1 or more")
        shape = np.array(self.grid_shape)
        spacing = np.linalg.norm(self.lattice, axis=1) / shape
        steps = np.ones(3, dtype=np.int64)
        while np.prod(shape // steps) > voxels:
            larger = [
                next((n for n in range(step + 1, size + 1) if size % n == 0), 0)
                for step, size in zip(steps.tolist(), shape.tolist(), strict=True)
            ]
            axis = int(np.argmin(np.where(np.array(larger) > 0, spacing * np.array(larger), np.inf)))
            if not larger[axis]:
                break
            steps[axis] = larger[axis]
        draw = hashlib.sha256(self.task_id.encode()).digest()
        first = np.array([int.from_bytes(draw[4 * i : 4 * i + 4], "little") for i in range(3)]) % steps
        cut = tuple(slice(int(o), None, int(step)) for o, step in zip(first, steps, strict=True))
        return replace(
            self,
            density=np.ascontiguousarray(self.density[cut]),
            crystal=replace(self.crystal, frac_coords=self.frac_coords - first / shape),
        )

    @classmethod
    def from_pymatgen(
        cls,
        data: Chgcar | IStructure,
        density: ArrayLike | None = None,
        unit: str = "chgcar",
        task_id: str | None = None,
    ) -> Self:
        """From a pymatgen ``Chgcar`` (its total density), or a ``Structure`` and a density (nx, ny, nz) in ``unit``.

        Raises:
            ValueError: a ``Structure`` without a density, or one with partly occupied sites.
        """
        # Duck-typed, so that pymatgen need not be imported.
        structure: Any = getattr(data, "structure", data)
        if density is None:
            volumetric: Any = data
            if not hasattr(volumetric, "data"):
                raise ValueError("a Structure has no density; give from_pymatgen(structure, density, unit)")
            density = volumetric.data["total"]
        return cls.on(Crystal.from_pymatgen(structure, task_id), density, unit)

    @classmethod
    def from_ase(cls, atoms: Atoms, density: ArrayLike, unit: str, task_id: str | None = None) -> Self:
        """From ASE ``Atoms`` and a density (nx, ny, nz) in ``unit``.

        Raises:
            ValueError: as :meth:`Crystal.from_ase`.
        """
        return cls.on(Crystal.from_ase(atoms, task_id), density, unit)

    def renamed(self, task_id: str) -> Self:
        """The same material under another name."""
        return self if task_id == self.task_id else replace(self, crystal=self.crystal.renamed(task_id))

    def with_source(self, **facts: Any) -> Self:
        """The same material with more facts about its source: ``with_source(ecutwfc_Ry=60.0)``."""
        return replace(self, source={**self.source, **facts})

    def write(self, path: str | Path, format: str | None = None, *, augmentation: bytes = b"") -> None:  # noqa: A002
        """Write as ``NAME.zarr``, ``CHGCAR``, ``NAME.CHGCAR``, ``NAME.vasp``, ``NAME.cube``, ``NAME.xsf``,
        ``NAME.npz``, ``NAME.save`` or ``NAME_DEN``; text is compressed by a suffix .gz, .bz2, .xz or .zst.

        Args:
            path: where to write; an existing file is replaced.
            format: a name in :data:`tomat.formats.FORMATS`; by default the one ``path`` implies.
            augmentation: lines to append to a CHGCAR, see :func:`tomat.formats.vasp.read_augmentation`.

        Raises:
            ValueError: the name implies no format, or the format cannot represent a value.
            OSError: the file cannot be written.
        """
        name = format or format_of(path)
        if name not in FORMATS:
            raise ValueError(f"format {name!r} is not one of {', '.join(FORMATS)}")
        form = FORMATS[name]
        density = self.in_unit(form.unit).density
        content = form.encode(self.crystal, density, self.n_electrons, self.source)
        if isinstance(content, bytes) and form.has_augmentation:
            content += augmentation
        write(Path(path), form, content)

    def to_pymatgen(self) -> Chgcar:
        """A pymatgen ``Chgcar`` (in the ``chgcar`` unit); needs ``tomat[structures]``."""
        from pymatgen.io.vasp.inputs import Poscar
        from pymatgen.io.vasp.outputs import Chgcar

        values = self.in_unit("chgcar").density.astype(np.float64)
        return Chgcar(Poscar(self.crystal.to_pymatgen()), {"total": values})

    def to_ase(self) -> Atoms:
        """ASE ``Atoms``; needs ``tomat[structures]``."""
        return self.crystal.to_ase()

    def __repr__(self) -> str:
        grid = " x ".join(map(str, self.grid_shape))
        return (
            f"Material({self.task_id!r}, {len(self.atomic_numbers)} atoms, grid {grid}, "
            f"{self.n_electrons:.4g} electrons, unit {self.unit!r})"
        )


def read(path: str | Path) -> Material:
    """Read a density: a Zarr v3 group in the ``rho_gga`` layout, VASP CHGCAR/CHG/AECCAR, Gaussian cube, XSF, ``.npz``
    (:mod:`tomat.formats.npz`), a save folder of Quantum ESPRESSO (``PREFIX.save``), ``NAME_DEN`` of ABINIT, or
    pymatgen's ``Chgcar`` as JSON (``NAME.chgcar.json``).

    Text files may be compressed (.gz, .bz2, .xz, .zst). URLs are opened with fsspec. The unit is ``chgcar`` for Zarr
    and VASP, what it says for ``.npz``, and ``e_per_A3`` for the others. Of runs with spin, the total is read.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file cannot be read.
        ValueError: damaged, or not a density; the message names the file, what is wrong and where.
    """
    reader = _reader(path)
    if reader is not None:
        return _decoded(reader, path)
    content = fetch(path)
    if content is None:
        return _material(_core.read(str(path)))
    if isinstance(content, dict):
        return _material(_core.read_group(content, str(path)))
    return read_content(content, str(path))


def read_content(content: bytes, name: str) -> Material:
    """As :func:`read` for the content of a file (CHGCAR, CHG, cube) of that name.

    Raises:
        ValueError: as :func:`read`.
    """
    return _material(_core.read_bytes(content, name))


def fetch(path: str | Path) -> dict[str, bytes] | bytes | None:
    """What the core reads a density from: the content of its file, or of those of a Zarr group by their names.

    None for a local path that the core opens itself. A format that it does not read becomes a Zarr group.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`read`.
    """
    if is_read_by_core(path):
        return None
    if _reader(path) is not None:
        material = read(path).in_unit("chgcar")
        return zarr.encode(material.crystal, material.density, material.n_electrons, material.source)
    return zarr.fetch_group(str(path)) if str(path).rstrip("/").endswith(".zarr") else open_bytes(path)


def is_read_by_core(path: str | Path) -> bool:
    """Whether the core opens a path itself: a local one, of a format that it reads."""
    return not is_url(path) and _reader(path) is None


def _reader(path: str | Path) -> Reader | None:
    """How a path is read in Python; None if the core reads it."""
    name = str(path).rstrip("/")
    form = format_by_name(name.split("?")[0] if is_url(name) else name, shared=True)
    return None if form is None else form.reader


def task_id_of(path: str | Path) -> str:
    """The id of a file's material: its stem, or the name of its folder if the file is just called CHGCAR or x.save."""
    name = _core.task_id(str(path))
    reader = _reader(name)
    if reader is None:
        return name
    stem = reader.ending.sub("", name)
    if not reader.nameless.fullmatch(stem):
        return stem
    text = str(path).rstrip("/")
    return _core.task_id(text.rpartition("/")[0] if is_url(path) else str(Path(text).absolute().parent))


def _decoded(reader: Reader, path: str | Path) -> Material:
    """A density whose format the core does not read."""
    found = reader.read(path)
    try:
        crystal = Crystal.of(found.lattice, found.atomic_numbers, found.frac_coords, task_id_of(path))
        return Material.on(crystal, found.density, found.unit, found.source)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _material(raw: _core.RawMaterial) -> Material:
    crystal = Crystal.of_checked(raw.lattice, raw.atomic_numbers, raw.frac_coords, raw.task_id)
    unit: Unit = "chgcar" if raw.unit == "chgcar" else "e_per_A3"
    return Material.of_checked(crystal, raw.density, unit, raw.source)
