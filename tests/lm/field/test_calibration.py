"""Calibrated widths: the factor, its file, and what a run and its predictions make of it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_field
from tomat.codec.relative import RelativeCodec
from tomat.lm.checkpoint import weights_hash
from tomat.lm.field.calibration import FILE, best_factor, read_factor, write_factor
from tomat.lm.field.checkpoint import open_field
from tomat.lm.field.head import HEADS, LogisticHead
from tomat.lm.field.levels import Levels
from tomat.lm.loss import functions
from tomat.lm.record import read_note
from tomat.lm.train import train

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = Levels.of(RelativeCodec.load("rel-256"))
X = jnp.zeros((4000, 3))


def drawn(head: LogisticHead, n: int) -> np.ndarray:
    """Values of x drawn from the distribution of a head at activations 0."""
    p = np.asarray(jax.nn.softmax(head(X[:1])[0]), np.float64)
    rng = np.random.default_rng(3)
    return rng.choice(LEVELS.points, n, p=p / p.sum())


def bits(head: LogisticHead, x: np.ndarray) -> float:
    place = np.searchsorted(LEVELS.edges[1:-1], x, side="right")
    return float(functions.cross_entropy(head(X[: len(x)]), jnp.asarray(place)).mean()) / math.log(2)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_widths_are_brought_to_the_errors(factor: float) -> None:
    right = LogisticHead.init(3, LEVELS).stretched(0.2)
    x = drawn(right, 4000)
    wrong = right.stretched(1 / factor)
    found = best_factor(lambda f: bits(wrong.stretched(f), x))
    assert found == pytest.approx(factor, rel=0.15)
    assert bits(wrong.stretched(found), x) <= bits(right, x) + 0.01
    pit = functions.pit(wrong.stretched(found)(X), jnp.asarray(x), jnp.asarray(LEVELS.points))
    for probability in (0.5, 0.9):
        assert float((jnp.abs(pit - 0.5) <= probability / 2).mean()) == pytest.approx(probability, abs=0.04)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_factor_of_1_changes_nothing_and_a_stretched_median_stays(name: str) -> None:
    head = HEADS[name](3, LEVELS)
    np.testing.assert_array_equal(head.stretched(1.0)(X[:2]), head(X[:2]))
    for factor in (0.5, 3.0):
        medians = functions.median(head.stretched(factor)(X[:2]), jnp.asarray(LEVELS.points))
        assert (np.asarray(medians) == 0).all()


def test_factors_of_a_run_are_kept_by_steps(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert read_factor(run, 10) == 1.0
    write_factor(run, 0, 0.8)
    write_factor(run, 10, 3.25)
    assert (read_factor(run, 0), read_factor(run, 10), read_factor(run, 5)) == (0.8, 3.25, 1.0)
    file = tmp_path / FILE
    file.write_text(file.read_text().replace("3.25", "1.25"))
    with pytest.raises(ValueError, match=r"calibration\.json"):
        read_factor(run, 10)


def test_predictions_take_the_factor_of_their_weights(tmp_path: Path) -> None:
    outcome = train(tiny_field.config(tmp_path, steps=4))
    numbers, run = outcome.evaluation, outcome.files.root
    assert numbers["one_pass/calibrated_bits_per_voxel"] > 0
    assert 0 < numbers["one_pass/inside_50"] <= numbers["one_pass/inside_90"] <= 1
    factor = numbers["one_pass/width_factor"]
    assert read_factor(run, 4) == factor
    calibrated = open_field(run, weights="latest")
    content = json.loads((tmp_path / "runs" / "tiny" / FILE).read_text())
    assert set(content["widths"]) == {"0", "4"}
    (tmp_path / "runs" / "tiny" / FILE).unlink()
    plain = open_field(run, weights="latest")
    assert weights_hash(calibrated.model) == weights_hash(plain.model.stretched(factor))
    assert read_note(run)["name"] == "tiny"
