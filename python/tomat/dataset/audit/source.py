"""A source density as the rows of a dataset should hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.dataset.audit.account import MaterialAccount
from tomat.dataset.audit.raw import in_unit, read_raw, volume_of
from tomat.dataset.audit.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tomat.dataset.audit.raw import Raw
    from tomat.dataset.audit.rows import RowFormat, Shape
    from tomat.dataset.crystal_table import StoredCrystal
    from tomat.material import Entry

#: Largest difference of lattices (angstrom) and of fractional coordinates between two parsers of one text file.
_SAME_CRYSTAL = 1e-5
#: Largest relative difference between the electrons a file states and those of its density.
_STATED = 1e-3


@dataclass(frozen=True)
class Source:
    """A density, quantised on its whole grid.

    Attributes:
        account: what is known of it before its rows.
        cell: its crystal and grid.
        shape: of its patches.
        values: (voxels,) float32 in the unit of the dataset.
        words: (voxels, components) int32, their levels.
        decoded: (voxels,) float64, what these stand for.
        scale: electrons that a value of one stands for in one voxel.
        volume: of the cell, in cubic angstrom.
        is_rounded: whether the values went through a conversion of text or units, whose last bit two programs may round
            to different sides.
        problem: what is wrong with the file itself, if anything.
    """

    account: MaterialAccount
    cell: Cell
    shape: Shape
    values: NDArray[np.float32]
    words: NDArray[np.int32]
    decoded: NDArray[np.float64]
    scale: float
    volume: float
    is_rounded: bool
    problem: str | None


@dataclass(frozen=True)
class LeftOut:
    """A material that cannot be written, by the reason that the format names."""

    reason: str


@dataclass(frozen=True)
class Rules:
    """What decides how a density is written.

    Attributes:
        rows: the format.
        unit: of the tokens.
        max_clipped: share of a material's electrons that may lie above the codec's range.
        max_negative: the same below it.
    """

    rows: RowFormat
    unit: str
    max_clipped: float
    max_negative: float

    @classmethod
    def of(cls, meta: Mapping[str, Any], rows: RowFormat, unit: str) -> Rules:
        """Of a dataset; other programs state no limits."""
        return cls(rows, unit, float(meta.get("max_clipped", 1.0)), float(meta.get("max_negative", 1.0)))


def read_source(entry: Entry, rules: Rules, stored: StoredCrystal | None) -> Source | LeftOut:
    """Read and quantise a density.

    Args:
        entry: the material.
        rules: of the dataset.
        stored: its crystal in the dataset. Its floats are taken where the second parser gives the same crystal up to
            rounding: which of two neighbouring floats a decimal number becomes is not what an audit is about.

    Raises:
        ImportError: a package is needed and not installed.
        ValueError: the source holds another crystal than the dataset.
    """
    try:
        raw = read_raw(entry)
    except FileNotFoundError:
        return LeftOut("missing")
    except (OSError, ValueError):
        return LeftOut("unreadable")
    nx, ny, nz = raw.density.shape
    cell = _cell(entry, raw, stored, (nx, ny, nz))
    refusal = rules.rows.refusal(cell)
    if refusal is not None:
        return LeftOut(refusal)
    volume = volume_of(cell.lattice)
    values = in_unit(raw, rules.unit, volume).ravel()
    exact = values.astype(np.float64)
    low, high = rules.rows.levels.limits
    above, below = np.maximum(exact - high, 0), np.maximum(low - exact, 0)
    magnitude = float(np.abs(exact).sum())
    if above.sum() > rules.max_clipped * magnitude or below.sum() > rules.max_negative * magnitude:
        return LeftOut("clipped")
    words = rules.rows.levels.encode(exact)
    decoded = rules.rows.levels.decode(words)
    scale = (1.0 if rules.unit == "chgcar" else volume) / len(values)
    shape = rules.rows.shape_for(len(cell.atomic_numbers)) or rules.rows.cube
    electrons = float(raw.density.mean(dtype=np.float64)) * (1.0 if raw.unit == "chgcar" else volume)
    account = MaterialAccount(
        task_id=entry.task_id,
        grid=cell.grid,
        electrons=electrons,
        n_atoms=len(cell.atomic_numbers),
        patch_shape=shape,
        is_fallback=shape != rules.rows.cube,
        nmae=float(np.abs(decoded - exact).sum()) / magnitude if magnitude else None,
        electrons_decoded=float(decoded.sum()) * scale,
        clipped_voxels=int(np.count_nonzero(above + below)),
        clipped_electrons=float((above + below).sum()) * scale,
        reader=raw.reader,
        source_bytes=raw.n_bytes,
    )
    is_rounded = raw.unit != rules.unit or not raw.is_exact
    return Source(
        account, cell, shape, values, words, decoded, scale, volume, is_rounded, _stated(raw, electrons)
    )


def _cell(entry: Entry, raw: Raw, stored: StoredCrystal | None, grid: Shape) -> Cell:
    own = Cell(raw.lattice, raw.atomic_numbers, raw.frac_coords, grid)
    if stored is None:
        return own
    crystal = stored.crystal
    lattice, numbers, frac = crystal.lattice, crystal.atomic_numbers, crystal.frac_coords
    if tuple(stored.grid_shape) != grid:
        raise ValueError(
            f"{entry.task_id}: the source has the grid {grid}, crystals.parquet {tuple(stored.grid_shape)}: "
            f"{entry.path} is not the file that was tokenized"
        )
    same = np.array_equal(numbers, raw.atomic_numbers)
    if same and raw.is_exact:
        same = np.array_equal(lattice, raw.lattice) and np.array_equal(frac, raw.frac_coords)
    elif same:
        shift = frac - raw.frac_coords
        same = (
            np.abs(lattice - raw.lattice).max() <= _SAME_CRYSTAL
            and np.abs(shift - np.rint(shift)).max() <= _SAME_CRYSTAL
        )
    if not same:
        raise ValueError(
            f"{entry.task_id}: the crystal of the source is not the one in crystals.parquet: {entry.path} is not the "
            "file that was tokenized"
        )
    return own if raw.is_exact else Cell(lattice, numbers.astype(np.int64), frac, grid)


def _stated(raw: Raw, electrons: float) -> str | None:
    stated = raw.stated_electrons
    if stated is None or abs(electrons - stated) <= _STATED * max(abs(stated), 1.0):
        return None
    return (
        f"the file states {stated:.6g} electrons, but its density holds {electrons:.6g}: its unit is not the one of "
        "its format, or it was changed"
    )
