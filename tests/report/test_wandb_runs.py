"""Runs of wandb: pulled through its real client from a server here, and read from its offline files."""

from __future__ import annotations

import csv
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")
import wandb
from typer.testing import CliRunner
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # made when imported

from tomat.cli import app
from tomat.lm.metrics_file import read_metrics
from tomat.report.build import build
from tomat.report.pulled import metrics_lines, read_about
from tomat.report.runs import load_training_run
from tomat.report.sources import load_sources
from tomat.report.wandb_file import payloads
from tomat.report.wandb_runs import pull_offline, pull_project
from wandb_server import ENTITY, KEY, PROJECT, Run, Server, serving

NAME = f"{ENTITY}/{PROJECT}"


def history(steps: int, slope: float = 0.5) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        row: dict[str, Any] = {"_step": step, "_timestamp": 1.7e9 + step, "train/loss": 9.0 - slope * step}
        row |= {"throughput/total_tokens": 100.0 * (step + 1), "throughput/total_gflops": 5.0 * (step + 1)}
        if step in (0, steps - 1):
            row["eval/one_pass/bits_per_voxel"] = 8.0 - step
        rows.append(row)
    return rows


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    config = {"learning_rate": 0.01, "trainer": {"num_train_steps": 6}}
    first = Run("3f8k2c1x", history(6), "guess 30M", config=config, exported=4)
    with serving(first, Run("going-on", history(3), "going-on", state="running")) as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        yield found


@pytest.fixture(scope="module", autouse=True)
def _service() -> Iterator[None]:
    """End wandb's own process with the tests."""
    yield
    wandb.teardown()


def test_a_project_becomes_folders_that_reports_read_and_links_back(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    done = pull_project(NAME, out)
    assert done.new == ["guess-30M-3f8k2c1x", "going-on"]
    lines = read_metrics(out / done.new[0] / "metrics.jsonl")
    # Four rows came as parquet and two as JSON.
    assert [line["step"] for line in lines] == list(range(6))
    assert [line["train/loss"] for line in lines] == [row["train/loss"] for row in history(6)]
    assert [line["step"] for line in lines if "eval/one_pass/bits_per_voxel" in line] == [0, 5]
    run = load_training_run(out / done.new[0])
    assert (run.name, run.tokens, run.flops, run.steps) == ("guess 30M", 600.0, 30e9, 5)
    assert run.url == f"{server.url}/{NAME}/runs/3f8k2c1x"
    page = build(load_sources([out / name for name in done.new]))
    assert f'<a href="{run.url}" rel="noreferrer">guess 30M</a>' in page
    with (out / "runs.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == ["guess 30M", "going-on"]
    assert table[0]["config.trainer.num_train_steps"] == "6"
    assert float(table[0]["train/loss"]) == 6.5
    assert table[0]["url"] == run.url


def test_what_is_there_is_kept_and_what_goes_on_is_fetched_again(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    pull_project(NAME, out)
    server.asked.clear()
    server.runs[1].rows = history(5)
    done = pull_project(NAME, out)
    assert (done.new, done.there) == (["going-on"], ["guess-30M-3f8k2c1x"])
    assert set(server.asked) == {"going-on"}
    assert len(read_metrics(out / "going-on" / "metrics.jsonl")) == 5
    # A folder whose last file is missing, as a kill leaves it, is not finished.
    (out / "guess-30M-3f8k2c1x" / "run.json").unlink()
    assert "guess-30M-3f8k2c1x" in pull_project(NAME, out, chosen=["3f8k2c1x"]).new
    (out / "guess-30M-3f8k2c1x" / "run.json").write_text('{"format": "tomat pulled run", "id": "3f8k2c1x"}')
    with pytest.raises(ValueError, match=r"run\.json"):
        pull_project(NAME, out)


def test_a_run_that_cannot_be_had_is_named_and_there_is_no_table(server: Server, tmp_path: Path) -> None:
    server.broken.add("3f8k2c1x")
    out = tmp_path / "pulled"
    told = CliRunner().invoke(app, ["runs", "pull", NAME, "-o", str(out)])
    assert told.exit_code == 1
    assert "failed: guess 30M: " in told.stderr
    assert "run the same command again to fetch the rest" in told.stderr
    assert not (out / "runs.csv").exists()
    assert not (out / "guess-30M-3f8k2c1x" / "run.json").exists()
    server.broken.clear()
    told = CliRunner().invoke(app, ["runs", "pull", NAME, "-o", str(out), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["new"] == ["guess-30M-3f8k2c1x", "going-on"]
    assert (out / "runs.csv").exists()


def test_errors_say_what_to_do(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"wandb project {ENTITY}/none: .*check the name"):
        pull_project(f"{ENTITY}/none", tmp_path)
    with pytest.raises(ValueError, match="team: not ENTITY/PROJECT"):
        pull_project("team", tmp_path)
    with pytest.raises(ValueError, match="has no run other; it has 3f8k2c1x, going-on, guess 30M"):
        pull_project(NAME, tmp_path, chosen=["other"])
    with pytest.raises((OSError, ValueError), match=f"wandb project {NAME}: .*check the network"):
        pull_project(NAME, tmp_path, base_url="http://127.0.0.1:9", timeout=1)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="no API key; set WANDB_API_KEY, or log in with: wandb login"):
        pull_project(NAME, tmp_path)
    assert not (tmp_path / "runs.csv").exists()


def write_offline(path: Path, messages: list[bytes]) -> None:
    """The container of wandb's offline files, written as LevelDB's log is described."""
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for message in messages:
        at, begun = 0, False
        while at < len(message) or not begun:
            left = 32768 - len(out) % 32768
            if left < 7:
                out += bytes(left)
                left = 32768
            part = message[at : at + left - 7]
            at += len(part)
            kind = bytes(
                [
                    {(False, True): 1, (False, False): 2, (True, False): 3, (True, True): 4}[
                        begun, at == len(message)
                    ]
                ]
            )
            out += struct.pack("<IH", zlib.crc32(part, zlib.crc32(kind)), len(part)) + kind + part
            begun = True
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)


def offline_records() -> list[bytes]:
    start, end = Record(), Record()
    start.run.run_id = "off1"
    start.run.display_name = "offline"
    item = start.run.config.update.add()
    item.key, item.value_json = "learning_rate", "0.5"
    found = [start]
    for row in history(4):
        record = Record()
        for key, value in row.items():
            item = record.history.item.add()
            item.nested_key.append(key)
            item.value_json = json.dumps(value)
        found.append(record)
    end.exit.exit_code = 0
    return [record.SerializeToString() for record in [*found, end]]


def test_an_offline_run_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-1"
    write_offline(folder / "run-off1.wandb", offline_records())
    done = pull_offline([folder], tmp_path / "pulled")
    assert done.new == ["offline-off1"]
    about = read_about(tmp_path / "pulled" / "offline-off1")
    assert (about["state"], about["last_step"], about["config"]) == ("finished", 3, {"learning_rate": 0.5})
    lines = read_metrics(tmp_path / "pulled" / "offline-off1" / "metrics.jsonl")
    assert [line["train/loss"] for line in lines] == [9.0, 8.5, 8.0, 7.5]
    assert pull_offline([folder], tmp_path / "pulled").there == ["offline-off1"]


def test_records_of_any_length_come_back(tmp_path: Path) -> None:
    messages = [bytes([n % 251]) * n for n in (0, 1, 32747, 5, 100_000, 32761 - 7, 3, 7)]
    write_offline(tmp_path / "x.wandb", messages)
    assert list(payloads(tmp_path / "x.wandb")) == messages


def test_a_cut_file_gives_what_is_whole_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run-off1.wandb"
    write_offline(path, offline_records())
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    pull_offline([path], tmp_path / "pulled")
    assert read_about(tmp_path / "pulled" / "offline-off1")["state"] == "crashed"  # no end
    path.write_bytes(whole[:60] + b"?" + whole[61:])
    with pytest.raises(ValueError, match=r"run-off1\.wandb: damaged at byte \d+ of \d+; copy it again"):
        pull_offline([path], tmp_path / "pulled")
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a file of an offline wandb run"):
        pull_offline([path], tmp_path / "pulled")
    with pytest.raises(FileNotFoundError, match=r"none: no run-\*\.wandb"):
        pull_offline([tmp_path / "none"], tmp_path / "pulled")


def test_rows_of_a_step_are_merged_and_only_numbers_are_kept() -> None:
    rows: list[dict[str, Any]] = [
        {"_step": 1, "b": 2.0, "hist": {"_type": "histogram", "values": [1, 2]}, "list": [1]},
        {"_step": 0, "a": "NaN", "c": None, "d": float("inf")},
        {"_step": 1, "_timestamp": 5.0, "n": {"m": 3}},
        {"no": 1},
    ]
    lines = [json.loads(line) for line in metrics_lines(rows).splitlines()]
    assert lines == [
        {"step": 0, "a": "nan", "d": "inf"},
        {"step": 1, "b": 2.0, "hist/_type": "histogram", "time": 5.0, "n/m": 3},
    ]
