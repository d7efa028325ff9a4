"""Checks of a crystal to predict, of its true density and of its starting density."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tomat import _core
from tomat.crystal import Crystal
from tomat.material import Material

#: Atoms closer than the first share a site; no real atoms are closer than the second. In angstrom.
SAME_SITE, NEAREST = 0.05, 0.5
#: Cell edges below this are shorter than any bond in a crystal, in angstrom.
SHORTEST_EDGE = 1.5
#: Largest differences between a true density and the crystal: edges (fraction), angles (degrees), atoms (angstrom).
EDGE, ANGLE, AWAY = 0.005, 0.5, 0.5
#: Largest NMAE of a starting density. The worst of 430 materials of the fitted kind has 17 %.
MAX_GUESS_ERROR = 0.25


def crystal_warnings(crystal: Crystal) -> list[str]:
    """Reasons to doubt a prediction for this crystal."""
    found: list[str] = []
    symbols = _core.elements()
    edges = np.linalg.norm(crystal.lattice, axis=1)
    short = [f"{name} = {edge:.3g}" for name, edge in zip("abc", edges, strict=True) if edge < SHORTEST_EDGE]
    if short:
        found.append(
            f"the cell has {', '.join(short)} A, shorter than {SHORTEST_EDGE} A; lengths must be in angstrom"
        )
    near, first, second = _nearest(crystal)
    pair = " and ".join(f"{symbols[int(crystal.atomic_numbers[i]) - 1]} ({i + 1})" for i in (first, second))
    if near < SAME_SITE:
        raise ValueError(f"{crystal.name}: atoms {pair} are on one site, {near:.2g} A apart; remove one")
    if near < NEAREST:
        found.append(f"atoms {pair} are only {near:.2g} A apart; check the structure")
    return found


def check_same_crystal(crystal: Crystal, truth: Material) -> None:
    """Check that a true density belongs to the crystal.

    The order of the atoms and the orientation of the cell may differ, and atoms may move by up to 0.5 angstrom.
    """
    where = f"{crystal.name}: the true density ({truth.task_id}) is of another crystal"
    mine, other = (_composition(atoms) for atoms in (crystal.atomic_numbers, truth.atomic_numbers))
    if mine != other:
        raise ValueError(f"{where}: it has the atoms {other}, the structure has {mine}")
    a, b = _core.lattice_parameters(crystal.lattice), _core.lattice_parameters(truth.lattice)
    apart = [abs(x - y) / (x * EDGE if i < 3 else ANGLE) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    if max(apart) > 1:
        raise ValueError(
            f"{where}: its cell has {_parameters(b)}, that of the structure {_parameters(a)} (edges in A, angles in "
            "degrees)"
        )
    far = 0.0
    for z in np.unique(crystal.atomic_numbers):
        one = crystal.frac_coords[crystal.atomic_numbers == z]
        two = truth.frac_coords[truth.atomic_numbers == z]
        distances = _distances(crystal.lattice, one, two)
        far = max(far, float(distances.min(axis=1).max()), float(distances.min(axis=0).max()))
    if far > AWAY:
        raise ValueError(
            f"{where}, or its origin lies elsewhere: an atom is {far:.3g} A from the nearest of its element"
        )


def check_guess(
    name: str,
    guess: NDArray[np.floating],
    truth: NDArray[np.floating] | None,
    electrons: tuple[float, float] | None,
    limit: float,
) -> None:
    """Check that a starting density is of the same kind as the true density and the training data.

    Args:
        name: of the crystal.
        guess: (nx, ny, nz) the starting density.
        truth: (nx, ny, nz) the true density in the same unit, or None.
        electrons: of the guess, and expected from the training data; None if not known.
        limit: largest NMAE; the electrons may deviate by half this fraction.
    """
    problem = None
    if truth is not None:
        size = float(np.abs(truth).sum(dtype=np.float64))
        error = float(np.abs(guess - truth).sum(dtype=np.float64)) / size if size else math.inf
        if not error <= limit:
            problem = f"its NMAE against the true one is {100 * error:.3g} %"
    if problem is None and electrons is not None and not abs(electrons[0] / electrons[1] - 1) <= limit / 2:
        problem = (
            f"it holds {electrons[0]:.4g} electrons, but the valence counts of the training data give "
            f"{electrons[1]:g}"
        )
    if problem is not None:
        raise ValueError(
            f"{name}: the starting density is of another kind than the data: {problem}; at most {100 * limit:g} % "
            f"NMAE and {50 * limit:g} % in electrons are allowed. Fit a promolecule to densities with the same "
            "pseudopotentials (tomat promolecule fit), or raise --max-guess-error"
        )


def _nearest(crystal: Crystal) -> tuple[float, int, int]:
    """The shortest distance between two atoms, periodic images included, and their indices."""
    best = (math.inf, 0, 0)
    for index in range(crystal.n_atoms):
        places = crystal.frac_coords
        (distances,) = _distances(crystal.lattice, places[index : index + 1], places)
        distances[index] = math.inf
        other = int(np.argmin(distances))
        if distances[other] < best[0]:
            best = (float(distances[other]), min(index, other), max(index, other))
    return best


def _distances(
    lattice: NDArray[np.float64], one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, m) distances in angstrom to the nearest image: exact below 0.5 angstrom, else an upper bound."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ceil(NEAREST / heights + 0.5).astype(int).clip(1, 8)
    steps = [np.arange(-n, n + 1) for n in reach]
    images = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) @ lattice
    apart = one[:, None, :] - two[None, :, :]
    apart = (apart - np.round(apart)) @ lattice
    best = np.full(apart.shape[:2], np.inf)
    for image in images:
        np.minimum(best, ((apart + image) ** 2).sum(axis=-1), out=best)
    return np.sqrt(best)


def _composition(atoms: Iterable[int]) -> str:
    symbols = _core.elements()
    return " ".join(f"{symbols[z - 1]}{n}" for z, n in sorted(Counter(int(z) for z in atoms).items()))


def _parameters(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
