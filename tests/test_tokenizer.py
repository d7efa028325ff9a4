"""The tokenizer against the oracle, and properties that hold whatever the oracle says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
import strategies
import tomat
from driver import package_codec, package_rows, package_tokenizer, same_patch
from strategies import Case


@given(strategies.cases())
def test_encode_equals_the_oracle(case: Case) -> None:
    rows = package_rows(case)
    assert rows.dtype == np.int32
    assert rows.shape == (len(case.offsets), case.tokenizer.pad_to)
    assert rows.tolist() == case.rows()


@given(strategies.cases())
def test_decode_equals_the_oracle(case: Case) -> None:
    package = package_tokenizer(case.tokenizer)
    for row, offset in zip(case.rows(), case.offsets, strict=True):
        patch = package.decode(np.array(row, dtype=np.int32))
        same_patch(patch, case.tokenizer.decode(row))
        assert patch.offset is None or tuple(patch.offset) == offset


@given(strategies.cases())
def test_every_voxel_decodes_into_its_bin(case: Case) -> None:
    codec = package_codec(case.tokenizer.codec)
    package = package_tokenizer(case.tokenizer)
    shape = case.tokenizer.shape_for(len(case.atomic_numbers))
    for row, offset in zip(package_rows(case), case.offsets, strict=True):
        axes = [(np.arange(s) + o) % n for s, o, n in zip(shape, offset, case.grid, strict=True)]
        truth = case.density[np.ix_(*axes)].ravel()
        decoded = package.decode(row).density.ravel()
        if isinstance(case.tokenizer.codec, oracle.LloydMax):
            np.testing.assert_array_equal(codec.encode(decoded), codec.encode(truth))
        else:
            np.testing.assert_array_equal(decoded, codec.decode(codec.encode(truth)))


@given(strategies.cases())
def test_ids_are_in_range_and_rows_are_padded(case: Case) -> None:
    package = package_tokenizer(case.tokenizer)
    v, rows = package.vocabulary, package_rows(case)
    n_atoms = len(case.atomic_numbers)
    shape = case.tokenizer.shape_for(n_atoms)
    length = package.length(n_atoms, shape)
    assert length == case.tokenizer.length(n_atoms, shape)
    assert rows.min() >= 0
    assert rows.max() < v.total_size
    assert np.all(rows[:, length:] == v.specials["[PAD]"])
    assert np.all(rows[:, :length] != v.specials["[PAD]"])
    assert np.all(rows[:, length - 1] == v.specials["[EOS]"])
    start, stop = v.density_range
    words = math.prod(shape) * len(case.tokenizer.codec.sizes)
    assert np.all(((rows >= start) & (rows < stop)).sum(axis=1) == words)


@given(strategies.cases())
def test_rows_of_a_call_do_not_depend_on_each_other(case: Case) -> None:
    together = package_rows(case)
    for row, offset in zip(together, case.offsets, strict=True):
        np.testing.assert_array_equal(package_rows(case, [offset])[0], row)
    assert package_rows(case, np.zeros((0, 3), dtype=np.int32)).shape == (0, case.tokenizer.pad_to)


@given(strategies.cases())
def test_array_order_does_not_matter(case: Case) -> None:
    """A Fortran-ordered array and a strided view are read by their indices, not by their memory."""
    expected = package_rows(case)
    doubled = np.repeat(case.density, 2, axis=2)
    for density in (np.asfortranarray(case.density), doubled[:, :, ::2]):
        other = Case(**(case.__dict__ | {"density": density}))
        np.testing.assert_array_equal(package_rows(other), expected)


# --- shapes, lengths, fallback ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", sorted(oracle.LAYOUTS))
def test_defaults(layout: str) -> None:
    name = "two_token_9_12" if layout == "v1" else "fp16_1token"
    package = tomat.PatchTokenizer(layout, tomat.load_codec(name))
    expected = oracle.Tokenizer(layout, oracle.NAMED_LOG_CODECS[name])
    for n_atoms in (1, 2, 64):
        assert tuple(package.shape_for(n_atoms)) == expected.cube
        assert package.length(n_atoms) == expected.length(n_atoms, expected.cube)
        assert package.length(n_atoms, expected.cube) == expected.length(n_atoms, expected.cube)


def test_the_format_page_fallback() -> None:
    """At P = 19 and 8192 tokens the cube holds 131 atoms; (18, 19, 19) with its SHAPE block holds 166."""
    package = tomat.PatchTokenizer("v3", tomat.load_codec("fp16_1token"))
    assert package.length(131) == 1 + 5 + 8 + 133 + 1181 + 6861 + 1 == 8190
    assert tuple(package.shape_for(131)) == (19, 19, 19)
    assert tuple(package.shape_for(132)) == (18, 19, 19)
    assert package.length(166, (18, 19, 19)) == 1 + 5 + 8 + 168 + 1496 + 5 + 6500 + 1 == 8184
    assert tuple(package.shape_for(166)) == (18, 19, 19)
    with pytest.raises(ValueError, match="8192") as error:
        package.shape_for(167)
    assert "167" in str(error.value)


@given(st.data())
def test_shape_for_takes_the_first_that_fits(draw: st.DataObject) -> None:
    n_atoms = draw.draw(st.integers(1, 40))
    tokenizer = draw.draw(strategies.tokenizers(draw.draw(st.integers(1, 40))))
    package = package_tokenizer(tokenizer)
    try:
        expected = tokenizer.shape_for(n_atoms)
    except ValueError:
        with pytest.raises(ValueError, match=str(tokenizer.pad_to)):
            package.shape_for(n_atoms)
    else:
        assert tuple(package.shape_for(n_atoms)) == expected
        assert package.length(n_atoms, expected) == tokenizer.length(n_atoms, expected) <= tokenizer.pad_to


# --- translation --------------------------------------------------------------------------------------------


def rolled(case: Case, shift: oracle.Shape) -> Case:
    """The density rolled by a grid vector, the atoms shifted and the origins moved by the same vector."""
    fractions = [s / n for s, n in zip(shift, case.grid, strict=True)]
    moved = [tuple((o + s) % n for o, s, n in zip(at, shift, case.grid, strict=True)) for at in case.offsets]
    return Case(
        tokenizer=case.tokenizer,
        density=np.roll(case.density, shift, axis=(0, 1, 2)),
        lattice=case.lattice,
        atomic_numbers=case.atomic_numbers,
        frac_coords=[[x + f for x, f in zip(atom, fractions, strict=True)] for atom in case.frac_coords],
        offsets=[(x, y, z) for x, y, z in moved],
    )


@given(st.data())
def test_translation_is_exact_on_dyadic_coordinates(draw: st.DataObject) -> None:
    """Axes that are powers of two and coordinates k/2^20 make every sum exact: the v3 rows are equal."""
    case = draw.draw(strategies.cases("v3"))
    axis = st.sampled_from([1, 2, 4, 8])
    grid = draw.draw(st.tuples(axis, axis, axis))
    coordinate = st.integers(-(2**21), 2**21).map(lambda k: k / 2**20)
    triple = st.lists(coordinate, min_size=3, max_size=3)
    n = len(case.atomic_numbers)
    case = Case(
        tokenizer=case.tokenizer,
        density=draw.draw(strategies.densities(grid)),
        lattice=case.lattice,
        atomic_numbers=case.atomic_numbers,
        frac_coords=draw.draw(st.lists(triple, min_size=n, max_size=n)),
        offsets=draw.draw(st.lists(strategies.offsets_in(grid), min_size=1, max_size=3)),
    )
    moved = rolled(case, draw.draw(strategies.offsets_in(grid)))
    np.testing.assert_array_equal(package_rows(moved), package_rows(case))


@pytest.mark.parametrize("n", [1, 3, 7, 10, 18, 49, 100, 1023])
def test_atoms_on_the_patch_origin(n: int) -> None:
    """The last bit of (x mod 1) - o/n decides between level 0 and the top: the order of sums matters."""
    reference = oracle.Tokenizer("v3", oracle.NAMED_LOG_CODECS["fp16_1token"], 1)
    package = package_tokenizer(reference)
    lattice, density = [9.0] * 3 + [90.0] * 3, np.ones((n, 1, 1))
    for o in range(0, n, max(1, n // 40)):
        at = o / n
        beside = [at, math.nextafter(at, -1.0), math.nextafter(at, 2.0), at + 1.0, at - 1.0]
        coordinates = [[x, 0.0, 0.0] for x in beside]
        rows = package.encode(density, lattice, np.ones(5, int), np.array(coordinates), np.array([[o, 0, 0]]))
        assert rows[0].tolist() == reference.encode(density, lattice, [1] * 5, coordinates, (o, 0, 0))


@given(strategies.cases("v3"), st.data())
def test_translation_up_to_rounding_on_any_grid(case: Case, draw: st.DataObject) -> None:
    """Otherwise x - o/n rounds: all but POS stays, and POS moves by a level or across the cell edge."""
    package = package_tokenizer(case.tokenizer)
    rows, others = package_rows(case), package_rows(rolled(case, draw.draw(strategies.offsets_in(case.grid))))
    pos = package.vocabulary.specials["[POS_START]"]
    first = rows[0].tolist().index(pos) + 1
    keep = np.ones(rows.shape[1], dtype=bool)
    keep[first : first + 9 * len(case.atomic_numbers)] = False
    np.testing.assert_array_equal(rows[:, keep], others[:, keep])
    for a, b in zip(rows, others, strict=True):
        apart = package.decode(a).frac_coords - package.decode(b).frac_coords
        assert np.all(np.abs(apart - np.round(apart)) < 2e-6)


@given(strategies.cases(), st.data())
def test_a_tiled_grid_holds_the_same_patches(case: Case, draw: st.DataObject) -> None:
    """A patch that wraps in a cell is the same patch, unwrapped, in a supercell."""
    repeats = draw.draw(st.tuples(*[st.integers(1, 3)] * 3))
    tiled = np.tile(case.density, repeats)
    start, stop = package_tokenizer(case.tokenizer).vocabulary.density_range
    big = Case(**(case.__dict__ | {"density": tiled}))
    a, b = package_rows(case), package_rows(big)
    for row, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(
            row[(row >= start) & (row < stop)], other[(other >= start) & (other < stop)]
        )


# --- lattices -----------------------------------------------------------------------------------------------


@given(strategies.lattices())
def test_lattice_bins_take_halves_to_even(lattice: list[float]) -> None:
    tokenizer = tomat.PatchTokenizer("v3", tomat.load_codec("fp16_1token"), patch_size=1)
    rows = tokenizer.encode(
        np.ones((1, 1, 1)), lattice, np.array([1]), np.zeros((1, 3)), np.zeros((1, 3), int)
    )
    start = rows[0].tolist().index(tokenizer.vocabulary.specials["[LATTICE_START]"])
    names = [tokenizer.vocabulary.name(int(i)) for i in rows[0, start + 1 : start + 7]]
    assert names == [str(b) for b in oracle.lattice_bins(lattice)]


@given(st.lists(st.floats(-5, 5), min_size=9, max_size=9))
def test_a_matrix_is_taken_as_well(entries: list[float]) -> None:
    matrix = np.array(entries).reshape(3, 3) + np.diag([20.0, 21.0, 22.0])
    six = oracle.lattice_parameters(matrix.tolist())
    exact = [x / step for x, step in zip(six, [0.05] * 3 + [0.2] * 3, strict=True)]
    assume(all(abs(x - math.floor(x) - 0.5) > 1e-9 for x in exact))
    tokenizer = tomat.PatchTokenizer("v3", tomat.load_codec("fp16_1token"), patch_size=1)
    one = (np.array([1]), np.zeros((1, 3)), np.zeros((1, 3), int))
    np.testing.assert_array_equal(
        tokenizer.encode(np.ones((1, 1, 1)), matrix, *one), tokenizer.encode(np.ones((1, 1, 1)), six, *one)
    )
    tokens = oracle.Tokenizer("v3", oracle.NAMED_LOG_CODECS["fp16_1token"], 1).encode(
        np.ones((1, 1, 1)), six, [1], [[0.0] * 3], (0, 0, 0)
    )
    assert tokenizer.encode(np.ones((1, 1, 1)), matrix, *one)[0].tolist() == tokens
