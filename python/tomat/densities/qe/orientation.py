"""Cells turned so that ``pw.x`` sees their symmetry."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from tomat.crystal import Crystal

#: Distance in angstrom up to which places are equal; pw.x itself asks for 1e-5 of the lattice constant.
_SYMPREC = 1e-5


def upright(crystal: Crystal) -> Crystal:
    """The crystal with its cell turned as a whole: fractional coordinates, and a density on its grid, stay as they are.

    ``pw.x`` looks for symmetry operations among those whose axes lie along x, y, z, their diagonals, and the hexagonal
    ones around z (``PW/src/symm_base.f90: set_sym_bl``). In a cell that was made from lengths and angles, as from a
    CIF, it misses most of them and takes several times as many k points. Needs moyo (``tomat[symmetry]``); without it,
    the crystal is returned as it is, and runs take longer.
    """
    if find_spec("moyopy") is None:
        return crystal
    import moyopy

    cell = moyopy.Cell(
        crystal.lattice.tolist(), (crystal.frac_coords % 1.0).tolist(), crystal.atomic_numbers.tolist()
    )
    try:
        turn = np.array(moyopy.MoyoDataset(cell, symprec=_SYMPREC).std_rotation_matrix)
    except ValueError:  # atoms on top of each other, for instance, of which pw.x says more
        return crystal
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-8):
        return crystal
    return replace(crystal, lattice=crystal.lattice @ turn.T)
