"""Integers of every width come back as they were, in as few bytes as they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomat.lm.artefact.bits import pack, packed_size, unpack


@st.composite
def integers(draw: st.DrawFn) -> tuple[int, list[int]]:
    bits = draw(st.integers(1, 8))
    half = 1 << (bits - 1)
    return bits, draw(st.lists(st.integers(-half, half - 1), max_size=67))


@given(integers())
def test_packing_is_exact(given_: tuple[int, list[int]]) -> None:
    bits, values = given_
    data = pack(np.array(values, np.int8), bits)
    assert unpack(data, bits, len(values)).tolist() == values
    # At most the filling of one byte for each of the four widths of pieces.
    assert 8 * len(data) <= bits * len(values) + 4 * 7
    assert len(data) == packed_size(bits, len(values))


def test_the_bytes_are_those_of_the_format() -> None:
    # 6 bits are 4 high ones, two integers a byte, and 2 low ones, four a byte; integers are shifted to begin at 0.
    values = np.array([-32, 31, 1, -1], np.int8)  # 000000 111111 100001 011111
    assert pack(values, 6) == bytes([0b1111_0000, 0b0111_1000, 0b11_01_11_00])
    assert pack(values[2:], 8) == bytes([129, 127])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="integers from -5 to 3 do not fit 3 bits"):
        pack(np.array([3, -5], np.int8), 3)
    with pytest.raises(ValueError, match="9 bits"):
        pack(np.array([1], np.int8), 9)
    with pytest.raises(ValueError, match="2 bytes do not hold 5 integers of 4 bits"):
        unpack(b"ab", 4, 5)
