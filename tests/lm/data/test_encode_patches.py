"""The core's batch encoder: the same tokens as one by one, and errors, not crashes, for what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from runs import IDS, LABEL
from tomat import _core

MATERIALS = [tomat.read(LABEL / f"{name}.zarr") for name in IDS[:3]]
TOKENIZER = tomat.PatchTokenizer("v2-lat", "two_token_9_12", 4, 512)
DENSITY = np.concatenate([material.density.ravel() for material in MATERIALS])


def crystals(materials: list[tomat.Material]) -> _core.Crystals:
    return _core.Crystals(
        [(m.grid_shape, m.lattice, m.atomic_numbers.tolist(), m.frac_coords) for m in materials]
    )


CRYSTALS = crystals(MATERIALS)


def encode(places: Any, rows: int = 2, width: int = 700, **changes: Any) -> tuple[Any, Any, Any]:
    tokens, values = np.full((rows, width), -1, dtype=np.int32), np.full((rows, width), -1, dtype=np.float32)
    arguments: dict[str, Any] = {
        "crystals": CRYSTALS,
        "density": DENSITY,
        "tokens": tokens,
        "values": values,
    } | changes
    spans = _core.encode_patches(
        TOKENIZER._core,
        arguments["crystals"],
        arguments["density"],
        np.asarray(places, dtype=np.int64).reshape(-1, 6),
        arguments["tokens"],
        arguments["values"],
        guess=arguments.get("guess"),
    )
    return spans, tokens, values


@given(st.integers(0, 2), st.integers(0, 2**32 - 1), st.integers(0, 300))
@settings(max_examples=40)
def test_a_batch_is_its_rows(which: int, seed: int, column: int) -> None:
    material = MATERIALS[which]
    rng = np.random.default_rng(seed)
    offsets = rng.integers(0, material.grid_shape, (2, 3))
    spans, tokens, values = encode([[which, *offsets[0], 0, column], [which, *offsets[1], 1, 0]])
    expected = TOKENIZER.encode_material(material, offsets)
    for row, start in ((0, column), (1, 0)):
        length, first, end = spans[row]
        assert length == TOKENIZER.length(len(material.atomic_numbers))
        np.testing.assert_array_equal(tokens[row, start : start + length], expected[row, :length])
        assert (tokens[row, :start] == -1).all()
        assert (tokens[row, start + length :] == -1).all(), "nothing beside the sequence is touched"
        patch = TOKENIZER.decode(expected[row])
        assert end - first == 2 * patch.density.size
        np.testing.assert_array_equal(
            TOKENIZER.density_codec.roundtrip(values[row, start + first + 1 : start + end : 2]),
            patch.density.ravel(),
        )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ([3, 0, 0, 0, 0, 0], "material 3 is out of range"),
        ([-1, 0, 0, 0, 0, 0], "material -1 is out of range"),
        ([0, 10_000, 0, 0, 0, 0], "lies outside the grid"),
        ([0, 0, -1, 0, 0, 0], "offset -1 is out of range"),
        ([0, 0, 0, 0, 2, 0], "row 2 has no column 0"),
        ([0, 0, 0, 0, 2**62, 0], "has no column"),
        ([0, 0, 0, 0, 0, 701], "has no column 701"),
        ([0, 0, 0, 0, 0, 2**62], "has no column"),
        ([0, 0, 0, 0, 0, 650], "places are left in its row"),
        ([0, 0, 0, 0, 1, 699], "places are left in its row"),
    ],
)
def test_places_that_do_not_fit_are_refused(place: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(place)


def test_arrays_that_do_not_fit_are_refused() -> None:
    first = [0, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="the crystals have"):
        encode(first, density=DENSITY[:-1])
    with pytest.raises(ValueError, match="differ in shape"):
        encode(first, values=np.zeros((2, 699), dtype=np.float32))
    with pytest.raises(ValueError, match="the crystals have"):
        encode(first, guess=(DENSITY[:-1], np.zeros((2, 700), dtype=np.int32)))
    with pytest.raises(ValueError, match="has no column"):
        encode([0, 0, 0, 0, 1, 0], guess=(DENSITY, np.zeros((1, 700), dtype=np.int32)))
    turned = np.zeros((700, 2), dtype=np.int32).T
    for change in ({"tokens": turned}, {"values": turned.astype(np.float32)}, {"guess": (DENSITY, turned)}):
        with pytest.raises(ValueError, match="not C-contiguous"):
            encode(first, **change)
    with pytest.raises(ValueError, match="NaN"):
        encode(first, guess=(np.full_like(DENSITY, np.nan), np.zeros((2, 700), dtype=np.int32)))
    frozen = np.zeros((2, 700), dtype=np.int32)
    frozen.flags.writeable = False
    with pytest.raises((TypeError, ValueError)):
        encode(first, tokens=frozen)


def test_crystals_are_checked() -> None:
    known = MATERIALS[0]
    atoms = known.atomic_numbers.tolist()
    with pytest.raises(ValueError, match="no volume"):
        _core.Crystals([(known.grid_shape, np.zeros((3, 3)), atoms, known.frac_coords)])
    with pytest.raises(ValueError, match="beyond reason"):
        _core.Crystals([((2**40, 2**40, 2**40), known.lattice, atoms, known.frac_coords)])
    with pytest.raises(ValueError, match="atomic numbers for"):
        encode(
            [0, 0, 0, 0, 0, 0],
            crystals=_core.Crystals([(known.grid_shape, known.lattice, atoms[:-1], known.frac_coords)]),
            density=known.density.ravel(),
        )
    assert len(CRYSTALS) == 3
