"""The token format once more, in NumPy: what docs/format.md says the rows of a density are.

Nothing here asks the core or the rest of the package: it is the second path of an audit, and shares with the first one
only the page that both were written from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

type Shape = tuple[int, int, int]

MAX_INT = 1023
_N_ELEMENTS = 118
_LENGTH_STEP = 0.05  # angstrom
_ANGLE_STEP = 0.2  # degrees
_SPECIALS = (
    "[PAD] [BOS] [EOS] [ATOMS_START] [ATOMS_END] [POS_START] [POS_END] [GRID_START] [GRID_END] [SHAPE_START] "
    "[SHAPE_END] [OFFSET_START] [OFFSET_END] [HI_START] [HI_END] [DENS_START] [DENS_END] [NL]"
).split()
_LATTICE_SPECIALS = [*_SPECIALS, "[LATTICE_START]", "[LATTICE_END]"]
_OLD = ("GRID", "ATOMS", "POS", "SHAPE", "OFFSET", "HI", "DENS")
#: Blocks of each layout between BOS and EOS.
_BLOCKS = {
    "v1": _OLD,
    "v2": _OLD,
    "v2-lat": ("GRID", "LATTICE", *_OLD[1:]),
    "v3": ("GRID", "LATTICE", "ATOMS", "POS", "DENS"),
}
_FALLBACK_BLOCKS = ("GRID", "LATTICE", "ATOMS", "POS", "SHAPE", "DENS")
#: Distance from a whole number below which a step of a log codec is computed again with the C library's log10: NumPy's
#: own differs from it in the last bit on some processors.
_DOUBT = 1e-4
#: Smallest magnitude of a log codec; below it a value is zero.
_ZERO = 1e-15


class Levels(Protocol):
    """A density codec by its definition: values to the numbers of its levels, and back."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each component."""

    @property
    def limits(self) -> tuple[float, float]:
        """Range of the codec; values beyond it are clipped."""

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """(n, components) int32 of (n,) values."""

    def decode(self, components: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """(n,) values of (n, components)."""


@dataclass(frozen=True)
class LloydMaxLevels:
    """Fitted levels: the bin is the number of boundaries at or below the clipped value."""

    boundaries: NDArray[np.float64]
    points: NDArray[np.float64]
    limits: tuple[float, float]

    @property
    def sizes(self) -> tuple[int, ...]:
        """One component."""
        return (len(self.points),)

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """(n, 1) int32."""
        found = np.searchsorted(self.boundaries, np.clip(values, *self.limits), side="right")
        return found.astype(np.int32)[:, None]

    def decode(self, components: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Reconstruction points."""
        found: NDArray[np.float64] = self.points[components[:, 0]]
        return found


@dataclass(frozen=True)
class LogLevels:
    """Equal steps of log10 of the magnitude, the sign in the first component."""

    log_min: float
    log_max: float
    bits: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each component; the sign doubles the first."""
        return (2 << self.bits[0], *(1 << b for b in self.bits[1:]))

    @property
    def limits(self) -> tuple[float, float]:
        """Both signs."""
        return -(10.0**self.log_max), 10.0**self.log_max

    @property
    def _steps(self) -> int:
        return (1 << sum(self.bits)) - 1

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """(n, components) int32."""
        magnitude = np.abs(values)
        is_zero = magnitude < _ZERO
        logs = np.log10(np.where(is_zero, 1.0, magnitude))
        t = self._position(logs)
        for i in np.flatnonzero((np.abs(t - np.rint(t)) < _DOUBT) & ~is_zero).tolist():
            t[i] = self._position(np.float64(math.log10(magnitude[i])))
        n = np.where(is_zero, 0, np.trunc(t)).astype(np.int64)
        parts, left = [], sum(self.bits)
        for b in self.bits:
            left -= b
            parts.append((n >> left) & ((1 << b) - 1))
        parts[0] = parts[0] + np.where(values >= 0, 0, 1 << self.bits[0])
        return np.stack(parts, axis=1).astype(np.int32)

    def _position(self, logs: Any) -> Any:
        span = self.log_max - self.log_min
        return (np.clip(logs, self.log_min, self.log_max) - self.log_min) / span * self._steps

    def decode(self, components: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Magnitudes of the steps, with their signs."""
        first = components[:, 0].astype(np.int64)
        half = 1 << self.bits[0]
        n = first % half
        for b, part in zip(self.bits[1:], components.T[1:], strict=True):
            n = (n << b) + part
        span = self.log_max - self.log_min
        magnitude = np.where(n == 0, 0.0, 10.0 ** (n / self._steps * span + self.log_min))
        return np.where(first >= half, -magnitude, magnitude)


#: Atom positions.
_POSITION = LogLevels(-4.0, 0.0, (8, 8, 8))


def levels_of(meta: Mapping[str, Any], codec_file: Path | None) -> Levels:
    """The density codec of a dataset, from its file or from ``meta.json``.

    Raises:
        OSError, ValueError, KeyError: the file cannot be read, or the kind is not one of the format page.
    """
    stated = meta["vocab"]["density_codec"]
    if codec_file is not None:
        with np.load(codec_file, allow_pickle=False) as file:
            low = float(file["clip_min"]) if "clip_min" in file.files else 0.0
            return LloydMaxLevels(
                file["boundaries"].astype(np.float64),
                file["recon_points"].astype(np.float64),
                (low, float(file["clip_max"])),
            )
    if "token_mag_bits" not in stated:
        raise ValueError(
            f"the codec {meta['density_codec_name']} is of no kind that the format page defines (log-uniform or "
            "Lloyd-Max), and there is no second path for it; tomat verify checks it against itself"
        )
    return LogLevels(float(stated["log_min"]), float(stated["log_max"]), tuple(stated["token_mag_bits"]))


@dataclass(frozen=True)
class Cell:
    """What a row says of a crystal."""

    lattice: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    grid: Shape


@dataclass(frozen=True)
class RowFormat:
    """Rows of one layout with one codec.

    Attributes:
        layout: v1, v2, v2-lat or v3.
        levels: of the density codec.
        patch_size: edge of the cube.
        pad_to: tokens of a row.
        fallback_shapes: tried in order where the cube does not fit.
    """

    layout: str
    levels: Levels
    patch_size: int
    pad_to: int
    fallback_shapes: tuple[Shape, ...]

    @property
    def cube(self) -> Shape:
        """The shape of a patch, unless it does not fit."""
        return (self.patch_size,) * 3

    @cached_property
    def specials(self) -> dict[str, int]:
        """Ids of the specials."""
        names = _LATTICE_SPECIALS if "LATTICE" in _BLOCKS[self.layout] else _SPECIALS
        return {name: i for i, name in enumerate(names)}

    @cached_property
    def starts(self) -> dict[str, int]:
        """First id of each region; ``end`` is the number of ids."""
        sizes = {
            "atom": len(self.specials),
            "int": _N_ELEMENTS,
            "position": MAX_INT + 1,
            "density": sum(_POSITION.sizes),
            "end": sum(self.levels.sizes),
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        return dict(zip(sizes, ends, strict=True))

    def blocks(self, shape: Shape) -> tuple[str, ...]:
        """Blocks of a row with a patch of this shape."""
        return _FALLBACK_BLOCKS if self.layout == "v3" and tuple(shape) != self.cube else _BLOCKS[self.layout]

    def length(self, n_atoms: int, shape: Shape) -> int:
        """Tokens of a sequence, without padding."""
        content = {"LATTICE": 6, "ATOMS": n_atoms, "POS": 9 * n_atoms, "DENS": self.density_tokens(shape)}
        return 2 + sum(2 + content.get(block, 3) for block in self.blocks(shape))

    def density_tokens(self, shape: Shape) -> int:
        """Tokens of the voxels of a patch."""
        return math.prod(shape) * len(self.levels.sizes)

    def shape_for(self, n_atoms: int) -> Shape | None:
        """The shape of the patches of a crystal; None if no shape fits a row."""
        shapes = (self.cube, *self.fallback_shapes)
        return next((shape for shape in shapes if self.length(n_atoms, shape) <= self.pad_to), None)

    def refusal(self, cell: Cell) -> str | None:
        """Why a crystal cannot be written, as the format names it; None if it can."""
        if max(cell.grid) > MAX_INT:
            return "oversized"
        if "LATTICE" in _BLOCKS[self.layout] and not all(
            0 <= n <= MAX_INT for n in lattice_bins(cell.lattice)
        ):
            return "bad_lattice"
        return "overflow" if self.shape_for(len(cell.atomic_numbers)) is None else None

    def rows(
        self, cell: Cell, offsets: NDArray[np.integer[Any]], shape: Shape, words: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """(rows, pad_to) int32 of patches at ``offsets``; ``words`` (rows, voxels, components) are their levels."""
        n = len(offsets)
        out = np.full((n, self.pad_to), self.specials["[PAD]"], dtype=np.int32)
        at = 0

        def put(tokens: Any) -> None:
            nonlocal at
            content = np.asarray(tokens)
            width = content.shape[-1]
            out[:, at : at + width] = content
            at += width

        def ints(values: Any) -> NDArray[np.int64]:
            return self.starts["int"] + np.asarray(values, dtype=np.int64)

        grid = np.array(cell.grid)
        put([self.specials["[BOS]"]])
        for block in self.blocks(shape):
            put([self.specials[f"[{block}_START]"]])
            match block:
                case "GRID":
                    put(ints(cell.grid))
                case "LATTICE":
                    put(ints(lattice_bins(cell.lattice)))
                case "ATOMS":
                    put(self.starts["atom"] + cell.atomic_numbers - 1)
                case "POS":
                    put(self._positions(cell, offsets))
                case "SHAPE":
                    put(ints(shape))
                case "OFFSET":
                    put(ints(offsets))
                case "HI":
                    put(ints((offsets + np.array(shape) - 1) % grid))
                case "DENS":
                    put((words + self._component_starts("density", self.levels)).reshape(n, -1))
            put([self.specials[f"[{block}_END]"]])
        put([self.specials["[EOS]"]])
        return out

    def _positions(self, cell: Cell, offsets: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """(rows, 9 atoms): x y z of each atom, three tokens each."""
        frac = np.mod(cell.frac_coords, 1.0)[None]
        if self.layout == "v3":
            frac = np.mod(frac - (offsets / np.array(cell.grid, dtype=np.float64))[:, None, :], 1.0)
        n = len(offsets) if self.layout == "v3" else 1
        words = _POSITION.encode(frac.ravel()) + self._component_starts("position", _POSITION)
        return np.broadcast_to(words.reshape(n, -1), (len(offsets), 9 * len(cell.atomic_numbers)))

    def _component_starts(self, region: str, levels: Levels) -> NDArray[np.int64]:
        """First id of each component."""
        return self.starts[region] + np.cumsum([0, *levels.sizes[:-1]], dtype=np.int64)

    def words(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """(n, components) of the tokens of voxels, flat; out of range where they are none."""
        k = len(self.levels.sizes)
        return tokens.reshape(-1, k).astype(np.int64) - self._component_starts("density", self.levels)

    def where(self, n_atoms: int, shape: Shape, position: int) -> str:
        """The name of the block in which a position of a row lies."""
        if position == 0:
            return "BOS"
        at = 1
        for block in self.blocks(shape):
            content = {"LATTICE": 6, "ATOMS": n_atoms, "POS": 9 * n_atoms, "DENS": self.density_tokens(shape)}
            at += 2 + content.get(block, 3)
            if position < at:
                return block
        return "EOS" if position == at else "PAD"


def lattice_bins(matrix: NDArray[np.float64]) -> list[int]:
    """Lengths and angles of rows a, b, c in the steps of the LATTICE block, halves to even."""
    rows = [[float(x) for x in row] for row in matrix]

    def dot(u: list[float], v: list[float]) -> float:
        return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]

    lengths = [math.sqrt(dot(row, row)) for row in rows]
    angles = []
    for j, k in ((1, 2), (2, 0), (0, 1)):
        cosine = dot(rows[j], rows[k]) / (lengths[j] * lengths[k])
        angles.append(math.acos(min(max(cosine, -1.0), 1.0)) * 180.0 / math.pi)
    return [round(x / _LENGTH_STEP) for x in lengths] + [round(x / _ANGLE_STEP) for x in angles]


def voxels_of(grid: Shape, offsets: NDArray[np.integer[Any]], shape: Shape) -> NDArray[np.int64]:
    """(rows, voxels) row-major indices into the grid of the voxels of patches, which wrap around."""
    axes = [
        (offsets[:, axis, None].astype(np.int64) + np.arange(shape[axis])) % grid[axis] for axis in range(3)
    ]
    x, y, z = axes
    flat: NDArray[np.int64] = (x[:, :, None, None] * grid[1] + y[:, None, :, None]) * grid[2] + z[
        :, None, None, :
    ]
    return flat.reshape(len(offsets), -1)
