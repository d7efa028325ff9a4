"""Open predictors, and predict a density in one call: ``tomat.predict``.

JAX is imported only when a run or checkpoint is opened; models of the package, exported field models and the
promolecule do not need it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.lm.artefact.file import is_artefact
from tomat.lm.exported import WEIGHTS, export_note, is_export
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.record import NOTE, kind_of
from tomat.models import DEFAULT, bundled
from tomat.prediction.assemble import Prediction, predict_density
from tomat.prediction.grid import check_spacing, choose_grid
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PROMOLECULE, PatchPredictor, PromoleculePredictor
from tomat.prediction.structures import as_crystal
from tomat.prediction.unseen import doubts_about
from tomat.storage.files import is_url
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tomat.lm.decode.kinds import OpenModel
    from tomat.material import Material
    from tomat.prediction.structures import CrystalLike

#: Opens exports of these kinds of models without JAX.
WITHOUT_JAX: dict[str, Callable[[str, DecodingConfig], OpenModel]] = {
    FieldPredictor.kind: FieldPredictor.open
}
#: Files and folders by which that of a model is told from one of structures.
_OF_MODELS = (NOTE, WEIGHTS, "checkpoints", "config.yaml")


def is_model(text: str) -> bool:
    """Whether a word of a command names a model rather than a structure.

    Models are ``promolecule``, those of the package, folders of runs, checkpoints and exports, and exports in a file.
    """
    if text.partition(":")[0] == PROMOLECULE or bundled(text) is not None:
        return True
    if is_artefact(text):
        return True
    found = place(text.rstrip("/"))
    return any((found / name).exists() for name in _OF_MODELS)


def divide(words: Sequence[str]) -> tuple[str, list[str]]:
    """The model and the structures of a command's words: the first may be a model, else it is the package's.

    Raises:
        ValueError: there are no structures.
    """
    first, *others = words
    if not is_model(first):
        # A word that is nothing, before others: more likely a model that is not where it should be.
        stray = bool(others) and not is_url(first) and not Path(first).exists()
        return (first, others) if stray else (DEFAULT, list(words))
    if not others:
        raise ValueError(f"{first}: is a model; give the structures to predict behind it")
    return first, others


def open_predictor(checkpoint: str | Path, decoding: DecodingConfig | None = None) -> PatchPredictor:
    """Open a predictor.

    Args:
        checkpoint: a model of the package (:func:`tomat.models.bundled_models`); folder or URL of an export, run or
            checkpoint (the last two need ``tomat[train]``); ``promolecule`` for the bundled sum of spherical atoms,
            ``promolecule:FILE`` for another one.
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
    """As :func:`open_predictor`, but for promolecules."""
    inside = bundled(str(checkpoint))
    root = str(checkpoint if inside is None else inside.folder).rstrip("/")
    opener = WITHOUT_JAX.get(kind_of(export_note(root))) if is_export(root, decoding.weights) else None
    if opener is not None:
        return opener(root, decoding)
    try:
        from tomat.lm.decode.kinds import open_kind
    except ImportError as error:
        raise ValueError(
            f"{checkpoint}: predicting from a checkpoint needs JAX and Levanter ({error}): pip install 'tomat[train]'; "
            "or give promolecule, which needs neither"
        ) from error
    return open_kind(str(checkpoint), decoding)


def predict(
    structure: CrystalLike,
    model: str | Path | PatchPredictor = DEFAULT,
    *,
    grid: Sequence[int] | None = None,
    like: Material | str | Path | None = None,
    spacing: float | None = None,
    overlap: int = 0,
    normalize: bool = False,
    electrons: float | None = None,
    allow_unseen: bool = False,
    **options: Any,
) -> Prediction:
    """Predict the density of a crystal.

    Args:
        structure: a path (POSCAR, CIF, anything pymatgen or ASE reads), pymatgen ``Structure``, ASE ``Atoms``,
            ``Crystal``, or ``Material`` (its density is ignored).
        model: one of the package; folder or URL of a run, checkpoint or export; ``promolecule``; or an open predictor.
            For many crystals open one once, or use :func:`tomat.prediction.assemble.predict_densities`, whose batches
            span crystals.
        grid: (nx, ny, nz); give at most one of ``grid``, ``like`` and ``spacing``.
        like: a density whose grid is used.
        spacing: distance of grid points in angstrom; the default is that of the training data.
        overlap: grid points by which neighbouring patches overlap; their seams are blended.
        normalize: scale to ``electrons``, or else to the valence electrons of the atoms in the training data.
        electrons: valence electrons of the cell.
        allow_unseen: whether the promolecule stands in for elements that the training data do not have.
        options: fields of :class:`tomat.prediction.options.DecodingConfig`; not with an open predictor.

    Returns:
        the prediction; ``.material`` is the crystal with its density, ``.material.write("CHGCAR")`` writes it.

    Warns:
        UserWarning: atoms of the promolecule in place of the model's, a very small cell, or atoms very close together.

    Raises:
        ValueError, OSError: the structure, grid, electrons, options or model cannot be used, or the model has not seen
            an element.
    """
    check_spacing(spacing)
    crystal = as_crystal(structure)
    predictor = model
    if isinstance(predictor, str | Path):
        predictor = open_predictor(predictor, DecodingConfig(**options))
    elif options:
        raise ValueError(
            f"{', '.join(options)}: the predictor is open already; give decoding options when opening it"
        )
    for doubt in doubts_about(crystal, predictor.facts, allow_unseen=allow_unseen):
        warnings.warn(f"{crystal.name}: {doubt}", stacklevel=2)
    shape = choose_grid(crystal, grid=grid, like=like, spacing=spacing, default=predictor.facts.spacing)
    return predict_density(
        predictor,
        crystal,
        shape,
        overlap=overlap,
        normalize=normalize,
        electrons=electrons,
        allow_unseen=allow_unseen,
    )
