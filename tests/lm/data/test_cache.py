"""What is unpacked once is whole or not there, and made again where anything has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from data_sets import CASES, SEED
from runs import IDS, LABEL, farm
from tomat.lm.data import DataConfig, cache, open_rows, parquet, store
from tomat.lm.data.rows import Rows


def digest(rows: Rows) -> str:
    batch = rows.rows(1, np.arange(len(rows)))
    return hashlib.sha256(batch.tokens.tobytes() + batch.values.tobytes()).hexdigest()


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def configurations(folder: Path, datasets: dict[str, Path]) -> dict[str, DataConfig]:
    return {
        "parquet": DataConfig(path=str(datasets["v3"]), cache=str(folder), seed=SEED),
        "densities": CASES["v3"].on_the_fly(cache=str(folder)),
    }


def no_building(*_: Any) -> Any:
    raise AssertionError("built again")


@pytest.mark.parametrize("source", ["parquet", "densities"])
def test_a_cache_gives_what_memory_gives(source: str, tmp_path: Path, datasets: dict[str, Path]) -> None:
    config = configurations(tmp_path, datasets)[source]
    expected = digest(open_rows(DataConfig(**{**config.__dict__, "cache": None}), 512))
    assert digest(open_rows(config, 512)) == expected
    (folder,) = folders(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with (
        mock.patch.object(parquet, "_read_shard", no_building),
        mock.patch.object(store, "_read", no_building),
    ):
        assert digest(open_rows(config, 512)) == expected
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(bytes(content))


def edit(file: Path) -> None:
    stated = json.loads((file.parent / "complete.json").read_text())
    stated["identity"]["format"] = 0
    (file.parent / "complete.json").write_text(json.dumps(stated))


def forget(file: Path) -> None:
    (file.parent / "complete.json").unlink()


@pytest.mark.parametrize("damage", [truncate, flip, edit, forget, Path.unlink])
@pytest.mark.parametrize("source", ["parquet", "densities"])
def test_a_damaged_cache_is_made_again(
    source: str, damage: Any, tmp_path: Path, datasets: dict[str, Path]
) -> None:
    config = configurations(tmp_path, datasets)[source]
    expected = digest(open_rows(config, 512))
    (folder,) = folders(tmp_path)
    damage(folder / {"parquet": "tokens.u2", "densities": "density.f4"}[source])
    assert digest(open_rows(config, 512)) == expected
    assert folders(tmp_path) == [folder]


KILLED = """
import os, sys
from tomat.lm.data import cache, DataConfig, open_rows
append, calls = cache.FlatFile.append, []
def killed(self, values):
    append(self, values)
    calls.append(1)
    if len(calls) == {after}:
        self._file.flush()
        os._exit(9)
cache.FlatFile.append = killed
open_rows(DataConfig({source}, cache={cache!r}, patch_size=6), 512)
"""


@pytest.mark.parametrize("after", [1, 5, 22])
def test_a_killed_build_leaves_nothing_that_looks_finished(after: int, tmp_path: Path) -> None:
    root = farm(tmp_path / "root", IDS)
    source = f"densities=({str(root)!r},), patches_per_material=2"
    program = KILLED.format(after=after, source=source, cache=str(tmp_path / "cache"))
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    left = folders(tmp_path / "cache")
    assert left
    assert all(path.name.startswith(".") and path.suffix == ".tmp" for path in left)
    config = DataConfig(
        densities=(str(root),), patches_per_material=2, cache=str(tmp_path / "cache"), patch_size=6
    )
    rows = open_rows(config, 512)
    assert len(rows) == 2 * len(IDS)
    assert [path.name[0] for path in folders(tmp_path / "cache")] == ["d"], "what was left is gone"


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path, limit: int | None) -> dict[str, Any]:
        (folder / "x.f4").write_bytes(b"1234")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.built(tmp_path, "thing", {"a": 1}, build)
    assert not folders(tmp_path)


def test_a_changed_density_is_read_again(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", IDS[:4])
    config = DataConfig(
        densities=(str(root),), patch_size=6, patches_per_material=2, cache=str(tmp_path / "cache")
    )
    before = open_rows(config, 512)
    changed = root / "label" / f"{IDS[1]}.zarr"
    changed.unlink()
    shutil.copytree(LABEL / f"{IDS[5]}.zarr", changed)
    after = open_rows(config, 512)
    assert digest(before) != digest(after)
    assert before.identity()["densities_hash"] != after.identity()["densities_hash"]
    # Names and contents count, not where files lie.
    moved = root.rename(tmp_path / "elsewhere")
    again = open_rows(DataConfig(densities=(str(moved),), patch_size=6, patches_per_material=2), 512)
    assert again.identity() == after.identity()


def test_what_does_not_fit_memory_asks_for_a_folder(tmp_path: Path) -> None:
    config = CASES["v3"].on_the_fly()
    with (
        mock.patch.object(cache, "LARGEST_IN_MEMORY", 100_000),
        pytest.raises(ValueError, match=r"data\.cache"),
    ):
        open_rows(config, 512)
    with mock.patch.object(cache, "LARGEST_IN_MEMORY", 100_000):
        open_rows(CASES["v3"].on_the_fly(cache=str(tmp_path)), 512)


def test_small_vocabularies_take_two_bytes_a_token(tmp_path: Path, datasets: dict[str, Path]) -> None:
    open_rows(DataConfig(path=str(datasets["v3"]), cache=str(tmp_path)), 512)
    (file,) = folders(tmp_path)[0].glob("tokens.*")
    rows = open_rows(DataConfig(path=str(datasets["v3"])), 512)
    assert file.name == "tokens.u2"
    assert file.stat().st_size == 2 * rows.counts["tokens"]
