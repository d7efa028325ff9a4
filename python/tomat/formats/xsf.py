"""XSF of XCrySDen: a crystal and its density on a general grid, whose last point along each axis repeats the first.

Lengths are in angstrom. The format has no place for the unit of the values: it is stated in a comment line and in the
name of the grid, and read from there. Files of ``pp.x`` of Quantum ESPRESSO are in electrons per cubic bohr.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats.contents import Contents
from tomat.formats.qe.vectors import BOHR
from tomat.formats.text import comment, scientific, table

_INBOHR = "electrons per cubic bohr"
#: What a file says of its unit, and the factor to electrons per cubic angstrom; the last is what pp.x calls its grids.
_UNITS = (
    (re.compile(r"electrons?[ _]per[ _]cubic[ _]bohr", re.IGNORECASE), BOHR**-3),
    (re.compile(r"electrons?[ _]per[ _]cubic[ _]angstrom", re.IGNORECASE), 1.0),
    (re.compile(r"^3D_PWSCF$"), BOHR**-3),
)
#: Largest distance in angstrom between the vectors of the grid and those of the cell.
_SAME = 1e-3
#: Largest difference of a repeated point from the first, in units of the largest value.
_PERIODIC = 1e-4
_LINE = rb"^[ \t]*%s_?3D"
_BEGIN, _END = (
    re.compile(_LINE % word, re.IGNORECASE | re.MULTILINE)
    for word in (b"BEGIN_BLOCK_DATAGRID", b"END_DATAGRID")
)
_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?![A-Za-z])")


def encode(
    crystal: Crystal, density: NDArray[np.float32], n_electrons: float, _source: dict[str, Any]
) -> bytes:
    """The content of a file; the density is in electrons per cubic angstrom and written per cubic bohr."""
    rows = ["".join(f"{x:18.12f}" for x in row) for row in crystal.lattice]
    positions = crystal.frac_coords @ crystal.lattice
    lines = [
        f"# {comment(crystal)}",
        f"# Electron density in {_INBOHR}, {n_electrons:.6f} electrons",
        "CRYSTAL",
        "PRIMVEC",
        *rows,
        "PRIMCOORD",
        f"{crystal.n_atoms:5d} 1",
        *(
            f"{z:5d}" + "".join(f"{x:18.12f}" for x in xyz)
            for z, xyz in zip(crystal.atomic_numbers.tolist(), positions, strict=True)
        ),
        "BEGIN_BLOCK_DATAGRID_3D",
        " density",
        f" BEGIN_DATAGRID_3D_{_INBOHR.replace(' ', '_')}",
        "".join(f"{n + 1:6d}" for n in density.shape),
        "".join(f"{0.0:18.12f}" for _ in range(3)),
        *rows,
    ]
    values = np.pad(density.astype(np.float64) * BOHR**3, (0, 1), mode="wrap")
    cells = scientific(values.ravel(order="F")).reshape(-1, len(values), 13)
    end = b" END_DATAGRID_3D\nEND_BLOCK_DATAGRID_3D\n"
    return "\n".join(lines).encode() + b"\n" + table(cells, 6) + end


def decode(data: bytes, name: str) -> Contents:
    """What the content of a file holds; ``name`` is for messages.

    Raises:
        ValueError: damaged or cut off, without a density or with several, of unknown unit, or a grid that is not
            that of the cell.
    """
    begin = _BEGIN.search(data)
    if begin is None:
        raise ValueError(f"{name}: no BEGIN_BLOCK_DATAGRID_3D: a crystal without a density, or cut off")
    head = _Lines(data[: begin.start()], name)
    lattice, numbers, positions = _crystal(head)
    body = data[begin.start() :]
    ends = [found.start() for found in _END.finditer(body)]
    if not ends:
        raise ValueError(f"{name}: no END_DATAGRID_3D; cut off: copy the file again")
    if len(ends) > 1:
        raise ValueError(f"{name}: several grids; keep the one with the total density")
    lines = _Lines(body[: ends[0]], name)
    lines.skip("BEGIN_BLOCK_DATAGRID_3D")
    title = lines.skip("the name of the grid")
    label = lines.skip("BEGIN_DATAGRID_3D")
    factor = _factor([*head.comments, title, label], name)
    shape = [round(n) for n in lines.numbers(3, "the points of the grid")]
    if not all(2 <= n <= _core.MAX_GRID_AXIS + 1 for n in shape):
        raise ValueError(
            f"{name}: a grid of {' x '.join(map(str, shape))} points, of 2 to {_core.MAX_GRID_AXIS + 1} along an axis"
        )
    origin = lines.numbers(3, "the origin of the grid")
    vectors = np.array([lines.numbers(3, "a vector of the grid") for _ in range(3)])
    values = lines.rest(math.prod(shape)).reshape(shape, order="F")
    density = _period(values, vectors, lattice, name)
    coordinates = (positions - origin) @ np.linalg.inv(lattice)
    source = {"format": "xsf", "has_spin": False}
    return Contents(lattice, numbers, coordinates, (density * factor).astype(np.float32), "e_per_A3", source)


class _Lines:
    """The lines of a part of a file, without blank lines and comments."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
        self.comments = [line for line in lines if line.startswith("#")]
        self.left = [line for line in reversed(lines) if line and not line.startswith("#")]

    def skip(self, what: str) -> str:
        """The next line."""
        if not self.left:
            raise ValueError(f"{self.name}: cut off before {what}; copy the file again")
        return self.left.pop()

    def numbers(self, n: int, what: str) -> NDArray[np.float64]:
        """The first ``n`` numbers of the next line."""
        line = self.skip(what)
        return self._floats(line.split()[:n], n, f"{what} ({line[:60]!r})")

    def rest(self, n: int) -> NDArray[np.float64]:
        """The ``n`` numbers of all lines left."""
        words = [word for line in reversed(self.left) for word in line.split()]
        if len(words) != n:
            raise ValueError(
                f"{self.name}: {len(words)} values for a grid of {n} points; the file is damaged or cut off"
            )
        return self._floats(words, n, "the values")

    def _floats(self, words: list[str], n: int, what: str) -> NDArray[np.float64]:
        try:
            values = np.array([float(word) for word in words])
        except ValueError as error:
            raise ValueError(f"{self.name}: {what}: {error}; the file is damaged") from error
        if len(values) != n or not np.isfinite(values).all():
            raise ValueError(f"{self.name}: {what} should be {n} finite numbers; the file is damaged")
        return values


def _crystal(lines: _Lines) -> tuple[NDArray[np.float64], list[int], NDArray[np.float64]]:
    """Lattice, atomic numbers and positions, in angstrom."""
    lattice = np.zeros((3, 3))
    numbers: list[int] = []
    positions: list[NDArray[np.float64]] = []
    while lines.left:
        word = lines.skip("PRIMVEC").split()[0].upper()
        if word == "PRIMVEC":
            lattice = np.array([lines.numbers(3, "PRIMVEC") for _ in range(3)])
        elif word == "PRIMCOORD":
            count = lines.skip("PRIMCOORD").split()[0]
            if numbers or not count.isdecimal() or not 1 <= int(count) <= len(lines.left):
                raise ValueError(
                    f"{lines.name}: PRIMCOORD of {count[:20]!r} atoms, with {len(lines.left)} lines to follow; give a "
                    "file with one crystal"
                )
            for _ in range(int(count)):
                label, _, rest = lines.skip("PRIMCOORD").partition(" ")
                lines.left.append(rest)
                numbers.append(_number(label, lines.name))
                positions.append(lines.numbers(3, "the position of an atom"))
    if not numbers or not abs(float(np.linalg.det(lattice))) > 0.0:
        raise ValueError(
            f"{lines.name}: no crystal (PRIMVEC and PRIMCOORD) before the grid; molecules and slabs are not read"
        )
    return lattice, numbers, np.array(positions)


def _number(label: str, name: str) -> int:
    symbols = _core.elements()
    found = _SYMBOL.match(label)
    if found and found[1].capitalize() in symbols:
        return symbols.index(found[1].capitalize()) + 1
    if label.isdecimal() and 1 <= int(label[:9]) <= len(symbols):
        return int(label)
    raise ValueError(f"{name}: an atom of kind {label[:20]!r}, which is no element and no atomic number")


def _factor(texts: list[str], name: str) -> float:
    """The factor to electrons per cubic angstrom."""
    found = next((factor for pattern, factor in _UNITS if any(pattern.search(text) for text in texts)), None)
    if found is None:
        raise ValueError(
            f"{name}: it does not say its unit, for which XSF has no place; add a first line '# {_INBOHR}' or "
            "'# electrons per cubic angstrom'"
        )
    return found


def _period(
    values: NDArray[np.float64], vectors: NDArray[np.float64], lattice: NDArray[np.float64], name: str
) -> NDArray[np.float64]:
    """The values of one period: a general grid repeats its first points unless its vectors end before them."""
    for axis, n in enumerate(values.shape):
        if np.abs(vectors[axis] * (n / (n - 1)) - lattice[axis]).max() <= _SAME:
            continue
        if np.abs(vectors[axis] - lattice[axis]).max() > _SAME:
            raise ValueError(
                f"{name}: vector {axis + 1} of the grid is {vectors[axis].tolist()}, and that of the cell (PRIMVEC) "
                f"{lattice[axis].tolist()}; give a grid that spans the primitive cell"
            )
        first, last = values.take(0, axis), values.take(-1, axis)
        if np.abs(first - last).max() > _PERIODIC * np.abs(values).max():
            raise ValueError(
                f"{name}: the last points along vector {axis + 1} do not repeat the first, as those of a general grid "
                "do; the file is damaged, or its grid is not periodic"
            )
        values = values.take(range(n - 1), axis)
    return np.ascontiguousarray(values)
