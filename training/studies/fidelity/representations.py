"""Representations of a density: their number of tokens, and the density they give back.

How tokens are counted. A real number that keeps its float32 precision counts as one token (no vocabulary
holds it: such rows show what a way of writing loses before any codec), one through a codec as many as the
codec has components. An unsigned codec on numbers of either sign takes one token more, for the sign. Where
the reader can work out which numbers were kept, positions cost nothing: every voxel in order, every G by
its length, a coarse grid by its shape. A voxel cutoff depends on the density itself, so each voxel kept
takes two tokens: which one, and its value. The crystal (lattice, elements, positions) is known to the
reader in all of them and not counted; a promolecule comes from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.studies.fidelity.fourier import Spectrum, coarse_shape, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.codec import Codec
    from tomat.material import Material


@dataclass(frozen=True, eq=False)
class Field:
    """The field to represent: a density, or its difference from a promolecule.

    Attributes:
        values: (nx, ny, nz) float64.
        unit: of the values, ``chgcar`` or ``e_per_A3``.
        lattice: (3, 3) rows a, b, c in angstrom.
        volume: of the cell in cubic angstrom.
        signed: whether both signs are expected; a density's few negative voxels do not make it so.
    """

    values: NDArray[np.float64]
    unit: str
    lattice: NDArray[np.float64]
    volume: float
    signed: bool

    @classmethod
    def of(cls, material: Material, reference: NDArray[np.float64] | None = None) -> Field:
        """The density of ``material``, or its difference from ``reference`` (same grid and unit)."""
        values = material.density.astype(np.float64)
        if reference is not None:
            values -= reference
        return cls(values, material.unit, material.lattice, material.volume, reference is not None)

    def per(self, unit: str) -> float:
        """The factor from the field's unit to ``unit``."""
        if unit == self.unit:
            return 1.0
        return self.volume if unit == "chgcar" else 1.0 / self.volume


@dataclass(frozen=True, eq=False)
class Written:
    """A decoded field (nx, ny, nz) float64, and the number of real numbers and tokens it needs."""

    values: NDArray[np.float64]
    numbers: int
    tokens: int


type Writer = Callable[[float], Written]


@dataclass(frozen=True, eq=False)
class Representation:
    """A representation of fields, and the values of its parameter to try.

    Attributes:
        name: what tables call it, with its codec.
        family: without its codec.
        codec: the codec's name, or None where numbers stay float32.
        parameter: what the parameter is, with its unit; empty for a way that has none.
        parameters: its values; (nan,) for a way that has none.
        prepare: does once for a field what all parameters share, and gives the function from a parameter to
            what is read back.
    """

    name: str
    family: str
    codec: str | None
    parameter: str
    parameters: tuple[float, ...]
    prepare: Callable[[Field], Writer]


@dataclass(frozen=True, eq=False)
class Quantiser:
    """A codec and the unit its values are in."""

    name: str
    codec: Codec
    unit: str

    @classmethod
    def of(cls, codec: Codec, unit: str) -> Quantiser:
        """A codec; ``unit`` is for log codecs, a fitted one knows its own."""
        return cls(codec.name, codec, codec.unit_for(codec.unit or unit))

    def through(
        self, numbers: NDArray[np.float64], factor: float, *, signed: bool
    ) -> tuple[NDArray[np.float64], int]:
        """``numbers`` (n,) encoded and decoded, and the tokens taken; ``factor`` leads to the codec's unit."""
        scaled = (numbers * factor).astype(np.float32)
        tokens = len(numbers) * len(self.codec.sizes)
        if signed and not self._takes_signs():
            decoded = np.sign(scaled) * self.codec.decode(self.codec.encode(np.abs(scaled)))
            tokens += len(numbers)
        else:
            decoded = self.codec.decode(self.codec.encode(scaled))
        return np.asarray(decoded / factor, dtype=np.float64), tokens

    def _takes_signs(self) -> bool:
        """Whether its range is symmetric about zero; a few bins for negative voxels do not suffice for differences."""
        low, high = self.codec.decode(self.codec.encode(np.array([-np.inf, np.inf])))
        return bool(low <= -high)


def _stored(
    field: Field, numbers: NDArray[np.float64], quantiser: Quantiser | None, *, signed: bool
) -> tuple[NDArray[np.float64], int]:
    """Numbers in the field's unit as stored in float32 or by a codec, and the number of tokens."""
    if quantiser is None:
        return numbers.astype(np.float32).astype(np.float64), len(numbers)
    return quantiser.through(numbers, field.per(quantiser.unit), signed=signed)


def _named(family: str, quantiser: Quantiser | None) -> tuple[str, str, str | None]:
    if quantiser is None:
        return family, family, None
    return f"{family} {quantiser.name}", family, quantiser.name


def direct(quantiser: Quantiser | None = None) -> Representation:
    """Every voxel in order: voxels tokens, times the components of a codec."""

    def prepare(field: Field) -> Writer:
        def write(_: float) -> Written:
            values, tokens = _stored(field, field.values.ravel(), quantiser, signed=field.signed)
            return Written(values.reshape(field.values.shape), field.values.size, tokens)

        return write

    return Representation(*_named("direct", quantiser), "", (np.nan,), prepare)


def voxel_cutoff(by: str, parameters: tuple[float, ...]) -> Representation:
    r"""The voxels of largest \|value\|, the others zero; two tokens each.

    For a density the NMAE is the share of \|density\| dropped.

    Args:
        by: ``fraction`` of the voxels kept; ``threshold``, \|value\| of at least so many e/A^3; ``mass``,
        as few voxels
            as hold this share of the sum of \|value\|.
        parameters: values to try.

    Raises:
        ValueError: another ``by``.
    """
    names = {
        "fraction": "fraction of voxels",
        "threshold": "threshold, e/A^3",
        "mass": "share of mass",
    }
    if by not in names:
        raise ValueError(f"cutoff by {by!r}: choose one of {', '.join(names)}")

    def prepare(field: Field) -> Writer:
        flat = field.values.ravel()
        size = np.abs(flat)
        order = np.argsort(-size, kind="stable")
        descending = size[order]
        mass = np.cumsum(descending)

        def count(parameter: float) -> int:
            if by == "fraction":
                return round(parameter * len(flat))
            if by == "threshold":
                least = parameter / field.per("e_per_A3")
                return int(np.searchsorted(-descending, -least, side="right"))
            if mass[-1] == 0.0:
                return 0
            return min(int(np.searchsorted(mass, parameter * mass[-1])) + 1, len(flat))

        def write(parameter: float) -> Written:
            kept = order[: count(parameter)]
            values = np.zeros_like(flat)
            values[kept] = flat[kept].astype(np.float32)
            return Written(values.reshape(field.values.shape), len(kept), 2 * len(kept))

        return write

    family = f"cutoff {by}"
    return Representation(family, family, None, names[by], parameters, prepare)


def fourier(by: str, parameters: tuple[float, ...], quantiser: Quantiser | None = None) -> Representation:
    r"""The Fourier coefficients of lowest \|G\|, of G and -G one; as many real numbers as coefficients.

    Args:
        by: ``g_max``, \|G\| up to so many 1/A (2 pi included); ``fraction``, whole shells of \|G\| up to
        this share of the
            coefficients.
        parameters: values to try.
        quantiser: codec of the real numbers; None keeps float64, so that nothing but the cutoff is lost.

    Raises:
        ValueError: another ``by``.
    """
    names = {"g_max": "largest |G|, 1/A", "fraction": "fraction of coefficients"}
    if by not in names:
        raise ValueError(f"Fourier cutoff by {by!r}: choose one of {', '.join(names)}")

    def prepare(field: Field) -> Writer:
        spectrum = Spectrum.of(field.values, field.lattice)

        def write(parameter: float) -> Written:
            kept = spectrum.below(parameter) if by == "g_max" else spectrum.lowest(parameter)
            numbers = spectrum.numbers(kept)
            tokens = len(numbers)
            if quantiser is not None:
                numbers, tokens = _stored(field, numbers, quantiser, signed=True)
            return Written(spectrum.grid(kept, numbers), len(numbers), tokens)

        return write

    family = "fourier" if by == "g_max" else "fourier fraction"
    return Representation(*_named(family, quantiser), names[by], parameters, prepare)


def downsampled(parameters: tuple[float, ...], quantiser: Quantiser | None = None) -> Representation:
    """Values on a coarser grid, read back by trigonometric interpolation.

    The field is cut to the frequencies the coarse grid holds before it is sampled there, which has the least
    squared error; plain skipping of points would fold what is above into what is below.

    Args:
        parameters: factors by which each axis shrinks.
        quantiser: codec of the coarse values; None keeps float64.
    """

    def prepare(field: Field) -> Writer:
        def write(parameter: float) -> Written:
            coarse = resample(field.values, coarse_shape(field.values.shape, parameter))
            numbers, tokens = coarse.ravel(), coarse.size
            if quantiser is not None:
                numbers, tokens = _stored(field, numbers, quantiser, signed=field.signed)
            values = resample(numbers.reshape(coarse.shape), field.values.shape)
            return Written(values, coarse.size, tokens)

        return write

    return Representation(*_named("downsample", quantiser), "factor an axis", parameters, prepare)
