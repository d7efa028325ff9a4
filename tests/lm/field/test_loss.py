"""The loss of field models against sums written out, and heads at their start."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("levanter")
import equinox as eqx
import haliax as hax

from tomat.codec.relative import RelativeCodec
from tomat.lm.field.head import HEADS
from tomat.lm.field.levels import Levels
from tomat.lm.field.loss import FieldLoss
from tomat.lm.loss import LossConfig

CODEC = RelativeCodec.load("rel-128")


def batch(seed: int = 0) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    axes = (hax.Axis("batch", 2), hax.Axis("crystal", 3), hax.Axis("voxel", 5))
    shape = tuple(axis.size for axis in axes)
    guess = rng.lognormal(-1, 1.5, shape).astype(np.float32)
    value = (guess + CODEC.scale(guess) * rng.normal(0, 1, shape)).astype(np.float32)
    weight = rng.random(shape).astype(np.float32)
    weight[:, 2] = 0
    named = {"guess": guess, "value": value, "weight": weight}
    logits = rng.normal(0, 1, (*shape, len(CODEC.levels))).astype(np.float32)
    return SimpleNamespace(**{k: hax.named(v, axes) for k, v in named.items()}), logits


def test_the_expected_error_is_the_expected_nmae() -> None:
    example, logits = batch()
    config = LossConfig(terms={"emd": 1.0})
    loss, metrics = FieldLoss(config, CODEC)(lambda _e, key: jax.numpy.asarray(logits), example)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    guess, value, weight = (
        np.asarray(n.array, np.float64) for n in (example.guess, example.value, example.weight)
    )
    levels = guess[..., None] + CODEC.scale(guess)[..., None] * CODEC.levels
    expected = (weight * (p * np.abs(levels - value[..., None])).sum(axis=-1)).sum() / len(weight)
    np.testing.assert_allclose(float(loss.array), expected, rtol=1e-4)
    nmae = (weight * np.abs(guess - value)).sum() / len(weight)
    np.testing.assert_allclose(float(metrics["nmae_guess"]), nmae, rtol=1e-4)


def test_terms_in_nats_are_weighted_means() -> None:
    example, logits = batch()
    loss, metrics = FieldLoss(LossConfig(terms={"cross_entropy": 0.5}), CODEC)(
        lambda _e, key: jax.numpy.asarray(logits), example
    )
    guess, value, weight = (
        np.asarray(n.array, np.float64) for n in (example.guess, example.value, example.weight)
    )
    ids = CODEC.encode(value, guess)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=-1, keepdims=True))
    nats = -np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
    by = weight * CODEC.scale(guess)
    np.testing.assert_allclose(float(metrics["cross_entropy"]), (by * nats).sum() / by.sum(), rtol=1e-4)
    np.testing.assert_allclose(float(loss.array), 0.5 * float(metrics["cross_entropy"]), rtol=1e-6)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("codec", ["rel-128", "rel-256", "rel-1k"])
def test_a_head_begins_with_level_0_as_its_median(name: str, codec: str) -> None:
    levels = Levels.of(RelativeCodec.load(codec))
    head = HEADS[name](7, levels)
    x = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    p = np.asarray(jax.nn.softmax(head(jax.numpy.asarray(x)), axis=-1), np.float64)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-5)
    below = p[:, levels.points < 0].sum(axis=-1)
    at = p[:, levels.points == 0].sum(axis=-1)
    assert (below < 0.5).all()
    assert (below + at > 0.5).all()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_where_densities_lie(name: str) -> None:
    """A few hundred steps on one place: the median comes to it."""
    levels = Levels.of(CODEC)
    head = HEADS[name](1, levels)
    example, _ = batch()
    scale = CODEC.scale(np.asarray(example.guess.array))
    value = np.asarray(example.guess.array) + 1.3 * scale
    moved: Any = SimpleNamespace(
        guess=example.guess,
        weight=example.weight,
        value=hax.named(value.astype(np.float32), example.value.axes),
    )
    loss = FieldLoss(LossConfig(terms={"crps": 1.0}), CODEC)
    x = jax.numpy.ones((*value.shape, 1))

    def error(h: Any) -> Any:
        return loss(lambda _e, key: h(x), moved)[0].array

    step = eqx.filter_jit(eqx.filter_value_and_grad(error))
    for _ in range(200):
        _, gradient = step(head)
        head = jax.tree.map(lambda h, g: h - 0.05 * jax.numpy.sign(g), head, gradient)
    metrics = loss(lambda _e, key: head(x), moved)[1]
    assert float(metrics["nmae_median"]) < 0.1 * float(metrics["nmae_guess"])


def test_bits_a_voxel_weight_the_voxels_of_every_crystal_equally() -> None:
    example, logits = batch()
    metrics = FieldLoss(LossConfig(terms={"emd": 1.0}), CODEC)(
        lambda _e, key: jax.numpy.asarray(logits), example
    )[1]
    guess, value, weight = (
        np.asarray(n.array, np.float64) for n in (example.guess, example.value, example.weight)
    )
    ids = CODEC.encode(value, guess)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=-1, keepdims=True))
    bits = -np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0] / np.log(2)
    # The third crystal of each row is padding.
    crystals = [np.average(bits[r, c], weights=weight[r, c]) for r in range(2) for c in range(2)]
    np.testing.assert_allclose(float(metrics["bits_per_voxel"]), np.mean(crystals), rtol=1e-4)
