"""What the tokenizer refuses, and that it says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tomat

LOG = tomat.LogCodec(-4.127, 4.967, (15,))


def call(**changes: Any) -> Any:
    layout = changes.pop("layout", "v3")
    options = {"patch_size": 2} | changes.pop("options", {})
    good: dict[str, Any] = {
        "density": np.ones((3, 4, 5)),
        "lattice": [3.0, 4.0, 5.0, 90.0, 90.0, 90.0],
        "atomic_numbers": np.array([6, 8]),
        "frac_coords": np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        "offsets": np.array([[0, 0, 0], [2, 3, 4]]),
    }
    return tomat.PatchTokenizer(layout, LOG, **options).encode(**(good | changes))


def one_bad(value: float, dtype: Any) -> Any:
    density = np.ones((3, 4, 5), dtype=dtype)
    density[1, 2, 3] = value
    return density


def test_the_good_call_is_good() -> None:
    assert call().shape == (2, 8192)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_density_that_is_not_finite_names_the_point(value: float, dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"1, 2, 3"):
        call(density=one_bad(value, dtype))


@pytest.mark.parametrize(
    "density", [np.ones(60), np.ones((3, 20)), np.ones((3, 4, 5, 1)), np.ones((0, 4, 5)), np.ones((3, 4, 0))]
)
def test_a_density_needs_three_axes_with_points(density: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r".{15}"):
        call(density=density, offsets=np.zeros((1, 3), int))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_too_long_for_an_int_token(axis: int) -> None:
    shape = [1, 1, 1]
    shape[axis] = 1023
    assert call(density=np.ones(shape), offsets=np.zeros((1, 3), int)).shape == (1, 8192)
    shape[axis] = 1024
    with pytest.raises(ValueError, match="1024") as error:
        call(density=np.ones(shape), offsets=np.zeros((1, 3), int))
    assert "1023" in str(error.value)


@pytest.mark.parametrize("at", [(3, 0, 0), (0, 4, 0), (0, 0, 5), (-1, 0, 0), (0, 0, 2**31 - 1)])
def test_an_offset_outside_the_grid(at: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"(?i)offset|origin") as error:
        call(offsets=np.array([[0, 0, 0], at]))
    assert str(next(x for x in at if x)) in str(error.value)


@pytest.mark.parametrize("offsets", [np.zeros(3, int), np.zeros((2, 2), int), np.zeros((1, 2, 3), int)])
def test_offsets_of_a_wrong_shape(offsets: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r".{15}"):
        call(offsets=offsets)


@pytest.mark.parametrize(
    ("numbers", "coordinates"),
    [
        (np.zeros(0, int), np.zeros((0, 3))),
        (np.array([6]), np.zeros((2, 3))),
        (np.array([6, 8]), np.zeros((2, 2))),
        (np.array([6, 8]), np.zeros(6)),
        (np.array([6, 0]), np.zeros((2, 3))),
        (np.array([6, -1]), np.zeros((2, 3))),
        (np.array([6, 119]), np.zeros((2, 3))),
        (np.array([6, 300]), np.zeros((2, 3))),
        (np.array([6, 8]), np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]])),
        (np.array([6, 8]), np.array([[0.0, 0.0, 0.0], [np.inf, 0.0, 0.0]])),
    ],
)
def test_atoms_that_are_none(numbers: Any, coordinates: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError), match=r".{15}"):
        call(atomic_numbers=numbers, frac_coords=coordinates)


@pytest.mark.parametrize(
    "lattice",
    [
        [51.2, 4.0, 5.0, 90.0, 90.0, 90.0],
        [3.0, 4.0, 1e9, 90.0, 90.0, 90.0],
        [3.0, 4.0, 5.0, 90.0, 90.0, 190.0],
        [-3.0, 4.0, 5.0, 90.0, 90.0, 90.0],
        [0.0, 4.0, 5.0, 90.0, 90.0, 90.0],
        [np.nan, 4.0, 5.0, 90.0, 90.0, 90.0],
        [3.0, 4.0, 5.0, np.inf, 90.0, 90.0],
        [3.0, 4.0, 5.0],
        np.zeros((3, 3)),
        np.ones((2, 3)),
        np.diag([3.0, 4.0, np.nan]),
        np.diag([60.0, 4.0, 5.0]),
    ],
)
def test_a_lattice_that_cannot_be_encoded(lattice: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r".{15}"):
        call(lattice=lattice)


def test_a_long_cell_is_fine_where_no_lattice_is_written() -> None:
    assert call(layout="v1", lattice=[60.0, 4.0, 5.0, 90.0, 90.0, 90.0]).shape == (2, 8192)


def test_a_row_that_is_too_short() -> None:
    needed = tomat.PatchTokenizer("v3", LOG, patch_size=2).length(2)
    options = {"pad_to": needed, "fallback_shapes": ()}
    assert call(options=options).shape == (2, needed)
    with pytest.raises(ValueError, match=str(needed - 1)):
        call(options=options | {"pad_to": needed - 1})


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": 0},
        {"patch_size": -1},
        {"patch_size": 2000},
        {"pad_to": 0},
        {"fallback_shapes": ((0, 1, 1),)},
        {"fallback_shapes": ((1, 1, 1024),)},
    ],
)
def test_options_that_make_no_tokenizer(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError), match=r".{15}"):
        call(options=options)


def test_an_unknown_layout_lists_the_known_ones() -> None:
    with pytest.raises((KeyError, ValueError)) as error:
        tomat.PatchTokenizer("v4", LOG)
    assert all(name in str(error.value) for name in ("v4", "v1", "v2", "v2-lat", "v3"))
