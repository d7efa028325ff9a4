"""What is shown of a density: which quantities, and at which levels."""

from __future__ import annotations

import numpy as np
import pytest

from tomat.crystal import Crystal
from tomat.view.colours import LESS, MORE
from tomat.view.density import alone, compared, slices, surfaces

CRYSTAL = Crystal.of(np.diag([3.0, 4.0, 5.0]), [3], [[0.5, 0.5, 0.5]], "m")


def _smooth(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[2 * np.pi * np.arange(n) / n for n in (12, 14, 16)], indexing="ij")
    a, b, c, d = rng.uniform(0.1, 0.4, 4)
    return np.asarray(np.exp(a * np.cos(x) + b * np.cos(y + 1) + c * np.sin(z) + d * np.cos(x + y - z)))


def test_a_truth_is_beside_the_prediction_and_their_difference_has_two_colours() -> None:
    predicted, true = _smooth(0), _smooth(1)
    one, other, difference = compared(predicted, true)
    assert [x.title for x in (one, other, difference)] == ["predicted", "true", "predicted minus true"]
    assert one.level == other.level
    assert one.scale == other.scale
    assert true[true >= other.level].sum() == pytest.approx(0.5 * true.sum(), rel=0.02)
    size = np.abs(predicted - true)
    assert size[size >= difference.level].sum() == pytest.approx(0.5 * size.sum(), rel=0.02)
    more, less = difference.bodies((12, 14, 16))
    assert (more.colour, less.colour) == (MORE, LESS)
    np.testing.assert_array_equal(more.values, predicted - true)
    np.testing.assert_array_equal(more.values, -less.values)
    assert more.level == less.level == difference.level
    for figure, sign in zip(surfaces(CRYSTAL, [one, difference]), ("", "\u00b1"), strict=True):
        assert figure.solid
        assert f"isosurface at {sign}" in figure.says
        assert "e/Å³" in figure.says


def test_without_a_truth_what_is_there_is_shown() -> None:
    predicted = _smooth(0)
    assert [x.title for x in alone(predicted, None, None)] == ["predicted"]
    spread = np.abs(_smooth(2) - 1).astype(np.float32)
    shown = alone(predicted, _smooth(1), spread)
    assert [x.title for x in shown] == ["predicted", "predicted minus promolecule", "spread"]
    assert [x.scale.signed for x in shown] == [False, True, False]
    # A promolecule that was predicted differs from itself by nothing, which has no surface.
    assert [x.title for x in alone(predicted, predicted.copy(), np.zeros_like(spread))] == ["predicted"]


def test_slices_name_their_plane() -> None:
    figures = slices(CRYSTAL, compared(_smooth(0), _smooth(1)), 1, 0.5)
    assert len(figures) == 3
    assert all("plane of a and c at 0.500 b" in figure.says for figure in figures)
