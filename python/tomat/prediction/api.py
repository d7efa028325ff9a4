"""From a checkpoint and a crystal to a density, in one call."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomat.material import Material, read
from tomat.prediction.assemble import Prediction, predict_density
from tomat.prediction.checks import check_spacing, crystal_warnings
from tomat.prediction.grid import DEFAULT_SPACING, RADICES, check_grid, grid_for
from tomat.prediction.predictor import PatchPredictor, PromoleculePredictor
from tomat.prediction.structures import as_crystal
from tomat.promolecule import Promolecule
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomat.crystal import Crystal
    from tomat.prediction.structures import CrystalLike

__all__ = ["choose_grid", "open_predictor", "predict"]

#: The word that stands for a baseline in the place of a checkpoint; ``promolecule:FILE`` takes another one.
_PROMOLECULE = "promolecule"
_BUNDLED = "qe-sg15"


def open_predictor(
    checkpoint: str | Path,
    *,
    mode: str | None = None,
    passes: int | None = None,
    temperature: float | None = None,
    nucleus: float | None = None,
    samples: int | None = None,
    estimate: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    weights: str | None = None,
) -> PatchPredictor:
    """The predictor of a checkpoint.

    Args:
        checkpoint: folder or URL of a checkpoint (needs ``tomat[train]``); ``promolecule`` for the sum of spherical
            atoms in the package, ``promolecule:FILE`` for one of your own.
        mode: ``one_pass``, ``k_pass``, ``free_running``; the checkpoint's own where None.
        passes: of ``k_pass``; here and below the model's own default where None.
        temperature: of samples.
        nucleus: samples are drawn from the likeliest tokens that hold this share of the probability.
        samples: densities drawn for each patch; their mean is the prediction, their standard deviation its spread.
        estimate: ``median``, ``mean`` or ``mode`` of the predicted distribution.
        batch_size: patches at a time.
        seed: of samples.
        weights: of a run: ``best`` (the default: those of its best evaluation), ``latest`` or ``start``.

    Raises:
        ValueError: no checkpoint, an option it does not have, or packages that are not installed.
        OSError: it cannot be read.
    """
    name = str(checkpoint)
    options: dict[str, Any] = {
        "mode": mode,
        "passes": passes,
        "temperature": temperature,
        "nucleus": nucleus,
        "samples": samples,
        "estimate": estimate,
        "weights": weights,
    }
    if name == _PROMOLECULE or name.startswith(_PROMOLECULE + ":"):
        given = [f"{key} = {value}" for key, value in options.items() if value not in (None, "one_pass")]
        if given:
            raise ValueError(f"a promolecule knows no {', '.join(given)}; leave it out")
        source = name.partition(":")[2] or _BUNDLED
        # Nothing is encoded: a layout without a lattice and rows of any length refuse no crystal.
        tokenizer = PatchTokenizer("v2", "two_token_9_12", patch_size=19, pad_to=1 << 24, unit="chgcar")
        return PromoleculePredictor(tokenizer, Promolecule.load(source), batch_size=batch_size or 256)
    try:
        models: Any = importlib.import_module("tomat.lm.decode.predictor")
    except ImportError as error:
        raise ValueError(
            f"{checkpoint}: predicting from a checkpoint needs JAX and Levanter ({error}): pip install 'tomat[train]'; "
            "or give promolecule, which needs neither"
        ) from error
    options |= {"batch_size": batch_size, "seed": seed}
    # What is not given is left to the model's own defaults.
    chosen = {key: value for key, value in options.items() if value is not None}
    predictor: PatchPredictor = models.open_predictor(name, **chosen)
    return predictor


def choose_grid(
    crystal: Crystal,
    *,
    grid: Sequence[int] | None = None,
    like: Material | str | Path | None = None,
    spacing: float | None = None,
    radices: Sequence[int] = RADICES,
    default: float | None = None,
) -> tuple[int, int, int]:
    """The grid of a prediction: given, that of another density, or by spacing.

    Args:
        crystal: the crystal.
        grid: points along x, y, z.
        like: a density whose grid is taken.
        spacing: distance of points in angstrom, see :func:`tomat.prediction.grid.grid_for`.
        radices: prime factors axes may have where ``spacing`` decides.
        default: the spacing where nothing is given (a predictor's ``facts.spacing``); else 0.098 angstrom.

    Raises:
        ValueError: more than one of the three, a spacing not above zero, or a grid that tokens cannot state.
    """
    check_spacing(spacing)
    given = [
        name for name, value in (("grid", grid), ("like", like), ("spacing", spacing)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both fix the grid; give one of them")
    if grid is not None:
        return check_grid(grid)
    if like is not None:
        return check_grid((like if isinstance(like, Material) else read(like)).grid_shape)
    with _naming(crystal):
        return grid_for(crystal.lattice, spacing or default or DEFAULT_SPACING, radices)


@contextlib.contextmanager
def _naming(crystal: Crystal) -> Any:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{crystal.name}: {error}") from error


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
        options: as :func:`open_predictor` takes them.

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
    predictor = open_predictor(checkpoint, **options) if isinstance(checkpoint, str | Path) else checkpoint
    for doubt in crystal_warnings(crystal, predictor.facts):
        warnings.warn(f"{crystal.name}: {doubt}", stacklevel=2)
    shape = choose_grid(crystal, grid=grid, like=like, spacing=spacing, default=predictor.facts.spacing)
    return predict_density(
        predictor, crystal, shape, overlap=overlap, normalize=normalize, electrons=electrons
    )
