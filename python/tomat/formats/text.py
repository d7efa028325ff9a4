"""Fast formatting of large arrays of numbers as text."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from tomat.crystal import Crystal


def comment(crystal: Crystal) -> str:
    """The name of a crystal as a line of ASCII text."""
    name = crystal.name.encode("ascii", "replace").decode()
    return re.sub(r"[^ -~]", " ", name)[:60] or "density"


def _digits(values: NDArray[np.float64], n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """ASCII digits (len, n) of the mantissas 0.d1 d2 ... dn, and exponents (len,); for zero, all are 0."""
    magnitude = np.abs(values)
    # Zero in float32; keeps exponents at two digits.
    magnitude[magnitude < 1e-90] = 0.0
    filled = np.where(magnitude > 0, magnitude, 1.0)
    exponents = np.floor(np.log10(filled)).astype(np.int64) + 1
    mantissas = np.rint(filled * 10.0 ** (n - exponents)).astype(np.int64)
    # log10 may be off by one at a power of ten, and rounding may carry into a new digit.
    for _ in range(2):
        low, high = mantissas < 10 ** (n - 1), mantissas >= 10**n
        if not (low.any() or high.any()):
            break
        exponents += high.astype(np.int64) - low.astype(np.int64)
        mantissas = np.rint(filled * 10.0 ** (n - exponents)).astype(np.int64)
    mantissas[magnitude == 0] = 0
    exponents[magnitude == 0] = 0
    if exponents.size and int(np.abs(exponents).max()) > 99:
        raise ValueError("the density holds values that need more than two digits of exponent")
    out = np.empty((len(values), n), dtype=np.uint8)
    table = _four_digits()
    last = n
    while last > 0:
        mantissas, part = np.divmod(mantissas, 10000)
        first = max(last - 4, 0)
        out[:, first:last] = table[part][:, 4 - (last - first) :]
        last = first
    return out, exponents


def fortran(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`` 0.12345678901E+01`` as Fortran's ``1X,E17.11``, (len, 18) ASCII; ``-.1234...`` if negative."""
    digits, exponents = _digits(values, 11)
    out = np.empty((len(values), 18), dtype=np.uint8)
    negative = np.signbit(values) & (values != 0)
    out[:, 0] = ord(" ")
    out[:, 1] = np.where(negative, ord("-"), ord("0"))
    out[:, 2] = ord(".")
    out[:, 3:14] = digits
    _put_exponents(out[:, 14:18], exponents)
    return out


def scientific(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """``  1.23457E+01`` as C's ``%13.5E``, (len, 13) ASCII."""
    digits, exponents = _digits(values, 6)
    out = np.full((len(values), 13), ord(" "), dtype=np.uint8)
    out[np.signbit(values) & (values != 0), 1] = ord("-")
    out[:, 2] = digits[:, 0]
    out[:, 3] = ord(".")
    out[:, 4:9] = digits[:, 1:]
    _put_exponents(out[:, 9:13], np.where(values != 0, exponents - 1, 0))
    return out


def _put_exponents(out: NDArray[np.uint8], exponents: NDArray[np.int64]) -> None:
    """Write ``E+01`` to (len, 4)."""
    out[:, 0] = ord("E")
    out[:, 1] = np.where(exponents < 0, ord("-"), ord("+"))
    out[:, 2:4] = _four_digits()[np.abs(exponents)][:, 2:]


def _four_digits() -> NDArray[np.uint8]:
    """The numbers 0 to 9999 as four ASCII digits each."""
    numbers = np.arange(10000)
    return np.stack([numbers // 1000, numbers // 100 % 10, numbers // 10 % 10, numbers % 10], axis=1).astype(
        np.uint8
    ) + np.uint8(ord("0"))


def table(cells: NDArray[np.uint8], columns: int) -> bytes:
    """Cells (..., n, width) as lines of ``columns`` cells; each row of n begins a new line."""
    n, width = cells.shape[-2:]
    rows = cells.reshape(-1, n * width)
    whole = n // columns * columns * width
    lines = []
    for part, length in ((rows[:, :whole], columns * width), (rows[:, whole:], n * width - whole)):
        if part.size:
            split = part.reshape(len(rows), -1, length)
            ends = np.full((*split.shape[:2], 1), ord("\n"), dtype=np.uint8)
            lines.append(np.concatenate([split, ends], axis=2).reshape(len(rows), -1))
    return np.concatenate(lines, axis=1).tobytes()
