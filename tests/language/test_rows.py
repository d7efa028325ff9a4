"""Rows of crystals: as the page says them, there and back, in any frame and order, masked and answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import language_oracle as oracle
from strategies import SPECIAL_COORDINATES
from tomat import _core
from tomat.crystal import Crystal, lattice_matrix
from tomat.language import CrystalLanguage, WrittenCrystal

LANGUAGES = {values: CrystalLanguage(values) for values in (1024, 4096)}

coordinates = st.sampled_from(SPECIAL_COORDINATES) | st.floats(-3, 3)
angles = st.floats(60.0, 115.0)
steps = st.tuples(*[st.integers(0, 1023)] * 3)


@st.composite
def crystals(draw: st.DrawFn) -> Crystal:
    """Crystals whose cell exists and can be written."""
    lengths = [draw(st.floats(0.5, 100.0)) for _ in range(3)]
    n = draw(st.integers(1, 8))
    numbers = [draw(st.integers(1, 118)) for _ in range(n)]
    places = [[draw(coordinates) for _ in range(3)] for _ in range(n)]
    return Crystal.from_parameters([*lengths, draw(angles), draw(angles), draw(angles)], numbers, places)


def same(one: WrittenCrystal, other: WrittenCrystal) -> None:
    assert one.cell == other.cell
    assert one.conditions == other.conditions
    np.testing.assert_array_equal(one.elements, other.elements)
    np.testing.assert_array_equal(one.positions, other.positions)
    assert (one.answer is None) == (other.answer is None)
    for mine, others in zip(one.answer or (), other.answer or (), strict=True):
        np.testing.assert_array_equal(mine, others)


@given(crystals(), st.sampled_from([1024, 4096]), steps)
def test_rows_are_those_of_the_page(crystal: Crystal, values: int, frame: tuple[int, int, int]) -> None:
    language = LANGUAGES[values]
    conditions = [(1, [crystal.n_atoms]), (3, [7])]
    written = language.write(crystal).under(conditions)
    row = language.encode(written, frame)
    cell = _core.lattice_parameters(crystal.lattice)
    expected = oracle.words(
        cell,
        crystal.atomic_numbers.tolist(),
        crystal.frac_coords.tolist(),
        values,
        frame,
        conditions,
    )
    assert language.show(row) == expected
    assert row.tolist() == oracle.ids(expected)


@given(crystals(), st.sampled_from([1024, 4096]), steps)
def test_there_and_back(crystal: Crystal, values: int, frame: tuple[int, int, int]) -> None:
    language = LANGUAGES[values]
    written = language.write(crystal)
    same(language.decode(np.pad(language.encode(written), (0, 5))), written)
    moved = language.decode(language.encode(written, frame))
    np.testing.assert_array_equal((moved.positions - written.positions - np.array(frame)) % values, 0)
    back = language.encode(moved, [-step for step in frame])
    np.testing.assert_array_equal(back, language.encode(written))


@given(crystals(), st.sampled_from([1024, 4096]))
def test_what_was_written_is_the_crystal_to_half_a_step(crystal: Crystal, values: int) -> None:
    language = LANGUAGES[values]
    again = language.crystal(language.write(crystal))
    gap = again.frac_coords - crystal.frac_coords
    assert np.abs(gap - np.round(gap)).max() <= 0.5 / values + 1e-12
    cells = np.array([_core.lattice_parameters(one.lattice) for one in (crystal, again)])
    assert (np.abs(cells[1] - cells[0]) <= [0.00501] * 3 + [0.0501] * 3).all()


@given(crystals(), st.integers(0, 2**32 - 1))
def test_order_moves_atoms_with_their_places(crystal: Crystal, seed: int) -> None:
    written = LANGUAGES[1024].write(crystal)
    order = np.random.default_rng(seed).permutation(written.n_atoms)
    other = written.ordered(order)

    def sites(of: WrittenCrystal) -> list[tuple[int, ...]]:
        return sorted((int(z), *place) for z, place in zip(of.elements, of.positions.tolist(), strict=True))

    assert sites(other) == sites(written)
    same(other.ordered(np.argsort(order)), written)


def perovskite() -> WrittenCrystal:
    places = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    crystal = Crystal.from_parameters([3.905] * 3 + [90.0] * 3, [38, 22, 8, 8, 8], places)
    return LANGUAGES[1024].write(crystal)


def shown(written: WrittenCrystal) -> str:
    language = LANGUAGES[1024]
    row = language.encode(written)
    same(language.decode(row), written)
    return " ".join(language.show(row))


def test_a_masked_element_is_answered_once() -> None:
    text = shown(perovskite().with_masked_element(8))
    assert "[ATOMS_START] Sr Ti [MASK] [MASK] [MASK] [ATOMS_END]" in text
    assert text.endswith("[POS_END] [ANSWER_START] O [ANSWER_END] [EOS]")
    with pytest.raises(ValueError, match="no atom has the atomic number 9"):
        perovskite().with_masked_element(9)


def test_masked_sites_are_answered_one_by_one() -> None:
    both = perovskite().with_masked_sites([1, 2], positions=True)
    text = shown(both)
    assert "Sr [MASK] [MASK] O O [ATOMS_END] [POS_START] 0 0 0 [MASK] [MASK] [MASK] [MASK]" in text
    assert text.endswith("[ANSWER_START] Ti O 512 512 512 512 512 0 [ANSWER_END] [EOS]")
    places = shown(perovskite().with_masked_sites([0], elements=False, positions=True))
    assert places.endswith("[ANSWER_START] 0 0 0 [ANSWER_END] [EOS]")
    with pytest.raises(ValueError, match="some of it is masked"):
        LANGUAGES[1024].crystal(both)
    with pytest.raises(ValueError, match="order them before anything is masked"):
        both.ordered([0, 1, 2, 3, 4])


def test_a_question_is_the_beginning_of_its_answer() -> None:
    asked = perovskite().with_masked_element(8)
    question = LANGUAGES[1024].encode(replace(asked, answer=None))
    whole = LANGUAGES[1024].encode(asked)
    np.testing.assert_array_equal(question[:-1], whole[: len(question) - 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": (0, 1, 1, 900, 900, 900)}, "length 0 is outside 1 to 10239"),
        ({"cell": (1, 1, 1, 900, 900, 1800)}, "angle 1800 is outside 1 to 1799"),
        ({"elements": np.array([1, 2, 3, 4, 119], np.int32)}, "119 is not an element"),
        ({"elements": np.array([1], np.int32)}, "1 elements but 5 positions"),
        ({"positions": np.full((5, 3), 1024, np.int32)}, "coordinate 1024 of 1024 lies outside"),
        ({"conditions": ((2, (231,)),)}, "space group 231"),
        ({"conditions": ((1, (5, 5)),)}, "slot 1 with 2 numbers; give one"),
        ({"conditions": ((0, (8,)),)}, "slot 0 with 1 numbers; give an atomic number and a count"),
        ({"conditions": ((4, (1,)), (3, (1,)))}, "ascending slots"),
    ],
)
def test_what_cannot_be_written_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LANGUAGES[1024].encode(replace(perovskite(), **change))


def test_other_languages_have_other_ids() -> None:
    joint = CrystalLanguage(1024, "l1-1k-e_per_A3")
    assert joint.density_range == (LANGUAGES[1024].total_size, LANGUAGES[1024].total_size + 1024)
    assert joint.hash != LANGUAGES[1024].hash
    assert joint.name(joint.density_range[0]) == "d0"
    with pytest.raises(ValueError, match="positions with 512 values an axis; choose 1024"):
        CrystalLanguage(512)
    with pytest.raises(IndexError):
        LANGUAGES[1024].name(LANGUAGES[1024].total_size)


def test_a_damaged_row_says_where() -> None:
    row = LANGUAGES[1024].encode(perovskite())
    row[3] = LANGUAGES[1024].int_range[0] + 12
    with pytest.raises(ValueError, match="block LATTICE, position 3: expected 0 to 9, found 12"):
        LANGUAGES[1024].decode(row)


def test_cells_are_laid_as_pymatgen_lays_them() -> None:
    from pymatgen.core.lattice import Lattice

    for parameters in ([3.0, 4.0, 5.0, 70.0, 80.0, 100.0], [2.0, 2.0, 9.0, 90.0, 90.0, 120.0]):
        np.testing.assert_allclose(
            lattice_matrix(parameters), Lattice.from_parameters(*parameters).matrix, atol=1e-12
        )
    with pytest.raises(ValueError, match="no cell has them"):
        lattice_matrix([3.0, 3.0, 3.0, 30.0, 30.0, 90.0])
    with pytest.raises(ValueError, match="give \\(6,\\)"):
        lattice_matrix([3.0, 3.0])
