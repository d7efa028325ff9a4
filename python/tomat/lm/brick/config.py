"""Sizes of brick models; needs no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tomat.lm.field.config import Shape, changed

#: Voxels along an edge of a brick; points along an edge where the field's sums are taken.
EDGE, POINTS = 4, 2
#: Gaussians of distance from which attention in space has its biases.
GAUSSIANS = 15
#: How positions are told apart: in space, or by their place in the sequence alone.
POSITIONS = ("cartesian", "index")


@dataclass(frozen=True, kw_only=True)
class BrickShape(Shape):
    """The shape of a brick model.

    Attributes:
        bricks: bricks of 4 x 4 x 4 voxels along an edge of a patch.
        atoms: atom images of a patch, those nearest to its centre.
        reach: angstrom from a patch up to which atoms are taken.
        width: of the residual stream.
        layers: of the transformer.
        heads: of attention; ``width / heads`` is a multiple of 6, for pairs along x, y and z.
        hidden: of the feed-forward layers.
        activations: numbers from which the distribution of a voxel is read.
        field: whether the bricks see the field model's sums around points in them, and atoms its states.
        positions: one of :data:`POSITIONS`.
        dropout: share of the changes to the residual stream set to zero in training.
        jitter: standard deviation in angstrom of noise on positions of atoms in training.
        held_out_patches: patches of each validation material.
    """

    section: ClassVar[str] = "model.brick"
    may_be_zero: ClassVar[tuple[str, ...]] = ("dropout", "jitter")

    bricks: int = 3
    atoms: int = 32
    reach: float = 5.0
    width: int = 96
    layers: int = 3
    heads: int = 4
    hidden: int = 192
    activations: int = 64
    field: bool = True
    positions: str = "cartesian"
    dropout: float = 0.1
    jitter: float = 0.02
    held_out_patches: int = 12

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of range; the message names the field.
        """
        super().__post_init__()
        if self.dropout >= 1:
            raise ValueError(f"model.brick.dropout = {self.dropout} must be below 1")
        if self.width % (6 * self.heads):
            raise ValueError(
                f"model.brick.width = {self.width} must be a multiple of 6 heads = {6 * self.heads}: a head turns "
                "pairs of numbers along x, y and z"
            )
        if self.positions not in POSITIONS:
            raise ValueError(
                f"model.brick.positions = {self.positions!r} is not known; one of {', '.join(POSITIONS)}"
            )

    @property
    def edge(self) -> int:
        """Voxels along an edge of a patch."""
        return EDGE * self.bricks

    @property
    def voxels(self) -> int:
        """Voxels of a patch."""
        return self.edge**3

    @property
    def points(self) -> int:
        """Points of a patch where the field's sums are taken."""
        return (POINTS * self.bricks) ** 3

    @property
    def positions_per_patch(self) -> int:
        """Positions of a sequence: bricks, then atoms."""
        return self.bricks**3 + self.atoms


#: Sizes by name.
BRICK_PRESETS: dict[str, BrickShape] = {
    "brick-tiny": BrickShape(),
    "brick-small": BrickShape(width=192, layers=6, heads=8, hidden=512, atoms=48, activations=192),
}


@dataclass(frozen=True)
class BrickConfig:
    """The ``model.brick`` part of a training configuration: a preset and changes to it.

    Attributes:
        preset: a name of :data:`BRICK_PRESETS`.

    All others are as in :class:`BrickShape`; None keeps the preset's.
    """

    preset: str = "brick-tiny"
    bricks: int | None = None
    atoms: int | None = None
    reach: float | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    hidden: int | None = None
    activations: int | None = None
    field: bool | None = None
    positions: str | None = None
    dropout: float | None = None
    jitter: float | None = None
    held_out_patches: int | None = None

    def shape(self) -> BrickShape:
        """The preset with the changes.

        Raises:
            ValueError: an unknown preset or invalid numbers; the message names the field.
        """
        return changed(self, BRICK_PRESETS)
