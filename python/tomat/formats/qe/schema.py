"""``data-file-schema.xml`` of Quantum ESPRESSO: the crystal, cutoffs and grid that belong to a density.

Lengths are in bohr and energies in hartree there. A written file holds the elements without which ``pw.x`` 6.7 does
not find the bands of a density (``calculation = 'nscf'`` or ``'bands'``). It takes cell, atoms and the number of
electrons from it, and everything else from its input: energies and the one band in a written file are zeros that
nothing reads.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.formats.qe.vectors import BOHR

#: Name in a save folder.
NAME = "data-file-schema.xml"
_HARTREE = 2.0  # Ry
_NAMESPACE = "http://www.quantum-espresso.org/ns/qes/qes-1.0"
_LABEL = re.compile(r"([A-Za-z]{1,2})(?![A-Za-z])")


@dataclass(frozen=True, eq=False)
class Schema:
    """What the file says of a run.

    Attributes:
        lattice: (3, 3) float64, rows in angstrom.
        atomic_numbers: (n,).
        frac_coords: (n, 3) float64.
        electrons: valence electrons of the cell.
        ecutwfc: cutoff of the wave functions in Ry.
        ecutrho: cutoff of the density in Ry.
        grid_shape: the FFT grid of the density.
        gamma_only: whether the run used the gamma trick.
        spins: numbers of spin components that the density may have.
    """

    lattice: NDArray[np.float64]
    atomic_numbers: list[int]
    frac_coords: NDArray[np.float64]
    electrons: float
    ecutwfc: float
    ecutrho: float
    grid_shape: tuple[int, int, int]
    gamma_only: bool
    spins: tuple[int, ...] = (1,)


def parse(data: bytes, name: str) -> Schema:
    """What the content of a file says; ``name`` is for messages.

    Raises:
        ValueError: no XML of ``pw.x``, or a value that is missing or makes no sense.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError(f"{name}: it declares a document type, which files of pw.x do not: not read")
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{name}: cut off or damaged ({error}); copy it again, or run pw.x again") from error
    output = root.find("output")
    if output is None:
        raise ValueError(f"{name}: it has no <output>, so pw.x did not finish; run it again")
    read = _Reader(output, name)
    lattice = np.array([read.numbers(f"atomic_structure/cell/{a}", 3) for a in ("a1", "a2", "a3")])
    if not abs(float(np.linalg.det(lattice))) > 0.0:
        raise ValueError(f"{name}: the cell spans no volume; the file is damaged")
    atoms = output.findall("atomic_structure/atomic_positions/atom")
    if not atoms:
        raise ValueError(f"{name}: no atoms in <output>; the file is damaged, or not of pw.x")
    pseudo_files = {
        one.get("name", ""): (one.findtext("pseudo_file") or "").strip()
        for one in output.findall("atomic_species/species")
    }
    positions = np.array([read.split(atom.text, "the position of an atom", 3) for atom in atoms])
    grid = output.find("basis_set/fft_grid")
    return Schema(
        lattice * BOHR,
        [_number_of(atom.get("name", ""), pseudo_files, name) for atom in atoms],
        positions @ np.linalg.inv(lattice),
        read.number("band_structure/nelec"),
        read.number("basis_set/ecutwfc") * _HARTREE,
        read.number("basis_set/ecutrho") * _HARTREE,
        _grid(grid, name),
        read.flag("basis_set/gamma_only"),
        _spins(read),
    )


@dataclass(frozen=True)
class _Reader:
    """The values of the elements in ``<output>``."""

    output: ET.Element
    name: str

    def numbers(self, path: str, n: int) -> list[float]:
        """The ``n`` finite numbers of an element."""
        return self.split(self.output.findtext(path), f"<{path}>", n)

    def number(self, path: str) -> float:
        """The number of an element, above 0."""
        (value,) = self.numbers(path, 1)
        if not value > 0:
            raise ValueError(f"{self.name}: <{path}> is {value:g}, not above 0; the file is damaged")
        return value

    def flag(self, path: str) -> bool:
        """Whether an element is ``true``."""
        text = (self.output.findtext(path) or "").strip()
        if text not in ("true", "false"):
            raise ValueError(
                f"{self.name}: <{path}> is {text!r}, neither true nor false; the file is damaged"
            )
        return text == "true"

    def split(self, text: str | None, what: str, n: int) -> list[float]:
        """The ``n`` finite numbers of a text."""
        try:
            values = [float(word) for word in (text or "").split()]
        except ValueError:
            values = []
        if len(values) != n or not all(map(math.isfinite, values)):
            raise ValueError(
                f"{self.name}: {what} should be {n} numbers and is {text!r}; the file is damaged"
            )
        return values


def _spins(read: _Reader) -> tuple[int, ...]:
    if read.flag("magnetization/noncolin"):
        return 1, 4  # 1 without magnetisation
    return (2,) if read.flag("magnetization/lsda") else (1,)


def _grid(element: ET.Element | None, name: str) -> tuple[int, int, int]:
    words = [] if element is None else [element.get(axis, "") for axis in ("nr1", "nr2", "nr3")]
    sizes = [int(word) for word in words if word.isdecimal() and len(word) < 6]
    if len(sizes) != 3 or not all(1 <= n <= _core.MAX_GRID_AXIS for n in sizes):
        raise ValueError(
            f"{name}: <basis_set/fft_grid> is {words}; give a file with three sizes from 1 to {_core.MAX_GRID_AXIS}"
        )
    return sizes[0], sizes[1], sizes[2]


def _number_of(label: str, pseudo_files: dict[str, str], name: str) -> int:
    """The atomic number of a species: ``Fe``, ``Fe1``, ``fe_up``; by its pseudopotential if the label is free."""
    symbols = _core.elements()
    for text in (label, pseudo_files.get(label, "")):
        found = _LABEL.match(text)
        if found and found[1].capitalize() in symbols:
            return symbols.index(found[1].capitalize()) + 1
    raise ValueError(
        f"{name}: the species {label!r} names no element; call it Si, Si1 or Si_a in the input of pw.x"
    )


def dump(
    crystal: Crystal,
    *,
    electrons: float,
    ecutwfc: float,
    ecutrho: float,
    grid_shape: Sequence[int],
    n_vectors: int,
    gamma_only: bool,
) -> bytes:
    """The content of a file for a density that no run has made."""
    symbols = [_core.elements()[z - 1] for z in crystal.atomic_numbers.tolist()]
    species = list(dict.fromkeys(symbols))
    lattice = crystal.lattice / BOHR
    alat = float(np.linalg.norm(lattice[0]))
    off = {"lsda": False, "noncolin": False, "spinorbit": False}
    output = _element(
        "output",
        {
            "convergence_info": {
                "scf_conv": {"convergence_achieved": False, "n_scf_steps": 0, "scf_error": 0.0}
            },
            "algorithmic_info": {
                "real_space_q": False,
                "real_space_beta": False,
                "uspp": False,
                "paw": False,
            },
            "atomic_species": [("species", one, {"pseudo_file": f"{one}.UPF"}) for one in species],
            "atomic_structure": {
                "atomic_positions": [
                    ("atom", one, xyz)
                    for one, xyz in zip(symbols, crystal.frac_coords @ lattice, strict=True)
                ],
                "cell": dict(zip(("a1", "a2", "a3"), lattice, strict=True)),
            },
            "basis_set": {
                "gamma_only": gamma_only,
                "ecutwfc": ecutwfc / _HARTREE,
                "ecutrho": ecutrho / _HARTREE,
                "fft_grid": "",
                "ngm": n_vectors,
                "npwx": 1,
                "reciprocal_lattice": dict(
                    zip(("b1", "b2", "b3"), np.linalg.inv(lattice / alat).T, strict=True)
                ),
            },
            "dft": {"functional": "PBE"},
            "magnetization": {**off, "total": 0.0, "absolute": 0.0},
            "total_energy": {"etot": 0.0},
            "band_structure": {
                **off,
                "nelec": electrons,
                "wf_collected": False,
                "starting_k_points": {},
                "nks": 1,
                "occupations_kind": "fixed",
                "ks_energies": {
                    "k_point": np.zeros(3),
                    "npw": 1,
                    "eigenvalues": np.zeros(1),
                    "occupations": np.zeros(1),
                },
            },
        },
    )
    _set(output, "atomic_species", ntyp=len(species))
    _set(output, "atomic_structure", nat=len(symbols), alat=repr(alat))
    for index, atom in enumerate(output.iter("atom"), 1):
        atom.set("index", str(index))
    _set(output, "basis_set/fft_grid", **{f"nr{i}": n for i, n in enumerate(grid_shape, 1)})
    for name in ("eigenvalues", "occupations"):
        _set(output, f"band_structure/ks_energies/{name}", size=1)
    root = ET.Element("qes:espresso", {"xmlns:qes": _NAMESPACE, "Units": "Hartree atomic units"})
    root.append(
        ET.Comment(" A density on its own, written by tomat: no bands and no energies belong to it. ")
    )
    root.append(output)
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root) + b"\n"


def _set(output: ET.Element, path: str, **attributes: object) -> None:
    found = output.find(path)
    if found is not None:
        found.attrib.update({name: str(value) for name, value in attributes.items()})


def _element(tag: str, content: Any) -> ET.Element:
    """An element from a value, a dict of elements, or a list of (tag, name, content)."""
    element = ET.Element(tag)
    if isinstance(content, dict):
        element.extend(_element(name, below) for name, below in content.items())
    elif isinstance(content, list):
        for name, label, below in content:
            one = _element(name, below)
            one.set("name", label)
            element.append(one)
    else:
        element.text = _text(content)
    return element


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    values = np.ravel(value).tolist() if isinstance(value, np.ndarray | float) else [value]
    return " ".join(repr(one) if isinstance(one, float) else str(one) for one in values)
