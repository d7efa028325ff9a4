"""Elements that a model has not seen: refused, or left to the promolecule.

A model's answer for such an element is an extrapolation from its neighbours in the periodic table. On request the
promolecule takes the place of the model where these atoms are: with ``w`` the share of their densities in the
promolecule ``g`` (J. Hirshfeld's stockholder partition), ``rho = rho_model + w (g - rho_model)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomat import _core
from tomat.crystal import Crystal
from tomat.prediction.checks import crystal_warnings
from tomat.promolecule import UnscaledPromolecule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.prediction.cover import Triple
    from tomat.prediction.predictor import TrainingFacts

#: Density in e/A^3 below which a share is that of nothing.
_FAINT = 1e-12


def unseen_elements(crystal: Crystal, facts: TrainingFacts) -> tuple[int, ...]:
    """Atomic numbers of a crystal that the training data do not have, ascending; none if these are not known."""
    if facts.elements is None:
        return ()
    return tuple(sorted({int(z) for z in crystal.atomic_numbers} - facts.elements))


def check_elements(crystal: Crystal, facts: TrainingFacts, *, allow: bool) -> list[str]:
    """Refuse elements that the model has not seen, or say what stands in for it.

    Args:
        crystal: the crystal.
        facts: about the model's training data.
        allow: whether the promolecule may stand in.

    Returns:
        what is to be said of the prediction.

    Raises:
        ValueError: there are such elements, and they are not allowed.
    """
    missing = unseen_elements(crystal, facts)
    if not missing:
        return []
    symbols = _core.elements()
    names = ", ".join(symbols[z - 1] for z in missing)
    if not allow:
        raise ValueError(
            f"{crystal.name}: the model was trained without {names}; train one on densities with them, or let "
            "atoms of the promolecule stand in (--allow-unseen)"
        )
    return [f"{names}: not in the training data; these atoms are those of the promolecule"]


def doubts_about(crystal: Crystal, facts: TrainingFacts, *, allow_unseen: bool) -> list[str]:
    """What is to be said of a prediction before it is made: elements stood in for, cells and atoms that look wrong.

    Raises:
        ValueError: elements that the model has not seen and that are not allowed, or two atoms on one site.
    """
    return check_elements(crystal, facts, allow=allow_unseen) + crystal_warnings(crystal)


def share_of_unseen(crystal: Crystal, facts: TrainingFacts, grid_shape: Triple) -> NDArray[np.float32] | None:
    """The share (nx, ny, nz) of unseen elements in the promolecule; None without any, or without a promolecule."""
    missing = unseen_elements(crystal, facts)
    if not missing or facts.promolecule is None:
        return None
    promolecule = UnscaledPromolecule.load(facts.promolecule)
    whole = promolecule.per_volume(crystal, grid_shape)
    theirs = np.isin(crystal.atomic_numbers, missing)
    part = Crystal.of(
        crystal.lattice, crystal.atomic_numbers[theirs], crystal.frac_coords[theirs], crystal.name
    )
    share = promolecule.per_volume(part, grid_shape) / np.maximum(whole, _FAINT)
    return np.clip(share, 0, 1).astype(np.float32)
