"""Open predictors, and predict a density in one call: ``tomat.predict``.

JAX is imported only when a checkpoint is opened; the promolecule does not need it.
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

    from tomat.lm.decode.kinds import OpenModel
    from tomat.material import Material
    from tomat.prediction.structures import CrystalLike


def open_predictor(checkpoint: str | Path, decoding: DecodingConfig | None = None) -> PatchPredictor:
    """Open a predictor.

    Args:
        checkpoint: folder or URL of a checkpoint (needs ``tomat[train]``); ``promolecule`` for the bundled sum of
            spherical atoms, ``promolecule:FILE`` for another one.
        decoding: decoding options; None is the defaults.

    Raises:
        ValueError: the checkpoint is damaged or does not support an option, or packages are not installed.
        OSError: it cannot be read.
    """
    decoding = decoding or DecodingConfig()
    head, _, source = str(checkpoint).partition(":")
    if head == PROMOLECULE:
        return PromoleculePredictor.open(source, decoding)
    return open_model(checkpoint, decoding)


def open_model(checkpoint: str | Path, decoding: DecodingConfig) -> OpenModel:
    """As :func:`open_predictor`, for checkpoints only."""
    try:
        from tomat.lm.decode.kinds import open_kind
    except ImportError as error:
        raise ValueError(
            f"{checkpoint}: predicting from a checkpoint needs JAX and Levanter ({error}): pip install 'tomat[train]'; "
            "or give promolecule, which needs neither"
        ) from error
    return open_kind(str(checkpoint), decoding)


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
    """Predict the density of a crystal.

    Args:
        checkpoint: folder or URL of a checkpoint, ``promolecule``, or an open predictor. For many crystals open one
            once, or use :func:`tomat.prediction.assemble.predict_densities`, whose batches span crystals.
        structure: a path (POSCAR, CIF, anything pymatgen or ASE reads), pymatgen ``Structure``, ASE ``Atoms``,
            ``Crystal``, or ``Material`` (its density is ignored).
        grid: (nx, ny, nz); give at most one of ``grid``, ``like`` and ``spacing``.
        like: a density whose grid is used.
        spacing: distance of grid points in angstrom; the default is that of the training data.
        overlap: grid points by which neighbouring patches overlap; their seams are blended.
        normalize: scale to ``electrons``, or else to the valence electrons of the atoms in the training data.
        electrons: valence electrons of the cell.
        options: fields of :class:`tomat.prediction.options.DecodingConfig`; not with an open predictor.

    Returns:
        the prediction; ``.material`` is the crystal with its density, ``.material.write("CHGCAR")`` writes it.

    Warns:
        UserWarning: elements that are not in the training data, a very small cell, or atoms very close together.

    Raises:
        ValueError, OSError: the structure, grid, electrons, options or checkpoint cannot be used.
    """
    check_spacing(spacing)
    crystal = as_crystal(structure)
    predictor = checkpoint
    if isinstance(predictor, str | Path):
        predictor = open_predictor(predictor, DecodingConfig(**options))
    elif options:
        raise ValueError(
            f"{', '.join(options)}: the predictor is open already; give decoding options when opening it"
        )
    for doubt in crystal_warnings(crystal, predictor.facts):
        warnings.warn(f"{crystal.name}: {doubt}", stacklevel=2)
    shape = choose_grid(crystal, grid=grid, like=like, spacing=spacing, default=predictor.facts.spacing)
    return predict_density(
        predictor, crystal, shape, overlap=overlap, normalize=normalize, electrons=electrons
    )
