"""Codecs against the oracle and against `numpy.searchsorted`."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import oracle
import strategies
import tomat
from driver import close_in_last_bits, package_codec

DTYPES: list[type[np.floating[Any]]] = [np.float32, np.float64]


def searchsorted(codec: oracle.LloydMax, values: NDArray[Any]) -> NDArray[np.int64]:
    boundaries = np.array(codec.boundaries, dtype=np.float64)
    clipped = np.clip(values.astype(np.float64), codec.clip_min, codec.clip_max)
    return np.searchsorted(boundaries, clipped, side="right")


@given(strategies.lloyd_max_codecs(largest=20_000), strategies.seeds, st.sampled_from(DTYPES))
def test_lloyd_max_encode_is_searchsorted(
    codec: oracle.LloydMax, seed: int, dtype: type[np.floating[Any]]
) -> None:
    edges = strategies.edges(codec)
    with np.errstate(over="ignore", under="ignore"):
        values = np.concatenate([edges.astype(dtype), strategies.values(seed, 3000, dtype, edges)])
    got = package_codec(codec).encode(values)
    assert got.dtype == np.int32
    assert got.shape == (len(values), 1)
    np.testing.assert_array_equal(got[:, 0], searchsorted(codec, values))


@given(strategies.lloyd_max_codecs(), st.sampled_from(DTYPES))
def test_lloyd_max_edges_in_the_input_type(codec: oracle.LloydMax, dtype: type[np.floating[Any]]) -> None:
    """On a boundary the bin is the upper one; the next float below is in the lower one."""
    at = np.array(codec.boundaries, dtype=dtype)
    inside = np.nonzero((at > 0) & (at.astype(np.float64) <= codec.clip_max))[0]
    at = at[inside]
    package = package_codec(codec)
    np.testing.assert_array_equal(package.encode(at)[:, 0], inside + 1)
    for towards in (dtype(0), dtype(np.inf)):
        beside = np.nextafter(at, towards)
        np.testing.assert_array_equal(package.encode(beside)[:, 0], searchsorted(codec, beside))


@given(strategies.codecs(), strategies.seeds, st.sampled_from(DTYPES))
def test_encode_and_decode_equal_the_oracle(
    codec: oracle.Codec, seed: int, dtype: type[np.floating[Any]]
) -> None:
    with np.errstate(over="ignore", under="ignore"):
        values = np.concatenate([strategies.edges(codec).astype(dtype), strategies.values(seed, 500, dtype)])
    package = package_codec(codec)
    assert tuple(package.sizes) == codec.sizes
    expected = np.array([codec.encode(float(v)) for v in values])
    got = package.encode(values)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(package.encode(np.repeat(values, 2)[::2]), expected)
    decoded = package.decode(got)
    assert decoded.dtype == np.float64
    close_in_last_bits(decoded, np.array([codec.decode(row) for row in expected.tolist()]))


@given(strategies.log_codecs(), st.data())
def test_every_log_word_decodes(codec: oracle.Log, draw: st.DataObject) -> None:
    word = st.tuples(*(st.integers(0, size - 1) for size in codec.sizes))
    words = np.array(draw.draw(st.lists(word, min_size=1, max_size=50)))
    close_in_last_bits(
        package_codec(codec).decode(words), np.array([codec.decode(w) for w in words.tolist()])
    )


@given(strategies.log_codecs(), strategies.seeds)
def test_log_decodes_within_one_level(codec: oracle.Log, seed: int) -> None:
    values = strategies.values(seed, 1000, np.float64, strategies.edges(codec))
    package = package_codec(codec)
    decoded = package.decode(package.encode(values))
    level = np.array([codec.level(float(v)) for v in values])
    assert np.all(decoded[level == 0] == 0.0)
    v, d = values[level > 0], decoded[level > 0]
    np.testing.assert_array_equal(np.sign(v), np.sign(d))
    exponent = np.clip(np.log10(np.abs(v)), codec.log_min, codec.log_max)
    step = (codec.log_max - codec.log_min) / codec.top
    assert np.all(np.abs(exponent - np.log10(np.abs(d))) <= step * (1 + 1e-6) + 1e-13)


@given(strategies.lloyd_max_codecs(), strategies.seeds)
def test_lloyd_max_decodes_into_its_bin(codec: oracle.LloydMax, seed: int) -> None:
    values = strategies.values(seed, 1000, np.float32, strategies.edges(codec))
    package = package_codec(codec)
    bins = package.encode(values)
    np.testing.assert_array_equal(package.encode(package.decode(bins)), bins)


@given(strategies.codecs())
def test_infinity_clips_and_nan_is_refused(codec: oracle.Codec) -> None:
    package = package_codec(codec)
    ends = np.array([np.inf, -np.inf])
    assert package.encode(ends).tolist() == [list(codec.encode(float(v))) for v in ends]
    for dtype in DTYPES:
        with pytest.raises(ValueError, match=r"(?i)nan"):
            package.encode(np.array([1.0, np.nan, 2.0], dtype=dtype))
    assert package.encode(np.zeros(0)).shape == (0, len(codec.sizes))
    assert package.decode(np.zeros((0, len(codec.sizes)), dtype=np.int32)).shape == (0,)


@given(strategies.codecs(), st.data())
def test_components_out_of_range_are_refused(codec: oracle.Codec, draw: st.DataObject) -> None:
    words = np.zeros((7, len(codec.sizes)), dtype=np.int64)
    row, column = draw.draw(st.tuples(st.integers(0, 6), st.integers(0, len(codec.sizes) - 1)))
    size = codec.sizes[column]
    words[row, column] = draw.draw(st.sampled_from([-1, size, size + 1, -(2**31), 2**31 - 1]))
    with pytest.raises(IndexError, match=rf"row {row}\b"):
        package_codec(codec).decode(words)
    with pytest.raises((ValueError, IndexError)):
        package_codec(codec).decode(np.zeros((3, len(codec.sizes) + 1), dtype=np.int32))


def test_lloyd_max_by_the_definition() -> None:
    """Bins counted by hand, with the clip below the last boundary."""
    codec = tomat.LloydMaxCodec(
        np.array([1.0, 2.0, 4.0], dtype=np.float32), np.array([0.5, 1.5, 3.0, 5.0], dtype=np.float32), 3.5
    )
    values = np.array([-5.0, -0.0, 0.0, 0.999, 1.0, 1.999, 2.0, 3.5, 4.0, 1e30])
    assert codec.encode(values)[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert codec.decode(np.array([[0], [1], [2], [3]])).tolist() == [0.5, 1.5, 3.0, 5.0]
    assert [bisect.bisect_right((1.0, 2.0, 4.0), min(max(v, 0.0), 3.5)) for v in values] == [
        *([0] * 4),
        *([1] * 2),
        *([2] * 4),
    ]


ONE, TWO = np.array([1.0], dtype=np.float32), np.array([0.5, 2.0], dtype=np.float32)


@pytest.mark.parametrize(
    ("boundaries", "points", "clip_max"),
    [
        (np.array([1.0, 1.0], dtype=np.float32), np.zeros(3, dtype=np.float32), 2.0),
        (np.array([2.0, 1.0], dtype=np.float32), np.zeros(3, dtype=np.float32), 2.0),
        (np.array([np.nan], dtype=np.float32), TWO, 2.0),
        (np.array([np.inf], dtype=np.float32), TWO, 2.0),
        (ONE, np.array([0.5, np.nan], dtype=np.float32), 2.0),
        (ONE, np.array([0.5], dtype=np.float32), 2.0),
        (ONE, np.array([0.5, 2.0, 3.0], dtype=np.float32), 2.0),
        (ONE, np.zeros(0, dtype=np.float32), 2.0),
        (ONE, TWO, np.nan),
        (ONE, TWO, -1.0),
    ],
)
def test_lloyd_max_refuses_what_is_no_codec(
    boundaries: NDArray[np.float32], points: NDArray[np.float32], clip_max: float
) -> None:
    with pytest.raises(ValueError, match=r".{15}"):
        tomat.LloydMaxCodec(boundaries, points, clip_max)


@pytest.mark.parametrize("clip_min", [1e-300, np.nan, -np.inf])
def test_clip_min_is_at_or_below_zero(clip_min: float) -> None:
    with pytest.raises(ValueError, match="clip_min"):
        tomat.LloydMaxCodec(ONE, TWO, 2.0, clip_min=clip_min)


@pytest.mark.parametrize(
    ("log_min", "log_max", "bits"),
    [
        (0.0, 0.0, (8,)),
        (1.0, 0.0, (8,)),
        (np.nan, 1.0, (8,)),
        (0.0, np.inf, (8,)),
        (0.0, 1.0, ()),
        (0.0, 1.0, (64, 64)),
    ],
)
def test_log_refuses_what_is_no_codec(log_min: float, log_max: float, bits: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, OverflowError), match=r".{15}"):
        tomat.LogCodec(log_min, log_max, bits)


def test_hash_is_of_the_content() -> None:
    same = [tomat.LogCodec(-4.0, 0.0, (8, 8, 8)).hash for _ in range(2)]
    assert same[0] == same[1]
    others = {
        tomat.LogCodec(-4.0, 0.0, (8, 16)).hash,
        tomat.LogCodec(-4.0, 1.0, (8, 8, 8)).hash,
        tomat.LloydMaxCodec(ONE, TWO, 2.0).hash,
        tomat.LloydMaxCodec(ONE, TWO, 3.0).hash,
        tomat.LloydMaxCodec(ONE, TWO * np.float32(1.5), 2.0).hash,
        tomat.LloydMaxCodec(ONE * np.float32(1.5), TWO, 2.0).hash,
        tomat.LloydMaxCodec(ONE, TWO, 2.0, clip_min=-1.0).hash,
    }
    assert tomat.LloydMaxCodec(ONE, TWO, 2.0, clip_min=-0.0).hash in others
    assert len(others | set(same)) == 8
    assert all(len(h) == 64 and int(h, 16) >= 0 for h in others)
