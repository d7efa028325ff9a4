"""Attention knows positions by their differences alone, and nothing of what is not there."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("levanter")
import jax
import jax.numpy as jnp

from tiny_brick import SHAPE
from tomat.lm.brick.transformer import Geometry, Transformer


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer.init(jax.random.PRNGKey(0), SHAPE)
    rng = np.random.default_rng(1)
    leaves, structure = jax.tree.flatten(model)
    moved = [leaf + 0.2 * jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves]
    found: Transformer = jax.tree.unflatten(structure, moved)
    return found


@pytest.fixture(scope="module")
def positions() -> jax.Array:
    return jnp.asarray(np.random.default_rng(2).normal(size=(9, 3)) * 2, jnp.float32)


@pytest.fixture(scope="module")
def x() -> jax.Array:
    return jnp.asarray(np.random.default_rng(3).normal(size=(9, SHAPE.width)), jnp.float32)


def test_a_shift_of_all_positions_changes_nothing(
    model: Transformer, positions: jax.Array, x: jax.Array
) -> None:
    ones = jnp.ones(9)
    here = model(x, Geometry.of(positions, ones, SHAPE))
    there = model(x, Geometry.of(positions + jnp.array([0.3, -1.0, 2.0]), ones, SHAPE))
    np.testing.assert_allclose(here, there, rtol=2e-3, atol=2e-3)
    moved = positions.at[4, 1].add(0.5)
    assert np.abs(model(x, Geometry.of(moved, ones, SHAPE)) - here).max() > 0.01


def test_what_is_absent_is_not_seen(model: Transformer, positions: jax.Array, x: jax.Array) -> None:
    present = jnp.ones(9).at[6:].set(0)
    here = model(x, Geometry.of(positions, present, SHAPE))[:6]
    other = model(x.at[6:].add(3.0), Geometry.of(positions.at[6:].add(1.0), present, SHAPE))[:6]
    np.testing.assert_allclose(here, other, rtol=1e-5, atol=1e-5)


def test_positions_in_the_sequence_do_not_know_space(
    model: Transformer, positions: jax.Array, x: jax.Array
) -> None:
    shape = dataclasses.replace(SHAPE, positions="index")
    here = model(x, Geometry.of(positions, jnp.ones(9), shape))
    np.testing.assert_array_equal(here, model(x, Geometry.of(positions * 2, jnp.ones(9), shape)))


def test_dropout_acts_in_training_alone(model: Transformer, positions: jax.Array, x: jax.Array) -> None:
    of = Geometry.of(positions, jnp.ones(9), SHAPE)
    np.testing.assert_array_equal(model(x, of), model(x, of))
    assert np.abs(model(x, of, jax.random.PRNGKey(5)) - model(x, of)).max() > 0.01
