"""The base class of codecs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, override

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomat import _core
from tomat.material import Unit
from tomat.storage.files import write_atomically


class Codec(_core.DensityCodec):
    """A density codec: from values to token components and back.

    Each kind subclasses it in its own file and is listed in :data:`tomat.codec.KINDS`. A kind of one token per voxel
    that ascends with the value needs no Rust: it gives the core its bins, as :class:`tomat.LloydMaxCodec` does.
    """

    #: Name of the kind in ``meta.json``.
    kind: ClassVar[str]
    #: Suffix of its files.
    suffix: ClassVar[str]
    #: Whether it holds differences from a starting density, and encodes and decodes only where that is given.
    needs_guess: ClassVar[bool] = False
    #: Bundled name, or stem of the file.
    name: str = "codec"

    @classmethod
    def knows(cls, name: str) -> bool:
        """Whether :meth:`load` accepts this name, path or URL."""
        raise NotImplementedError

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A codec by name, path or URL.

        Raises:
            KeyError: an unknown name.
            OSError: the file cannot be read.
            ValueError: the file is not a codec of this kind.
        """
        raise NotImplementedError

    @classmethod
    def from_parameters(cls, stored: Mapping[str, Any]) -> Self:
        """From :attr:`parameters`, as stored in ``meta.json``.

        Raises:
            ValueError: invalid parameters, or a kind that is stored only in files.
        """
        raise ValueError(f"a codec of kind {cls.kind} is stored in its own file, which is missing")

    def to_bytes(self) -> bytes:
        """The content of the file that :meth:`save` writes."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the codec to a file for :func:`tomat.load_codec`; the bytes depend on the codec alone."""
        write_atomically(path, self.to_bytes())

    @property
    def unit(self) -> Unit | None:
        """The unit of the densities it was made for; None if it takes either."""
        return None

    @property
    def guess(self) -> str | None:
        """Name of the starting density it was fitted with; None if it needs none, or that is not known."""
        return None

    @property
    def parameters(self) -> dict[str, Any] | None:
        """Parameters that define it completely; None if that takes its file."""
        return None

    @property
    def meta(self) -> dict[str, Any]:
        """Its description in ``meta.json`` of a dataset."""
        return {"kind": self.kind, **(self.parameters or {})}

    @property
    def facts(self) -> dict[str, Any]:
        """Facts to show to users: ``unit`` and ``range`` as text, then the rest."""
        raise NotImplementedError

    @property
    def file_name(self) -> str:
        """Name of its file in a run or dataset."""
        return f"codec{self.suffix}"

    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        """The bins of a codec with one component, in ascending order of value.

        Returns:
            (n + 1,) bin edges; (n,) the component of each bin, or None if components are in order.
        """
        raise NotImplementedError

    def outside_bin(self, values: NDArray[np.float64], decoded: NDArray[np.float64]) -> int:
        """The number of values outside the bin of their decoded value, computed with NumPy."""
        raise NotImplementedError

    @override
    def encode(self, values: ArrayLike) -> NDArray[np.int32]:
        """Components of ``values`` (n,), float32 or float64, as int32 (n, k); k is 1 for Lloyd-Max codecs.

        Raises:
            ValueError: a value is NaN.
        """
        return super().encode(_float_vector(values))

    @override
    def decode(self, components: ArrayLike) -> NDArray[np.float64]:
        """Values, float64 (n,), of components (n, k).

        Raises:
            IndexError: a component outside its range; the message names the row.
            ValueError: not k columns.
        """
        return super().decode(_component_matrix(components, len(self.sizes)))

    @override
    def unit_for(self, stated: str | None = None) -> Unit:
        """The unit of the values it encodes: its own, or for a log codec ``stated``, by default ``chgcar``.

        Raises:
            KeyError: an unknown unit.
            ValueError: a unit that is not the codec's own.
        """
        try:
            unit = super().unit_for(stated)
        except ValueError as error:
            raise ValueError(f"codec {self.name} {error}") from error
        return "chgcar" if unit == "chgcar" else "e_per_A3"

    @override
    def clipping(self, values: ArrayLike) -> tuple[int, float, float, float, float, int] | None:
        """What is clipped of ``values`` (n,), those outside :attr:`range`; None if nothing. See :mod:`tomat.clipping`.

        Returns:
            The number of values clipped, the sums clipped above and below the range, the sum of ``|v|`` over all
            values, the value that loses most, and its index.

        Raises:
            ValueError: a value is NaN.
        """
        return super().clipping(_float_vector(values))

    def clips(self, values: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Where ``values`` (any shape) lie outside the range; ``guess`` as for :meth:`roundtrip`."""
        array = np.asarray(values)
        low, high = self.range
        outside: NDArray[np.bool_] = (array < low) | (array > high)
        return outside

    def roundtrip(self, values: ArrayLike, guess: ArrayLike | None = None) -> NDArray[np.float64]:
        """``values`` (any shape) encoded and decoded, float64.

        Args:
            values: densities in the codec's unit.
            guess: starting density at the same points and in the same unit, for codecs that need one.

        Raises:
            ValueError: a value is NaN, or the codec needs a starting density and has none.
        """
        array = np.asarray(values)
        return self.decode(self.encode(array.ravel())).reshape(array.shape)


def _float_vector(values: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"values have shape {array.shape}; give one axis (array.ravel())")
    return as_floats(array)


def as_floats(array: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float64]:
    """A contiguous array as the core takes it: float32 if that holds the numbers, else float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=np.float64)


def _component_matrix(components: ArrayLike, k: int) -> NDArray[np.int32]:
    array = np.asarray(components)
    if array.ndim != 2 or array.shape[1] != k:
        raise ValueError(f"components have shape {array.shape}; give (n, {k})")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"components have dtype {array.dtype}; give integers")
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise IndexError(f"components from {array.min()} to {array.max()} do not fit int32")
    return np.ascontiguousarray(array, dtype=np.int32)
