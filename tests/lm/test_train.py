"""Runs: what they leave, that they go on where they stopped, and what stops them."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

pytest.importorskip("levanter")
import tiny
from tomat.lm.callbacks import StoppedError, TrainingLossError
from tomat.lm.checkpoint import latest_checkpoint, open_checkpoint
from tomat.lm.config import load
from tomat.lm.metrics_file import read_metrics
from tomat.lm.train import Outcome, train
from tomat.report.runs import load_training_run
from tomat.report.wandb_runs import pull_offline

STEPS = 12


def losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("finished")
    with (folder / "shown").open("w") as file:
        outcome = train(tiny.config(folder, "--progress.every", "5", steps=STEPS), Console(file=file))
    return folder / "runs" / "tiny", outcome


def test_a_run_leaves_all_that_is_needed_to_go_on_and_to_predict(finished: tuple[Path, Outcome]) -> None:
    run, outcome = finished
    assert outcome.steps == STEPS
    assert outcome.first_step == 0
    for name in ("config.yaml", "tomat.json", "codec.npz", "metrics.jsonl"):
        assert (run / name).exists(), name
    checkpoint = Path(latest_checkpoint(str(run)))
    assert json.loads((checkpoint / "metadata.json").read_text())["step"] == STEPS - 1
    note = json.loads((checkpoint / "tomat.json").read_text())
    assert note["tokenizer"]["codec"] == "l1-1k-e_per_A3"
    assert (
        note["data"]["densities_hash"]
        == json.loads((run / "tomat.json").read_text())["data"]["densities_hash"]
    )
    trained = open_checkpoint(str(run), weights="latest")
    assert trained.step == STEPS
    assert trained.objective.config.kind == "guess"


def test_what_is_shown_without_a_terminal_is_a_line_every_so_many_steps_and_every_evaluation(
    finished: tuple[Path, Outcome],
) -> None:
    lines = (finished[0].parent.parent / "shown").read_text().splitlines()
    assert all(line.startswith("tiny: ") for line in lines)
    steps = [line for line in lines if line.startswith("tiny: step ")]
    assert [line.split(": ")[1] for line in steps] == ["step 5 of 12", "step 10 of 12", "step 12 of 12"]
    assert all(" bits a voxel, " in line and " tokens/s, " in line for line in steps)
    assert steps[-1].endswith(" 0:00:00 left")
    held_out = [line for line in lines if line.startswith("tiny: held out, step ")]
    assert [line.split(": ")[1] for line in held_out] == [f"held out, step {n}" for n in (0, 4, 8, 12)]
    assert "(start " not in held_out[0]
    evaluation = finished[1].evaluation
    start = next(
        read_metrics(finished[0] / "metrics.jsonl")[0][f"eval/one_pass/{n}"] for n in ("bits_per_voxel",)
    )
    assert (
        f"{evaluation['one_pass/bits_per_voxel']:.3f} bits a voxel "
        f"(start {start:.3f}, unigram {evaluation['unigram_bits_per_voxel']:.3f})" in held_out[-1]
    )


def test_a_run_has_one_log_with_everything_that_was_said(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    assert [path.name for path in run.glob("*.log*")] == ["train.log"]
    log = (run / "train.log").read_text()
    shown = (run.parent.parent / "shown").read_text()
    for line in shown.splitlines():
        assert line.removeprefix("tiny: ") in log
    assert "levanter.trainer" in log  # what others say is there, too
    for nothing in ("Unknown device type", "Adjusting profiler_total_steps", "Progress on:train"):
        assert nothing not in log + shown


def test_training_bits_weight_all_voxels_equally(finished: tuple[Path, Outcome]) -> None:
    first = read_metrics(finished[0] / "metrics.jsonl")[0]
    nats = first["train/cross_entropy"]  # equal weights: the same
    assert first["train/bits_per_voxel"] == pytest.approx(nats / np.log(2), rel=1e-5)


def test_every_step_is_logged_with_what_it_cost(finished: tuple[Path, Outcome]) -> None:
    lines = read_metrics(finished[0] / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(STEPS))
    for name in (
        "train/loss",
        "throughput/tokens_per_second",
        "throughput/loading_time",
        "optim/learning_rate",
    ):
        assert all(name in line for line in lines), name
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]


def test_evaluations_are_logged_under_their_label_beside_the_unigram_line(
    finished: tuple[Path, Outcome],
) -> None:
    run, outcome = finished
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval/one_pass/nmae_median" in line]
    assert [line["step"] for line in evaluated] == [0, 3, 7, 11]
    assert outcome.evaluation["one_pass/rows"] == 6
    assert outcome.evaluation["one_pass/voxels"] == 6 * 27
    assert 0 < outcome.evaluation["unigram_bits_per_voxel"] <= 10.1
    assert not [name for name in outcome.evaluation if "nmae" in name and not name.startswith("one_pass/")]


def test_a_finished_run_is_not_trained_again(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    before = losses(run)
    again = train(tiny.config(run.parent.parent, steps=STEPS))
    assert (again.first_step, again.steps) == (STEPS, STEPS)
    assert losses(run) == before


def test_the_configuration_a_run_leaves_is_that_run(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    config = load(run / "config.yaml")
    assert config.trackers == ()
    assert train(config).first_step == STEPS


def stop_at(run: Path, step: int) -> threading.Thread:
    """Send this process SIGTERM once the run has logged ``step``."""

    def watch() -> None:
        path = run / "metrics.jsonl"
        while not (path.exists() and any(line["step"] >= step for line in read_metrics(path))):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_stopped_run_goes_on_with_the_same_losses_to_the_bit(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "tiny"
    thread = stop_at(run, 2)
    with pytest.raises(StoppedError, match=r"stopped after step \d+; its state is saved"):
        train(tiny.config(tmp_path, steps=STEPS))
    thread.join()
    lines = read_metrics(run / "metrics.jsonl")
    stopped = len(lines)
    # The line of step 0 holds the evaluation of the start, too.
    assert lines[1].keys() <= lines[-1].keys()
    assert "throughput/loading_time" in lines[-1]
    assert 3 <= stopped < STEPS
    outcome = train(tiny.config(tmp_path, steps=STEPS))
    assert outcome.first_step == stopped
    assert losses(run) == losses(finished[0])
    for weights in ("latest", "best", "start"):
        mine, whole = (open_checkpoint(str(of), weights=weights) for of in (run, finished[0]))
        assert mine.fingerprint == whole.fingerprint, weights


@pytest.mark.parametrize(
    ("arguments", "section", "named"),
    [
        (["--data.seed", "1"], "data", "data.seed"),
        (["--data.codec", "l1-4k-e_per_A3", "--validation.codec", "l1-4k-e_per_A3"], "codec", "codec.hash"),
        (["--model.num_layers", "1"], "model", "model.num_layers"),
        (["--objective.voxel_weights", "nmae"], "objective", "objective.voxel_weights"),
        (["--loss.sigma", "3.0"], "loss", "loss.sigma"),
        (["--optimizer.learning_rate", "0.02"], "schedule", "schedule.optimizer.learning_rate"),
        (["--trainer.num_train_steps", "99"], "schedule", "schedule.num_train_steps"),
    ],
)
def test_another_run_under_the_same_name_is_refused(
    finished: tuple[Path, Outcome], arguments: list[str], section: str, named: str
) -> None:
    folder = finished[0].parent.parent
    kept = (finished[0] / "tomat.json").read_bytes()
    with pytest.raises(ValueError, match=rf"(?s){named}.*allow_change.*{section}"):
        train(tiny.config(folder, *arguments, steps=STEPS))
    assert (finished[0] / "tomat.json").read_bytes() == kept


def test_a_change_that_is_named_is_made_and_told(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    train(tiny.config(tmp_path, steps=2))
    outcome = train(tiny.config(tmp_path, "--allow_change", "[schedule]", steps=4))
    assert (outcome.first_step, outcome.steps) == (2, 4)
    assert [str(change) for change in outcome.changes] == ["schedule.num_train_steps: was 2, is 4"]


def test_a_loss_that_is_not_finite_stops_the_run_with_the_rows_of_the_batch(tmp_path: Path) -> None:
    broken = tiny.config(tmp_path, "--optimizer.learning_rate", "1e30", "--optimizer.max_grad_norm", "null")
    with pytest.raises(
        TrainingLossError, match=r"step \d+: Loss is (NaN|Inf)\. Rows of the batch: \S+@\d+,\d+,\d+, "
    ):
        train(broken)
    run = tmp_path / "runs" / "tiny"
    assert not list((run / "checkpoints").glob("*/metadata.json"))
    # The step that stopped it is logged as any other.
    lines = read_metrics(run / "metrics.jsonl")
    assert lines[-1]["train/loss"] in ("nan", "inf", "-inf")
    # The line of step 0 holds the evaluation of the start, too.
    assert lines[-1].keys() == {name for name in lines[0] if not name.startswith("eval/")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--optimizer.type", "muon"],
        [
            "--optimizer.lr_schedule",
            "linear",
            "--optimizer.decay",
            "0.3",
            "--trainer.model_averaging",
            "{type: ema}",
        ],
        ["--data.pack", "true", "--trainer.per_device_parallelism", "2"],
    ],
    ids=["muon", "wsd-ema", "packed-accumulated"],
)
def test_optimizers_schedules_averages_and_packing_run(arguments: list[str], tmp_path: Path) -> None:
    outcome = train(tiny.config(tmp_path, *arguments, steps=3))
    assert outcome.loss is not None
    assert np.isfinite(outcome.loss)
    assert open_checkpoint(outcome.files.root, weights="latest").step == 3


@pytest.mark.parametrize("kind", ["next_token", "masked"])
def test_other_objectives_train_and_their_numbers_carry_their_label(kind: str, tmp_path: Path) -> None:
    outcome = train(tiny.config(tmp_path, kind=kind, steps=3))
    label = {"next_token": "teacher_forced", "masked": "one_pass"}[kind]
    assert np.isfinite(outcome.evaluation[f"{label}/nmae_median"])
    assert {name.split("/")[0] for name in outcome.evaluation if "/" in name} == {label}


def test_other_trackers_stand_beside_the_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    trackers = (
        f"[{{type: tensorboard, logdir: {tmp_path}/tb}}, {{type: wandb, mode: offline, project: tomat}}]"
    )
    outcome = train(tiny.config(tmp_path, "--trainer.tracker", trackers, steps=3))
    assert len(losses(Path(outcome.files.root))) == 3
    assert list((tmp_path / "tb").rglob("events.out.tfevents.*"))
    done = pull_offline(list((tmp_path / "wandb").glob("offline-run-*")), tmp_path / "pulled")
    assert done.new == ["tiny"]
    pulled = losses(tmp_path / "pulled" / "tiny")
    own = losses(Path(outcome.files.root))
    np.testing.assert_array_equal(np.asarray(pulled, np.float32), np.asarray(own, np.float32))
    run, mine = (load_training_run(at) for at in (tmp_path / "pulled" / "tiny", outcome.files.root))
    assert run.parameters == mine.parameters
    assert run.tokens == mine.tokens


def test_unknown_fields_and_values_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    for arguments in (
        ["--model.layers", "3"],
        ["--trainer.num_train_steps", "many"],
        ["--objective.kind", "guesss"],
    ):
        with pytest.raises(ValueError, match=r"guess\.yaml"):
            tiny.config(tmp_path, *arguments)


@pytest.mark.parametrize("name", ["a/b", "", "..", "a b"])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name"):
        tiny.config(tmp_path, "--name", name)


def test_a_run_that_is_going_on_keeps_others_out(finished: tuple[Path, Outcome]) -> None:
    run, _ = finished
    with FileLock(run / ".lock"), pytest.raises(ValueError, match="another process is training this run"):
        train(tiny.config(run.parent.parent, steps=STEPS))
