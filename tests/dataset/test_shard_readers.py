"""The shards through the readers people use: pyarrow, polars, DuckDB and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset

from runs import LABEL, SMALL, a_cell, save_zarr, sound, tokenize

ENCODINGS = ["plain", "byte_stream_split", "delta_binary_packed"]
INPUTS = [LABEL / f"{name}.zarr" for name in ("qe-0039", "vasp-pmg-Fe3O4", "qev-0003", "vasp-mp-2300242")]
SCHEMA = pa.schema(
    {
        "task_id": pa.string(),
        **{f"offset_{axis}": pa.int32() for axis in "xyz"},
        "input_ids": pa.list_(pa.int32()),
    }
)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in each encoding: two shards, the first with two row groups."""
    place = tmp_path_factory.mktemp("readers")
    for encoding in ENCODINGS:
        sound(*INPUTS, "--out", place / encoding, *SMALL, "--patches-per-material", 300, "--rows-per-shard", 600,
              "--encoding", encoding, "--quiet")  # fmt: skip
    return {encoding: place / encoding for encoding in ENCODINGS}


def shards(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("shard-*.parquet")))


def with_polars(folder: Path) -> Rows:
    return pl.read_parquet(shards(folder)).to_dicts()


def with_lazy_polars(folder: Path) -> Rows:
    return pl.scan_parquet(f"{folder}/shard-*.parquet").filter(pl.col("offset_x") >= 0).collect().to_dicts()


def with_duckdb(folder: Path) -> Rows:
    connection = duckdb.connect()
    table = connection.execute(f"SELECT * FROM '{folder}/shard-*.parquet'").fetchall()
    return [dict(zip(SCHEMA.names, row, strict=True)) for row in table]


def with_datasets(folder: Path) -> Rows:
    loaded = load_dataset(
        "parquet",
        data_files=shards(folder),
        split="train",
        cache_dir=str(folder.parent / f"cache-{folder.name}"),
    )
    assert isinstance(loaded, Dataset)
    return list(loaded)


def with_streaming_datasets(folder: Path) -> Rows:
    return list(load_dataset("parquet", data_files=shards(folder), split="train", streaming=True))


READERS = [with_polars, with_lazy_polars, with_duckdb, with_datasets, with_streaming_datasets]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("reader", READERS)
def test_readers_agree(folders: dict[str, Path], encoding: str, reader: Callable[[Path], Rows]) -> None:
    expected = pa.concat_tables(map(pq.read_table, shards(folders["plain"]))).to_pylist()
    assert len(expected) == 1200
    assert reader(folders[encoding]) == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pyarrow(folders: dict[str, Path], encoding: str) -> None:
    paths = shards(folders[encoding])
    tables = [pq.read_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        assert table.schema.equals(SCHEMA)
        assert table.nbytes > 0
        file = pq.ParquetFile(path)
        assert file.metadata.num_rows == 600
        assert file.metadata.num_row_groups == 2
        for group in range(2):
            for column in range(5):
                assert file.metadata.row_group(group).column(column).compression == "ZSTD"
        only = pq.read_table(path, columns=["offset_z", "task_id"], filters=[("task_id", "==", "qev-0003")])
        assert only.num_rows == (300 if "00001" in path else 0)
    plain = [pq.read_table(path) for path in shards(folders["plain"])]
    assert tables == plain
    # Beside a table that pyarrow writes itself.
    own = pa.table({name: [] for name in SCHEMA.names}, schema=SCHEMA)
    assert pa.concat_tables([*tables, own]).schema.equals(SCHEMA)
    batches = list(pq.ParquetFile(paths[0]).iter_batches(batch_size=77))
    assert pa.Table.from_batches(batches) == tables[0]


def test_the_schema_is_that_of_pyarrow_in_the_file_too(folders: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own.parquet"
    pq.write_table(pq.read_table(shards(folders["plain"])[0]), own)
    theirs = pq.ParquetFile(own).schema
    for encoding in ENCODINGS:
        assert pq.ParquetFile(shards(folders[encoding])[0]).schema.equals(theirs)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_made_a_shard_is_in_its_footer(folders: dict[str, Path], encoding: str) -> None:
    metadata = pq.ParquetFile(shards(folders[encoding])[0]).metadata
    assert metadata.created_by.startswith("tomat ")
    assert metadata.metadata[b"tomat.layout"] == b"v3"
    assert len(metadata.metadata[b"tomat.codec_hash"]) == 64
    # The rows' own facts never name a machine, a time or a thread.
    expected = {b"ARROW:schema", *(f"tomat.{key}".encode() for key in
                ("tomat_version", "layout", "codec_hash", "vocabulary_hash", "unit"))}  # fmt: skip
    assert set(metadata.metadata) == expected


@pytest.mark.parametrize("reader", READERS[:3])
def test_an_empty_shard_beside_others(tmp_path: Path, reader: Callable[[Path], Rows]) -> None:
    """A shard whose materials were all left out has no rows and is read like any other."""
    save_zarr(tmp_path / "long.zarr", a_cell((8, 4, 4), 80.0))
    result = tokenize(
        tmp_path / "long.zarr", INPUTS[0], "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3
    )
    assert result.code == 3
    first = pq.read_table(shards(tmp_path / "out")[0])
    assert (first.num_rows, first.schema.equals(SCHEMA)) == (0, True)
    assert [row["task_id"] for row in reader(tmp_path / "out")] == ["qe-0039"] * 3
