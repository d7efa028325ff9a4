"""Colours of elements."""

from __future__ import annotations

import numpy as np
import pytest

from tomat.view.colours import element_colour


def test_elements_have_the_colours_of_jmol() -> None:
    colours = pytest.importorskip("ase.data.colors", reason="ASE is not installed").jmol_colors
    for z in range(1, len(colours)):
        rgb = [int(element_colour(z)[i : i + 2], 16) for i in (1, 3, 5)]
        np.testing.assert_allclose(rgb, colours[z] * 255, atol=1.0)
    assert element_colour(118) == element_colour(109)
