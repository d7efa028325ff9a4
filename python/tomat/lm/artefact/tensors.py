"""Weights as an artefact holds them: an encoding by name, and bytes; NumPy only.

``float32`` is the weight itself. ``float16`` and ``bfloat16`` have two bytes a number. ``int2`` to ``int8`` are a
matrix: the scales of its rows as bfloat16, then its integers, packed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomat.lm.artefact.bits import pack, packed_size, unpack
from tomat.lm.artefact.rounding import BITS, Rounded, as_bfloat16

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Encodings of matrices, the best first.
ENCODINGS = ("float32", "bfloat16", *(f"int{bits}" for bits in reversed(BITS)))
#: Bytes a number of the encodings that have no scales.
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Tensor:
    """One weight as it is stored.

    Attributes:
        name: of the weight.
        shape: of the weight.
        encoding: see this module.
        rows: the axis of a quantised matrix along which scales differ; 0 of other weights.
        data: the bytes.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    rows: int
    data: bytes

    @property
    def about(self) -> dict[str, Any]:
        """Everything but the bytes, with their number and SHA-256, as JSON."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "encoding": self.encoding,
            "rows": self.rows,
            "bytes": len(self.data),
            "sha256": hashlib.sha256(self.data).hexdigest(),
        }

    def decoded(self) -> NDArray[np.float32]:
        """The weight, float32.

        Raises:
            ValueError: the bytes are not those of such a weight.
        """
        if len(self.data) != stored_size(self.encoding, self.shape, self.rows):
            raise ValueError(f"weight {self.name} has {len(self.data)} bytes, which is not what it takes")
        if self.encoding in _WIDTHS:
            return _floats(self.data, self.encoding).reshape(self.shape)
        bits = int(self.encoding.removeprefix("int"))
        count, n = math.prod(self.shape), self.shape[self.rows]
        scales = _floats(self.data[: 2 * n], "bfloat16")
        integers = unpack(self.data[2 * n :], bits, count).reshape(n, -1)
        weights = Rounded(integers, scales, bits).weights
        return np.ascontiguousarray(weights if self.rows == 0 else weights.T)


def stored_size(encoding: str, shape: tuple[int, ...], rows: int) -> int:
    """Bytes of a weight.

    Raises:
        ValueError: an unknown encoding, or integers for what is no matrix.
    """
    count = math.prod(shape)
    if encoding in _WIDTHS:
        return _WIDTHS[encoding] * count
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r} is not known; update tomat")
    if len(shape) != 2 or rows not in (0, 1):
        raise ValueError(f"a weight of shape {shape} cannot be {encoding}")
    return 2 * shape[rows] + packed_size(int(encoding.removeprefix("int")), count)


def plain(name: str, weight: NDArray[np.float32], encoding: str) -> Tensor:
    """A weight as ``float32``, ``float16`` or ``bfloat16``."""
    exact = np.ascontiguousarray(weight, np.float32)
    if encoding == "bfloat16":
        data = (as_bfloat16(exact).view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = exact.astype({"float32": "<f4", "float16": "<f2"}[encoding]).tobytes()
    return Tensor(name, weight.shape, encoding, 0, data)


def of_vector(name: str, weight: NDArray[np.float32]) -> Tensor:
    """A norm or bias in half precision; as it is where a number of it is beyond that."""
    fits = not weight.size or float(np.abs(weight).max()) < float(np.finfo(np.float16).max)
    return plain(name, weight, "float16" if fits else "float32")


def of_rounded(name: str, rounded: Rounded, rows: int) -> Tensor:
    """A quantised matrix, whose rows are along axis ``rows`` of the weight."""
    shape = rounded.integers.shape if rows == 0 else rounded.integers.shape[::-1]
    scales = plain("", rounded.scales, "bfloat16").data
    return Tensor(name, shape, f"int{rounded.bits}", rows, scales + pack(rounded.integers, rounded.bits))


def _floats(data: bytes, encoding: str) -> NDArray[np.float32]:
    if encoding == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(data, {"float32": "<f4", "float16": "<f2"}[encoding]).astype(np.float32)
