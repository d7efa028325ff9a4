"""Is a crystal one that can be predicted, and a true density that of the crystal?"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tomat import _core
from tomat.crystal import Crystal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from tomat.material import Material
    from tomat.prediction.predictor import TrainingFacts

#: Atoms nearer than this are on one site; nearer than the second, none that meet in nature. In angstrom.
SAME_SITE, NEAREST = 0.05, 0.5
#: Edges of cells below this are shorter than any bond between atoms of a crystal, in angstrom.
SHORTEST_EDGE = 1.5
#: How far edges (share), angles (degrees) and atoms (angstrom) of a true density may lie from those of the crystal.
EDGE, ANGLE, AWAY = 0.005, 0.5, 0.5
#: Largest error of a starting density of one crystal. Of 430 of its own kind, most fitted to, 17 % was the worst.
MAX_GUESS_ERROR = 0.25


def crystal_warnings(crystal: Crystal, facts: TrainingFacts) -> list[str]:
    """What makes a prediction of this crystal doubtful.

    Raises:
        ValueError: two atoms on one site.
    """
    found: list[str] = []
    symbols = _core.elements()
    if facts.elements is not None:
        strange = sorted({int(z) for z in crystal.atomic_numbers} - facts.elements)
        if strange:
            found.append(
                f"{', '.join(symbols[z - 1] for z in strange)}: not in the training data; what is predicted for such "
                "elements means little"
            )
    edges = np.linalg.norm(crystal.lattice, axis=1)
    short = [f"{name} = {edge:.3g}" for name, edge in zip("abc", edges, strict=True) if edge < SHORTEST_EDGE]
    if short:
        found.append(
            f"a cell with {', '.join(short)} A: shorter than {SHORTEST_EDGE} A; lengths must be in angstrom"
        )
    near, first, second = _nearest(crystal)
    pair = " and ".join(f"{symbols[int(crystal.atomic_numbers[i]) - 1]} ({i + 1})" for i in (first, second))
    if near < SAME_SITE:
        raise ValueError(f"{crystal.name}: atoms {pair} are on one site, {near:.2g} A apart; take one away")
    if near < NEAREST:
        found.append(f"atoms {pair} are {near:.2g} A apart, nearer than any atoms are; check the structure")
    return found


def check_same_crystal(crystal: Crystal, truth: Material) -> None:
    """Refuse a true density of another crystal.

    Atoms may come in another order, the cell be turned, and positions be relaxed by less than half an angstrom.

    Raises:
        ValueError: another composition, cell or other positions; the message says what differs.
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
    """Refuse a starting density of another kind than a true density, or than the training data.

    Args:
        name: of the crystal.
        guess: the starting density.
        truth: the true density in the same unit; None where there is none.
        electrons: of the guess and of the atoms, by the counts of the training data; None where not known.
        limit: largest NMAE, and twice the share of the electrons that may be missing or too many.

    Raises:
        ValueError: above the limit.
    """
    problem = None
    if truth is not None:
        size = float(np.abs(truth).sum(dtype=np.float64))
        error = float(np.abs(guess - truth).sum(dtype=np.float64)) / size if size else math.inf
        if not error <= limit:
            problem = f"it is {100 * error:.3g} % off the true one (NMAE)"
    if problem is None and electrons is not None and not abs(electrons[0] / electrons[1] - 1) <= limit / 2:
        problem = (
            f"it holds {electrons[0]:.4g} electrons, where the counts of the training data give "
            f"{electrons[1]:g}"
        )
    if problem is not None:
        raise ValueError(
            f"{name}: the starting density is of another kind than the data: {problem}; {100 * limit:g} %, and half "
            "of it in electrons, are allowed. Fit a promolecule to densities of the same kind of pseudopotential "
            "(tomat promolecule fit), or raise --max-guess-error"
        )


def _nearest(crystal: Crystal) -> tuple[float, int, int]:
    """The shortest distance between two atoms, images included, and which they are."""
    best = (math.inf, 0, 0)
    for index in range(crystal.n_atoms):
        distances = _distances(crystal.lattice, crystal.frac_coords[index : index + 1], crystal.frac_coords)[
            0
        ]
        distances[index] = math.inf
        other = int(np.argmin(distances))
        if distances[other] < best[0]:
            best = (float(distances[other]), min(index, other), max(index, other))
    return best


def _distances(
    lattice: NDArray[np.float64], one: NDArray[np.float64], two: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, m) distances in angstrom to the nearest image, exact below half an angstrom and never too short."""
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
