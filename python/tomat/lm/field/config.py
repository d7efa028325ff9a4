"""Sizes of field models: presets and changes to them; needs no JAX."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Largest angular momentum of the core's sums.
MAX_L = 3
#: Sums of :mod:`tomat.lm.field.descriptors`.
N_DESCRIPTORS = 6
#: Factors that bring weights and sums to a size of about 1.
OF_WEIGHTS, OF_SUMS = 0.5, 0.5


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a model: numbers, tuples of numbers, words and switches.

    Attributes:
        section: part of a training configuration that tells it.
        may_be_zero: fields that need not be above 0.
    """

    section: ClassVar[str]
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of range; the message names the field.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else () if isinstance(value, str | bool) else (value,)
            least = 0.0 if field.name in self.may_be_zero else 1e-6
            if value == () or not all(math.isfinite(v) and v >= least for v in values):
                raise ValueError(f"{self.section}.{field.name} = {value} must be above 0")

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the output of :meth:`to_json`.

        Raises:
            TypeError, ValueError: unknown fields or invalid numbers.
        """
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items()}
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class FieldShape(Shape):
    """The shape of a field model, and of the rows it is trained on.

    Attributes:
        cutoff: angstrom up to which atoms are seen.
        inner: angstrom around which the radial functions are densest.
        radial: radial functions (cubic B-splines in ln(1 + r^2 / inner^2)).
        core: angstrom within which the angular functions are damped.
        state: width of the state of an atom.
        channels: sums of each l, from 0 up; their number less one is the largest l.
        rounds: how often atoms see their neighbours' states.
        embedding, message: hidden widths of the maps from features to states, and of the update of a state.
        mlp: hidden widths of the map from sums to distributions at a voxel.
        descriptors: whether voxels also see smoothed densities and potentials of the promolecule, see
            :mod:`tomat.lm.field.descriptors`; older models do not.
        head: distribution over the codec's levels, a name of :data:`tomat.lm.field.head.HEADS`.
        feature_noise: standard deviation of noise on the features of elements in training.
        feature_dropout: share of these features that are set to zero in training.
        sites_per_row, crystals_per_row: largest numbers of atoms and crystals in a training row.
        voxels_per_crystal: voxels of each crystal in a row.
        points_per_material: voxels drawn of each training material, once.
        held_out_points: voxels drawn of each validation material.
    """

    section: ClassVar[str] = "model.field"
    may_be_zero: ClassVar[tuple[str, ...]] = ("rounds", "feature_noise", "feature_dropout")

    cutoff: float = 5.0
    inner: float = 0.5
    radial: int = 18
    core: float = 0.3
    state: int = 48
    channels: tuple[int, ...] = (64, 24, 16, 8)
    rounds: int = 2
    embedding: int = 64
    message: int = 96
    mlp: tuple[int, ...] = (128, 128)
    head: str = "logistics"
    descriptors: bool = False
    feature_noise: float = 0.3
    feature_dropout: float = 0.3
    sites_per_row: int = 48
    crystals_per_row: int = 16
    voxels_per_crystal: int = 64
    points_per_material: int = 5000
    held_out_points: int = 1500

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of range; the message names the field.
        """
        super().__post_init__()
        if len(self.channels) > MAX_L + 1:
            raise ValueError(
                f"model.field.channels = {self.channels} has {len(self.channels)} numbers; give at most {MAX_L + 1}, "
                f"for l = 0 to {MAX_L}"
            )

    @property
    def l_max(self) -> int:
        """The largest angular momentum."""
        return len(self.channels) - 1

    @property
    def width(self) -> int:
        """Sums of all l together."""
        return sum(self.channels)

    @property
    def functions(self) -> int:
        """Radial functions, with the atom's share of the promolecule."""
        return self.radial + 1

    @property
    def fixed(self) -> int:
        """Sums of l = 0 at a voxel whose weights are not learned."""
        return N_DESCRIPTORS if self.descriptors else 0

    @property
    def sums(self) -> tuple[int, ...]:
        """Sums of each l at a voxel, the fixed ones behind the others."""
        return (self.channels[0] + self.fixed, *self.channels[1:])


#: Sizes by name: 0.4, 1.3 and 8 million parameters. ``field-tiny`` is for laptops.
FIELD_PRESETS: dict[str, FieldShape] = {
    # With the six fixed sums, those of l = 0 fill eight registers of eight.
    "field-tiny": FieldShape(channels=(58, 24, 16, 8), descriptors=True),
    "field-small": FieldShape(
        state=96, channels=(96, 48, 24, 12), embedding=128, message=192, mlp=(256, 256), descriptors=True
    ),
    "field-base": FieldShape(
        state=256,
        channels=(192, 96, 48, 24),
        rounds=3,
        embedding=256,
        message=512,
        mlp=(512, 512, 512),
        descriptors=True,
        sites_per_row=256,
        crystals_per_row=64,
        voxels_per_crystal=32,
    ),
}


class Preset(Protocol):
    """A part of a configuration that names a preset."""

    @property
    def preset(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class FieldConfig:
    """The ``model.field`` part of a training configuration: a preset and changes to it.

    In a file, ``true`` stands for ``{tokens: true}``.

    Attributes:
        preset: a name of :data:`FIELD_PRESETS`.
        tokens: whether a transformer's tokens see what a field model sees at their places.

    All others are as in :class:`FieldShape`; None keeps the preset's.
    """

    preset: str = "field-tiny"
    tokens: bool = False
    cutoff: float | None = None
    inner: float | None = None
    radial: int | None = None
    core: float | None = None
    state: int | None = None
    channels: tuple[int, ...] | None = None
    rounds: int | None = None
    embedding: int | None = None
    message: int | None = None
    mlp: tuple[int, ...] | None = None
    head: str | None = None
    descriptors: bool | None = None
    feature_noise: float | None = None
    feature_dropout: float | None = None
    sites_per_row: int | None = None
    crystals_per_row: int | None = None
    voxels_per_crystal: int | None = None
    points_per_material: int | None = None
    held_out_points: int | None = None

    def shape(self) -> FieldShape:
        """The preset with the changes.

        Raises:
            ValueError: an unknown preset or invalid numbers; the message names the field.
        """
        return changed(self, FIELD_PRESETS)


def changed[Of: Shape](config: Preset, presets: Mapping[str, Of]) -> Of:
    """The preset of a part of a configuration, with those fields of ``config`` that are not None.

    Raises:
        ValueError: an unknown preset or invalid numbers; the message names the field.
    """
    if config.preset not in presets:
        section = next(iter(presets.values())).section
        raise ValueError(f"{section}.preset = {config.preset!r} is not known; one of {', '.join(presets)}")
    shape = presets[config.preset]
    names = (field.name for field in dataclasses.fields(shape))
    changes = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    return dataclasses.replace(shape, **changes)
