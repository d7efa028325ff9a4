"""Small integers packed without unused bits; NumPy only.

An integer of ``bits`` bits is cut into pieces of 8, 4, 2 or 1 bits, high ones first (6 = 4 + 2), and the pieces of one
kind of all integers lie together. So pieces never cross bytes, and a compressor sees the high bits, which are not
evenly distributed, apart from the low ones, which are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Widths of pieces, in bits.
_WIDTHS = (8, 4, 2, 1)


def packed_size(bits: int, count: int) -> int:
    """Bytes of ``count`` packed integers."""
    return sum(-(-count * width // 8) for width, _ in _pieces(bits))


def pack(values: NDArray[np.int8], bits: int) -> bytes:
    """Pack integers from -2^(bits - 1) to 2^(bits - 1) - 1.

    Raises:
        ValueError: ``bits`` outside 1 to 8, or an integer outside this range.
    """
    half = 1 << (bits - 1) if bits > 0 else 0
    flat = values.ravel().astype(np.int16)
    pieces = list(_pieces(bits))
    if flat.size and not -half <= int(flat.min()) <= int(flat.max()) < half:
        raise ValueError(f"integers from {flat.min()} to {flat.max()} do not fit {bits} bits")
    shifted = (flat + half).astype(np.uint8)
    return b"".join(
        _joined(shifted >> np.uint8(shift) & np.uint8((1 << width) - 1), width) for width, shift in pieces
    )


def unpack(data: bytes, bits: int, count: int) -> NDArray[np.int8]:
    """The (count,) integers of :func:`pack`.

    Raises:
        ValueError: ``data`` is of another length, or ``bits`` outside 1 to 8.
    """
    if len(data) != packed_size(bits, count):
        raise ValueError(
            f"{len(data)} bytes do not hold {count} integers of {bits} bits, which take {packed_size(bits, count)}"
        )
    values, first = np.zeros(count, np.uint8), 0
    for width, shift in _pieces(bits):
        size = -(-count * width // 8)
        values |= _parts(data[first : first + size], width)[:count] << np.uint8(shift)
        first += size
    return (values.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)


def _pieces(bits: int) -> Iterator[tuple[int, int]]:
    """Width and lowest bit of each piece."""
    if not 1 <= bits <= 8:
        raise ValueError(f"{bits} bits: integers of 1 to 8 bits are packed")
    left = bits
    for width in _WIDTHS:
        if left >= width:
            left -= width
            yield width, left


def _joined(parts: NDArray[np.uint8], width: int) -> bytes:
    """Parts of ``width`` bits as bytes, the first in the lowest bits; the last byte is filled with zeros."""
    per = 8 // width
    padded = np.zeros(-(-parts.size // per) * per, np.uint8)
    padded[: parts.size] = parts
    shifts = (np.arange(per) * width).astype(np.uint8)
    return bytes(np.bitwise_or.reduce(padded.reshape(-1, per) << shifts, axis=1).astype(np.uint8).tobytes())


def _parts(data: bytes, width: int) -> NDArray[np.uint8]:
    """The parts of :func:`_joined`, the filling included."""
    shifts = (np.arange(8 // width) * width).astype(np.uint8)
    found = np.frombuffer(data, np.uint8)[:, None] >> shifts & np.uint8((1 << width) - 1)
    return found.astype(np.uint8).ravel()
