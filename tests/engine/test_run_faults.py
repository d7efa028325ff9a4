"""What a run leaves behind when it is killed, stopped, starved of space or disturbed: real processes throughout."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import (
    IDS,
    LABEL,
    ROOT,
    SHARD_EACH,
    Gate,
    end,
    many,
    process_of,
    run_process,
    shards,
    sound,
    start,
    tokenize,
    tree,
    wait_for,
)

COUNT = 150
#: Python run at the start of a process: it kills itself at the n-th time a file is to be put in its place.
KILL_AT_REPLACE = """
import os, pathlib, signal
_left = [{n}]
_replace = pathlib.Path.replace
def replace(self, target):
    _left[0] -= 1
    if _left[0] == 0:
        {after}
        os.kill(os.getpid(), signal.SIGKILL)
    return _replace(self, target)
pathlib.Path.replace = replace
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many materials under ``root``, and a dataset of them that nothing disturbed under ``calm``."""
    folder = tmp_path_factory.mktemp("faults")
    many(folder / "root", COUNT)
    sound(folder / "root", "--out", folder / "calm", *SHARD_EACH, "--quiet")
    return folder


# --- killed -------------------------------------------------------------------------------------------------


def test_killed_at_random_moments_and_resumed(place: Path, tmp_path: Path) -> None:
    """Whatever the moment, what is there is never a finished dataset, and the end is the same to the byte."""
    out, luck, kills = tmp_path / "out", random.Random(20), 0
    for _ in range(30):
        process = start(place / "root", "--out", out, *SHARD_EACH, "--quiet", "--resume")
        target = shards(out) + luck.randint(1, 30)
        wait_for(lambda target=target: shards(out) >= target, process)  # type: ignore[misc]
        time.sleep(luck.random() * 0.01)
        process.kill()
        result = end(process)
        if result.code == 0:
            break
        assert result.code == -signal.SIGKILL, result.err
        assert not (out / "meta.json").exists()
        kills += 1
    assert kills >= 4
    assert tree(out) == tree(place / "calm")


@pytest.mark.parametrize("after", ["pass", "_replace(self, target)"], ids=["before", "after"])
def test_killed_at_each_file_beside_the_shards(tmp_path: Path, after: str) -> None:
    """run.json, codec, crystals, coverage and meta.json: killed just before and just after each is in place."""
    inputs = [LABEL / f"{name}.zarr" for name in ("qe-0039", "qe-0048", "qe-1004")]
    sound(*inputs, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    for n in range(1, 7):
        out = tmp_path / f"{n}"
        killed = run_process(
            *inputs, "--out", out, *SHARD_EACH, before=KILL_AT_REPLACE.format(n=n, after=after)
        )
        if killed.code == 0:
            break
        assert killed.code == -signal.SIGKILL, killed.err
        assert (out / "meta.json").exists() == (n == 5 and after != "pass")
        sound(*inputs, "--out", out, *SHARD_EACH, "--quiet", "--resume")
        assert tree(out) == tree(tmp_path / "calm"), f"killed at file {n}"
    assert n == 6


def test_overwrite_killed_in_the_middle(place: Path, tmp_path: Path) -> None:
    """The old meta.json is never beside new shards, nor the new one beside old shards."""
    out = tmp_path / "out"
    sound(place / "root", "--out", out, *SHARD_EACH, "--quiet", "--seed", 1)
    old = tree(out)
    process = start(place / "root", "--out", out, *SHARD_EACH, "--quiet", "--overwrite")
    wait_for(lambda: not (out / "meta.json").exists() and shards(out) < COUNT, process)
    process.kill()
    assert end(process).code == -signal.SIGKILL
    assert not (out / "meta.json").exists()
    assert tokenize(place / "root", "--out", out, *SHARD_EACH).code == 1
    # It may have been killed while clearing: then there is nothing of its own to go on with.
    again = tokenize(place / "root", "--out", out, *SHARD_EACH, "--resume", "--quiet")
    if again.code != 0:
        assert "--overwrite" in again.err
        sound(place / "root", "--out", out, *SHARD_EACH, "--quiet", "--overwrite")
    assert tree(out) == tree(place / "calm") != old


@pytest.mark.parametrize("n", [1, 2, 10, 60])
def test_overwrite_killed_while_it_clears(tmp_path: Path, n: int) -> None:
    """meta.json goes first: killed after any removal, the rest is no finished dataset."""
    inputs = many(tmp_path / "root", 50)
    out = tmp_path / "out"
    sound(inputs, "--out", out, *SHARD_EACH, "--quiet", "--seed", 1)
    before = KILL_AT_REPLACE.format(n=n, after="pass").replace("replace", "unlink")
    before = before.replace("(self, target)", "(self, missing_ok=False)").replace("target", "")
    result = run_process(inputs, "--out", out, *SHARD_EACH, "--overwrite", before=before)
    assert (result.code == -signal.SIGKILL) == (n < 60), result.err
    if n > 1:
        assert (out / "meta.json").exists() == (n == 60)
    if n < 60:
        sound(inputs, "--out", out, *SHARD_EACH, "--quiet", "--overwrite")
    sound(inputs, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


# --- stopped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_and_resumed(tmp_path: Path, number: signal.Signals) -> None:
    gate, out = Gate(tmp_path, 20, 60), tmp_path / "out"
    process = start(gate.list, "--out", out, *SHARD_EACH)
    wait_for(lambda: shards(out) == 20, process)
    process.send_signal(number)
    gate.open(process)
    result = end(process)
    assert result.code == 130, result.err
    assert "--resume" in result.err
    assert str(out) in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert 20 <= shards(out) < 81
    assert not (out / "meta.json").exists()
    assert not list((out / ".progress").glob("*.unfinished"))
    unfinished = tokenize(gate.list, "--out", out, *SHARD_EACH)
    assert unfinished.code == 1
    assert "--resume" in unfinished.err
    gate.remove()
    resumed = sound(gate.list, "--out", out, *SHARD_EACH, "--resume", "--json").json
    assert 20 <= resumed["resumed_shards"] < 81
    sound(gate.list, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


def test_a_signal_before_the_pipeline_starts_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = """
import os, signal
from tomat.dataset.run_directory import RunDirectory
_start = RunDirectory.start
def start(self, identity):
    os.kill(os.getpid(), signal.SIGTERM)
    _start(self, identity)
RunDirectory.start = start
"""
    result = run_process(LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH, before=before)
    assert result.code == 130, result.err
    assert shards(out) == 0
    sound(LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH, "--quiet", "--resume")


# --- no room, no rights -------------------------------------------------------------------------------------


def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    """A limit of the system on file sizes stands for a full disk: the third shard is too large for it."""
    options = ("--patches-per-material", 2, "--rows-per-shard", 2)
    sound(ROOT, "--out", tmp_path / "all", *options, "--quiet")
    shards_by_size = sorted((tmp_path / "all").glob("shard-*.parquet"), key=lambda path: path.stat().st_size)
    order = [IDS[int(path.stem[-5:])] for path in shards_by_size]
    inputs = [LABEL / f"{name}.zarr" for name in (order[0], order[1], order[-1], order[2])]
    sound(*inputs, "--out", tmp_path / "calm", *options, "--quiet")
    limit, expected = shards_by_size[5].stat().st_size, 2
    arguments = (*inputs, "--out", tmp_path / "out", *options)
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    result = run_process(*arguments, "--threads", 1, before=before)
    assert result.code == 1, result.err
    assert f"shard-{expected:05d}.parquet" in result.err
    assert "too large" in result.err
    assert "Traceback" not in result.err
    out = tmp_path / "out"
    assert shards(out) == expected
    assert not (out / "meta.json").exists()
    assert not list((out / ".progress").glob("*.unfinished"))
    sound(*arguments, "--resume", "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


def test_a_full_device(tmp_path: Path) -> None:
    """/dev/full takes nothing and says what a full disk says."""
    arguments = (LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr", "--out", tmp_path / "out", *SHARD_EACH)
    progress = tmp_path / "out" / ".progress"
    progress.mkdir(parents=True)
    (progress / "shard-00001.parquet.full.unfinished").symlink_to("/dev/full")
    before = (
        "from types import SimpleNamespace as Names; from tomat.engine import local; "
        "local.uuid = Names(uuid4=lambda: Names(hex='full'))"
    )
    result = run_process(*arguments, before=before)
    assert result.code == 1
    assert "shard-00001.parquet" in result.err
    assert "No space left" in result.err
    assert shards(tmp_path / "out") == 1
    sound(*arguments, "--resume", "--quiet")
    sound(*arguments[:2], "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


#: Runs in a mount namespace of its own: a small disk, a run, room, the rest of the run.
SMALL_DISK = """
import subprocess, sys
from pathlib import Path
disk, command = sys.argv[1], sys.argv[2:]
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", disk], capture_output=True).returncode:
    sys.exit(77)
full = subprocess.run(command, capture_output=True, text=True)
assert full.returncode == 1, full
assert "No space left" in full.stderr and disk in full.stderr and "Traceback" not in full.stderr, full.stderr
assert not list(Path(disk).rglob("meta.json"))
subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
rest = subprocess.run([*command, "--resume"], capture_output=True, text=True)
assert rest.returncode == 0, rest
subprocess.run(["cp", "-r", f"{disk}/out", sys.argv[1] + "-copy"], check=True)
"""


def test_a_full_disk(place: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = process_of(place / "root", "--out", disk / "out", *SHARD_EACH)
    shell = ["unshare", "-rm", sys.executable, "-c", SMALL_DISK, str(disk), *command]
    result = subprocess.run(shell, capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr[:20]:
        # Not allowed to mount here: /dev/full and the size limit above stand for it.
        return
    assert result.returncode == 0, result.stderr
    assert tree(tmp_path / "disk-copy") == tree(place / "calm")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """Below a file, and in a file's place: nobody can write there, not even root."""
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below" / "out"):
        result = run_process(LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH)
        assert result.code == 1
        assert result.err.startswith("error: ")
        assert str(tmp_path / "file") in result.err
        assert "Traceback" not in result.err
    result = run_process(LABEL / "qe-0039.zarr", "--out", "/proc/nowhere", *SHARD_EACH)
    assert result.code == 1
    assert "/proc/nowhere" in result.err
    assert (tmp_path / "file").read_text() == "mine"
