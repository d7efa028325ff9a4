"""Where the tokens of a patch are in space; NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.crystal import Crystal
    from tomat.lm.vocabulary import ModelVocabulary

    type Floats = NDArray[np.float64]

#: Images whose squared distances differ by less, in square angstrom, are equally near.
_EQUAL = 1e-3
#: No two images of an atom have the same product with it; of equally near ones the largest is taken.
_DIRECTION = np.array([1.0, 0.6180339887, 0.4142135623])


class Tokens(NamedTuple):
    """What the tokens of a row stand for.

    Attributes:
        atoms: (L,) int32, the atom of its element or one of its coordinates; ``n`` of n atoms for others.
        voxels: (L,) int32, the voxel; ``n`` of n voxels for others.
    """

    atoms: NDArray[np.int32]
    voxels: NDArray[np.int32]


def tokens_of(
    row: NDArray[np.int32],
    vocabulary: ModelVocabulary,
    density: slice,
    atoms: tuple[int, int],
    voxels: tuple[int, int],
) -> Tokens:
    """What the tokens of a row (L,) stand for.

    Args:
        row: ids.
        vocabulary: of the row.
        density: columns of its density tokens.
        atoms: their number, and the number that stands for none.
        voxels: likewise.
    """
    specials = vocabulary.tokenizer.vocabulary.specials
    found = Tokens(np.full(len(row), atoms[1], np.int32), np.full(len(row), voxels[1], np.int32))
    elements, coordinates = (int(np.argmax(row == specials[f"[{name}_START]"])) for name in ("ATOMS", "POS"))
    each = (int(np.argmax(row == specials["[POS_END]"])) - coordinates - 1) // atoms[0]
    found.atoms[elements + 1 : elements + 1 + atoms[0]] = np.arange(atoms[0])
    found.atoms[coordinates + 1 : coordinates + 1 + each * atoms[0]] = np.repeat(np.arange(atoms[0]), each)
    count = density.stop - density.start
    found.voxels[density] = np.repeat(np.arange(voxels[0]), count // voxels[0])
    return found


def places_of(tokens: Tokens, atoms: Floats, voxels: Floats) -> NDArray[np.float32]:
    """Places (L, 3) of tokens, from those of atoms (n, 3) and voxels (m, 3); 0 for tokens of neither."""
    places = np.zeros((len(tokens.atoms), 3), np.float32)
    for of, where in ((tokens.atoms, atoms), (tokens.voxels, voxels)):
        there = of < len(where)
        places[there] = where[of[there]]
    return places


def patch_indices(shape: Sequence[int]) -> NDArray[np.int64]:
    """Indices (voxels, 3) in a patch, row-major."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)


class PlacedCrystal:
    """A crystal on a grid: where the voxels and atoms of its patches are.

    Args:
        crystal: the crystal.
        grid: (3,) grid points along the axes.
        shape: (3,) of the patches.
    """

    def __init__(self, crystal: Crystal, grid: ArrayLike, shape: Sequence[int]) -> None:
        self.grid, self.crystal, self.shape = np.asarray(grid, np.int64), crystal, tuple(shape)
        lattice = np.asarray(crystal.lattice, np.float64)
        self._lattice = lattice
        self._indices = patch_indices(self.shape)
        middle = 0.5 * (np.array(self.shape) - 1)
        #: (voxels, 3) angstrom from the middle of a patch.
        self.voxels: Floats = (self._indices - middle) / self.grid @ lattice
        self._middle = middle
        # The nearest image is no farther than the one in the cell around the middle.
        farthest = 0.5 * np.linalg.norm(lattice, axis=1).sum()
        most = np.ceil(farthest * np.linalg.norm(np.linalg.inv(lattice), axis=0) + 0.5).astype(int)
        ranges = [np.arange(-n, n + 1) for n in most.tolist()]
        shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
        near = np.linalg.norm(shifts @ lattice, axis=1) <= 2 * farthest + 1e-6
        self._shifts: Floats = shifts[near].astype(np.float64)

    def points(self, offset: ArrayLike) -> Floats:
        """Fractional coordinates (voxels, 3) of the patch with low corner ``offset``."""
        return np.asarray((np.asarray(offset) + self._indices) / self.grid)

    def indices(self, offset: ArrayLike) -> NDArray[np.int64]:
        """Row-major indices (voxels,) in the grid of the patch with low corner ``offset``."""
        x, y, z = np.moveaxis((np.asarray(offset, np.int64) + self._indices) % self.grid, -1, 0)
        return np.asarray((x * self.grid[1] + y) * self.grid[2] + z)

    def atoms(self, offset: ArrayLike) -> Floats:
        """Places (atoms, 3) in angstrom of the image of each atom nearest to the middle of a patch, from there."""
        away = self.crystal.frac_coords - (np.asarray(offset) + self._middle) / self.grid
        images = (away - np.round(away))[:, None] + self._shifts
        places = images @ self._lattice
        square = np.einsum("sti,sti->st", places, places)
        # Rounding must not decide between images that the symmetry makes equally near.
        equal = square < square.min(axis=1, keepdims=True) + _EQUAL
        chosen = np.argmax(np.where(equal, images @ _DIRECTION, -np.inf), axis=1)
        return np.asarray(places[np.arange(len(places)), chosen])
