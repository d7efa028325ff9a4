"""Previews: a picture of every density, in the geometry of its cell."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import tomat
from tomat.prediction.picture import Sight
from tomat.prediction.preview import preview
from tomat.view.plane import plane_basis

LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])


def of(values: object, unit: str = "chgcar") -> tomat.Material:
    return tomat.Material.of(
        "m", np.asarray(values), unit, LATTICE, [8, 14], [[0.1, 0.2, 0.3], [1.2, -0.4, 0.5]]
    )


def test_any_density_has_a_picture(tmp_path: Path) -> None:
    """Negative, empty, one point thick."""
    rng = np.random.default_rng(0)
    for index, values in enumerate((rng.normal(size=(5, 6, 7)), np.zeros((3, 3, 3)), np.ones((1, 1, 1)))):
        preview(Sight(of(values)), tmp_path / f"{index}.png")
        image = matplotlib.image.imread(tmp_path / f"{index}.png")
        assert image.shape[1] > 900
        assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20


def test_a_truth_adds_two_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = (of(rng.lognormal(size=(5, 6, 7))) for _ in range(2))
    preview(Sight(one), tmp_path / "one.png")
    preview(Sight(one, other.in_unit("e_per_A3")), tmp_path / "two.png")
    heights = [matplotlib.image.imread(tmp_path / f"{name}.png").shape[0] for name in ("one", "two")]
    assert heights[0] < heights[1] / 2
    with pytest.raises(ValueError, match=r"m: the true density has the grid \(5, 6, 8\)"):
        preview(Sight(one, of(np.ones((5, 6, 8)))), tmp_path / "x.png")


def test_planes_keep_lengths_and_angles() -> None:
    u, v = LATTICE[0], LATTICE[2]
    basis = plane_basis(u, v)
    np.testing.assert_allclose(basis @ basis.T, [[u @ u, u @ v], [u @ v, v @ v]])


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'tomat\[plot\]'"):
        preview(Sight(of(np.ones((2, 2, 2)))), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
