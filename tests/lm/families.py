"""Crystals of a few chemical systems that share elements, written as densities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tomat
from tomat.crystal import Crystal
from tomat.material import Entry
from tomat.promolecule import Promolecule

NUMBERS = {"a": [14], "b": [8], "c": [14, 8], "d": [14, 8, 14], "e": [3, 8]}


def write(folder: Path, changed: str | None = None) -> list[Entry]:
    """Five crystals of four systems, sums of Slater's atoms, that of ``changed`` times 4/3; one alone has lithium."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    entries = []
    for name, numbers in NUMBERS.items():
        crystal = Crystal.of(np.diag([3.1, 3.3, 3.6]), numbers, rng.random((len(numbers), 3)), name)
        density = Promolecule.analytic("slater").evaluate(crystal, (12, 12, 14))
        path = folder / f"{name}.zarr"
        tomat.Material.on(crystal, density * (4 / 3 if name == changed else 1.0), "e_per_A3").write(path)
        entries.append(Entry(name, str(path)))
    return entries
