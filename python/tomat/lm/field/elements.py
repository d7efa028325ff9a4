"""Features of elements: where they stand in the periodic table, how they hold electrons, and their promolecule.

Elements that no training crystal has get features between those of their neighbours in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomat import _core

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tomat.promolecule import UnscaledPromolecule

# For Z = 1 to 118, as in pymatgen 2025 and ASE 3.23. Where there is no value, that of the lighter element of the group.
# Pauling's electronegativities; of He, Ne and Ar those of L. C. Allen, J. Am. Chem. Soc. 111, 9003 (1989).
_ELECTRONEGATIVITY = """
    2.20 4.16 0.98 1.57 2.04 2.55 3.04 3.44 3.98 4.79 0.93 1.31 1.61 1.90 2.19 2.58 3.16 3.24 0.82 1.00
    1.36 1.54 1.63 1.66 1.55 1.83 1.88 1.91 1.90 1.65 1.81 2.01 2.18 2.55 2.96 3.00 0.82 0.95 1.22 1.33
    1.60 2.16 1.90 2.20 2.28 2.20 1.93 1.69 1.78 1.96 2.05 2.10 2.66 2.60 0.79 0.89 1.10 1.12 1.13 1.14
    1.13 1.17 1.20 1.20 1.10 1.22 1.23 1.24 1.25 1.10 1.27 1.30 1.50 2.36 1.90 2.20 2.20 2.28 2.54 2.00
    1.62 2.33 2.02 2.00 2.20 2.20 0.70 0.90 1.10 1.30 1.50 1.38 1.36 1.28 1.30 1.30 1.30 1.30 1.30 1.30
    1.30 1.30 1.30 1.30 1.50 2.36 1.90 2.20 2.20 2.28 2.54 2.00 1.62 2.33 2.02 2.00 2.20 2.20
"""
# Covalent radii in angstrom (B. Cordero et al., Dalton Trans. 2832 (2008)).
_RADIUS = """
    0.31 0.28 1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76
    1.70 1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90 1.75
    1.64 1.54 1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04 2.03 2.01
    1.99 1.98 1.98 1.96 1.94 1.92 1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32
    1.45 1.46 1.48 1.40 1.50 1.50 2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69 2.00 2.00 2.00 2.00
    2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00 2.00
"""
# First ionisation energies in eV (NIST).
_IONISATION = """
    13.60 24.59 5.39 9.32 8.30 11.26 14.53 13.62 17.42 21.56 5.14 7.65 5.99 8.15 10.49 10.36 12.97 15.76 4.34 6.11
    6.56 6.83 6.75 6.77 7.43 7.90 7.88 7.64 7.73 9.39 6.00 7.90 9.79 9.75 11.81 14.00 4.18 5.69 6.22 6.63
    6.76 7.09 7.12 7.36 7.46 8.34 7.58 8.99 5.79 7.34 8.61 9.01 10.45 12.13 3.89 5.21 5.58 5.54 5.47 5.53
    5.58 5.64 5.67 6.15 5.86 5.94 6.02 6.11 6.18 6.25 5.43 6.83 7.55 7.86 7.83 8.44 8.97 8.96 9.23 10.44
    6.11 7.42 7.29 8.42 9.32 10.75 4.07 5.28 5.38 6.31 5.89 6.19 6.27 6.03 5.97 5.99 6.20 6.28 6.37 6.50
    6.58 6.63 4.96 6.02 6.80 7.80 7.70 7.60 8.97 8.96 9.23 10.44 6.11 7.42 7.29 8.42 9.32 10.75
"""
# Electron affinities in eV.
_AFFINITY = """
    0.75 -0.52 0.62 -0.52 0.28 1.26 -0.07 1.46 3.40 -1.22 0.55 -0.42 0.43 1.39 0.75 2.08 3.61 -1.02 0.50 0.02
    0.18 0.08 0.53 0.68 -0.52 0.15 0.66 1.16 1.24 -0.62 0.30 1.23 0.80 2.02 3.36 -1.02 0.49 0.05 0.31 0.43
    0.92 0.75 0.55 1.05 1.14 0.56 1.30 -0.72 0.38 1.11 1.05 1.97 3.06 -0.82 0.47 0.14 0.56 0.60 0.11 0.10
    0.13 0.16 0.12 0.21 0.13 0.02 0.34 0.31 1.03 -0.02 0.24 0.18 0.33 0.82 0.06 1.08 1.56 2.13 2.31 -0.52
    0.32 0.36 0.94 1.41 2.42 -0.72 0.49 0.10 0.35 0.61 0.55 0.31 0.48 -0.50 0.10 0.28 -1.72 -1.01 -0.30 0.35
    0.98 -2.33 -0.31 0.18 0.33 0.82 0.06 1.08 1.56 2.13 1.56 -0.52 0.69 0.36 0.37 0.78 1.72 0.08
"""

#: Last element of each row of the periodic table.
_ROW_ENDS = (2, 10, 18, 36, 54, 86, 118)
#: Distances in angstrom at which radial densities are read, and the density in e/A^3 below which they do not matter.
_DISTANCES = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.7, 3.5)
_FLOOR = 1e-6

#: Largest factor of :func:`stretches`; its inverse is the smallest.
MOST_STRETCHED = 1.42
#: (mean, scale) of each feature: row, group, the four tables, log of valence electrons, blocks, logs of densities.
_STANDARD = (
    (4.4, 1.5),
    (8.6, 5.5),
    (1.85, 0.65),
    (1.5, 0.4),
    (8.2, 3.2),
    (0.8, 0.9),
    (2.3, 0.6),
    *((0.25, 0.45),) * 4,
    (-1.2, 4.5),
    (1.3, 1.2),
    (0.95, 0.9),
    (-1.1, 1.7),
    (-3.1, 2.5),
    (-5.3, 3.2),
    (-8.0, 3.5),
    (-8.9, 3.2),
)
#: Number of features of an element.
N_FEATURES = len(_STANDARD)


def element_features(promolecule: UnscaledPromolecule) -> NDArray[np.float32]:
    """Features (119, :data:`N_FEATURES`) of the elements by atomic number, about 1 in size; row 0 is zero."""
    table = np.zeros((119, N_FEATURES))
    electrons = dict(
        zip(promolecule.source.atomic_numbers.tolist(), promolecule.source.electrons.tolist(), strict=True)
    )
    tables = [np.array(text.split(), np.float64) for text in _TABLES]
    for z in range(1, 119):
        row, group, block = periodic_place(z)
        count = electrons.get(z, np.nan)
        valence = count if np.isfinite(count) else float(_core.valence_electrons(z))
        density = promolecule.radial(z, np.array(_DISTANCES))
        table[z] = [
            row,
            group,
            *(values[z - 1] for values in tables),
            np.log(valence),
            *(block == other for other in "spdf"),
            *np.log(np.maximum(density, _FLOOR)),
        ]
    mean, scale = np.array(_STANDARD).T
    table[1:] = (table[1:] - mean) / scale
    return table.astype(np.float32)


def stretches(atomic_numbers: ArrayLike) -> list[float]:
    """Factors by which the distances from atoms are stretched before the radial functions read them.

    ``sqrt(1.2 / r)`` with the covalent radius ``r`` in angstrom: the bond of a small atom and that of a large one look
    more alike. Half way (the root) was measured to carry over to other elements better than the whole way or none,
    see docs/models.md.
    """
    radii = np.array(_RADIUS.split(), np.float64)[np.asarray(atomic_numbers, np.int64) - 1]
    stretched: list[float] = np.clip(np.sqrt(1.2 / radii), 1.0 / MOST_STRETCHED, MOST_STRETCHED).tolist()
    return stretched


def periodic_place(atomic_number: int) -> tuple[int, int, str]:
    """Row, group (3 for the f block) and block of an element; helium is in group 18."""
    row = next(i for i, end in enumerate(_ROW_ENDS) if atomic_number <= end)
    place = atomic_number - (0, *_ROW_ENDS)[row]
    length = _ROW_ENDS[row] - (0, *_ROW_ENDS)[row]
    of_f = length == 32 and 3 <= place <= 16
    first = place <= (1 if row == 0 else 2)
    group = place if first else 3 if of_f else 18 - length + place
    block = "f" if of_f else "s" if group <= 2 or row == 0 else "p" if group >= 13 else "d"
    return row + 1, group, block


_TABLES = (_ELECTRONEGATIVITY, _RADIUS, _IONISATION, _AFFINITY)
