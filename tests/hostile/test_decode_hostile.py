"""Decoding what is not a sequence: refused with block and position, or read as the oracle reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
import tomat
from driver import package_tokenizer, same_patch

PLACE = re.compile(r"block (\w+), position (\d+)")


def check(tokenizer: oracle.Tokenizer, ids: Sequence[int]) -> tomat.Patch | None:
    """The package refuses exactly what the oracle refuses, and reads the rest alike."""
    package = package_tokenizer(tokenizer)
    array = np.array(ids, dtype=np.int32)
    try:
        expected = tokenizer.decode(ids)
    except oracle.SequenceError:
        with pytest.raises(ValueError, match=PLACE) as error:
            package.decode(array)
        place = PLACE.search(str(error.value))
        assert place is not None
        assert place[1] in {"BOS", "EOS", "PAD", *oracle.FALLBACK_BLOCKS, "OFFSET", "HI"}
        assert 0 <= int(place[2]) <= len(ids)
        return None
    patch = package.decode(array)
    same_patch(patch, expected)
    return patch


@given(strategies.tokenizers(2), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=80))
def test_any_integers(tokenizer: oracle.Tokenizer, ids: list[int]) -> None:
    check(tokenizer, ids)


@given(strategies.tokenizers(2), st.data())
def test_ids_of_the_vocabulary_in_any_order(tokenizer: oracle.Tokenizer, draw: st.DataObject) -> None:
    v = tokenizer.vocabulary
    token = st.one_of(
        st.integers(0, len(v.specials) - 1), st.integers(v.starts["atom"], v.starts["int"] + 30)
    )
    check(tokenizer, draw.draw(st.lists(st.one_of(token, st.integers(0, v.total_size - 1)), max_size=120)))


@given(st.data())
def test_mutated_rows(draw: st.DataObject) -> None:
    case = draw.draw(strategies.cases(most_offsets=1))
    padded = draw.draw(st.booleans())
    (row,) = case.rows(padded=padded)
    ids = draw.draw(strategies.mutated(row, case.tokenizer.vocabulary.total_size))
    patch = check(case.tokenizer, ids)
    if patch is not None:
        reencodes(case.tokenizer, patch)


def reencodes(tokenizer: oracle.Tokenizer, patch: tomat.Patch) -> None:
    """A patch that was read can be written again, and reads the same but for one level of a log codec."""
    grid = tuple(patch.grid_shape)
    if max(grid) > 40 or any(s > n for s, n in zip(patch.patch_shape, grid, strict=True)):
        return  # nothing to put the patch back into without a large grid or a clash
    again = oracle.Tokenizer(tokenizer.layout, tokenizer.codec, tokenizer.patch_size, 10**5, ())
    if tuple(patch.patch_shape) != again.cube:
        return
    offset = (0, 0, 0) if patch.offset is None else tuple(patch.offset)
    density = np.zeros(grid)
    axes = [(np.arange(s) + o) % n for s, o, n in zip(patch.patch_shape, offset, grid, strict=True)]
    density[np.ix_(*axes)] = patch.density
    lattice = np.array([3.0, 3.0, 3.0, 90.0, 90.0, 90.0])
    if patch.lattice is not None and np.all(patch.lattice > 0) and np.all(patch.lattice[3:] < 180):
        lattice = patch.lattice
    # v3 positions are relative to the patch, whose origin is here the origin of the grid.
    package = package_tokenizer(again)
    (row,) = package.encode(density, lattice, patch.atomic_numbers, patch.frac_coords, np.array([offset]))
    second = package.decode(row)
    assert tuple(second.grid_shape) == grid
    assert list(second.atomic_numbers) == list(patch.atomic_numbers)
    apart = np.abs(second.frac_coords - patch.frac_coords)
    assert np.all(np.minimum(apart, np.abs(1 - apart)) < 2e-6)
    codec = tokenizer.codec
    if isinstance(codec, oracle.LloydMax):
        words = [[codec.encode(float(v)) for v in p.density.ravel()] for p in (patch, second)]
        assert words[0] == words[1]
    else:
        levels = [np.array([codec.level(float(v)) for v in p.density.ravel()]) for p in (patch, second)]
        # What decodes to less than 1e-15 is zero when it is written again.
        counted = np.abs(patch.density.ravel()) > 1.1e-15
        assert np.all(np.abs(levels[0] - levels[1])[counted] <= 2)


def small() -> tuple[oracle.Tokenizer, list[int]]:
    tokenizer = oracle.Tokenizer("v2-lat", oracle.NAMED_LOG_CODECS["two_token_9_12"], 2, 8192)
    rng = np.random.default_rng(1)
    row = tokenizer.encode(
        rng.random((3, 4, 5)),
        [3.0, 4.0, 5.0, 80.0, 90.0, 100.0],
        [6, 8],
        rng.random((2, 3)).tolist(),
        (2, 1, 4),
        padded=False,
    )
    return tokenizer, row


def test_every_cut_of_a_row() -> None:
    tokenizer, row = small()
    for n in range(len(row)):
        assert check(tokenizer, row[:n]) is None
    assert check(tokenizer, row) is not None
    assert check(tokenizer, [*row, 0, 0, 0]) is not None


def test_every_single_token_changed() -> None:
    """Every position, to a special, to the neighbouring ids and to ids outside the vocabulary."""
    tokenizer, row = small()
    for i, token in enumerate(row):
        for other in (0, 2, 17, token - 1, token + 1, tokenizer.vocabulary.total_size, -1):
            check(tokenizer, [*row[:i], other, *row[i + 1 :]])


@pytest.mark.parametrize(
    ("find", "change", "block"),
    [
        ("[HI_START]", 1, "HI"),
        ("[BOS]", 0, "BOS"),
        ("[GRID_START]", 0, "GRID"),
        ("[DENS_START]", 0, "DENS"),
        ("[DENS_END]", 0, "DENS"),
        ("[EOS]", 0, "EOS"),
    ],
)
def test_the_message_names_the_block(find: str, change: int, block: str) -> None:
    tokenizer, row = small()
    at = row.index(tokenizer.vocabulary.specials[find]) + change
    row[at] += 1
    with pytest.raises(ValueError, match=rf"block {block}, position \d+"):
        package_tokenizer(tokenizer).decode(np.array(row, dtype=np.int32))


def test_an_offset_on_the_far_edge_of_the_grid() -> None:
    """OFFSET = GRID agrees with HI, which is taken modulo the grid, but lies outside all the same."""
    tokenizer, _ = small()
    row = tokenizer.encode(
        np.ones((3, 4, 5)), [3.0, 4.0, 5.0, 80.0, 90.0, 100.0], [6], [[0.0] * 3], (0, 0, 0), padded=False
    )
    at = row.index(tokenizer.vocabulary.specials["[OFFSET_START]"])
    for axis, points in enumerate((3, 4, 5)):
        assert check(tokenizer, [*row[: at + 1 + axis], row[at + 1] + points, *row[at + 2 + axis :]]) is None


def test_text_after_the_end() -> None:
    tokenizer, row = small()
    for tail in ([1], [0, 0, 5], row):
        assert check(tokenizer, [*row, *tail]) is None


def test_v3_reads_rows_with_and_without_shape() -> None:
    log = oracle.NAMED_LOG_CODECS["fp16_1token"]
    wide = oracle.Tokenizer("v3", log, 3)
    narrow = oracle.Tokenizer("v3", log, 3, wide.length(1, (2, 3, 3)), ((2, 3, 3),))
    material = (np.random.default_rng(2).random((4, 4, 4)), [3.0] * 3 + [90.0] * 3, [1], [[0.1, 0.2, 0.3]])
    shapes = [check(narrow, t.encode(*material, (1, 2, 3), padded=False)) for t in (wide, narrow)]
    assert [tuple(p.patch_shape) for p in shapes if p is not None] == [(3, 3, 3), (2, 3, 3)]


@pytest.mark.parametrize("ids", [np.zeros((2, 30), np.int32), np.zeros(30), np.array(["a"]), None])
def test_what_is_no_row_of_ids(ids: Any) -> None:
    package = tomat.PatchTokenizer("v3", tomat.load_codec("fp16_1token"))
    with pytest.raises((ValueError, TypeError)):
        package.decode(ids)
    with pytest.raises((ValueError, TypeError)):
        package.show(ids)


def test_show_refuses_ids_outside_the_vocabulary() -> None:
    package = tomat.PatchTokenizer("v3", tomat.load_codec("fp16_1token"))
    with pytest.raises((IndexError, ValueError), match=str(package.vocabulary.total_size)):
        package.show(np.array([1, package.vocabulary.total_size], dtype=np.int32))


def test_a_huge_shape_is_refused_before_anything_is_allocated() -> None:
    """SHAPE 1023 x 1023 x 1023 would be 8 GB of float64; the count of DENS tokens is checked first."""
    tokenizer, row = small()
    v = tokenizer.vocabulary
    at = row.index(v.specials["[SHAPE_START]"])
    row[at + 1 : at + 4] = [v.starts["int"] + 1023] * 3
    hi = row.index(v.specials["[HI_START]"])
    row[hi + 1 : hi + 4] = [
        v.starts["int"] + (o + 1022) % n for o, n in zip((2, 1, 4), (3, 4, 5), strict=True)
    ]
    with pytest.raises(ValueError, match=r"block DENS, position \d+"):
        package_tokenizer(tokenizer).decode(np.array(row, dtype=np.int32))
