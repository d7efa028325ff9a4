"""Inputs, targets, values and weights of the three objectives, for codecs of one token a voxel and of two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import example_oracle
import tomat
from data_sets import CASES
from runs import IDS, LABEL
from tomat.lm.data import RowBatch, Rows, open_rows
from tomat.lm.data.shuffle import keys_of
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.vocabulary import ModelVocabulary

SIZE = 1024
KEYS = keys_of(1, np.arange(24))


@pytest.fixture(scope="module", params=list(CASES))
def rows(request: pytest.FixtureRequest) -> Rows:
    return open_rows(CASES[request.param].on_the_fly(pack=True, guess="slater"), SIZE)


@pytest.fixture(scope="module")
def batch(rows: Rows) -> RowBatch:
    return rows.rows(0, np.arange(24))


@pytest.fixture(scope="module")
def vocabulary(rows: Rows) -> ModelVocabulary:
    return ModelVocabulary(rows.tokenizer)


def is_density(tokens: NDArray[np.int32], vocabulary: ModelVocabulary) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (tokens >= vocabulary.density.start) & (tokens < vocabulary.density.stop)
    return found


def check_targets(arrays: dict[str, NDArray[Any]], vocabulary: ModelVocabulary) -> None:
    """Where a loss is taken, the value and the target say the same: the value encodes as the target decodes."""
    asked = (arrays["loss_weight"] > 0) & is_density(arrays["targets"], vocabulary)
    sizes = vocabulary.codec.sizes
    last = arrays["targets"] >= vocabulary.density.stop - sizes[-1]
    assert not arrays["values"][asked & ~last].any()
    components = vocabulary.codec.encode(arrays["values"][asked & last])[:, -1]
    np.testing.assert_array_equal(
        components + vocabulary.density.stop - sizes[-1], arrays["targets"][asked & last]
    )
    for name, dtype in {
        "tokens": "i4",
        "targets": "i4",
        "values": "f4",
        "loss_weight": "f4",
        "pos_ids": "i4",
    }.items():
        assert arrays[name].dtype == np.dtype(dtype), name


@pytest.mark.parametrize("weights", ["equal", "nmae"])
@pytest.mark.parametrize(
    "config",
    [
        ObjectiveConfig("next_token"),
        ObjectiveConfig("next_token", preamble_weight=0.5),
        ObjectiveConfig("guess"),
        *(ObjectiveConfig("masked", schedule) for schedule in ("all", "uniform", "cosine")),
    ],
    ids=lambda config: f"{config.kind}-{config.schedule}-{config.preamble_weight}",
)
def test_examples_are_those_of_the_oracle(
    config: ObjectiveConfig, weights: str, batch: RowBatch, vocabulary: ModelVocabulary
) -> None:
    config = replace(config, voxel_weights=weights)
    before = {name: array.copy() for name, array in vars(batch).items()}
    for seed in range(20):
        keys = keys_of(seed, np.arange(len(batch)))
        made = config.build().examples(batch, vocabulary, keys)
        for name, array in example_oracle.examples(config, batch, vocabulary, keys).items():
            assert made[name].dtype == array.dtype, name
            np.testing.assert_array_equal(made[name], array, err_msg=name)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(batch, name), array, err_msg=f"{name} is left as it was")


def test_next_token_asks_each_token_of_the_one_before(batch: RowBatch, vocabulary: ModelVocabulary) -> None:
    config = ObjectiveConfig("next_token", preamble_weight=0.5)
    arrays = config.build().examples(batch, vocabulary, KEYS)
    assert config.build().causal
    check_targets(arrays, vocabulary)
    np.testing.assert_array_equal(arrays["tokens"], batch.tokens)
    for row in range(len(batch)):
        for segment in range(int(batch.segments[row].max()) + 1):
            places = np.flatnonzero(batch.segments[row] == segment)
            np.testing.assert_array_equal(arrays["targets"][row, places[:-1]], batch.tokens[row, places[1:]])
            np.testing.assert_array_equal(arrays["values"][row, places[:-1]], batch.values[row, places[1:]])
            density = is_density(batch.tokens[row, places[1:]], vocabulary)
            expected = np.where(density, 1.0, 0.5)
            np.testing.assert_array_equal(arrays["loss_weight"][row, places[:-1]], expected)
            assert arrays["loss_weight"][row, places[-1]] == 0, "nothing is asked across sequences"
    assert not arrays["loss_weight"][batch.segments < 0].any()
    without = ObjectiveConfig("next_token").build().examples(batch, vocabulary, KEYS)
    np.testing.assert_array_equal(
        without["loss_weight"] > 0, (arrays["loss_weight"] > 0) & is_density(arrays["targets"], vocabulary)
    )


@pytest.mark.parametrize("schedule", ["all", "uniform", "cosine"])
def test_masked_hides_whole_voxels_and_asks_for_them(
    schedule: str, batch: RowBatch, vocabulary: ModelVocabulary
) -> None:
    config = ObjectiveConfig("masked", schedule)
    arrays = config.build().examples(batch, vocabulary, KEYS)
    assert not config.build().causal
    check_targets(arrays, vocabulary)
    masked = arrays["tokens"] == vocabulary.mask
    density = is_density(batch.tokens, vocabulary)
    assert not (masked & ~density).any(), "the preamble is visible"
    np.testing.assert_array_equal(arrays["tokens"][~masked], batch.tokens[~masked])
    np.testing.assert_array_equal(arrays["targets"], batch.tokens)
    np.testing.assert_array_equal(arrays["values"], batch.values)
    np.testing.assert_array_equal(arrays["loss_weight"], masked.astype(np.float32))
    k = len(vocabulary.codec.sizes)
    for row in range(len(batch)):
        words = masked[row][density[row]].reshape(-1, k)
        assert (words.all(axis=1) == words.any(axis=1)).all()
        assert words.any()
    if schedule == "all":
        np.testing.assert_array_equal(masked, density)


@pytest.mark.parametrize(("schedule", "mean", "spread"), [("uniform", 0.5, 0.289), ("cosine", 0.637, 0.308)])
def test_shares_are_drawn_for_each_sequence(
    schedule: str, mean: float, spread: float, rows: Rows, vocabulary: ModelVocabulary
) -> None:
    shares = []
    batch = rows.rows(0, np.arange(24))
    density = is_density(batch.tokens, vocabulary)
    for key in range(25):
        arrays = (
            ObjectiveConfig("masked", schedule)
            .build()
            .examples(batch, vocabulary, keys_of(key, np.arange(24)))
        )
        masked = arrays["tokens"] == vocabulary.mask
        for segment in range(int(batch.segments.max()) + 1):
            inside = density & (batch.segments == segment)
            there = inside.any(axis=1)
            shares.append((masked & inside).sum(axis=1)[there] / inside.sum(axis=1)[there])
    together = np.concatenate(shares)
    assert len(together) > 600
    assert together.mean() == pytest.approx(mean, abs=0.04)
    assert together.std() == pytest.approx(spread, abs=0.03)


def test_masks_follow_from_keys(batch: RowBatch, vocabulary: ModelVocabulary, rows: Rows) -> None:
    config = ObjectiveConfig("masked", "uniform")
    first, again, other = (
        config.build().examples(batch, vocabulary, keys)["tokens"]
        for keys in (KEYS, KEYS, KEYS + np.uint64(1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    alone = config.build().examples(rows.rows(0, [3]), vocabulary, KEYS[3:4])
    np.testing.assert_array_equal(alone["tokens"], first[3:4])


def test_guess_shows_the_starting_density_and_asks_for_all(
    batch: RowBatch, vocabulary: ModelVocabulary, rows: Rows
) -> None:
    arrays = ObjectiveConfig("guess").build().examples(batch, vocabulary, KEYS)
    check_targets(arrays, vocabulary)
    density = is_density(batch.tokens, vocabulary)
    assert batch.guess is not None
    np.testing.assert_array_equal(arrays["tokens"], np.where(density, batch.guess, batch.tokens))
    assert is_density(arrays["tokens"], vocabulary).sum() == density.sum()
    np.testing.assert_array_equal(arrays["targets"], batch.tokens)
    np.testing.assert_array_equal(arrays["loss_weight"], density.astype(np.float32))
    plain = replace(batch, guess=None)
    with pytest.raises(ValueError, match=r"set data\.guess"):
        ObjectiveConfig("guess").build().examples(plain, vocabulary, KEYS)


@pytest.mark.parametrize("kind", ["next_token", "masked", "guess"])
def test_nmae_weights_make_the_loss_of_a_material_its_nmae(kind: str) -> None:
    """On a grid the patches cover once, the weighted mean absolute error is the NMAE of the whole density."""
    case = CASES["v3"]
    name = IDS[0]
    material = tomat.read(LABEL / f"{name}.zarr")
    nx, ny, nz = material.grid_shape
    corners = [(x, y, z) for x in range(0, nx, 6) for y in range(0, ny, 6) for z in range(0, nz, 6)]
    exact = nx % 6 == ny % 6 == nz % 6 == 0
    rows = open_rows(
        case.on_the_fly(limit=1, guess="slater"),
        512,
        sampler=lambda *_: np.array(corners),
        budget=lambda _: len(corners),
    )
    vocabulary = ModelVocabulary(rows.tokenizer)
    batch = rows.rows(0, np.arange(len(rows)))
    config = ObjectiveConfig(kind, "all", voxel_weights="nmae")
    arrays = config.build().examples(batch, vocabulary, keys_of(0, np.arange(len(rows))))
    asked = arrays["loss_weight"] > 0
    decoded = vocabulary.codec.decode((arrays["targets"][asked] - vocabulary.density.start)[:, None])
    error = np.abs(decoded - arrays["values"][asked]) * arrays["loss_weight"][asked]
    assert asked.sum() == batch.n_voxels.sum()
    truth = material.density
    expected = np.abs(vocabulary.codec.roundtrip(truth) - truth).sum() / np.abs(truth).sum()
    assert error.mean() == pytest.approx(expected, rel=1e-3 if exact else 0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "causal"}, "choose one of next_token, masked, guess"),
        ({"schedule": "linear"}, "choose one of all, cosine, uniform"),
        ({"voxel_weights": "none"}, "choose one of equal, nmae"),
        ({"kind": "masked", "preamble_weight": 1.0}, "does not predict the preamble"),
        ({"kind": "guess", "preamble_weight": 0.1}, "does not predict the preamble"),
        ({"kind": "next_token", "preamble_weight": -1.0}, "must be 0 or above"),
    ],
)
def test_objectives_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**settings)
