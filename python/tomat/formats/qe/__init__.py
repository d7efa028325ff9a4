"""Save folders of Quantum ESPRESSO: ``PREFIX.save`` with ``charge-density.dat`` and ``data-file-schema.xml``.

A written folder is one that ``pw.x`` starts from (``startingpot = 'file'``) and finds bands with (``calculation =
'nscf'`` or ``'bands'``). Norm-conserving pseudopotentials, without spin.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal
from tomat.formats.contents import Contents
from tomat.formats.qe import charge, schema
from tomat.formats.qe.vectors import BOHR, fft_grid, miller_indices

__all__ = ["CUTOFFS", "NAMELESS", "PARTS", "Contents", "cutoffs", "decode", "encode"]

#: The files of a folder that are read.
PARTS = (schema.NAME, charge.NAME)
#: What a writer is told in a material's ``source``: cutoffs of the wave functions and of the density, in Ry.
CUTOFFS = ("ecutwfc_Ry", "ecutrho_Ry")
#: Prefixes that say nothing of the crystal: the one of pw.x's own choice, and single letters.
NAMELESS = re.compile(r"pwscf|[a-z]", re.IGNORECASE)
#: Largest difference between the electrons of the density and those the run counts, as a share.
_ELECTRONS = 1e-3
#: Largest distance of the electrons of a density from a whole number.
_WHOLE = 0.25
#: Most points of an FFT grid for each of its components.
_SPARSE = 1000


def encode(
    crystal: Crystal, density: NDArray[np.float32], n_electrons: float, source: dict[str, Any]
) -> dict[str, bytes]:
    """The files of a folder; the density is in electrons per cubic angstrom, on any grid.

    The density is scaled to the valence electrons of the cell, as ``pw.x`` does when it starts SCF: to ``electrons`` of
    the ``source``, or the nearest whole number. ``source`` has the cutoff of the density, ``ecutrho_Ry`` (or
    ``ecutwfc_Ry``, a quarter of it); with ``gamma_only``, one of each pair G, -G is written, for runs with ``K_POINTS
    gamma``.

    Raises:
        ValueError: no cutoff, or electrons that are far from a whole number and not given.
    """
    ecutwfc, ecutrho = _cutoffs(crystal, source)
    gamma_only = bool(source.get("gamma_only", False))
    miller = miller_indices(crystal.lattice, ecutrho, gamma_only=gamma_only)
    reciprocal = 2.0 * np.pi * np.linalg.inv(crystal.lattice / BOHR).T
    electrons = _count(crystal, n_electrons, source)
    values = charge.from_grid(density, miller) * (BOHR**3 * electrons / n_electrons)
    shape = density.shape
    if (2 * np.abs(miller).max(axis=0) >= shape).any():
        shape = fft_grid(crystal.lattice, ecutrho)
    described = schema.dump(
        crystal,
        electrons=electrons,
        ecutwfc=ecutwfc,
        ecutrho=ecutrho,
        grid_shape=shape,
        n_vectors=len(miller),
        gamma_only=gamma_only,
    )
    components = charge.Components(gamma_only, reciprocal, miller, values)
    return {schema.NAME: described, charge.NAME: charge.dump(components)}


def _count(crystal: Crystal, n_electrons: float, source: dict[str, Any]) -> float:
    """The valence electrons of the cell. ``pw.x`` takes them from the file: with others, the Fermi level is wrong."""
    told = source.get("electrons")
    if not n_electrons > 0:
        raise ValueError(f"{crystal.name}: the density holds {n_electrons:g} electrons; give one with some")
    if told is not None:
        return float(told)
    if abs(n_electrons - round(n_electrons)) > _WHOLE:
        raise ValueError(
            f"{crystal.name}: the density holds {n_electrons:.4f} electrons, which is no whole number; normalise it "
            "(--normalize), or say how many the pseudopotentials have: material.with_source(electrons=16.0)"
        )
    return float(round(n_electrons))


def _cutoffs(crystal: Crystal, source: dict[str, Any]) -> tuple[float, float]:
    """Cutoffs of the wave functions and of the density, in Ry."""
    given = {name: float(source[name]) for name in CUTOFFS if source.get(name) is not None}
    if not given:
        raise ValueError(
            f"{crystal.name}: a Quantum ESPRESSO folder needs the cutoff of the run that will read it: give ecutwfc or "
            "ecutrho (tomat predict --ecutwfc 60; material.with_source(ecutwfc_Ry=60.0).write(...) in Python)"
        )
    return cutoffs(given.get("ecutwfc_Ry"), given.get("ecutrho_Ry"))


def cutoffs(ecutwfc: float | None, ecutrho: float | None) -> tuple[float, float]:
    """Cutoffs of the wave functions and of the density in Ry, where one is four times the other if it is None.

    Raises:
        ValueError: neither, one that is not a number above 0, or a density with the lower cutoff.
    """
    if ecutwfc is None:
        if ecutrho is None:
            raise ValueError("give ecutwfc or ecutrho, in Ry")
        ecutwfc = ecutrho / 4.0
    if ecutrho is None:
        ecutrho = 4.0 * ecutwfc
    if not (0.0 < ecutwfc <= ecutrho < math.inf):
        raise ValueError(
            f"ecutwfc = {ecutwfc:g} Ry and ecutrho = {ecutrho:g} Ry: give numbers above 0, ecutrho the larger"
        )
    return ecutwfc, ecutrho


def decode(files: dict[str, bytes], name: str) -> Contents:
    """What the files of a folder hold, by their names; ``name`` is that of the folder, for messages.

    Raises:
        ValueError: a file that is not there, damaged or cut off, or does not belong to the other.
    """
    if schema.NAME not in files:
        raise ValueError(
            f"{name}: no {schema.NAME}, which has the crystal; give the folder PREFIX.save of a run of pw.x 6 or later"
        )
    if charge.NAME not in files:
        raise ValueError(
            f"{name}: no {charge.NAME}; give the folder of a finished run of pw.x without HDF5, "
            "whose disk_io is not 'none'"
        )
    run = schema.parse(files[schema.NAME], f"{name}/{schema.NAME}")
    place = f"{name}/{charge.NAME}"
    components = charge.parse(files[charge.NAME], place)
    _check(run, components, place)
    density = charge.to_grid(components, run.grid_shape) / BOHR**3
    source = {
        "format": "qe",
        "has_spin": False,
        "ecutwfc_Ry": run.ecutwfc,
        "ecutrho_Ry": run.ecutrho,
        "gamma_only": run.gamma_only,
        "electrons": run.electrons,
    }
    crystal = (run.lattice, run.atomic_numbers, run.frac_coords)
    return Contents(*crystal, density.astype(np.float32), "e_per_A3", source)


def _check(run: schema.Schema, components: charge.Components, name: str) -> None:
    """Check that a density belongs to the run beside it."""
    if components.gamma_only != run.gamma_only:
        raise ValueError(
            f"{name}: the gamma trick is {_onoff(components.gamma_only)} here and {_onoff(run.gamma_only)} in "
            f"{schema.NAME}; the two files are of different runs, or one is damaged: run pw.x again"
        )
    reciprocal = 2.0 * np.pi * np.linalg.inv(run.lattice / BOHR).T
    if not np.allclose(components.reciprocal, reciprocal, atol=1e-6 * np.abs(reciprocal).max()):
        raise ValueError(f"{name}: of another cell than {schema.NAME}; take both files from one run")
    most = 2 * np.abs(components.miller.astype(np.int64)).max(axis=0) + 1
    grid = " x ".join(map(str, run.grid_shape))
    if (most > run.grid_shape).any():
        needed = " x ".join(map(str, most.tolist()))
        raise ValueError(
            f"{name}: it needs {needed} points, but the grid in {schema.NAME} is {grid}; take both files from one run"
        )
    if np.prod(run.grid_shape) > _SPARSE * len(components.miller):
        raise ValueError(
            f"{name}: {len(components.miller)} components for the {grid} points of {schema.NAME}; one is damaged"
        )
    volume = abs(float(np.linalg.det(run.lattice / BOHR)))
    electrons = float(components.values[0].real) * volume
    if not abs(electrons - run.electrons) <= _ELECTRONS * run.electrons:
        raise ValueError(
            f"{name}: it holds {electrons:.6g} electrons and the run in {schema.NAME} {run.electrons:.6g}; the density "
            "is damaged or of another run"
        )


def _onoff(flag: bool) -> str:
    return "on" if flag else "off"
