"""What stands before a crystal."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tomat.crystal import Crystal
from tomat.language import Column, Conditions
from tomat.symmetry import space_group

CUBIC = Crystal.from_parameters(
    [3.9] * 3 + [90.0] * 3,
    [38, 22, 8, 8, 8],
    [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]],
)


def test_conditions_of_a_crystal() -> None:
    gap = Column("gap", (0.5, 1.5))
    every = Conditions(formula=True, n_atoms=True, space_group=True, columns=(gap, Column("e", (0.0,))))
    assert every.slots == {"formula": 0, "n_atoms": 1, "space_group": 2, "gap": 3, "e": 4}
    slots = every.of(CUBIC, {"gap": 1.5})
    assert slots == ((0, (8, 3, 22, 1, 38, 1)), (1, (5,)), (2, (221,)), (3, (2,)))
    assert Conditions.from_json(json.loads(json.dumps(every.to_json()))) == every
    assert Conditions().of(CUBIC, {"gap": 1.0}) == ()


def test_bins_hold_as_many_values_each() -> None:
    values = np.random.default_rng(0).lognormal(size=1000)
    column = Column.fit("x", values, 8)
    counts = np.bincount([column.bin(value) for value in values])
    assert len(counts) == 8
    assert counts.min() >= 120
    assert column.bin(-1e9) == 0
    assert column.bin(1e9) == 7


def test_bins_of_a_few_values_keep_them_apart() -> None:
    column = Column.fit("x", [0.0] * 90 + [1.0] * 5 + [2.0] * 5, 32)
    assert [column.bin(value) for value in (0.0, 1.0, 2.0)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "0 values"), ([1.0, np.nan], "not all of them finite"), ([2.0, 2.0], "all values are 2")],
)
def test_what_cannot_be_binned(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column.fit("x", values)


def test_columns_are_checked() -> None:
    with pytest.raises(ValueError, match="ascending edges"):
        Column("x", (1.0, 1.0))
    with pytest.raises(ValueError, match="at most 1024"):
        Column("x", tuple(map(float, range(1024))))
    with pytest.raises(ValueError, match="nan is not finite"):
        Column("x", (1.0,)).bin(float("nan"))


def test_a_space_group_is_that_of_the_atoms() -> None:
    assert space_group(CUBIC) == 221
    moved = Crystal.of(CUBIC.lattice, CUBIC.atomic_numbers, CUBIC.frac_coords + np.array([0.1, 0.2, 0.3]))
    assert space_group(moved) == 221
    places = CUBIC.frac_coords.copy()
    places[1, 2] += 0.03
    assert space_group(Crystal.of(CUBIC.lattice, CUBIC.atomic_numbers, places)) == 99
