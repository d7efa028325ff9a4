"""Voxels that the space group of a crystal makes equal: one of each orbit, and how many there are.

Operations come from moyo (``pip install tomat[symmetry]``). Only those that map the grid onto itself are used: a grid
can have fewer symmetries than its crystal, for instance one of 10 points along a threefold screw axis.

The group is that of the atoms. A density may have fewer symmetries, for instance that of an antiferromagnet.

>>> from tomat.crystal import Crystal
>>> from tomat.symmetry import unique_voxels  # doctest: +SKIP
>>> iron = Crystal.of([[2.8, 0, 0], [0, 2.8, 0], [0, 0, 2.8]], [26, 26], [[0, 0, 0], [0.5, 0.5, 0.5]])
>>> voxels = unique_voxels(iron, (24, 24, 24))  # doctest: +SKIP
>>> len(voxels.indices), int(voxels.multiplicities.sum())  # doctest: +SKIP
(252, 13824)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.crystal import Crystal

__all__ = [
    "SYMPREC",
    "Operations",
    "UniqueVoxels",
    "grid_operations",
    "operations",
    "space_group",
    "unique_voxels",
]

#: Distance in angstrom up to which places are equal.
SYMPREC = 1e-4


@dataclass(frozen=True, eq=False)
class Operations:
    """Symmetry operations in fractional coordinates: x becomes ``rotation @ x + translation``.

    Attributes:
        rotations: (n, 3, 3) int64.
        translations: (n, 3) float64.
    """

    rotations: NDArray[np.int64]
    translations: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rotations)


@dataclass(frozen=True, eq=False)
class UniqueVoxels:
    """The orbits of the voxels of a grid.

    Attributes:
        grid_shape: (nx, ny, nz).
        indices: (m,) int64, row-major index of the first voxel of each orbit, ascending.
        multiplicities: (m,) int64, number of voxels of each orbit; they add up to nx * ny * nz.
        inverse: (nx, ny, nz) int64, the orbit of each voxel, a position in ``indices``.
        n_operations: number of operations of the crystal that map the grid onto itself.
    """

    grid_shape: tuple[int, int, int]
    indices: NDArray[np.int64]
    multiplicities: NDArray[np.int64]
    inverse: NDArray[np.int64]
    n_operations: int

    def expand(self, values: ArrayLike) -> NDArray[np.generic]:
        """Values (m, ...) of the unique voxels on the whole grid, (nx, ny, nz, ...).

        Raises:
            ValueError: another number of values.
        """
        array = np.asarray(values)
        if array.shape[:1] != self.indices.shape:
            raise ValueError(f"values of shape {array.shape}; the grid has {len(self.indices)} unique voxels")
        return np.asarray(array[self.inverse])


def operations(crystal: Crystal, *, symprec: float = SYMPREC) -> Operations:
    """The space group of a crystal, with the translations of a cell that is not primitive.

    Raises:
        ValueError: a crystal whose symmetry cannot be found, or moyopy is not installed.
    """
    found = _symmetry(crystal, symprec).operations
    rotations = np.array(found.rotations, dtype=np.int64).reshape(-1, 3, 3)
    return Operations(rotations, np.array(found.translations, dtype=np.float64).reshape(-1, 3))


def space_group(crystal: Crystal, *, symprec: float = SYMPREC) -> int:
    """Number of the space group of a crystal, 1 to 230.

    Raises:
        ValueError: a crystal whose symmetry cannot be found, or moyopy is not installed.
    """
    return int(_symmetry(crystal, symprec).number)


def _symmetry(crystal: Crystal, symprec: float) -> Any:
    """What moyo finds."""
    try:
        import moyopy
    except ImportError as error:
        raise ValueError("symmetry needs moyopy: pip install 'tomat[symmetry]'") from error
    cell = moyopy.Cell(
        crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist()
    )
    try:
        return moyopy.MoyoDataset(cell, symprec=symprec)
    except Exception as error:  # the class of its errors is not public
        raise ValueError(
            f"{crystal.name}: its symmetry cannot be found within {symprec:g} angstrom: {error}"
        ) from error


def grid_operations(
    crystal: Crystal, grid_shape: Sequence[int], *, symprec: float = SYMPREC
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The operations that map the grid onto itself, in grid points: i becomes ``rotation @ i + shift``, periodically.

    Args:
        crystal: the cell and its atoms.
        grid_shape: points along x, y, z.
        symprec: distance in angstrom up to which places are equal.

    Returns:
        (n, 3, 3) and (n, 3), int64.

    Raises:
        ValueError: as :func:`operations`.
    """
    points = np.array(grid_shape, dtype=np.int64)
    group = operations(crystal, symprec=symprec)
    # Row r of a rotation gives axis r: its entries times n_r / n_c must be whole.
    scaled = group.rotations * points[:, None]
    whole = (scaled % points == 0).all(axis=(1, 2))
    shifts = group.translations * points
    nearest = np.rint(shifts)
    off = ((shifts - nearest) / points) @ crystal.lattice
    fits = whole & (np.linalg.norm(off, axis=1) <= symprec)
    return scaled[fits] // points, nearest[fits].astype(np.int64) % points


def unique_voxels(crystal: Crystal, grid_shape: Sequence[int], *, symprec: float = SYMPREC) -> UniqueVoxels:
    """One voxel of each orbit under the operations of the crystal that map the grid onto itself.

    Args:
        crystal: the cell and its atoms.
        grid_shape: points along x, y, z; point (i, j, k) lies at (i/nx, j/ny, k/nz).
        symprec: distance in angstrom up to which places are equal.

    Raises:
        ValueError: a crystal whose symmetry cannot be found, or moyopy is not installed.
    """
    nx, ny, nz = (int(n) for n in grid_shape)
    rotations, shifts = grid_operations(crystal, (nx, ny, nz), symprec=symprec)
    # An orbit is what hangs together by generators: of the thousands of operations of a supercell a handful.
    chosen = _generators(rotations, shifts, np.array([nx, ny, nz]))
    images = [_images(rotations[i], shifts[i], (nx, ny, nz)) for i in chosen]
    size = nx * ny * nz
    ends = np.arange(size + 1, dtype=np.int64) * len(images)
    to = np.stack(images, axis=1).ravel() if images else np.empty(0, np.int64)
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(len(to), np.int8), to, ends), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, first, orbit, counts = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return UniqueVoxels(
        (nx, ny, nz),
        first[order].astype(np.int64),
        counts[order].astype(np.int64),
        place[orbit].reshape(nx, ny, nz),
        len(rotations),
    )


def _generators(
    rotations: NDArray[np.int64], shifts: NDArray[np.int64], points: NDArray[np.int64]
) -> list[int]:
    """Operations that generate all: some that generate the pure translations, and some whose rotations the others'.

    Translations are a normal subgroup, and two operations of one rotation differ by one of them.
    """
    group = {
        rotation.tobytes(): i for i, rotation in reversed(list(enumerate(rotations)))
    }  # the first of each
    unit = np.eye(3, dtype=np.int64)
    pure = np.flatnonzero((rotations == unit).all(axis=(1, 2)))
    moves = {tuple(shifts[i].tolist()): int(i) for i in pure}

    def sum_of(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(((np.array(one) + two) % points).tolist())

    def product(one: bytes, two: bytes) -> bytes:
        a, b = (np.frombuffer(of, np.int64).reshape(3, 3) for of in (one, two))
        return (a @ b).tobytes()

    return [*_generating(moves, (0, 0, 0), sum_of), *_generating(group, unit.tobytes(), product)]


def _generating[Element](
    elements: dict[Element, int], neutral: Element, product: Callable[[Element, Element], Element]
) -> list[int]:
    """The values of elements that generate all elements of a finite group."""
    reached, chosen = {neutral}, list[Element]()
    for element in elements:
        if element in reached:
            continue
        chosen.append(element)
        edge = list(reached)
        while edge:
            edge = [new for old in edge for by in chosen if (new := product(old, by)) not in reached]
            edge = list(dict.fromkeys(edge))
            reached.update(edge)
    return [elements[element] for element in chosen]


def _images(
    rotation: NDArray[np.int64], shift: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.int64]:
    """The row-major index of the image of every voxel, flat."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    index = np.zeros(shape, dtype=np.int64)
    for (a, b, c), by, n in zip(rotation.tolist(), shift.tolist(), shape, strict=True):
        index *= n
        index += (a * x + b * y + c * z + by) % n
    return index.ravel()
