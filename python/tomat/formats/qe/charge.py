"""``charge-density.dat`` of Quantum ESPRESSO 6 and 7: the Fourier components of a density.

Fortran records of a little-endian machine, each between two four-byte counts of its bytes: the flag of the gamma trick,
the number of G vectors and of spin components (int32); b1, b2, b3 (float64, 1/bohr); Miller indices (n, 3) int32; and
the components (n,) complex128, in electrons per cubic bohr (``Modules/io_base.f90: write_rhog``). With spin, the total
density comes first, then that of spin up minus spin down, or the magnetisation along x, y and z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomat.formats.records import content_at, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Name in a save folder.
NAME = "charge-density.dat"
_PROGRAM = "pw.x"
#: Numbers of spin components: none, up and down, noncollinear.
SPINS = (1, 2, 4)
#: Largest |rho(G) - conj(rho(-G))| of a real density, in units of rho(0).
_REAL = 1e-12


@dataclass(frozen=True, eq=False)
class Components:
    """The Fourier components of a density: rho(r) is the sum of rho(G) exp(i G r).

    Attributes:
        gamma_only: one of each pair G, -G is stored.
        reciprocal: (3, 3) float64, rows b1, b2, b3 in 1/bohr, with the factor 2 pi.
        miller: (n, 3) int32, the first (0, 0, 0).
        values: (n,) complex128, electrons per cubic bohr, of both spins together.
        n_spins: 1, or 2 or 4 of a run with spin: what follows the density in its file is not read.
    """

    gamma_only: bool
    reciprocal: NDArray[np.float64]
    miller: NDArray[np.int32]
    values: NDArray[np.complex128]
    n_spins: int = 1


def dump(components: Components) -> bytes:
    """The content of the file."""
    head = np.array([components.gamma_only, len(components.miller), 1], dtype="<i4")
    arrays = (
        head,
        components.reciprocal.astype("<f8"),
        components.miller.astype("<i4"),
        components.values.astype("<c16"),
    )
    return b"".join(record(np.ascontiguousarray(array).tobytes()) for array in arrays)


def parse(data: bytes, name: str) -> Components:
    """The components in the content of a file; ``name`` is for messages.

    Raises:
        ValueError: damaged or cut off.
    """
    head, at = content_at(data, 0, name, "the record with the numbers of G vectors and spins", _PROGRAM)
    if len(head) != 12:
        raise ValueError(
            f"{name}: the first record has {len(head)} bytes and not 12: not {NAME} of Quantum ESPRESSO 6 or 7; "
            "files of version 5 are of another kind (charge-density.xml): run pw.x again"
        )
    flag, n, n_spins = np.frombuffer(head, "<i4").tolist()
    if n < 1:
        raise ValueError(f"{name}: it counts {n} G vectors; the file is damaged: run pw.x again")
    if n_spins not in SPINS:
        raise ValueError(f"{name}: it counts {n_spins} spin components; the file is damaged: run pw.x again")
    sizes = [("b1, b2, b3", 72), ("the Miller indices", 12 * n)]
    sizes += [(f"spin component {i + 1}" if i else "the density", 16 * n) for i in range(n_spins)]
    records = []
    for what, size in sizes:
        content, at = content_at(data, at, name, f"the record with {what}", _PROGRAM)
        if len(content) != size:
            raise ValueError(
                f"{name}: {what} take {len(content)} bytes and not {size}, as {n} G vectors need; the file is damaged: "
                "run pw.x again"
            )
        records.append(content)
    if at != len(data):
        raise ValueError(f"{name}: {len(data) - at} bytes follow the density; the file is damaged")
    components = Components(
        flag != 0,
        np.frombuffer(records[0], "<f8").reshape(3, 3),
        np.frombuffer(records[1], "<i4").reshape(n, 3),
        np.frombuffer(records[2], "<c16"),
        n_spins,
    )
    check(components, name)
    return components


def check(components: Components, name: str) -> None:
    """Check that the components are those of a real density.

    Raises:
        ValueError: they are not; ``name`` is for the message.
    """
    miller, values = components.miller, components.values
    if miller[0].any():
        raise ValueError(f"{name}: the first G vector is {tuple(miller[0].tolist())} and not 0; damaged")
    if not (np.isfinite(values).all() and np.isfinite(components.reciprocal).all()):
        raise ValueError(f"{name}: it holds NaN or infinite values; run pw.x again")
    most = np.abs(miller.astype(np.int64)).max(axis=0)
    if most.max() > np.iinfo(np.int16).max:
        raise ValueError(f"{name}: a Miller index of {most.max()}; the file is damaged")
    keys = _keys(miller, most)
    order = np.argsort(keys)
    ascending = keys[order]
    if (ascending[1:] == ascending[:-1]).any():
        raise ValueError(f"{name}: a G vector is listed twice; the file is damaged")
    # The keys of -G are those of G in reverse order: the key of 0 is in their middle.
    middle = (keys[0] * 2) - ascending[::-1]
    is_paired = np.array_equal(middle, ascending)
    if components.gamma_only:
        if len(keys) > 1 and np.isin(2 * keys[0] - keys[1:], keys, kind="sort").any():
            raise ValueError(
                f"{name}: it is marked as of the gamma trick, but lists both G and -G; the flag or the list is damaged"
            )
        return
    if not is_paired:
        raise ValueError(
            f"{name}: it lists G without -G, but is not marked as of the gamma trick; the flag or the list is damaged"
        )
    error = np.abs(values[order] - values[order[::-1]].conj()).max()
    if error > _REAL * abs(values[0]):
        raise ValueError(
            f"{name}: rho(G) and rho(-G) differ by up to {error:.3g} electrons per cubic bohr, so the density would "
            "not be real; the file is damaged: run pw.x again"
        )


def _keys(miller: NDArray[np.int32], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each G vector; those of G and -G lie alike on both sides of that of 0."""
    size = 2 * most + 1
    i, j, k = (miller.astype(np.int64) + most).T
    return np.asarray((i * size[1] + j) * size[2] + k)


def from_grid(density: NDArray[np.floating], miller: NDArray[np.int32]) -> NDArray[np.complex128]:
    """The components of a density (nx, ny, nz) at Miller indices (n, 3), in its unit; (n,) complex128.

    The highest component of an even axis is shared by its two signs; those that the grid cannot hold are zero.
    """
    n = np.array(density.shape)
    transformed = np.fft.fftn(density.astype(np.float64)) / density.size
    i, j, k = (miller % n).T
    doubled = 2 * np.abs(miller.astype(np.int64))
    weights = np.where(doubled > n, 0.0, np.where(doubled == n, 0.5, 1.0)).prod(axis=1)
    return np.asarray(transformed[i, j, k] * weights)


def to_grid(components: Components, grid_shape: Sequence[int]) -> NDArray[np.float64]:
    """The density on a grid, (nx, ny, nz) float64 in electrons per cubic bohr, without components it cannot hold."""
    n = np.array(grid_shape)
    grid = np.zeros(tuple(grid_shape), dtype=np.complex128)
    held = (2 * np.abs(components.miller.astype(np.int64)) < n).all(axis=1)
    miller, values = components.miller[held], components.values[held]
    i, j, k = (miller % n).T
    grid[i, j, k] = values
    if components.gamma_only:
        i, j, k = (-miller[1:] % n).T
        grid[i, j, k] = values[1:].conj()
    return np.asarray(np.fft.ifftn(grid).real * grid.size)
