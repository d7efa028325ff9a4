"""Runs that meet others in their directory: at once, before, or with other options."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from runs import (
    LABEL,
    SHARD_EACH,
    Gate,
    end,
    meta,
    run_process,
    shards,
    sound,
    start,
    tokenize,
    tree,
    wait_for,
)
from tomat.workplace import read_record, write_record


def test_two_runs_on_one_directory(tmp_path: Path) -> None:
    gate, out = Gate(tmp_path, 10, 10), tmp_path / "out"
    first = start(gate.list, "--out", out, *SHARD_EACH, "--quiet")
    wait_for(lambda: shards(out) == 10, first)
    for options in ((), ("--resume",), ("--overwrite",)):
        second = run_process(gate.list, "--out", out, *SHARD_EACH, *options)
        assert second.code == 1
        assert second.err.startswith(f"error: {out}: another run is writing here"), second.err
        assert second.out == ""
    gate.open(first)
    result = end(first)
    assert result.code == 0, result.err
    gate.remove()
    sound(gate.list, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


def test_a_run_that_is_turned_away_touches_nothing(tmp_path: Path) -> None:
    """Also when the first has only just taken the lock and written nothing yet."""
    progress = tmp_path / "out" / ".progress"
    progress.mkdir(parents=True)
    with FileLock(progress / "lock"):
        result = run_process(LABEL / "qe-0039.zarr", "--out", tmp_path / "out", *SHARD_EACH)
        assert result.code == 1
        assert (progress / "lock").exists()


def test_a_finished_dataset_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH, "--quiet")
    sound(*arguments)
    (out / "notes.txt").write_text("mine")
    before = tree(out)
    refused = tokenize(*arguments)
    assert refused.code == 1
    assert "holds a finished dataset; give --overwrite to replace it" in refused.err
    assert sound(*arguments[:-1], "--resume", "--json").json["rows"] == 3
    assert tree(out) == before
    sound(*arguments, "--overwrite", "--seed", 1)
    assert tree(out) != before
    assert (out / "notes.txt").read_text() == "mine"
    assert meta(out)["seed"] == 1


def test_stray_shards_are_not_taken_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-00000.parquet").write_bytes(b"something else")
    refused = tokenize(LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH, "--resume")
    assert refused.code == 1
    assert "shards of an unknown run" in refused.err
    assert [path.name for path in out.iterdir()] == ["shard-00000.parquet"]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--seed", 5, "seed was 0, is 5"),
        ("--epoch", 2, "epoch was 0, is 2"),
        ("--layout", "v2", "layout was 'v3', is 'v2'"),
        ("--codec", "two_token_9_12", "codec_hash"),
        ("--patch-size", 3, "patch_size was 4, is 3"),
        ("--patches-per-material", 2, "patches_per_material was 3, is 2"),
        ("--pad-to", 300, "pad_to was 256, is 300"),
        ("--rows-per-shard", 6, "rows_per_shard was 3, is 6"),
        ("--fallback-shape", "2,2,2", "fallback_shapes"),
        ("--encoding", "plain", "encoding"),
        ("--compression-level", 3, "compression_level"),
        ("--limit", 1, "n_materials_listed was 2, is 1"),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_resume_with_other_options(
    tmp_path: Path, option: str, value: object, named: str, is_finished: bool
) -> None:
    bad = tmp_path / "bad.zarr"
    if is_finished:
        bad.symlink_to(LABEL / "qe-0048.zarr")
    arguments = (LABEL / "qe-0039.zarr", bad, "--out", tmp_path / "out", *SHARD_EACH)
    assert tokenize(*arguments).code == (0 if is_finished else 1)
    before = tree(tmp_path / "out")
    refused = tokenize(*arguments, "--resume", option, value)
    assert refused.code == 1
    assert named in refused.err
    assert tree(tmp_path / "out") == before


def test_resume_trusts_only_what_is_there_and_its_own(tmp_path: Path) -> None:
    """A shard that is gone, one that is cut, and one that another run's record speaks of are written again."""
    names = ("qe-0039", "qe-0048", "qe-1004", "qe-0003")
    inputs = [LABEL / f"{name}.zarr" for name in names]
    late = tmp_path / "late.zarr"
    arguments = (*inputs, late, "--out", tmp_path / "out", *SHARD_EACH)
    assert tokenize(*arguments).code == 1
    paths = [tmp_path / "out" / f"shard-{k:05d}.parquet" for k in range(3)]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    record = tmp_path / "out" / ".progress" / f"{paths[2].name}.json"
    write_record(record, {**(read_record(record) or {}), "identity": "another"})
    paths[2].write_bytes(bytes(paths[2].stat().st_size))
    late.symlink_to(LABEL / "qe-0913.zarr")
    assert sound(*arguments, "--resume", "--json").json["resumed_shards"] == 1
    sound(*inputs, late, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_resume_with_other_materials(tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "out", *SHARD_EACH)
    assert tokenize(LABEL / "qe-0039.zarr", tmp_path / "no.zarr", *arguments).code == 1
    refused = tokenize(LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr", *arguments, "--resume")
    assert refused.code == 1
    assert "materials_hash" in refused.err


def test_parts_of_workers_do_not_mix_with_other_runs(tmp_path: Path) -> None:
    out, inputs = tmp_path / "out", (LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr", LABEL / "qe-1004.zarr")
    sound(*inputs, "--out", out, *SHARD_EACH, "--quiet", "--n-workers", 2, "--worker-index", 0)
    before = tree(out)
    whole = tokenize(*inputs, "--out", out, *SHARD_EACH)
    assert whole.code == 1
    assert "several workers" in whole.err
    for options, named in (
        (("--n-workers", 3, "--worker-index", 2), "n_workers was 2, is 3"),
        (("--n-workers", 2, "--worker-index", 1, "--seed", 3), "seed was 0, is 3"),
    ):
        other = tokenize(*inputs, "--out", out, *SHARD_EACH, *options)
        assert other.code == 1
        assert named in other.err
        assert tree(out) == before
    sound(*inputs, "--out", out, *SHARD_EACH, "--quiet", "--n-workers", 2, "--worker-index", 1)
    # And the other way round, for a finished run of one worker and for one that is not finished.
    for index, last in enumerate((inputs[2], tmp_path / "no.zarr")):
        one = tmp_path / f"one-{index}"
        tokenize(*inputs[:2], last, "--out", one, *SHARD_EACH)
        part = tokenize(*inputs, "--out", one, *SHARD_EACH, "--n-workers", 2, "--worker-index", 0)
        assert part.code == 1
        assert "one worker" in part.err
        assert not list(one.glob("worker-*"))
