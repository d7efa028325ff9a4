"""Categories: the rules, their order, and the sets of elements behind them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core.composition import Composition
from pymatgen.core.periodic_table import Element

from tomat import _core
from tomat.categories import CATEGORIES, METALS, category, chemical_system, reduced_formula

SYMBOLS = list(_core.elements())


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", "halide"),
        ("CsPbI3", "halide"),
        ("NH4Cl", "halide"),
        ("BiSCl", "halide"),
        ("BiOCl", "oxyhalide"),
        ("KClO4", "oxyhalide"),
        ("ZnS", "chalcogenide"),
        ("Bi2Te3", "chalcogenide"),
        ("S", "chalcogenide"),
        ("La2O2S", "oxychalcogenide"),
        ("K2SO4", "oxychalcogenide"),
        ("TiO2", "oxide"),
        ("CaCO3", "oxide"),
        ("LiFePO4", "oxide"),
        ("O2", "oxide"),
        ("Ni3Al", "intermetallic"),
        ("Mg2Sn", "intermetallic"),
        ("Fe", "intermetallic"),
        ("U", "intermetallic"),
        ("Mg2Si", "other"),
        ("GaAs", "other"),
        ("Si", "other"),
        ("TiC", "other"),
        ("LiH", "other"),
        ("GaN", "other"),
        ("Xe", "other"),
    ],
)
def test_known_crystals(formula: str, expected: str) -> None:
    elements = Composition(formula).elements
    assert category([e.symbol for e in elements]) == expected
    assert category(np.array([e.Z for e in elements], dtype=np.int32)) == expected


@given(st.sets(st.sampled_from(SYMBOLS[:115]), min_size=1, max_size=6))
def test_every_set_of_elements_has_one(symbols: set[str]) -> None:
    """Against the rules in another form: what must be and what must not be there."""
    elements = [Element(s) for s in symbols]
    halogen = any(e.is_halogen for e in elements)
    chalcogen = any(e.is_chalcogen and e.symbol != "O" for e in elements)
    got = category(symbols)
    assert got in CATEGORIES
    assert ("halide" in got) == halogen
    assert ("chalcogenide" in got) == (chalcogen and not halogen)
    assert got.startswith("ox") == ("O" in symbols)
    assert (got == "intermetallic") == (symbols <= METALS)


def test_metals_are_pymatgens_but_for_the_borderline() -> None:
    """pymatgen's metals by group; polonium is a chalcogen here, livermorium and tennessine go with their groups."""
    theirs = {e.symbol for e in Element if e.is_metal or e.is_post_transition_metal} & set(SYMBOLS)
    assert theirs ^ METALS <= {"Po", "Ge", "Sb", "Lv", "Ts", "Nh", "Fl", "Mc", "Cn", "Mt", "Ds", "Rg"}
    assert len(METALS) == 118 - 6 - 5 - 12 - 5


def test_formula() -> None:
    assert reduced_formula([22, 22, 8, 8, 8, 8]) == "O2Ti"
    assert reduced_formula(["C", "O", "Ca", "O", "O"]) == "CCaO3"
    assert reduced_formula(["H", "C", "H", "H", "H"]) == "CH4"
    assert reduced_formula(np.array([14, 14])) == "Si"
    assert reduced_formula([1, 1, 8]) == "H2O"


@given(st.lists(st.integers(1, 118), min_size=1, max_size=12))
def test_formula_has_the_composition(numbers: list[int]) -> None:
    formula = reduced_formula(numbers)
    amounts = Composition(formula)
    scale = len(numbers) / amounts.num_atoms
    for number in set(numbers):
        assert amounts[Element.from_Z(number)] * scale == pytest.approx(numbers.count(number))


def test_what_is_no_element() -> None:
    with pytest.raises(ValueError, match="no elements"):
        category([])
    with pytest.raises(ValueError, match="'Xx' is not the symbol"):
        category(["O", "Xx"])
    with pytest.raises(ValueError, match="0 is not an atomic number"):
        category([0])
    with pytest.raises(ValueError, match="119 is not an atomic number from 1 to 118"):
        reduced_formula([119])
    with pytest.raises(ValueError, match="no atoms"):
        reduced_formula([])


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=8))
def test_a_chemical_system_is_that_of_pymatgen(symbols: list[str]) -> None:
    expected = Composition("".join(symbols)).chemical_system
    assert chemical_system(symbols) == expected
    assert chemical_system(SYMBOLS.index(symbol) + 1 for symbol in symbols) == expected
