"""The tokenizer: from patches of a density to rows of token ids, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import _core
from tomat.codec import LOG_CODECS, Codec, load_codec
from tomat.codec.base import as_floats
from tomat.material import Material, Unit

__all__ = [
    "FALLBACK_SHAPES",
    "LAYOUTS",
    "PAD_TO",
    "Layout",
    "Patch",
    "PatchTokenizer",
    "TokenizerConfig",
    "Vocabulary",
]

#: The default length of a row, in tokens.
PAD_TO = _core.PAD_TO
#: Maximum of tokens per row and of grid points per axis of a patch: the largest int32.
_LARGEST = 2**31 - 1

#: The patch shapes tried, in order, where the default cube does not fit a row.
FALLBACK_SHAPES = _core.FALLBACK_SHAPES

Vocabulary = _core.Vocabulary
Patch = _core.Patch


@dataclass(frozen=True)
class Layout:
    """A layout of rows and its defaults; docs/format.md defines them."""

    name: str
    vocabulary: str
    patch_size: int
    patches_per_material: int
    default_codec: str


#: All layouts, by name.
LAYOUTS: dict[str, Layout] = {row[0]: Layout(*row) for row in _core.layouts()}


@dataclass(frozen=True)
class TokenizerConfig:
    """The configuration of a tokenizer, part of the configurations of runs.

    Attributes:
        layout: ``v1``, ``v2``, ``v2-lat`` or ``v3``.
        codec: name, path or URL of the density codec; the layout's default if None.
        patch_size: edge of the patch in grid points; the layout's default if None.
        pad_to: tokens per row.
        fallback_shapes: patch shapes tried in order where the cube does not fit a row.
        unit: unit that log codecs encode, ``chgcar`` (the default) or ``e_per_A3``. Lloyd-Max codecs have their own,
            and another one is an error.

    Raises:
        KeyError: an unknown layout.
    """

    layout: str = "v3"
    codec: str | None = None
    patch_size: int | None = None
    pad_to: int = PAD_TO
    fallback_shapes: tuple[tuple[int, int, int], ...] = FALLBACK_SHAPES
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise KeyError(f"unknown layout {self.layout!r}; known: {', '.join(LAYOUTS)}")

    @cached_property
    def tokenizer(self) -> PatchTokenizer:
        """The tokenizer of this configuration.

        Raises:
            KeyError, OSError, ValueError: as :class:`PatchTokenizer` and :func:`tomat.load_codec`.
        """
        return PatchTokenizer(
            self.layout, self.codec, self.patch_size, self.pad_to, self.fallback_shapes, self.unit
        )


class PatchTokenizer:
    """Writes and reads rows of one layout with one density codec.

    Args:
        layout: ``v1``, ``v2``, ``v2-lat`` or ``v3``.
        density_codec: a codec, or its name, path or URL; the layout's default if None.
        patch_size: edge of the cubic patch in grid points; the layout's default if None (14, or 19 for v3).
        pad_to: tokens per row.
        fallback_shapes: patch shapes tried in order where the cube does not fit a row.
        unit: of the densities, ``chgcar`` or ``e_per_A3``. A Lloyd-Max codec has its own, and another one is an error;
            for a log codec, ``chgcar`` if None.

    Raises:
        KeyError: an unknown layout, codec or unit.
        ValueError: sizes out of range, a unit that is not the codec's, or a codec relative to a starting density.
    """

    def __init__(
        self,
        layout: str,
        density_codec: Codec | str | Path | None = None,
        patch_size: int | None = None,
        pad_to: int = PAD_TO,
        fallback_shapes: Iterable[Sequence[int]] = FALLBACK_SHAPES,
        unit: str | None = None,
    ) -> None:
        if density_codec is None:
            density_codec = LAYOUTS[layout].default_codec if layout in LAYOUTS else LOG_CODECS[0]
        codec = density_codec if isinstance(density_codec, Codec) else load_codec(density_codec)
        if codec.needs_guess:
            raise ValueError(
                f"codec {codec.name} is relative to a starting density, which rows of tokens do not hold; take a codec "
                "of densities (tomat codec list)"
            )
        shapes = [_triple(shape, "fallback shape") for shape in fallback_shapes]
        for name, value in (("patch_size", patch_size), ("pad_to", pad_to)):
            if value is not None and not 1 <= value <= _LARGEST:
                raise ValueError(f"{name} = {value} must be at least 1, and at most {_LARGEST}")
        self.unit: Unit = codec.unit_for(unit)
        self._core = _core.Tokenizer(layout, codec, patch_size, pad_to, shapes, self.unit)
        self.layout = LAYOUTS[layout]
        self.density_codec: Codec = codec
        self.pad_to = pad_to
        self.fallback_shapes = tuple(shapes)

    @property
    def patch_size(self) -> int:
        """Edge of the default patch, in grid points."""
        return self._core.patch_size

    @property
    def identity(self) -> dict[str, Any]:
        """Everything its rows depend on, for JSON: sizes, unit, and hashes of codec and vocabulary."""
        return {
            "layout": self.layout.name,
            "patch_size": self.patch_size,
            "pad_to": self.pad_to,
            "fallback_shapes": [list(shape) for shape in self.fallback_shapes],
            "unit": self.unit,
            "codec_hash": self.density_codec.hash,
            "vocabulary_hash": self.vocabulary.hash,
        }

    @property
    def vocabulary(self) -> Vocabulary:
        """The meaning of the ids: ``total_size``, ``density_range``, ``specials``, ``name(id)``, ``hash``."""
        return self._core.vocabulary

    def encode(
        self,
        density: ArrayLike,
        lattice: ArrayLike,
        atomic_numbers: ArrayLike,
        frac_coords: ArrayLike,
        offsets: ArrayLike,
    ) -> NDArray[np.int32]:
        """Rows of the patches at ``offsets``.

        Args:
            density: (nx, ny, nz), float32 or float64, in :attr:`unit`.
            lattice: (6,) a, b, c in angstrom and alpha, beta, gamma in degrees, or (3, 3) rows a, b, c in angstrom.
            atomic_numbers: (n,) 1 to 118.
            frac_coords: (n, 3) fractional coordinates.
            offsets: (m, 3) grid points, the low corners of the patches.

        Returns:
            int32 (m, pad_to), padded with 0 on the right.

        Raises:
            ValueError: arrays that do not fit together, values that are not finite, offsets outside the grid, or a
                material the layout cannot represent (grid axis above 1023, lattice out of range, too many atoms).
        """
        return self._core.encode(
            _density_grid(density),
            lattice_parameters(lattice),
            _atomic_numbers(atomic_numbers),
            _matrix(frac_coords, np.float64, "fractional coordinates"),
            _matrix(offsets, np.int64, "offsets"),
        )

    def encode_material(self, material: Material, offsets: ArrayLike) -> NDArray[np.int32]:
        """Rows of the patches of ``material`` at ``offsets`` (m, 3), its density converted to :attr:`unit`.

        Raises:
            ValueError: as :meth:`encode`.
        """
        density = material.in_unit(self.unit).density
        return self.encode(density, material.lattice, material.atomic_numbers, material.frac_coords, offsets)

    def decode(self, ids: ArrayLike) -> Patch:
        """The patch in a row of token ids (length,), with or without padding.

        Raises:
            ValueError: not a sequence of this layout; the message names the block and the position.
        """
        return self._core.decode(_row(ids))

    def show(self, ids: ArrayLike) -> list[str]:
        """The row in printed form, one name per token, without padding.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        return self._core.show(_row(ids))

    def check_rows(self, ids: ArrayLike, offsets: ArrayLike) -> list[tuple[int, str]]:
        """Index and problem of each of the rows (n, length) that does not decode.

        In layouts with an OFFSET block, it must equal ``offsets`` (n, 3).

        Raises:
            ValueError: arrays that do not fit together.
        """
        rows = np.ascontiguousarray(ids, dtype=np.int32)
        if rows.ndim != 2:
            raise ValueError(f"rows have shape {rows.shape}; give (n, length)")
        return self._core.check_rows(rows, _matrix(offsets, np.int64, "offsets"))

    def check(self, grid_shape: Sequence[int], lattice: ArrayLike, n_atoms: int) -> None:
        """Check that a material can be written, without its density; ``lattice`` as for :meth:`encode`.

        Raises:
            ValueError: a grid axis above 1023, a lattice out of range, too many atoms for a row.
        """
        self._core.check(_triple(grid_shape, "grid shape"), lattice_parameters(lattice), n_atoms)

    def refusal(
        self, grid_shape: Sequence[int], lattice: ArrayLike | None, n_atoms: int
    ) -> tuple[str, str] | None:
        """Why a material cannot be written whatever its density: the reason as in ``meta.json``, and a message.

        ``lattice`` is as for :meth:`encode`, or None if unknown. None if the material can be written.
        """
        x, y, z = (int(n) for n in grid_shape)
        parameters = None if lattice is None else lattice_parameters(lattice)
        return self._core.refusal((x, y, z), parameters, n_atoms)

    def density_ids(self, values: ArrayLike) -> NDArray[np.int32]:
        """The density token ids of ``values`` (any shape, in row-major order), in :attr:`unit`.

        Returns:
            int32 (n * k,): the k tokens of each of the n values in turn.

        Raises:
            ValueError: a value is NaN.
        """
        components = self.density_codec.encode(np.asarray(values, dtype=np.float32).ravel())
        ids: NDArray[np.int32] = (components + self._component_starts).ravel()
        return ids

    def density_values(self, ids: ArrayLike) -> NDArray[np.float64]:
        """The values (n,) of density token ids (n * k,), the inverse of :meth:`density_ids`.

        Raises:
            IndexError: an id that is not a density token of its component.
            ValueError: the number of ids is not a multiple of k.
        """
        words = np.asarray(ids, dtype=np.int32).reshape(-1, len(self.density_codec.sizes))
        return self.density_codec.decode(words - self._component_starts)

    @cached_property
    def _component_starts(self) -> NDArray[np.int32]:
        """(k,) the first id of each component; their ranges are contiguous (docs/format.md)."""
        first = self.vocabulary.density_range[0]
        return (first + np.cumsum([0, *self.density_codec.sizes[:-1]])).astype(np.int32)

    def length(self, n_atoms: int, patch_shape: Sequence[int] | None = None) -> int:
        """Tokens of a sequence, from BOS to EOS; ``patch_shape`` defaults to the cube.

        Raises:
            ValueError: an invalid patch shape.
        """
        if n_atoms < 0:
            raise ValueError(f"n_atoms = {n_atoms} must not be negative")
        shape = None if patch_shape is None else _triple(patch_shape, "patch shape")
        return self._core.length(n_atoms, shape)

    def shape_for(self, n_atoms: int) -> tuple[int, int, int]:
        """The patch shape for ``n_atoms``: the cube, or the first fallback that fits a row.

        Raises:
            ValueError: none fits.
        """
        if n_atoms < 0:
            raise ValueError(f"n_atoms = {n_atoms} must not be negative")
        x, y, z = self._core.shape_for(n_atoms)
        return x, y, z

    def __reduce__(self) -> tuple[Any, ...]:
        sizes = (self.patch_size, self.pad_to, self.fallback_shapes)
        return PatchTokenizer, (self.layout.name, self.density_codec, *sizes, self.unit)

    def __repr__(self) -> str:
        return (
            f"PatchTokenizer({self.layout.name!r}, {self.density_codec!r}, patch_size={self.patch_size}, "
            f"pad_to={self.pad_to}, fallback_shapes={self.fallback_shapes}, unit={self.unit!r})"
        )


def lattice_parameters(lattice: ArrayLike) -> list[float]:
    """``[a, b, c, alpha, beta, gamma]`` in angstrom and degrees, from those six or a 3 x 3 matrix of rows a, b, c.

    Raises:
        ValueError: another shape, or a matrix that spans no volume.
    """
    array = np.asarray(lattice, dtype=np.float64)
    if array.shape == (6,):
        return [float(x) for x in array]
    if array.shape != (3, 3):
        raise ValueError(
            f"lattice has shape {array.shape}; give (6,) a, b, c, alpha, beta, gamma or a (3, 3) matrix of rows"
        )
    return _core.lattice_parameters(array)


def _density_grid(density: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    array = np.asarray(density)
    if array.ndim != 3:
        raise ValueError(f"density has shape {array.shape}; give three axes (nx, ny, nz)")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"density has dtype {array.dtype}; give real numbers")
    return as_floats(array)


def _atomic_numbers(values: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"atomic numbers have shape {array.shape} and dtype {array.dtype}; give (n,) integers"
        )
    if array.size and (array.min() < 1 or array.max() > 118):
        raise ValueError(f"atomic numbers from {array.min()} to {array.max()}; elements are 1 to 118")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _matrix[T: np.generic](values: ArrayLike, dtype: type[T], what: str) -> NDArray[T]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.reshape(0, 3)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{what} have shape {array.shape}; give (n, 3)")
    if dtype is np.int64 and array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{what} have dtype {array.dtype}; give integers")
    return np.ascontiguousarray(array, dtype=dtype)


def _row(ids: ArrayLike) -> NDArray[np.int32]:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"token ids have shape {array.shape} and dtype {array.dtype}; give (length,) integers"
        )
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise ValueError(f"token ids from {array.min()} to {array.max()} do not fit int32")
    return np.ascontiguousarray(array, dtype=np.int32)


def _triple(shape: Sequence[int], what: str) -> tuple[int, int, int]:
    numbers = tuple(int(n) for n in shape)
    if len(numbers) != 3 or any(not 1 <= n <= _LARGEST for n in numbers):
        raise ValueError(f"{what} {tuple(shape)} is not three numbers above zero, at most {_LARGEST}")
    return numbers[0], numbers[1], numbers[2]
