"""Copies of datasets: every byte checked, every worker counted, broken-off copies gone on with."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from buckets import Door, content, on_disk, somewhere
from runs import ROOT, SHARD_EACH, sound, tomat_main, tree
from tomat.dataset import open_dataset, sync_dataset
from tomat.storage import transfer

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three workers."""
    out = tmp_path_factory.mktemp("sync") / "rows"
    for index in range(3):
        sound(ROOT, "--out", out, *SHARD_EACH, "--worker-index", index, "--n-workers", 3, "--quiet")
    return out


@pytest.fixture
def mine(rows: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(rows, tmp_path / "mine"))


def test_from_place_to_place(door: Door, rows: Path, tmp_path: Path) -> None:
    """Disk, bucket, bucket, memory, disk: the same bytes at the end."""
    places = [str(rows), somewhere(), somewhere(), "memory://sync/rows", str(tmp_path / "back")]
    try:
        for source, target in itertools.pairwise(places):
            result = tomat_main("sync", source, target)
            assert result.code == 0, result.err
            assert "3 of 3 workers, 60 rows; 32 files copied" in result.out
            again = json.loads(tomat_main("sync", source, target, "--json").out)
            assert (again["copied"], again["present"], again["missing"]) == (0, 32, [])
            assert content(target) if "://" in target else True
        assert tree(tmp_path / "back") == tree(rows)
        assert content(places[1]) == content(places[2]) == content(places[3]) == on_disk(rows)
    finally:
        fsspec.filesystem("memory").store.clear()
    one = tmp_path / "one"
    sound(ROOT, "--out", one, *SHARD_EACH, "--quiet")
    assert sync_dataset(one, tmp_path / "copy").workers == 1
    assert tree(tmp_path / "copy") == tree(one)


def test_missing_workers(mine: Path, tmp_path: Path) -> None:
    shutil.rmtree(mine / "worker-01")
    for arguments in (("sync", mine, tmp_path / "to"), ("info", mine), ("verify", mine)):
        result = tomat_main(*arguments)
        assert result.code == 1
        assert "1 of 3 workers are missing: [1]" in result.err
        assert "--allow-partial" in result.err
    assert not (tmp_path / "to").exists()
    result = tomat_main("sync", mine, tmp_path / "to", "--allow-partial")
    assert result.code == 0, result.err
    assert "2 of 3 workers" in result.out
    assert "missing workers: 1" in result.out
    with pytest.raises(ValueError, match="workers are missing"):
        open_dataset(tmp_path / "to")


def test_the_rest_of_a_part(rows: Path, mine: Path, tmp_path: Path) -> None:
    """What came from one machine first, and the others later, is one dataset in the end."""
    part = tmp_path / "part"
    part.mkdir()
    (mine / "worker-01").rename(part / "worker-01")
    target = tmp_path / "to"
    sync_dataset(mine, target, allow_partial=True)
    assert sync_dataset(part, target, allow_partial=True).workers == 3
    assert tree(target) == tree(rows)


def test_a_damaged_source(door: Door, mine: Path, tmp_path: Path) -> None:
    shard = mine / "worker-02" / "shard-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    for target in (tmp_path / "to", somewhere()):
        result = tomat_main("sync", mine, target)
        assert result.code == 1
        assert str(shard) in result.err
        assert "SHA-256" in result.err
        with pytest.raises((ValueError, FileNotFoundError)):
            open_dataset(target)
    shard.unlink()
    assert "shard-00001.parquet" in tomat_main("sync", mine, tmp_path / "to").err


def test_what_arrived_damaged_is_copied_again(door: Door, rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "to"
    sync_dataset(rows, target)
    shard = target / "worker-00" / "shard-00002.parquet"
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    (target / "worker-01" / "codec.npz").unlink()
    report = sync_dataset(rows, target)
    assert (report.copied, report.present) == (2, 30)
    assert tree(target) == tree(rows)
    url = somewhere()
    sync_dataset(rows, url)
    fs, inner = fsspec.core.url_to_fs(url)
    name = f"{inner}/worker-00/shard-00002.parquet"
    fs.pipe_file(name, b"x" + fs.cat_file(name)[1:])
    assert sync_dataset(rows, url).copied == 1
    assert content(url) == on_disk(rows)


def test_broken_off(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any file: it does not open, and a second copy ends it."""
    for n in (0, 5, 12, 28):
        target, left = tmp_path / f"to-{n}", [n]

        def stop(*arguments: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return transfer.put(*arguments)

        monkeypatch.setattr("tomat.dataset.sync.put", stop)
        with pytest.raises(OSError, match="No space"):
            sync_dataset(rows, target, threads=1)
        monkeypatch.setattr("tomat.dataset.sync.put", transfer.put)
        with pytest.raises((ValueError, FileNotFoundError)):
            open_dataset(target)
        assert sync_dataset(rows, target).present >= min(n, 1)
        assert tree(target) == tree(rows)


def test_another_dataset_is_there(door: Door, rows: Path, tmp_path: Path) -> None:
    options = ("--worker-index", 0, "--n-workers", 1, "--seed", 3, "--quiet")
    for target in (tmp_path / "to", somewhere()):
        sound(ROOT, "--out", target, *SHARD_EACH, *options)
        result = tomat_main("sync", rows, target)
        assert result.code == 1
        assert "another dataset is there" in result.err
        assert open_dataset(target).total_rows == 60
    other = tmp_path / "other"
    for index in range(3):
        sound(ROOT, "--out", other, *SHARD_EACH, "--worker-index", index, "--n-workers", 3, "--seed", 3, "-q")
    assert tomat_main("sync", rows, other).code == 1
    assert tomat_main("sync", rows, other, "--overwrite").code == 0
    assert tree(other) == tree(rows)
    assert "the same" in tomat_main("sync", rows, rows).err
