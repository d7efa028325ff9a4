"""Inputs of ``pw.x`` edited, and the bands it leaves read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomat.densities.qe.pseudo import unpacked

#: eV.
HARTREE = 27.211386245988


@dataclass(frozen=True, eq=False)
class Bands:
    """Band energies in eV.

    Attributes:
        energies: (k points, bands).
        fermi: the Fermi level.
    """

    energies: NDArray[np.float64]
    fermi: float


def with_variable(text: str, namelist: str, name: str, value: str) -> str:
    """An input in which a variable of a namelist has another value; ``value`` as Fortran writes it."""
    start = text.lower().find(f"&{namelist}")
    if start < 0:
        raise ValueError(f"the input has no &{namelist}: give a complete input of pw.x")
    end = text.index("\n/", start)
    body = re.sub(rf"(?<![\w]){name}\s*=\s*('[^']*'|[^,\n]+),?[ ]*", "", text[start:end], flags=re.IGNORECASE)
    head = f"&{namelist}"
    return f"{text[:start]}{head}\n{name}={value},{body[len(head) :]}{text[end:]}"


def lattice_of(text: str) -> NDArray[np.float64]:
    """The cell in an input, (3, 3), rows in angstrom."""
    lines = text.splitlines()
    at = next((n for n, line in enumerate(lines) if line.lower().split()[:1] == ["cell_parameters"]), None)
    if at is None or "angstrom" not in lines[at].lower():
        raise ValueError("the input has no CELL_PARAMETERS in angstrom; give one with them")
    return np.array([[float(word) for word in line.split()[:3]] for line in lines[at + 1 : at + 4]])


def species_of(text: str) -> dict[str, str]:
    """The pseudopotential of each species in an input."""
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if line.upper().startswith("ATOMIC_SPECIES"))
    count = re.search(r"ntyp\s*=\s*(\d+)", text)
    if count is None:
        raise ValueError("the input does not say ntyp; give a complete input of pw.x")
    return {words[0]: words[2] for words in (line.split() for line in lines[at + 1 : at + 1 + int(count[1])])}


def unpack(pseudo: Path, names: list[str], target: Path) -> None:
    """Put pseudopotentials, plain or gzipped in ``pseudo``, plain into ``target``."""
    for name in names:
        (target / name).write_bytes(unpacked(pseudo, name))


def bands_of(schema: Path) -> Bands:
    """The bands in the ``data-file-schema.xml`` of a finished run.

    Raises:
        ValueError: it has none, or no Fermi level.
    """
    root = ET.parse(schema).getroot()
    rows = [one.findtext("eigenvalues") or "" for one in root.iterfind("output/band_structure/ks_energies")]
    fermi = root.findtext("output/band_structure/fermi_energy")
    if not rows or fermi is None:
        raise ValueError(f"{schema}: no bands or no Fermi level; run pw.x with smearing")
    energies = np.array([[float(word) for word in row.split()] for row in rows])
    return Bands(energies * HARTREE, float(fermi) * HARTREE)


def band_error(found: Bands, reference: Bands, window: float) -> float:
    """Mean |difference| of band energies in meV, over the states of the reference up to ``window`` eV above its Fermi
    level, each k point and band counting once. Nothing is aligned.
    """
    if found.energies.shape != reference.energies.shape:
        raise ValueError(
            f"bands of shape {found.energies.shape} and {reference.energies.shape}; take one input"
        )
    counted = reference.energies <= reference.fermi + window
    return 1000.0 * float(np.abs(found.energies - reference.energies)[counted].mean())
