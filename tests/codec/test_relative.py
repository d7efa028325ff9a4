"""Relative codecs: bins of the difference from a starting density."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flips
import tomat
from tomat.codec import LloydMaxCodec, RelativeCodec, bundled_relative_codecs

if TYPE_CHECKING:
    from pathlib import Path

BUNDLED = bundled_relative_codecs()


def small(**changed: object) -> RelativeCodec:
    """Five levels; ``s(g) = 0.01 + 0.1 sqrt(g)``."""
    given: dict[str, object] = {
        "levels": [-3.0, -1.0, 0.0, 1.0, 4.0],
        "inner_edges": [-2.0, -0.5, 0.5, 2.5],
        "ends": [-5.0, 6.0],
        "offset": 0.01,
        "scale_factor": 0.1,
        **changed,
    }
    return RelativeCodec(**given)  # type: ignore[arg-type]


def pairs() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """A starting density, also at and below zero, and differences from it in units of its scale."""
    guess = st.one_of(st.floats(1e-6, 40.0), st.sampled_from([0.0, -1e-3]))
    lists = st.lists(st.tuples(guess, st.floats(-30.0, 30.0)), min_size=1, max_size=50)
    return lists.map(lambda rows: (np.array([r[0] for r in rows]), np.array([r[1] for r in rows])))


def test_values_by_hand() -> None:
    codec = small()
    guess = np.array([[4.0, 4.0, 4.0], [0.0, -1.0, 0.25]])
    np.testing.assert_allclose(codec.scale(guess), [[0.21, 0.21, 0.21], [0.01, 0.01, 0.06]])
    ids = codec.encode(guess + codec.scale(guess) * [[0.4, -0.6, 3.0], [-99.0, 99.0, 0.0]], guess)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, [[2, 1, 4], [0, 4, 2]])
    np.testing.assert_allclose(codec.decode(ids, guess), [[4.0, 3.79, 4.84], [-0.03, -0.96, 0.25]])
    assert (codec.zero, codec.sizes, codec.unit, codec.needs_guess) == (2, [5], "e_per_A3", True)
    np.testing.assert_array_equal(codec.edges, [-5.0, -2.0, -0.5, 0.5, 2.5, 6.0])
    np.testing.assert_array_equal(codec.levels, [-3.0, -1.0, 0.0, 1.0, 4.0])


@pytest.mark.parametrize("name", BUNDLED)
@given(pair=pairs())
def test_an_error_is_within_the_bin(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    codec = tomat.load_codec(name)
    assert isinstance(codec, RelativeCodec)
    guess, x = pair
    values = guess + x * codec.scale(guess)
    ids = codec.encode(values, guess)
    back = codec.decode(ids, guess)
    inside = ~codec.clips(values, guess)
    width = np.diff(codec.edges)[ids] * codec.scale(guess)
    assert (np.abs(back - values)[inside] <= width[inside] * (1 + 1e-9) + 1e-9).all()
    assert set(ids[codec.clips(values, guess)]) <= {0, codec.sizes[0] - 1}
    np.testing.assert_array_equal(codec.encode(back, guess), ids)
    np.testing.assert_array_equal(codec.roundtrip(values, guess), back)


@pytest.mark.parametrize("name", BUNDLED)
@given(pair=pairs())
def test_the_starting_density_is_exact_and_order_is_kept(
    name: str, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    codec = tomat.load_codec(name)
    assert isinstance(codec, RelativeCodec)
    guess, x = pair
    ids = codec.encode(guess, guess)
    assert (ids == codec.zero).all()
    np.testing.assert_array_equal(codec.decode(ids, guess), guess)
    same = np.full(len(x), guess[0])
    ascending = codec.encode(guess[0] + np.sort(x) * codec.scale(guess[0]), same)
    assert (np.diff(ascending) >= 0).all()


def test_without_a_starting_density_nothing_works() -> None:
    codec = small()
    values = np.ones(3)
    for work in (
        lambda: codec.encode(values),
        lambda: codec.decode(np.zeros(3, dtype=np.int32)),
        lambda: codec.roundtrip(values),
        lambda: codec.clips(values),
        lambda: codec.clipping(values),
        lambda: codec.outside_bin(values, values),
    ):
        with pytest.raises(ValueError, match="relative to a starting density, and none was given"):
            work()
    with pytest.raises(ValueError, match=r"codec rel-256 is relative to a starting density, which rows"):
        tomat.PatchTokenizer("v2", "rel-256")
    with pytest.raises(ValueError, match=r"shape \(3,\) with a starting density of shape \(1,\)"):
        codec.encode(values, np.ones(1))
    with pytest.raises(ValueError, match="not finite"):
        codec.encode(values, np.array([1.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match="NaN"):
        codec.encode(np.array([1.0, np.nan, 1.0]), values)
    with pytest.raises(IndexError):
        codec.decode(np.array([0, 5, 0]), values)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"levels": [-3.0, -1.0, 0.1, 1.0, 4.0]}, "exactly zero"),
        ({"levels": [-3.0, 0.0, 0.0, 1.0, 4.0]}, "exactly zero"),
        ({"levels": [-3.0, -1.0, 0.0, 5.0, 4.0]}, "ascend"),
        ({"levels": [-3.0, -1.0, 0.0, np.inf, 4.0]}, "finite"),
        ({"levels": [0.0, 1.0]}, "2 levels with 4 inner edges"),
        ({"inner_edges": [-2.0, -0.5, 0.5]}, "5 levels with 3 inner edges"),
        ({"inner_edges": [-2.0, -0.5, 0.5, 0.7]}, "ascend"),
        ({"ends": [-1.0, 6.0]}, "ends"),
        ({"offset": 0.0}, "offset"),
        ({"scale_factor": -1.0}, "scale_factor"),
    ],
)
def test_impossible_codecs_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changed)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    codec = small(about={"guess": "mine"})
    path = tmp_path / "mine.rel.npz"
    codec.save(path)
    loaded = tomat.load_codec(path)
    assert isinstance(loaded, RelativeCodec)
    assert (loaded.hash, loaded.name, loaded.about) == (codec.hash, "mine", {"guess": "mine"})
    assert (loaded.offset, loaded.scale_factor, loaded.zero) == (0.01, 0.1, 2)
    np.testing.assert_array_equal(loaded.levels, codec.levels)
    np.testing.assert_array_equal(loaded.edges, codec.edges)
    assert loaded.to_bytes() == codec.to_bytes() == path.read_bytes()
    again = pickle.loads(pickle.dumps(loaded))
    assert (again.hash, again.name) == (loaded.hash, "mine")
    assert small(offset=0.02).hash != codec.hash
    assert small(levels=[-3.0, -1.0, 0.0, 1.0, 4.5]).hash != codec.hash


def test_a_file_is_not_taken_for_another_kind(tmp_path: Path) -> None:
    small().save(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="no member boundaries"):
        LloydMaxCodec.load(tmp_path / "mine.npz")
    LloydMaxCodec.load("l1-1k").save(tmp_path / "other.rel.npz")
    with pytest.raises(ValueError, match="not a file of a relative codec: no member levels"):
        tomat.load_codec(tmp_path / "other.rel.npz")


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "mine.rel.npz"
    small(about={"guess": "mine"}).save(path)

    def read() -> tuple[str, dict[str, object]]:
        codec = RelativeCodec.load(path)
        return codec.hash, codec.about

    refused, same = flips.survive(path, read, 1500)
    assert refused > same


def test_bundled_codecs() -> None:
    assert BUNDLED == ["rel-128", "rel-256", "rel-1k"]
    for name, bins in zip(BUNDLED, (128, 256, 1024), strict=True):
        codec = tomat.load_codec(name)
        assert isinstance(codec, RelativeCodec)
        assert (codec.name, codec.sizes, codec.about["guess"]) == (name, [bins], "qe-sg15")
        # Differences of both signs, far beyond those of most voxels.
        assert codec.levels[0] < -10.0 < 10.0 < codec.levels[-1]
    with pytest.raises(KeyError, match="rel-256"):
        tomat.load_codec("rel-257")
