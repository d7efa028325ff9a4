"""Runs as users start them: the command line, several devices, several processes, and processes that are killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny
from buckets import bucket, somewhere
from tomat.lm.metrics_file import read_metrics

STEPS = 8


def start(
    yaml: Path, *arguments: str, devices: int = 1, machine: Path | None = None
) -> subprocess.Popen[str]:
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "tomat", "train", str(yaml), "--json", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=machine or yaml.parent,
    )


def losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    path = run / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (path.exists() and any(line["step"] >= step for line in read_metrics(path))):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "no step for four minutes"
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    outcome: dict[str, object] = json.loads(out.splitlines()[-1])
    return outcome


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of the run on one device in one process, by the command line."""
    folder = tmp_path_factory.mktemp("alone")
    outcome = finish(start(tiny.write_yaml(folder, steps=STEPS)))
    assert outcome["steps"] == STEPS
    return losses(folder / "runs" / "tiny")


def test_four_devices_see_the_losses_of_one(alone: list[float], tmp_path: Path) -> None:
    finish(start(tiny.write_yaml(tmp_path, steps=STEPS), devices=4))
    np.testing.assert_allclose(losses(tmp_path / "runs" / "tiny"), alone, rtol=2e-4)


def test_a_killed_run_goes_on_from_a_whole_checkpoint_with_the_same_losses(
    alone: list[float], tmp_path: Path
) -> None:
    yaml = tiny.write_yaml(tmp_path, steps=STEPS, keep=2)
    run = tmp_path / "runs" / "tiny"
    process = start(yaml)
    wait_for_step(run, 4, process)
    process.kill()
    process.communicate()
    for folder in (run / "checkpoints").iterdir():
        # What Levanter counts as complete has its note; what has none is never read.
        assert (folder / "tomat.json").exists() or not (folder / "metadata.json").exists()
    outcome = finish(start(yaml))
    assert 0 < int(str(outcome["first_step"])) < STEPS
    assert losses(run) == alone


def test_a_preempted_run_goes_on_on_another_machine_from_its_bucket(
    alone: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, then a process in another folder with an empty cache, which shares nothing but the bucket."""
    yaml = tiny.write_yaml(tmp_path, steps=STEPS)
    machines = [tmp_path / "one", tmp_path / "two"]
    with bucket(monkeypatch):
        out = somewhere()

        def start_on(machine: Path) -> subprocess.Popen[str]:
            machine.mkdir()
            return start(yaml, "--out", out, "--data.cache", str(machine / "cache"), machine=machine)

        process = start_on(machines[0])
        wait_for_step(machines[0] / "logs" / "tiny", 1, process)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=240)[1]
        assert process.returncode == 130, err[-2000:]
        assert "its state is saved; run the same command again to resume" in err
        shutil.rmtree(machines[0])
        outcome = finish(start_on(machines[1]))
        lines = read_metrics(f"{out}/tiny/metrics.jsonl")
    assert 2 <= int(str(outcome["first_step"])) <= STEPS
    # The metrics of the first machine are there, too, and all losses are those of a run that was never stopped.
    assert [line["train/loss"] for line in lines] == alone
    assert "eval/one_pass/nmae_median" in lines[0]


def test_two_processes_train_together_and_one_that_dies_is_noticed_and_resumed(
    alone: list[float], tmp_path: Path
) -> None:
    yaml = tiny.write_yaml(tmp_path, steps=STEPS, keep=2)
    run = tmp_path / "runs" / "tiny"

    def start_both() -> list[subprocess.Popen[str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        distributed = "--trainer.distributed."
        return [
            start(
                yaml,
                f"{distributed}coordinator_address",
                f"127.0.0.1:{port}",
                f"{distributed}num_processes",
                "2",
                f"{distributed}process_id",
                str(index),
            )
            for index in range(2)
        ]

    first, second = start_both()
    try:
        wait_for_step(run, 4, first)
        second.kill()
        second.communicate()
        first.communicate(timeout=240)
        assert first.returncode != 0, "it went on alone"
        outcomes = [finish(process) for process in start_both()]
    finally:
        for process in (first, second):
            process.kill()
    assert [outcome["steps"] for outcome in outcomes] == [STEPS, STEPS]
    assert 0 < int(str(outcomes[0]["first_step"])) < STEPS
    np.testing.assert_allclose(losses(run), alone, rtol=2e-4)


def test_a_bad_configuration_is_one_message(tmp_path: Path) -> None:
    yaml = tiny.write_yaml(tmp_path)
    process = start(yaml, "--model.preset", "huge")
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "error: model.preset = 'huge' is not known; one of tiny, 30M, 200M, 1B" in err
    assert "Traceback" not in err


def test_a_dry_run_tells_sizes_and_writes_no_run(tmp_path: Path) -> None:
    out = finish(start(tiny.write_yaml(tmp_path), "--dry-run", "--time-steps", "2"))
    here = out["here"]
    assert isinstance(here, dict)
    assert (here["how"], here["timed"], here["devices"]) == ("steps", 2, [1, "cpu"])
    assert here["seconds"] > 0
    assert here["hours"] == pytest.approx(here["seconds"] * 6 / 3600)
    assert not (tmp_path / "runs").exists()
