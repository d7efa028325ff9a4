"""Predictors by the name of a checkpoint, and a prediction in one call: ``tomat.predict``.

JAX is needed to open a checkpoint, and imported then; the promolecule does without.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.prediction.assemble import Prediction, predict_density
from tomat.prediction.checks import crystal_warnings
from tomat.prediction.grid import check_spacing, choose_grid
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PROMOLECULE, PatchPredictor, PromoleculePredictor
from tomat.prediction.structures import as_crystal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.material import Material
    from tomat.prediction.structures import CrystalLike


def open_predictor(checkpoint: str | Path, decoding: DecodingConfig | None = None) -> PatchPredictor:
    """The predictor of a checkpoint.

    Args:
        checkpoint: folder or URL of a checkpoint (needs ``tomat[train]``); ``promolecule`` for the sum of spherical
            atoms in the package, ``promolecule:FILE`` for one of your own.
        decoding: how; the defaults where None.

    Raises:
        ValueError: no checkpoint, an option it does not have, or packages that are not installed.
        OSError: it cannot be read.
    """
    decoding = decoding or DecodingConfig()
    head, _, source = str(checkpoint).partition(":")
    if head == PROMOLECULE:
        return PromoleculePredictor.open(source, decoding)
    try:
        from tomat.lm.decode.predictor import ModelPredictor
    except ImportError as error:
        raise ValueError(
            f"{checkpoint}: predicting from a checkpoint needs JAX and Levanter ({error}): pip install 'tomat[train]'; "
            "or give promolecule, which needs neither"
        ) from error
    return ModelPredictor.open(str(checkpoint), decoding)


def predict(
    checkpoint: str | Path | PatchPredictor,
    structure: CrystalLike,
    *,
    grid: Sequence[int] | None = None,
    like: Material | str | Path | None = None,
    spacing: float | None = None,
    overlap: int = 0,
    normalize: bool = False,
    electrons: float | None = None,
    **options: Any,
) -> Prediction:
    """The density of a crystal.

    Args:
        checkpoint: folder or URL of a checkpoint, ``promolecule``, or an open predictor: open one once for many
            crystals, or use :func:`tomat.prediction.assemble.predict_densities`, which fills batches over crystals.
        structure: a path (POSCAR, CIF, anything pymatgen or ASE read), pymatgen ``Structure``, ASE ``Atoms``,
            ``Crystal`` or ``Material``, whose density is not looked at.
        grid: points along x, y, z; see :func:`choose_grid` for this and the next two.
        like: a density whose grid is taken.
        spacing: distance of grid points in angstrom; that of the training data by default.
        overlap: grid points by which neighbouring patches overlap; seams are blended then.
        normalize: scale to the valence count of the atoms, which the training data tell, or to ``electrons``.
        electrons: valence electrons of the cell.
        options: of :class:`tomat.prediction.options.DecodingConfig`, where a checkpoint is opened.

    Returns:
        the prediction; ``.material`` is the crystal with its density, ``.material.write("CHGCAR")`` writes it.

    Warns:
        UserWarning: elements the model was not trained with, a very small cell, atoms that nearly touch.

    Raises:
        ValueError, OSError: the structure, the grid, the count or the checkpoint cannot be used; the message says what
            to do.
    """
    check_spacing(spacing)
    crystal = as_crystal(structure)
    predictor = checkpoint
    if isinstance(predictor, str | Path):
        predictor = open_predictor(predictor, DecodingConfig(**options))
    for doubt in crystal_warnings(crystal, predictor.facts):
        warnings.warn(f"{crystal.name}: {doubt}", stacklevel=2)
    shape = choose_grid(crystal, grid=grid, like=like, spacing=spacing, default=predictor.facts.spacing)
    return predict_density(
        predictor, crystal, shape, overlap=overlap, normalize=normalize, electrons=electrons
    )
