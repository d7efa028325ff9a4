"""A run with positions in space and the field's eyes: what it is trained on is what it predicts with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("levanter")
from levanter.models.qwen import Qwen3LMHeadModel

import tiny
import tiny_field
import tiny_spatial
import tomat
from tomat.crystal import Crystal
from tomat.lm.checkpoint import Trained, open_checkpoint
from tomat.lm.data import open_rows
from tomat.lm.decode.kinds import export_kind
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.spatial.view import View
from tomat.lm.tasks import estimate_task
from tomat.lm.train import Outcome, train
from tomat.lm.vocabulary import ModelVocabulary
from tomat.metrics import nmae_of_sums
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PatchRequest
from tomat.promolecule import UnscaledPromolecule
from tomat.tokenizer import PatchTokenizer

GRID, SHAPE = (12, 14, 16), (3, 3, 3)
type Run = tuple[Trained, Outcome, Path]


@pytest.fixture(scope="module", params=["guess", "masked"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    outcome = train(tiny_spatial.config(folder, kind=request.param))
    return open_checkpoint(outcome.files.root, weights="latest"), outcome, folder


def asked(crystal: Crystal, grid: tuple[int, int, int], offset: tuple[int, int, int]) -> PatchRequest:
    guess = UnscaledPromolecule.load("qe-sg15").density(crystal, grid)
    where = np.ix_(*((o + np.arange(s)) % n for o, s, n in zip(offset, SHAPE, grid, strict=True)))
    return PatchRequest(crystal, grid, offset, SHAPE, np.ascontiguousarray(guess[where], np.float32))


def eyes_of(trained: Trained) -> Any:
    """The eyes of a model."""
    model: Any = trained.model
    return model.eyes


def predictor(trained: Trained) -> ModelPredictor:
    return ModelPredictor(trained, DecodingConfig("one_pass", batch_size=4))


def test_prediction_scores_what_evaluation_while_training_said(run: Run) -> None:
    trained, outcome, folder = run
    config = tiny_spatial.config(folder, kind=trained.objective.config.kind)
    assert config.validation is not None
    rows = open_rows(config.validation, 128)
    requests = []
    for index in range(len(rows)):
        name, corner = rows.row_id(0, index).split("@")
        material = tomat.read(tiny.DATA / "label" / f"{name}.zarr").in_unit("e_per_A3")
        x, y, z = (int(part) for part in corner.split(","))
        given = asked(material.crystal, material.grid_shape, (x, y, z))
        truth = material.density[
            np.ix_(*((o + np.arange(3)) % n for o, n in zip((x, y, z), material.grid_shape, strict=True)))
        ]
        requests.append(replace(given, truth=np.ascontiguousarray(truth, np.float32)))
    predicted = predictor(trained).predict(requests)
    pairs = [(p.density, np.asarray(one.truth)) for p, one in zip(predicted, requests, strict=True)]
    error = sum(float(np.abs(density - truth).sum()) for density, truth in pairs)
    total = sum(float(np.abs(truth).sum()) for _, truth in pairs)
    np.testing.assert_allclose(
        nmae_of_sums(error, total), outcome.evaluation["one_pass/nmae_pooled_median"], rtol=2e-4
    )
    alone = predictor(trained).predict(requests[1:2])[0]
    np.testing.assert_allclose(predicted[1].density, alone.density, rtol=1e-4, atol=1e-6)


def test_a_shift_of_the_crystal_with_its_patch_changes_nothing(run: Run) -> None:
    crystal, trained = tiny_field.quartz(), run[0]
    moved = Crystal.of(
        crystal.lattice, crystal.atomic_numbers, (crystal.frac_coords + np.array([5, 2, 9]) / GRID) % 1
    )
    first = predictor(trained).predict([asked(crystal, GRID, (7, 3, 11))])[0].density
    second = predictor(trained).predict([asked(moved, GRID, (0, 5, 4))])[0].density
    np.testing.assert_allclose(second, first, rtol=2e-4)


def test_a_supercell_has_the_same_voxels_and_the_same_atoms_near_them(run: Run) -> None:
    """Only the preamble says which cell was given."""
    crystal, trained = tiny_field.quartz(), run[0]
    half = crystal.frac_coords * [0.5, 1, 1]
    n = len(crystal.atomic_numbers)
    double = Crystal.of(
        crystal.lattice * [[2], [1], [1]],
        np.tile(crystal.atomic_numbers, 2),
        np.concatenate([half, half + np.array([0.5, 0, 0])]),
    )
    eyes = eyes_of(trained)
    # Eyes of a few steps hardly see.
    eyes = eqx.tree_at(
        lambda one: one.of_voxel.weight, eyes, jax.random.normal(jax.random.PRNGKey(0), (12, 16))
    )
    found = []
    for of, grid, offset in ((crystal, GRID, (7, 3, 11)), (double, (24, 14, 16), (19, 3, 11))):
        request = asked(of, grid, offset)
        row = trained.vocabulary.tokenizer.encode(
            np.zeros(grid, np.float32), of.lattice, of.atomic_numbers, of.frac_coords, [offset]
        )
        density = trained.vocabulary.density
        inside = np.flatnonzero((row[0] >= density.start) & (row[0] < density.stop))
        columns = slice(int(inside[0]), int(inside[-1]) + 1)
        space = View.of(trained).space([request], row, [columns])
        atoms = np.asarray(space.atoms.array[0])
        places = np.asarray(space.places.array[0])
        nearest = {int(at): places[atoms == at][0] for at in np.unique(atoms[atoms < len(of.atomic_numbers)])}
        found.append((places[columns], np.asarray(eyes(space))[0, columns], nearest))
    # The nearest image of each atom in both cells.
    (places, seen, images), (other_places, other_seen, other_atoms) = found
    np.testing.assert_allclose(other_places, places, atol=1e-5)
    assert np.abs(seen - seen[0]).max() > 1e-2
    np.testing.assert_allclose(other_seen, seen, rtol=1e-3, atol=1e-3)
    for at, place in images.items():
        twins = [other_atoms[at], other_atoms[at + n]]
        assert min(np.abs(twin - place).max() for twin in twins) < 1e-4


def test_the_options_are_kept_and_the_eyes_were_trained(run: Run) -> None:
    trained, outcome, _ = run
    assert trained.config.spatial
    first = eyes_of(open_checkpoint(outcome.files.root, weights="start"))
    assert (first.of_voxel.weight == 0).all()
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first, eyes_of(trained))
    assert moved.of_voxel.weight > 1e-3
    assert moved.field.readout.layers[0].weight > 1e-4
    attention = trained.model.transformer.layers.stacked.self_attn
    assert np.abs(attention.distance.array).max() > 1e-5


def test_an_export_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be exported: the Qwen3 of transformers has no such inputs"):
        export_kind(run[1].files.root, tmp_path / "exported")


def test_a_request_without_a_guess_is_refused(run: Run) -> None:
    request = replace(asked(tiny_field.quartz(), GRID, (7, 3, 11)), guess=None)
    with pytest.raises(ValueError, match="has no guess"):
        predictor(run[0]).predict([request])


def test_a_dry_run_counts_what_is_seen(tmp_path: Path) -> None:
    seeing = estimate_task(tiny_spatial.config(tmp_path), mfu=0.4).as_json()
    plain = estimate_task(tiny.config(tmp_path, steps=4), mfu=0.4).as_json()
    assert seeing["parameters"] > plain["parameters"] + 1000
    assert seeing["flops"] > plain["flops"]


def test_a_model_of_indices_is_what_it_was() -> None:
    """Its weights are those of Levanter's model from the same key, and a spatial model begins with them."""
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-1k", pad_to=128, patch_size=3))
    key = jax.random.PRNGKey(3)
    config = ModelConfig(seq_len=128, initialisation="random")
    levanter = levanter_config(config, bidirectional=True)
    model = build(levanter, vocabulary, key)
    plain = Qwen3LMHeadModel.init(
        hax.Axis("vocab", vocabulary.padded_size), levanter, key=jax.random.split(key)[0]
    )
    pairs = zip(jax.tree.leaves(model), jax.tree.leaves(plain), strict=True)
    assert all(bool((a == b).all()) for a, b in pairs)
    field = replace(config.field, tokens=True)
    seeing = build(levanter_config(replace(config, positions="cartesian", field=field)), vocabulary, key)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        there = dict(jax.tree_util.tree_leaves_with_path(seeing)).get(path)
        assert there is not None
        assert (there == leaf).all()
