"""Features of elements: for all of them, of like size, and alike for elements that are."""

import numpy as np
import pytest

from tomat.lm.field.elements import N_FEATURES, element_features, periodic_place
from tomat.promolecule import UnscaledPromolecule


@pytest.mark.parametrize("promolecule", ["qe-sg15", "slater"])
def test_every_element_has_features_of_about_the_same_size(promolecule: str) -> None:
    table = element_features(UnscaledPromolecule.load(promolecule))
    assert table.shape == (119, N_FEATURES)
    assert np.isfinite(table).all()
    assert np.abs(table).max() < 16  # where Slater's rules stand in, tails of densities are at the floor
    assert np.abs(table[1:]).mean() < 1.5
    assert len(np.unique(table[1:], axis=0)) == 118


@pytest.mark.parametrize("z", [8, 14, 20, 35, 45, 55, 59])
def test_elements_are_close_to_their_neighbours_in_the_table(z: int) -> None:
    table = element_features(UnscaledPromolecule.load("qe-sg15"))[:84]
    nearest = 1 + np.argsort(np.linalg.norm(table[1:] - table[z], axis=1))[1:4]
    group = periodic_place(z)[1]
    assert any(abs(other - z) == 1 or periodic_place(int(other))[1] == group for other in nearest)


@pytest.mark.parametrize(
    ("z", "place"),
    [
        (1, (1, 1, "s")),
        (2, (1, 18, "s")),
        (6, (2, 14, "p")),
        (12, (3, 2, "s")),
        (26, (4, 8, "d")),
        (31, (4, 13, "p")),
        (57, (6, 3, "f")),
        (70, (6, 3, "f")),
        (71, (6, 3, "d")),
        (79, (6, 11, "d")),
        (118, (7, 18, "p")),
    ],
)
def test_places_in_the_periodic_table(z: int, place: tuple[int, int, str]) -> None:
    assert periodic_place(z) == place
