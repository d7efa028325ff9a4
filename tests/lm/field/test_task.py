"""Runs of field models: what they leave, that they resume to the bit, and that they learn."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import jax
from levanter.checkpoint import load_checkpoint

import families
import tiny_field
import tomat
from tomat.categories import chemical_system
from tomat.lm.checkpoint import open_checkpoint, weights_hash
from tomat.lm.decode.opening import open_predictor
from tomat.lm.field.calibration import read_factor
from tomat.lm.field.checkpoint import open_field
from tomat.lm.field.surroundings import FLOOR
from tomat.lm.field.task import FieldTask
from tomat.lm.metrics_file import read_metrics
from tomat.lm.record import check_same, spent_flops
from tomat.lm.train import Outcome, train
from tomat.prediction.assemble import predict_density
from tomat.prediction.options import DecodingConfig

STEPS = 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("field")
    return folder / "runs" / "tiny", train(tiny_field.config(folder, steps=STEPS))


def losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl") if "train/loss" in line]


def test_a_run_logs_start_model_and_floor_from_step_0(finished: tuple[Path, Outcome]) -> None:
    run, outcome = finished
    assert outcome.steps == STEPS
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval/one_pass/nmae_median" in line]
    assert [line["step"] for line in evaluated] == [0, 3, 7]
    first = evaluated[0]
    # Nothing is learned yet: the median is the promolecule.
    np.testing.assert_allclose(first["eval/one_pass/nmae_median"], first["eval/promolecule/nmae"], rtol=1e-6)
    assert 0 < first["eval/codec_floor/nmae"] < 0.1 * first["eval/promolecule/nmae"]
    assert outcome.best is not None
    assert outcome.best.metric == "one_pass/nmae_median"


def test_a_checkpoint_has_all_that_prediction_needs(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    trained = open_field(str(run), weights="latest")
    assert trained.step == STEPS
    logged = read_metrics(run / "metrics.jsonl")[-1]["throughput/total_gflops"]
    assert spent_flops(trained.note, trained.step) == pytest.approx(1e9 * logged)
    assert spent_flops({}, 1) is None
    assert trained.codec.name == "rel-128"
    material = tomat.read(tiny_field.DATA / "label" / "qe-0040.zarr")
    predictor = open_predictor(run, DecodingConfig(weights="latest"))
    found = predict_density(predictor, material.crystal, (10, 10, 10))
    assert found.mode == "one_pass"
    assert 0.9 < found.electrons.raw / material.n_electrons < 1.1
    # Where the electrons are known, the density has them without being asked to.
    given = predict_density(predictor, material.crystal, (10, 10, 10), electrons=found.electrons.raw + 0.5)
    assert given.material.n_electrons == pytest.approx(found.electrons.raw + 0.5, rel=1e-5)
    assert predictor.facts.elements is not None
    assert 6 not in predictor.facts.elements  # so that a crystal with carbon warns


def test_a_checkpoint_gives_its_averaged_weights(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    trained = open_field(str(run), weights="latest")
    found = {
        path: load_checkpoint(trained.model, trained.path, subpath=path, axis_mapping={}, mesh=_mesh())
        for path in ("model", "model_averaging/model")
    }
    # The test's run stopped at its last evaluation, whose widths are calibrated.
    factor = read_factor(str(run), STEPS)
    of = {path: weights_hash(model.stretched(factor)) for path, model in found.items()}
    assert trained.fingerprint == of["model_averaging/model"] != of["model"]


def _mesh() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))


def test_a_field_model_is_no_transformer(finished: tuple[Path, Outcome]) -> None:
    with pytest.raises(ValueError, match="a model of kind field has no tokens"):
        open_checkpoint(str(finished[0]))


def test_a_run_resumes_to_the_bit(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    run, _ = finished
    # The learning rate is constant, so the number of steps changes nothing but the end.
    train(tiny_field.config(tmp_path, steps=5))
    again = train(tiny_field.config(tmp_path, "--allow_change", "[schedule]", steps=STEPS))
    assert [str(change) for change in again.changes] == ["schedule.num_train_steps: was 5, is 8"]
    assert again.first_step == 5
    other = tmp_path / "runs" / "tiny"
    assert losses(other) == losses(run)
    prints = {open_field(str(folder), weights="latest").fingerprint for folder in (other, run)}
    assert len(prints) == 1


def test_other_data_or_sizes_do_not_resume(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "runs" / "tiny")
    with pytest.raises(ValueError, match=r"settings:\n  model\.field\.state: was 12, is 13\nUse"):
        train(tiny_field.config(tmp_path, "--model.field.state", "13", steps=STEPS))


def test_cross_fitted_crystals_start_from_promolecules_of_their_own(tmp_path: Path) -> None:
    families.write(tmp_path / "data")
    data = ["--data.densities", f"[{tmp_path / 'data'}]", "--data.split", "null", "--data.prefix", "[]"]
    data += ["--validation", "null", "--data.guess", "fit", "--data.max_guess_nmae", "null"]
    task = FieldTask.open(tiny_field.config(tmp_path, *data, "--data.guess_folds", "3"))
    points, own = task.examples()._points, task._own
    assert sorted(points.store.task_ids[material] for material in own) == ["a", "b", "c", "d"]
    for material in range(len(points)):
        of = points.store.material(material)
        start = own.get(material, task.promolecule)
        density = start.density(of.crystal, of.grid_shape, "e_per_A3").ravel()[points.index[material]]
        np.testing.assert_allclose(points.guess[material], np.maximum(density, FLOOR), rtol=1e-6)
        assert (start.identity == task.promolecule.identity) == (material not in own)
    assert any("1 materials have elements that no other fold has" in line for line in task.notices)
    plain = FieldTask.open(tiny_field.config(tmp_path, *data)).note()
    with pytest.raises(ValueError, match=r"data\.guess_folds: was 3, is None"):
        check_same(task.note(), plain, (), "the run")


def test_crystals_are_visited_in_proportion_to_their_electrons(tmp_path: Path) -> None:
    equal = FieldTask.open(tiny_field.config(tmp_path))
    task = FieldTask.open(tiny_field.config(tmp_path, "--data.budget", "electrons"))
    assert equal.visits.tolist() == equal.materials.tolist()
    electrons = np.asarray(task.data.store.n_electrons)[task.materials]
    visits = np.bincount(task.visits)[task.materials]
    assert visits.sum() == 16 * len(task.materials)
    assert (np.abs(visits - 16 * electrons / electrons.mean()) <= 1).all()
    # They are drawn as often: rows until each of the visits of an epoch is done.
    rows = [task.examples().materials(row) for row in range(10)]
    seen = np.concatenate(rows)
    assert set(seen.tolist()) <= set(task.materials.tolist())
    heavy, light = task.materials[electrons.argmax()], task.materials[electrons.argmin()]
    assert (seen == heavy).sum() > (seen == light).sum()
    with pytest.raises(ValueError, match=r"data\.budget: was 'electrons', is None"):
        check_same(task.note(), equal.note(), (), "the run")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--validation.budget", "electrons"), r"validation\.budget = electrons: every validation crystal"),
        (("--data.sampler", "tiling"), r"data\.sampler = tiling: for rows of tokens"),
        (("--data.budget", "atoms"), "unknown budget 'atoms'"),
    ],
)
def test_budgets_and_samplers_without_effect_are_refused(
    tmp_path: Path, option: tuple[str, str], says: str
) -> None:
    with pytest.raises((ValueError, KeyError), match=says):
        FieldTask.open(tiny_field.config(tmp_path, *option))


def test_the_crystals_of_a_fold_are_not_trained_on(tmp_path: Path) -> None:
    families.write(tmp_path / "data")
    data = ["--data.densities", f"[{tmp_path / 'data'}]", "--data.split", "null", "--data.prefix", "[]"]
    data += ["--validation", "null", "--data.guess", "fit", "--data.max_guess_nmae", "null"]
    whole, met = FieldTask.open(tiny_field.config(tmp_path, *data)), []
    for k in (1, 2):
        task = FieldTask.open(tiny_field.config(tmp_path, *data, "--data.fold", f"{k}/2"))
        store, rows, note = task.data.store, task.examples(), task.note()
        seen = {material for row in range(12) for material in rows.materials(row).tolist()}
        systems = {
            material: chemical_system(store.atomic_numbers(material)) for material in range(len(store))
        }
        left = set(note["data"]["fold"]["systems"])
        assert seen == {material for material, system in systems.items() if system not in left}
        assert note["data_facts"]["elements"] == sorted({z for i in seen for z in store.atomic_numbers(i)})
        # Nor is the promolecule fitted to them.
        assert task.promolecule.elements == frozenset(note["data_facts"]["elements"])
        assert any(f"without fold {k}/2, {5 - len(seen)} materials" in told for told in task.notices)
        with pytest.raises(ValueError, match=r"data\.fold: was None, is \{'number': "):
            check_same(whole.note(), note, (), "the run")
        met += sorted(seen)
    assert sorted(met) == list(range(5))


def test_unique_voxels_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("moyopy")
    plain = FieldTask.open(tiny_field.config(tmp_path)).note()
    unique = FieldTask.open(tiny_field.config(tmp_path, "--data.unique_voxels", "true")).note()
    with pytest.raises(ValueError, match=r"data\.unique_voxels: was None, is True"):
        check_same(plain, unique, (), "the run")


def test_a_few_dozen_steps_beat_the_start_on_training_crystals(tmp_path: Path) -> None:
    outcome = train(
        tiny_field.config(tmp_path, "--validation.split", "train", "--trainer.steps_per_eval", "60", steps=60)
    )
    assert outcome.best is not None
    assert outcome.best.start is not None
    assert outcome.best.value < 0.9 * outcome.best.start


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("data.patch_size", "7", r"data\.patch_size: for rows of tokens"),
        ("data.guess", "null", r"data\.guess: a field model starts from a promolecule"),
        ("model.field.sites_per_row", "2", r"materials have more than 2 atoms: .*sites_per_row"),
        ("model.field.head", "nose", r"model\.field\.head = 'nose' is not known"),
        ("model.kind", "fild", r"model\.kind = 'fild' is not known"),
    ],
)
def test_what_does_not_fit_is_refused(argument: str, value: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(tiny_field.config(tmp_path, f"--{argument}", value))
