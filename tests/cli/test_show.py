"""`tomat show`: a row in printed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tomat
from runs import LABEL, SMALL, rows_of, sound, tomat_main

SHARD = "shard-00000.parquet"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two materials, three rows each."""
    out = tmp_path_factory.mktemp("show") / "rows"
    sound(LABEL / "qe-0770.zarr", LABEL / "qe-0039.zarr", "--out", out, *SMALL, "--quiet")
    return out


def test_the_printed_form(rows: Path) -> None:
    result = tomat_main("show", rows / SHARD, "--row", 1)
    assert result.code == 0, result.err
    x, y, z = rows_of(rows)["qe-0770"].offsets[1]
    lines = result.out.splitlines()
    assert lines[0] == f"qe-0770, patch at ({x}, {y}, {z}), row 1 of {rows / SHARD}"
    assert lines[1] == "[BOS]"
    assert "[GRID_START] 32 32 32 [GRID_END]" in lines
    assert "[ATOMS_START] Mg O [ATOMS_END]" in lines
    assert "... 16 more ..." in result.out
    assert lines[-1] == "[EOS]"
    assert "[PAD]" not in result.out


def test_full_shows_every_token(rows: Path) -> None:
    text = tomat_main("show", rows / SHARD, "--row", 4, "--full").out
    tokenizer = tomat.PatchTokenizer("v3", "lmq-16k", 4, 256)
    names = tokenizer.show(rows_of(rows)["qe-0039"].ids[1])
    assert text.split("\n", 1)[1].split() == names
    assert "more" not in text


@pytest.mark.parametrize("columns", [40, 79, 200])
def test_lines_are_wrapped_to_the_terminal(rows: Path, columns: int) -> None:
    lines = tomat_main("show", rows / SHARD, "--full", columns=columns).out.splitlines()[1:]
    assert max(map(len, lines)) <= columns
    # Full lines, not one token each.
    assert max(map(len, lines)) > columns - 12
    words = [word for line in lines for word in line.split()]
    assert words == tomat_main("show", rows / SHARD, "--json").json["tokens"]


def test_json(rows: Path) -> None:
    shown = tomat_main("show", rows / SHARD, "--row", 5, "--json").json
    stored = rows_of(rows)["qe-0039"]
    row = stored.ids[2]
    patch = tomat.PatchTokenizer("v3", "lmq-16k", 4, 256).decode(row)
    assert shown["task_id"] == "qe-0039"
    assert [shown[f"offset_{axis}"] for axis in "xyz"] == stored.offsets[2].tolist()
    length = int(np.flatnonzero(row)[-1]) + 1
    assert shown["length"] == len(shown["tokens"]) == length
    assert shown["input_ids"] == row[:length].tolist()
    assert shown["patch"]["grid_shape"] == [40, 40, 40]
    assert shown["patch"]["patch_shape"] == [4, 4, 4]
    assert shown["patch"]["offset"] is None
    assert shown["patch"]["atomic_numbers"] == [14, 14]
    np.testing.assert_array_equal(shown["patch"]["density"], patch.density)
    np.testing.assert_array_equal(shown["patch"]["frac_coords"], patch.frac_coords)


def test_a_layout_without_a_lattice(tmp_path: Path) -> None:
    sound(LABEL / "qe-0039.zarr", "--out", tmp_path / "out", *SMALL, "--layout", "v2", "--quiet")
    patch = tomat_main("show", tmp_path / "out" / SHARD, "--json").json["patch"]
    assert patch["lattice"] is None
    assert patch["offset"] == rows_of(tmp_path / "out")["qe-0039"].offsets[0].tolist()
    assert "[HI_START]" in tomat_main("show", tmp_path / "out" / SHARD).out


def test_rows_of_every_group(tmp_path: Path) -> None:
    sound(LABEL / "qe-0039.zarr", "--out", tmp_path / "out", *SMALL, "--patches-per-material", 600, "--quiet")
    offsets = rows_of(tmp_path / "out")["qe-0039"].offsets
    for row in (0, 511, 512, 599):
        shown = tomat_main("show", tmp_path / "out" / SHARD, "--row", row, "--json").json
        assert [shown[f"offset_{axis}"] for axis in "xyz"] == offsets[row].tolist()


def test_a_shard_of_one_worker(tmp_path: Path) -> None:
    sound(LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr", "--out", tmp_path, *SMALL, "--quiet",
          "--n-workers", 2, "--worker-index", 1)  # fmt: skip
    result = tomat_main("show", tmp_path / "worker-01" / SHARD)
    assert result.code == 0, result.err
    assert result.out.startswith("qe-0048")


def test_what_cannot_be_shown(rows: Path, tmp_path: Path) -> None:
    out_of_range = tomat_main("show", rows / SHARD, "--row", 6)
    assert out_of_range.code == 1
    assert f"{rows / SHARD}: no row 6; it has 6 rows" in out_of_range.err
    assert tomat_main("show", rows / SHARD, "--row", -1).code == 2
    missing = tomat_main("show", rows / "shard-00009.parquet")
    assert missing.code == 1
    assert "shard-00009.parquet" in missing.err
    for content in (b"", b"hello", b"PAR1" + bytes(40) + b"PAR1"):
        (tmp_path / "x.parquet").write_bytes(content)
        garbage = tomat_main("show", tmp_path / "x.parquet")
        assert garbage.code == 1
        assert f"{tmp_path / 'x.parquet'}: not a parquet file" in garbage.err
    folder = tomat_main("show", rows)
    assert folder.code == 1
    assert str(rows) in folder.err
    assert "Traceback" not in folder.err
    (tmp_path / "x.parquet").write_bytes((rows / SHARD).read_bytes())
    alone = tomat_main("show", tmp_path / "x.parquet")
    assert alone.code == 1
    assert "no meta.json" in alone.err
