"""Weights a run keeps beside its checkpoints: those it began with (step 0), and the best on held-out data."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("levanter")
import equinox as eqx
import jax
from levanter.utils.tree_utils import inference_mode

import tiny
from tomat._seal import sealed
from tomat.lm.checkpoint import Trained, latest_checkpoint, open_checkpoint
from tomat.lm.config import EvaluationConfig, TrainConfig
from tomat.lm.decode.opening import open_predictor
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.digests import check_folder
from tomat.lm.kept import KeptWeights
from tomat.lm.metrics_file import read_metrics
from tomat.lm.model.qwen import build
from tomat.lm.record import SEAL, Best, RunFiles, read_best
from tomat.lm.train import Outcome, train
from tomat.prediction.options import DecodingConfig

STEPS = 8
NMAE = "eval/one_pass/nmae_median"


def evaluated(run: Path) -> dict[int, float]:
    """Held-out NMAE by steps done: the line of step 0 was written before the first, others after theirs."""
    lines = [line for line in read_metrics(run / "metrics.jsonl") if NMAE in line]
    return {line["step"] + (1 if line["step"] else 0): line[NMAE] for line in lines}


def untrained(config: TrainConfig, like: Trained) -> Trained:
    """The model as seed and configuration say it begins, made here."""
    key = jax.random.split(jax.random.PRNGKey(config.trainer.seed))[0]
    model = inference_mode(build(like.config, like.vocabulary, key), True)
    return Trained("made here", 0, model, like.config, like.vocabulary, like.objective, like.note)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig, Outcome]:
    config = tiny.config(tmp_path_factory.mktemp("kept"), steps=STEPS)
    outcome = train(config)
    return Path(outcome.files.root), config, outcome


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    config = tiny.config(tmp_path_factory.mktemp("harmed"), "--optimizer.learning_rate", "0.3", steps=STEPS)
    outcome = train(config)
    return Path(outcome.files.root), outcome


def test_the_start_is_kept_as_seed_and_configuration_make_it(
    finished: tuple[Path, TrainConfig, Outcome],
) -> None:
    run, config, _ = finished
    start = open_checkpoint(str(run), weights="start")
    assert start.step == 0
    mine, other = (
        jax.tree.leaves(eqx.filter(of.model, eqx.is_inexact_array))
        for of in (start, untrained(config, start))
    )
    for one, two in zip(mine, other, strict=True):
        # Of large angles a compiled program has other last bits of the sine than one done operation by operation.
        np.testing.assert_allclose(one, two, atol=2e-4)
    assert start.fingerprint != open_checkpoint(str(run), weights="latest").fingerprint
    # From one of the run's checkpoints the same start is found.
    assert open_checkpoint(latest_checkpoint(str(run)), weights="start").fingerprint == start.fingerprint


def test_step_0_is_evaluated_before_the_first_step(finished: tuple[Path, TrainConfig, Outcome]) -> None:
    run, _, _ = finished
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert {NMAE, "train/loss", "eval/unigram_bits_per_voxel"} <= lines[0].keys()
    assert list(evaluated(run)) == [0, 4, 8]


def test_the_best_evaluation_is_what_prediction_takes(finished: tuple[Path, TrainConfig, Outcome]) -> None:
    run, _, outcome = finished
    values = evaluated(run)
    steps = min(values, key=lambda n: values[n])
    best = read_best(RunFiles(str(run)).best)
    assert best == outcome.best
    assert best is not None
    assert (best.metric, best.steps, best.value, best.start) == (
        "one_pass/nmae_median",
        steps,
        values[steps],
        values[0],
    )
    assert open_checkpoint(str(run)).step == steps
    assert open_checkpoint(str(run), weights="latest").step == STEPS
    assert open_predictor(str(run)).identity()["step"] == steps
    assert f"after {steps} steps" in open_predictor(str(run)).weights or steps == 0


def test_a_run_that_got_worse_keeps_its_start(harmed: tuple[Path, Outcome]) -> None:
    run, outcome = harmed
    values = evaluated(run)
    assert values[STEPS] > values[0]
    assert outcome.best is not None
    assert (outcome.best.steps, outcome.best.value) == (0, values[0])
    assert open_checkpoint(str(run)).fingerprint == open_checkpoint(str(run), weights="start").fingerprint
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["checkpoints", "start"]
    assert "as they began (step 0)" in open_predictor(str(run)).weights


def test_a_run_without_better_weights_ends_early(tmp_path: Path) -> None:
    harmful = ["--optimizer.learning_rate", "0.3", "--evaluation.stop_after"]
    outcome = train(tiny.config(tmp_path, *harmful, "1", steps=12))
    assert (outcome.steps, outcome.evaluation.keys() > {"one_pass/nmae_median"}) == (4, True)
    assert outcome.best is not None
    assert outcome.best.steps == 0
    run = str(tmp_path / "runs" / "tiny")
    assert open_checkpoint(run, weights="latest").step == 4
    again = train(tiny.config(tmp_path, *harmful, "1", steps=12))
    assert (again.steps, again.loss) == (4, None)
    more = train(tiny.config(tmp_path, *harmful, "2", steps=12))
    assert (more.first_step, more.steps) == (4, 8)
    with pytest.raises(ValueError, match=r"evaluation\.stop_after = 0"):
        tiny.config(tmp_path, *harmful, "0")


def test_what_was_kept_outlives_a_resumed_part(
    finished: tuple[Path, TrainConfig, Outcome], tmp_path: Path
) -> None:
    train(tiny.config(tmp_path, "--optimizer.learning_rate", "0.3", steps=4))
    again = ["--optimizer.learning_rate", "0.3", "--allow_change", "[schedule]"]
    outcome = train(tiny.config(tmp_path, *again, steps=6))
    run = tmp_path / "runs" / "tiny"
    assert outcome.first_step == 4
    assert outcome.best is not None
    assert outcome.best.steps == 0
    # The start is that of the first part, made of the same seed as the run of the fixture.
    expected = open_checkpoint(str(finished[0]), weights="start").fingerprint
    assert open_checkpoint(str(run), weights="start").fingerprint == expected
    assert list(evaluated(run)) == [0, 4, 6]


def test_a_run_that_begins_from_a_checkpoint_has_that_as_its_start(
    finished: tuple[Path, TrainConfig, Outcome], tmp_path: Path
) -> None:
    source = latest_checkpoint(str(finished[0]))
    begun = ["--trainer.initialize_from", source, "--name", "begun"]
    outcome = train(tiny.config(tmp_path, *begun, steps=STEPS + 2))
    start = open_checkpoint(outcome.files.root, weights="start")
    assert outcome.first_step == STEPS
    assert start.fingerprint == open_checkpoint(source).fingerprint
    assert min(evaluated(Path(outcome.files.root))) == STEPS + 1


def test_nothing_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    nothing = ["--evaluation.keep_start", "false", "--evaluation.keep_best", "false"]
    outcome = train(tiny.config(tmp_path, *nothing, steps=2))
    run = outcome.files.root
    assert outcome.best is None
    assert not (Path(run) / "start").exists()
    assert open_checkpoint(run).step == 2
    with pytest.raises(FileNotFoundError, match=r"start.*evaluation\.keep_start"):
        open_checkpoint(run, weights="start")
    with pytest.raises(ValueError, match="best, latest, start"):
        open_checkpoint(run, weights="newest")


def model(value: float) -> dict[str, Any]:
    return {"weight": jax.numpy.full(3, value)}


def test_weights_are_replaced_by_better_ones_alone(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path / "run"))
    kept = KeptWeights(files, EvaluationConfig(), {"format": 1})
    kept.begin(model(0.0), 0)
    for steps, value in ((0, 3.0), (10, 2.0), (20, 2.0), (30, float("nan")), (40, 1.0), (50, 5.0)):
        kept.look(model(value), steps, {"one_pass/nmae_median": value, "one_pass/bits_per_voxel": -steps})
    best = read_best(files.best)
    assert best is not None
    assert asdict(best) == {
        "metric": "one_pass/nmae_median",
        "value": 1.0,
        "steps": 40,
        "folder": "best-40",
        "start": 3.0,
    }
    folders = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir())
    assert folders == ["best-40", "start"]
    note = json.loads((tmp_path / "run" / "best-40" / "tomat.json").read_text())
    assert note["step"] == 39
    assert note["best"] == {"metric": "one_pass/nmae_median", "value": 1.0}


def test_what_has_seen_true_neighbours_is_chosen_by_bits(tmp_path: Path) -> None:
    kept = KeptWeights(RunFiles(str(tmp_path / "run")), EvaluationConfig(keep_start=False), {"format": 1})
    numbers = {"teacher_forced/nmae_median": 0.1, "teacher_forced/bits_per_voxel": 7.0}
    kept.begin(model(0.0), 0)
    kept.look(model(0.0), 0, numbers)
    assert kept.best is not None
    assert (kept.best.metric, kept.best.folder) == ("teacher_forced/bits_per_voxel", "best-0")
    named = KeptWeights(
        RunFiles(str(tmp_path / "other")), EvaluationConfig(best_by="one_pass/nmea"), {"format": 1}
    )
    named.begin(model(0.0), 0)
    with pytest.raises(ValueError, match=r"evaluation\.best_by = 'one_pass/nmea'.*nmae_median"):
        named.look(model(0.0), 0, numbers)


def test_a_damaged_note_of_the_best_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    good = {"metric": "x", "value": 1.0, "steps": 4, "folder": "best-4", "start": None}
    for folder in ("../other", "/tmp/other", "checkpoints"):
        path.write_text(json.dumps(sealed({**good, "folder": folder}, SEAL)))
        with pytest.raises(ValueError, match=r"best\.json: damaged .*folder"):
            read_best(str(path))
    path.write_text(json.dumps(sealed(good, SEAL)))
    assert read_best(str(path)) == Best("x", 1.0, 4, "best-4", None)
    path.write_text(path.read_text().replace("1.0", "1.1"))
    with pytest.raises(ValueError, match=r"best\.json: the content is not what was written"):
        read_best(str(path))


def test_kept_weights_carry_digests(finished: tuple[Path, TrainConfig, Outcome], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    check_folder(str(copy / "start"))
    data = max((path for path in (copy / "start" / "d").iterdir()), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(ValueError, match=data.name[:12]):
        open_checkpoint(str(copy), weights="start")


def test_an_evaluation_holds_the_start_with_the_untrained_models_numbers(
    finished: tuple[Path, TrainConfig, Outcome], tmp_path: Path
) -> None:
    from tomat.dataset.inputs import resolve_inputs
    from tomat.evaluate.methods import PatchMethod
    from tomat.evaluate.result import load_result
    from tomat.evaluate.run import Evaluation, evaluate

    run, config, _ = finished
    material = str(tiny.DATA / "label" / "qe-0015.zarr")
    result = tmp_path / "result"
    command = ["eval", run, material, "--mode", "one_pass", "--mode", "k_pass", "--passes", 2, "-o", result]
    done = runs_tomat(*command)
    assert done.code == 0, done.err
    loaded = load_result(result)
    assert {row["mode"] for row in loaded.rows} == {
        "one_pass",
        "k_pass",
        "start",
        "promolecule",
        "codec_floor",
    }
    start = open_checkpoint(str(run), weights="start")
    assert loaded.identity["methods"]["start"]["step"] == 0
    assert loaded.identity["methods"]["start"]["weights"] == start.fingerprint
    fresh = PatchMethod(ModelPredictor(untrained(config, start), DecodingConfig()))
    plan = Evaluation([fresh], resolve_inputs([material]), fresh.unit, {})
    expected = evaluate(plan, tmp_path / "fresh").rows[0]
    (got,) = (row for row in loaded.rows if row["mode"] == "start")
    for name in ("nmae", "nemd", "electron_error", "distance_error"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-6, err_msg=name)
    assert "start (step 0)" in done.out
    assert str(run) in done.err

    without = runs_tomat(*command[:-1], tmp_path / "without", "--no-start", "--weights", "latest")
    assert without.code == 0, without.err
    other = load_result(tmp_path / "without")
    assert "start" not in {row["mode"] for row in other.rows}
    assert other.identity["methods"]["one_pass"]["step"] == STEPS


def test_an_export_has_no_start_and_says_so(
    finished: tuple[Path, TrainConfig, Outcome], tmp_path: Path
) -> None:
    done = runs_tomat("export", finished[0], tmp_path / "exported", "--weights", "latest")
    assert done.code == 0, done.err
    assert f"after {STEPS} steps" in done.out
    material = tiny.DATA / "label" / "qe-0015.zarr"
    result = runs_tomat("eval", tmp_path / "exported", material, "--mode", "one_pass", "-o", tmp_path / "r")
    assert result.code == 0, result.err
    assert "no row for the start (step 0)" in result.err


def runs_tomat(*arguments: object) -> Any:
    import runs

    return runs.tomat_main(*arguments, columns=200)
