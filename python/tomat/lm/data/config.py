"""What the data of a training run are."""

from __future__ import annotations

from dataclasses import dataclass, field

from tomat.clipping import MAX_CLIPPED, MAX_NEGATIVE, check_limits
from tomat.tokenizer import FALLBACK_SHAPES, TokenizerConfig


@dataclass(frozen=True)
class DataConfig:
    """Rows of a dataset directory (``path``), or densities to cut rows from while training (``densities``).

    Attributes:
        path: a dataset directory written by ``tomat-tokenize``, or one like it.
        allow_partial: open a dataset directory of which workers are missing.
        densities: files, folders, globs, list files or ``rho_gga`` roots; new patches every epoch.
        split_file: for a ``rho_gga`` root: JSON with the materials of each split.
        split: which split; of a dataset directory, the split it must be of.
        prefix: only materials of ``densities`` whose id begins so, one of these: densities of one kind.
        limit: only the first so many materials of ``densities``.
        cache: folder for what is unpacked once (docs/data.md gives the sizes); in memory where None.
        layout: ``v1``, ``v2``, ``v2-lat`` or ``v3``; of a dataset directory, what it must have been written with, as
            are ``codec``, ``patch_size``, ``pad_to`` and ``unit``. None takes what is there, or v3 and its defaults.
        codec: name, path or URL of the density codec.
        patch_size: edge of the patch in grid points.
        pad_to: length that decides where a fallback shape is needed; the model's where None.
        fallback_shapes: patch shapes tried in order where the cube does not fit.
        unit: of log codecs, ``chgcar`` or ``e_per_A3``.
        patches_per_material: rows a material and epoch.
        sampler: where patches are cut: ``uniform``, ``electrons``, ``tiling``, or one that a package adds
            (docs/sampling.md).
        budget: how ``patches_per_material`` is shared out: ``equal``, or ``electrons`` for patches in proportion to the
            electrons in the cell, the same in all.
        seed: of the sampler, the packing and the order.
        pack: whether several short sequences share a row.
        guess: starting density: a promolecule (``qe-sg15``, ``slater``, a path), or ``fit`` for one that is fitted to
            the training densities first; None has none.
        max_guess_nmae: largest mean NMAE of a promolecule on a sample of the data, and twice the share by which the
            electrons of a cell may be off: above it, it is of another kind of densities. None checks nothing.
        valence: a promolecule whose electrons an element are those of the densities; for weights of dataset rows.
        on_error: ``raise``, or ``skip`` to leave out materials that cannot be read or written.
        max_clipped: the largest share of a material's electrons that may lie above the codec's range; more of
            ``densities`` is refused or left out, as ``on_error`` says.
        max_negative: the same of what lies below the range: negative voxels.
        threads: to read and unpack with; one a processor where None.
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
    max_guess_nmae: float | None = 0.15
    valence: str = "qe-sg15"
    on_error: str = "raise"
    max_clipped: float = MAX_CLIPPED
    max_negative: float = MAX_NEGATIVE
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the data.

        Raises:
            ValueError: both sources or none, or a word that is not known.
        """
        if (self.path is None) == (not self.densities):
            raise ValueError("give data.path (a dataset directory) or data.densities, one of them")
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"data.on_error = {self.on_error!r} is neither raise nor skip")
        check_limits(self.max_clipped, self.max_negative)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"data.seed = {self.seed} must be between 0 and 2**64 - 1")
        if self.path is not None and (self.split_file or self.limit is not None or self.prefix):
            raise ValueError("data.split_file, data.prefix and data.limit belong to data.densities")
        if self.max_guess_nmae is not None and not self.max_guess_nmae > 0:
            raise ValueError(f"data.max_guess_nmae = {self.max_guess_nmae} must be above 0, or null")

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
