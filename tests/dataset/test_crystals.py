"""``crystals.parquet``: crystals exactly as they were read, whole or not there, and checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flips
import tomat
from runs import (
    LABEL,
    ROOT,
    SHARD_EACH,
    SMALL,
    Gate,
    edit_meta,
    end,
    make_foreign,
    meta,
    sound,
    start,
    tomat_main,
    tree,
    wait_for,
)
from tomat.dataset import open_dataset, read_crystals, sync_dataset, verify_dataset
from tomat.dataset.crystal_table import read_table, write_table
from tomat.dataset.inputs import resolve_inputs
from tomat.workplace import read_record, write_record

INPUTS = [LABEL / f"{name}.zarr" for name in ("qe-0039", "vasp-pmg-Fe3O4", "qev-0003", "vasp-mp-2300242")]
TABLE = "crystals.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crystals") / "rows"
    sound(*INPUTS, "--out", out, *SMALL, "--rows-per-shard", 6, "--quiet")
    return out


@pytest.fixture
def rows(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "rows"))


def problems(folder: Path, *, source: bool = False) -> str:
    entries = resolve_inputs([ROOT]) if source else None
    return "\n".join(verify_dataset(folder, source=entries).problems)


def edit(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change rows of the table, and make the digests in ``meta.json`` fit."""
    table = pq.read_table(folder / TABLE)
    content = table.to_pylist()
    change(content)
    pq.write_table(pa.Table.from_pylist(content, schema=table.schema), folder / TABLE)
    edit_meta(folder)


def same_as_sources(folder: Path, paths: list[Path]) -> None:
    stored = read_crystals(folder)
    assert sorted(stored) == sorted(path.stem for path in paths)
    for path in paths:
        material, found = tomat.read(path), stored[path.stem]
        np.testing.assert_array_equal(found.crystal.lattice, material.crystal.lattice)
        np.testing.assert_array_equal(found.crystal.frac_coords, material.crystal.frac_coords)
        np.testing.assert_array_equal(found.crystal.atomic_numbers, material.crystal.atomic_numbers)
        assert found.crystal.lattice.dtype == found.crystal.frac_coords.dtype == np.float64
        assert (found.crystal.name, found.grid_shape) == (path.stem, material.grid_shape)


def test_crystals_are_those_of_the_sources_to_the_bit(original: Path) -> None:
    same_as_sources(original, INPUTS)
    assert list(read_crystals(open_dataset(original))) == [path.stem for path in INPUTS]
    assert problems(original, source=True) == ""
    # What the rows hold is not as exact.
    crystal = read_crystals(original)["qe-0039"].crystal
    shard = pq.read_table(original / "shard-00000.parquet").to_pylist()[0]
    in_rows = open_dataset(original).tokenizer.decode(np.array(shard["input_ids"], dtype=np.int32))
    assert in_rows.lattice is None or not np.array_equal(in_rows.lattice, crystal.lattice)


def test_each_worker_has_its_own(tmp_path: Path) -> None:
    for worker in range(2):
        sound(*INPUTS, tmp_path / "no.zarr", "--out", tmp_path / "out", *SMALL, "--on-error", "skip", "--quiet",
              "--n-workers", 2, "--worker-index", worker)  # fmt: skip
    assert len(list((tmp_path / "out").glob(f"worker-*/{TABLE}"))) == 2
    same_as_sources(tmp_path / "out", INPUTS)


def test_a_killed_run_leaves_none_and_a_resumed_one_the_same(tmp_path: Path) -> None:
    gate, out = Gate(tmp_path, 3, 2), tmp_path / "out"
    process = start(gate.list, "--out", out, *SHARD_EACH, "--quiet")
    # A record follows its shard.
    wait_for(lambda: len(list((out / ".progress").glob("shard-*.json"))) == 3, process)
    process.kill()
    end(process)
    assert not (out / TABLE).exists()
    # A record of an earlier version says nothing of its crystal: its shard is written again.
    path = out / ".progress" / "shard-00001.parquet.json"
    record = read_record(path)
    assert record is not None
    del record["materials"][0]["crystal"]
    write_record(path, record)
    gate.remove()
    resumed = sound(gate.list, "--out", out, *SHARD_EACH, "--resume", "--json").json
    assert resumed["resumed_shards"] == 2
    sound(gate.list, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")
    assert len(read_crystals(out)) == 6


def test_a_missing_or_damaged_table_is_found(rows: Path) -> None:
    path = rows / TABLE
    content = path.read_bytes()
    path.unlink()
    assert f"{path}: missing" in problems(rows)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_crystals(rows)
    for _, damaged in flips.turned(content, flips.positions(len(content), 3)):
        path.write_bytes(damaged)
        assert f"{path}: the content is not what was written" in problems(rows)
        with pytest.raises(ValueError, match="not what was written"):
            read_crystals(rows)
    path.write_bytes(content)
    assert problems(rows) == ""


def test_a_table_of_other_crystals_is_found(rows: Path) -> None:
    whole = pq.read_table(rows / TABLE).to_pylist()

    def put(content: list[dict[str, Any]]) -> None:
        content[:] = [dict(row) for row in whole]

    edit(rows, lambda content: content[0]["lattice"].__setitem__(0, 9.0))
    assert "qe-0039: its content does not give its SHA-256" in problems(rows)

    def doubled(content: list[dict[str, Any]]) -> None:
        put(content)
        content.append(content[0])

    def short(content: list[dict[str, Any]]) -> None:
        put(content)
        content.pop()

    edit(rows, doubled)
    assert "qe-0039 is in it twice" in problems(rows)
    edit(rows, short)
    assert f"{TABLE}: holds 3 crystals, the shards 4 materials" in problems(rows)

    def swapped(content: list[dict[str, Any]]) -> None:
        put(content)
        content[0]["task_id"], content[1]["task_id"] = content[1]["task_id"], content[0]["task_id"]

    edit(rows, swapped)
    assert "qe-0039 has the grid" in problems(rows)
    assert "qe-0039 is not the crystal of the source" in problems(rows, source=True)
    pq.write_table(pa.table({"task_id": ["qe-0039"]}), rows / TABLE)
    edit_meta(rows)
    assert "not a table of crystals: columns are" in problems(rows)


def test_datasets_without_one_stay_readable(rows: Path, tmp_path: Path) -> None:
    def older(facts: dict[str, Any]) -> None:
        del facts["crystals_sha256"]

    edit_meta(rows, older)
    assert f"{rows / TABLE}: not listed in meta.json" in problems(rows)
    (rows / TABLE).unlink()
    assert problems(rows, source=True) == ""
    assert tomat_main("info", rows).code == 0
    with pytest.raises(FileNotFoundError, match="states no such table; tokenize again"):
        read_crystals(rows)
    sync_dataset(rows, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(rows)
    make_foreign(rows)
    assert problems(rows) == ""


def test_copies_have_it(original: Path, tmp_path: Path) -> None:
    sync_dataset(original, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(original)
    same_as_sources(tmp_path / "copy", INPUTS)
    assert set(meta(original)) == set(json.loads((tmp_path / "copy" / "meta.json").read_text()))


def test_overwriting_replaces_it(rows: Path) -> None:
    sound(INPUTS[0], "--out", rows, *SMALL, "--quiet", "--overwrite")
    same_as_sources(rows, INPUTS[:1])


def test_a_table_without_materials(tmp_path: Path) -> None:
    write_table(tmp_path / TABLE, [])
    assert read_table(tmp_path / TABLE) == {}
