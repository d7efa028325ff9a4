"""Runs from Python: the same as from the command line, with exceptions a Python user expects."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import tomat
from runs import IDS, LABEL, ROOT, SMALL, meta, process_of, sound, tree
from tomat.dataset import Entry, TokenizeConfig, open_dataset, resolve_inputs
from tomat.engine import Run, StoppedError, tokenize

CONFIG = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k", rows_per_shard=9)
ONE = [Entry("qe-0039", str(LABEL / "qe-0039.zarr"))]


def test_the_same_files_as_the_command_line(tmp_path: Path) -> None:
    summary = tokenize(CONFIG, resolve_inputs([ROOT]), tmp_path / "api", threads=2)
    sound(ROOT, "--out", tmp_path / "cli", *SMALL, "--rows-per-shard", 9, "--quiet")
    assert tree(tmp_path / "api") == tree(tmp_path / "cli")
    assert (summary.n_materials, summary.rows, summary.shards, summary.tokens) == (20, 60, 7, 60 * 256)
    assert summary.bytes == sum(path.stat().st_size for path in (tmp_path / "api").glob("shard-*.parquet"))
    again = tokenize(CONFIG, resolve_inputs([ROOT]), tmp_path / "api", resume=True)
    assert (again.resumed_shards, again.rows, again.bytes) == (7, 60, summary.bytes)
    dataset = open_dataset(tmp_path / "api")
    assert [path.name for path in dataset.shard_paths()] == [f"shard-{k:05d}.parquet" for k in range(7)]


def test_exceptions(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tokenize(CONFIG, [Entry("x", "/nowhere/x.zarr")], tmp_path / "a")
    (tmp_path / "bad.cube").write_bytes(b"no density")
    with pytest.raises(ValueError, match=r"bad\.cube"):
        tokenize(CONFIG, [Entry("x", str(tmp_path / "bad.cube"))], tmp_path / "b")
    tokenize(CONFIG, ONE, tmp_path / "c")
    with pytest.raises(FileExistsError, match="holds a finished dataset"):
        tokenize(CONFIG, ONE, tmp_path / "c")
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        tokenize(replace(CONFIG, seed=1), ONE, tmp_path / "c", resume=True)
    with pytest.raises(NotADirectoryError):
        tokenize(CONFIG, ONE, tmp_path / "bad.cube" / "out")
    with pytest.raises(KeyError, match="v9"):
        TokenizeConfig(layout="v9")


def test_cancelled_from_another_thread(tmp_path: Path) -> None:
    run = Run(CONFIG, resolve_inputs([ROOT]), tmp_path / "out", threads=1)
    pipe = tmp_path / "gate" / "CHGCAR"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    run.entries[10] = Entry(IDS[10], str(pipe))

    tomat.read(run.entries[9].path).write(tmp_path / "CHGCAR")
    whole = (tmp_path / "CHGCAR").read_bytes()

    def stop() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as gate:  # open once the pipeline reads it
            run.cancel()
            # A whole density: an empty one is a fault of its own, which may be seen before the flag is.
            gate.write(whole)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(StoppedError, match="--resume"):
        run.execute()
    thread.join()
    assert not (tmp_path / "out" / "meta.json").exists()
    tokenize(CONFIG, resolve_inputs([ROOT]), tmp_path / "out", resume=True)
    assert meta(tmp_path / "out")["n_materials"] == 20


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    Run(CONFIG, resolve_inputs([ROOT]), tmp_path / "out").execute(
        watch=lambda now: seen.append((now.materials, now.n_materials, now.rows))
    )
    assert seen[-1] == (20, 20, 60)
    assert seen == sorted(seen)


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        process_of(ROOT, "--out", tmp_path / "out", *SMALL), stdout=subprocess.PIPE, stderr=side
    )
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"tokenizing" in shown
    assert b"materials/s" in shown
    assert b"20 of 20" in out
