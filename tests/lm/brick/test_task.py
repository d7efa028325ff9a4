"""Runs of brick models: start, resumption, prediction, and a field model as the starting density."""

from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_brick
import tiny_field
import tomat
from tomat.lm.brick.checkpoint import open_brick
from tomat.lm.brick.predictor import BrickPredictor
from tomat.lm.brick.task import BrickTask
from tomat.lm.checkpoint import weights_hash
from tomat.lm.data.shuffle import key_of
from tomat.lm.decode.kinds import export_kind
from tomat.lm.decode.opening import open_predictor
from tomat.lm.field.calibration import read_factor
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.field.task import FieldTask
from tomat.lm.metrics_file import read_metrics
from tomat.lm.tasks import estimate_task
from tomat.lm.train import Outcome, train
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig

MATERIAL = tiny_field.DATA / "label" / "qe-0040.zarr"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("brick")
    return folder / "runs" / "tiny", train(tiny_brick.config(folder, steps=2))


def test_a_run_begins_with_the_promolecule_and_predicts(finished: tuple[Path, Outcome]) -> None:
    run, outcome = finished
    assert outcome.steps == 2
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval/one_pass/nmae_median" in line]
    first = evaluated[0]
    np.testing.assert_allclose(first["eval/one_pass/nmae_median"], first["eval/promolecule/nmae"], rtol=1e-6)
    assert evaluated[-1]["eval/one_pass/width_factor"] > 0
    predictor = open_predictor(run, DecodingConfig(weights="latest"))
    found = predict_density(predictor, tomat.read(MATERIAL).crystal, (10, 10, 10))
    assert found.mode == "one_pass"
    assert np.isfinite(found.material.density).all()


def test_an_export_is_the_same_model(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    trained = open_brick(str(finished[0]), weights="latest")
    export_kind(str(finished[0]), tmp_path / "export", weights="latest")
    exported = open_brick(str(tmp_path / "export"))
    assert exported.fingerprint == trained.fingerprint
    assert BrickPredictor(exported, DecodingConfig()).facts.guess is not None


def test_a_run_resumes_to_the_bit(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    unseen = ("--validation", "null")
    train(tiny_brick.config(tmp_path, *unseen, steps=1))
    again = train(tiny_brick.config(tmp_path, *unseen, "--allow_change", "[schedule]", steps=2))
    assert again.first_step == 1
    other = open_brick(str(tmp_path / "runs" / "tiny"), weights="latest")
    whole = open_brick(str(finished[0]), weights="latest")
    # Only the run with an evaluation is calibrated.
    factor = read_factor(str(finished[0]), whole.step)
    assert weights_hash(other.model.stretched(factor)) == whole.fingerprint


def test_estimates_are_of_the_model(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    config = tiny_brick.config(tmp_path)
    found, task = estimate_task(config, mfu=0.5), BrickTask.open(config)
    leaves = jax.tree.leaves(open_brick(str(finished[0]), weights="latest").model)
    assert found.as_json()["parameters"] == sum(leaf.size for leaf in leaves)
    assert found.as_json()["flops_per_step"] == 2 * task.flops
    blind = BrickTask.open(tiny_brick.config(tmp_path, "--model.brick.field", "false"))
    assert blind.flops < task.flops


def test_weights_of_drawn_voxels_make_their_errors_the_nmae(tmp_path: Path) -> None:
    task = BrickTask.open(tiny_brick.config(tmp_path))
    patches = task._patches(task.data)
    value, guess = (a.astype(np.float64) for a in patches.flat(0))
    rng = np.random.Generator(np.random.Philox(key=key_of(1, "test")))
    found = []
    for _ in range(400):
        drawn = patches.draw(0, rng, 32)
        error = np.abs(drawn.guess - drawn.value)[drawn.chosen]
        found.append(float((drawn.weight * error).mean()))
    nmae = np.abs(value - guess).sum() / np.abs(value).sum()
    assert abs(np.mean(found) - nmae) < 4 * np.std(found) / np.sqrt(len(found)) + 1e-6


def test_a_field_model_can_be_the_starting_density(tmp_path: Path) -> None:
    field = tiny_field.exported(tmp_path / "field")
    task = BrickTask.open(tiny_brick.config(tmp_path, "--data.guess", field, "--data.max_guess_nmae", "null"))
    material = task.data.store.material(1)
    predicted = predict_density(
        FieldPredictor.open(field, DecodingConfig()), material.crystal, material.grid_shape
    )
    _, guess = task._patches(task.data).flat(1)
    np.testing.assert_array_equal(guess, predicted.material.density.ravel())
    assert task.note()["data_facts"]["guess_model"]["path"] == field
    with pytest.raises(ValueError, match="a field model starts from a promolecule"):
        _ = FieldTask.open(task.config).promolecule


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("model.brick.width", "25", r"model\.brick\.width = 25 must be a multiple of 6 heads"),
        ("model.brick.positions", "raster", r"model\.brick\.positions = 'raster' is not known"),
        ("model.brick.preset", "huge", r"model\.brick\.preset = 'huge' is not known"),
        ("model.brick.layers", "0", r"model\.brick\.layers = 0 must be above 0"),
    ],
)
def test_sizes_out_of_range_are_named(argument: str, value: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_brick.config(tmp_path, f"--{argument}", value).model.brick.shape()


@pytest.mark.parametrize("option", [("unique_voxels", "true"), ("guess_folds", "2"), ("fold", "1/2")])
def test_options_of_single_voxels_are_refused(option: tuple[str, str], tmp_path: Path) -> None:
    name, value = option
    with pytest.raises(ValueError, match="for a field model"):
        train(tiny_brick.config(tmp_path, "--data.guess", "fit", f"--data.{name}", value))
