"""The data configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, check_limits
from tomat.lm.data.folds import Fold
from tomat.tokenizer import FALLBACK_SHAPES, TokenizerConfig


@dataclass(frozen=True)
class DataConfig:
    """Training data: a dataset directory (``path``), or densities to cut patches from during training (``densities``).

    Attributes:
        path: a dataset directory, as ``tomat-tokenize`` writes it.
        allow_partial: accept a dataset directory with missing workers.
        densities: files, folders, globs, list files or ``rho_gga`` roots; new patches every epoch.
        split_file: for a ``rho_gga`` root: JSON with the materials of each split.
        split: the split to use; a dataset directory must be of this split.
        prefix: use only ``densities`` whose id starts with one of these, to select densities of one kind.
        limit: use only the first ``limit`` materials of ``densities``.
        cache: folder for unpacked data (docs/data.md gives the sizes); None keeps them in memory.
        layout: ``v1``, ``v2``, ``v2-lat`` or ``v3``. For a dataset directory this is checked, as are ``codec``,
            ``patch_size``, ``pad_to`` and ``unit``. None is that of the dataset, or v3 and its defaults.
        codec: name, path or URL of the density codec.
        patch_size: edge of the patch in grid points.
        pad_to: row length that determines where a fallback shape is needed; None is the model's.
        fallback_shapes: patch shapes to try in order if the cube does not fit.
        unit: of log codecs, ``chgcar`` or ``e_per_A3``.
        patches_per_material: patches per material and epoch.
        sampler: how patches are placed: ``uniform``, ``electrons``, ``tiling``, or one from another package
            (docs/sampling.md).
        budget: how patches are distributed over materials: ``equal``, or ``electrons`` in proportion to the electrons
            in the cell, with the same total.
        seed: of the sampler, the packing and the order.
        pack: whether several short sequences share a row.
        guess: starting density: a promolecule (``qe-sg15``, ``slater``, a path), ``fit`` to fit one to the training
            densities first, or the run or checkpoint of a field model; None is none.
        guess_crossfit: with a field model as ``guess``: the models trained without a fold each (``fold``); a training
            crystal starts from the one that has not seen its chemical system. Predictions start from ``guess``.
        guess_folds: for a field model with ``guess: fit``: training crystals start from promolecules fitted without
            their own of so many folds, divided by chemical system; predictions start from that of all.
        fold: for a field model: train without the crystals of a fold, such as ``1/3``, by the division of
            ``guess_folds``; for ``guess_crossfit`` of another model. Validation data are not divided.
        max_guess_nmae: largest mean NMAE of a promolecule on a sample of the data; the electrons of a cell may deviate
            by half this fraction. None checks nothing.
        unique_voxels: for a field model: draw voxels only from those that the space group does not make equal
            (docs/training.md); needs ``tomat[symmetry]``.
        valence: a promolecule with the valence electrons of the densities, for the weights of dataset rows.
        on_error: ``raise``, or ``skip`` to leave out materials that cannot be read or encoded.
        max_clipped: largest fraction of a material's electrons that may lie above the codec's range; ``on_error``
            applies to materials with more.
        max_negative: the same for negative voxels, below the codec's range.
        threads: threads to read and unpack with; None is one per processor.
    """

    path: str | None = None
    allow_partial: bool = False
    densities: tuple[str, ...] = field(default=())
    split_file: str | None = None
    split: str | None = None
    prefix: tuple[str, ...] = field(default=())
    limit: int | None = None
    cache: str | None = None
    layout: str | None = None
    codec: str | None = None
    patch_size: int | None = None
    pad_to: int | None = None
    fallback_shapes: tuple[tuple[int, int, int], ...] = FALLBACK_SHAPES
    unit: str | None = None
    patches_per_material: int | None = None
    sampler: str = "uniform"
    budget: str = "equal"
    seed: int = 0
    pack: bool = False
    guess: str | None = None
    guess_crossfit: tuple[str, ...] = field(default=())
    guess_folds: int | None = None
    fold: str | None = None
    max_guess_nmae: float | None = 0.15
    unique_voxels: bool = False
    valence: str = "qe-sg15"
    on_error: str = "raise"
    max_clipped: float = MAX_CLIPPED
    max_negative: float = MAX_NEGATIVE
    threads: int | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (not self.densities):
            raise ValueError("give either data.path (a dataset directory) or data.densities")
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"data.on_error = {self.on_error!r} is neither raise nor skip")
        check_limits(self.max_clipped, self.max_negative)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"data.seed = {self.seed} must be between 0 and 2**64 - 1")
        if self.path is not None and (self.split_file or self.limit is not None or self.prefix):
            raise ValueError("data.split_file, data.prefix and data.limit belong to data.densities")
        self._check_folds()
        if self.max_guess_nmae is not None and not self.max_guess_nmae > 0:
            raise ValueError(f"data.max_guess_nmae = {self.max_guess_nmae} must be above 0, or null")

    def _check_folds(self) -> None:
        if self.guess_folds is not None and (self.guess_folds < 2 or self.guess != "fit"):
            raise ValueError(
                f"data.guess_folds = {self.guess_folds}: give at least 2 folds, with data.guess: fit; or null"
            )
        if self.fold is not None:
            Fold.parse(self.fold)
            if self.guess_folds is not None:
                raise ValueError(
                    f"data.fold = {self.fold} and data.guess_folds = {self.guess_folds}: give one of them; with "
                    "data.fold, data.guess: fit is fitted without the fold"
                )
        if self.guess_crossfit and (self.path is not None or self.guess is None or self.guess == "fit"):
            raise ValueError(
                "data.guess_crossfit: for whole densities (data.densities) that start from a field model; set "
                "data.guess to the run of the model trained on all of them"
            )

    def tokenizer(self, size: int) -> TokenizerConfig:
        """The tokenizer of ``densities`` for a model of sequences of ``size`` tokens."""
        return TokenizerConfig(
            self.layout or TokenizerConfig.layout,
            self.codec,
            self.patch_size,
            self.pad_to or size,
            self.fallback_shapes,
            self.unit,
        )
