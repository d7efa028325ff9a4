"""Meshes of k points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomat.densities.kmesh import mesh, parse_mesh

FCC = 2.7344445 * (1.0 - np.eye(3))


def test_known_meshes() -> None:
    assert mesh(np.diag([4.0, 4.0, 8.0]), 0.3) == (6, 6, 3)
    assert mesh(FCC, 0.3) == (7, 7, 7)
    assert mesh(np.diag([30.0, 30.0, 30.0]), 0.3) == (1, 1, 1)
    # Exactly on the spacing: no point more for the last digit.
    assert mesh(np.diag([2 * np.pi] * 3), 0.25) == (4, 4, 4)


@given(
    st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    st.floats(0.1, 1.0),
    st.permutations([0, 1, 2]),
)
def test_neighbours_are_near_enough(parts: list[float], spacing: float, order: list[int]) -> None:
    """The definition, and no axis matters more than another."""
    lattice = 4.0 * np.eye(3) + np.reshape(parts, (3, 3))
    found = np.array(mesh(lattice, spacing))
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(lattice).T, axis=1)
    assert (lengths / found <= spacing * (1 + 1e-3)).all()
    assert ((found == 1) | (lengths / (found - 1).clip(1) > spacing)).all()
    assert mesh(lattice[order], spacing) == tuple(found[order])


def test_meshes_in_words() -> None:
    assert parse_mesh("4,4,2") == (4, 4, 2) == parse_mesh("4x4x2")
    assert parse_mesh("3") == (3, 3, 3)
    for text in ("", "4,4", "4,4,0", "4,4,-1", "a", "4.5"):
        with pytest.raises(ValueError, match="whole numbers"):
            parse_mesh(text)
