"""Choice of the grid of a predicted density."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tomat.crystal import Crystal
from tomat.formats.qe.vectors import fft_grid
from tomat.material import Material, read

#: Default grid spacing in angstrom if a predictor does not know that of its data: the geometric mean over the axes of
#: 431 plane-wave densities at cutoffs of 60 and 75 Ry.
DEFAULT_SPACING = 0.098
#: The longest axis that the tokens can encode.
MAX_AXIS = 1023
#: Prime factors of FFT-friendly sizes, as in VASP and Quantum ESPRESSO.
RADICES = (2, 3, 5, 7)


def friendly_sizes(radices: Sequence[int] = RADICES, limit: int = MAX_AXIS) -> list[int]:
    """All products of ``radices`` from 2 to ``limit``, ascending."""
    if not radices or min(radices) < 2:
        raise ValueError(f"radices {tuple(radices)} must be whole numbers of at least 2")
    sizes = {1}
    for radix in radices:
        for size in sorted(sizes):
            power = size * radix
            while power <= limit:
                sizes.add(power)
                power *= radix
    return sorted(sizes - {1})


def grid_for(
    lattice: ArrayLike, spacing: float = DEFAULT_SPACING, radices: Sequence[int] = RADICES
) -> tuple[int, int, int]:
    """The FFT-friendly grid whose spacing along each lattice vector is closest to ``spacing`` angstrom.

    The closest size is that of the smallest ratio, so that the mean point density over many crystals is unbiased; of
    two equally close sizes the larger is taken.

    Args:
        lattice: (3, 3) rows a, b, c in angstrom.
        spacing: distance of grid points in angstrom.
        radices: allowed prime factors of the axes.
    """
    check_spacing(spacing)
    sizes = np.array(friendly_sizes(radices, 2 * MAX_AXIS), dtype=np.float64)
    largest = max((size for size in sizes if size <= MAX_AXIS), default=1)
    shape = []
    for name, length in zip(
        "abc", np.linalg.norm(np.asarray(lattice, dtype=np.float64), axis=1), strict=True
    ):
        wanted = float(length) / spacing
        distance = np.abs(np.log(sizes / wanted))
        nearest = int(sizes[np.flatnonzero(distance <= distance.min() + 1e-12)[-1]])
        if nearest > MAX_AXIS or wanted > MAX_AXIS:
            raise ValueError(
                f"lattice vector {name} is {length:.4g} A long and needs {math.ceil(wanted)} points at a spacing of "
                f"{spacing:g} A; tokens can encode at most {MAX_AXIS} per axis: use a spacing of at least "
                f"{math.ceil(1e4 * length / largest) / 1e4:g} A, or give the grid"
            )
        shape.append(nearest)
    return shape[0], shape[1], shape[2]


def check_spacing(spacing: float | None) -> None:
    """Check a grid spacing; None passes."""
    if spacing is not None and not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"spacing = {spacing} must be a finite number above 0 angstrom")


def choose_grid(
    crystal: Crystal,
    *,
    grid: Sequence[int] | None = None,
    like: Material | str | Path | None = None,
    spacing: float | None = None,
    ecutrho: float | None = None,
    radices: Sequence[int] = RADICES,
    default: float | None = None,
) -> tuple[int, int, int]:
    """The grid of a prediction: as given, that of another density, by spacing, or by a cutoff.

    Args:
        crystal: the crystal.
        grid: (nx, ny, nz).
        like: a density whose grid is used.
        spacing: distance of grid points in angstrom, see :func:`grid_for`.
        ecutrho: cutoff of the density in Ry, see :func:`tomat.formats.qe.vectors.fft_grid`; decides where none of the
            three above is given.
        radices: allowed prime factors of the axes if the spacing decides.
        default: spacing if none of the three is given (a predictor's ``facts.spacing``); None is 0.098 angstrom.

    Raises:
        ValueError: more than one of the three, a spacing that is not positive, or an axis of more than 1023 points.
    """
    check_spacing(spacing)
    given = [
        name for name, value in (("grid", grid), ("like", like), ("spacing", spacing)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both set the grid; give only one")
    if grid is not None:
        return check_grid(grid)
    if like is not None:
        return check_grid((like if isinstance(like, Material) else read(like)).grid_shape)
    try:
        if ecutrho is not None and spacing is None:
            return check_grid(fft_grid(crystal.lattice, ecutrho))
        return grid_for(crystal.lattice, spacing or default or DEFAULT_SPACING, radices)
    except ValueError as error:
        raise ValueError(f"{crystal.name}: {error}") from error


def mean_spacing(cells: Iterable[tuple[ArrayLike, Sequence[int]]]) -> float:
    """Grid spacing in angstrom: the geometric mean over all axes of ``(lattice, grid shape)`` pairs.

    :func:`grid_for` with it gives grids as dense as these, on average.
    """
    logs = [
        np.log(np.linalg.norm(np.asarray(lattice), axis=1) / np.asarray(shape)) for lattice, shape in cells
    ]
    if not logs:
        raise ValueError("the mean spacing needs at least one cell")
    return float(np.exp(np.mean(logs)))


def check_grid(grid_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check a grid: three whole numbers from 1 to 1023."""
    shape = tuple(int(n) for n in grid_shape)
    if len(shape) != 3 or min(shape) < 1 or max(shape) > MAX_AXIS:
        raise ValueError(f"grid {shape} must be three numbers from 1 to {MAX_AXIS}")
    return shape[0], shape[1], shape[2]


def parse_grid(text: str) -> tuple[int, int, int]:
    """Parse ``48,48,60``, ``48x48x60``, or ``48`` for all three axes."""
    parts = text.lower().replace("x", ",").split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError as error:
        raise ValueError(f"grid {text!r}: give three whole numbers, such as 48,48,60") from error
    return check_grid(numbers * 3 if len(numbers) == 1 else numbers)
