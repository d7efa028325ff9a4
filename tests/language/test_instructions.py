"""The instruction data set: every row is its crystal, shares are those asked for, bad crystals are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from places import DATA
from runs import tomat_main
from tomat.crystal import Crystal
from tomat.language import text
from tomat.language.instructions import InstructionConfig, formula, write_instructions
from tomat.language.sources import read_crystals

CRYSTALS = DATA / "crystals"


def rows(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = pq.read_table(path).to_pylist()
    return found


def test_rows_are_the_crystals_in_some_frame(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    done = tomat_main("crystal-text", CRYSTALS, "-o", out, "--frames", 30, "--formula", "--space-group")
    assert done.code == 0, done.err
    exact = {one.name: one.crystal for one in read_crystals([CRYSTALS])}
    for row in rows(out):
        crystal = exact[row["id"]]
        assert crystal is not None
        if row["kind"] == "infill":
            shown = (
                row["prompt"]
                .split(":\n")[1]
                .removesuffix("\nGenerate an element that could replace [MASK] in the bulk material")
            )
            read = text.read_text(shown.replace(text.MASK, row["response"]))
        else:
            read = text.read_text(row["response"])
        assert sorted(read.atomic_numbers) == sorted(crystal.atomic_numbers)
        first = (crystal.frac_coords[0] * 100).round().astype(int) % 100
        moved = (read.frac_coords[0] * 100).round().astype(int)
        assert text.write_text(crystal, frame=(moved - first) % 100) == text.write_text(read)
        if "formula is" in row["prompt"]:
            assert f"The chemical formula is {formula(crystal)}." in row["prompt"]


def test_shares_are_those_asked_for(tmp_path: Path) -> None:
    config = InstructionConfig(frames=300, formula=True, keep=0.5)
    summary = write_instructions([CRYSTALS], tmp_path / "t.parquet", config)
    for kind in ("infill", "condition", "generate"):
        assert summary.kinds[kind] == pytest.approx(1000, abs=120)
    metadata: Any = pq.read_schema(tmp_path / "t.parquet").metadata
    settings = json.loads(metadata[b"tomat"])
    assert (settings["frames"], settings["seed"]) == (300, 0)
    only = write_instructions([CRYSTALS], tmp_path / "o.parquet", InstructionConfig(infill=0.0, keep=0.0))
    assert only.kinds == {"generate": 10}


def test_rows_depend_on_seed_and_id_alone(tmp_path: Path) -> None:
    config = InstructionConfig(frames=3)
    write_instructions([CRYSTALS], tmp_path / "all.parquet", config)
    write_instructions([CRYSTALS / "As-grey.cif"], tmp_path / "one.parquet", config)
    write_instructions([CRYSTALS], tmp_path / "other.parquet", InstructionConfig(frames=3, seed=1))
    whole = rows(tmp_path / "all.parquet")
    assert rows(tmp_path / "one.parquet") == [row for row in whole if row["id"] == "As-grey"]
    assert rows(tmp_path / "other.parquet") != whole


def test_columns_are_conditions(tmp_path: Path) -> None:
    entry = {"id": "a", "atomic_numbers": [3], "frac_coords": [0.0, 0.0, 0.0], "band_gap": 0.5}
    table = pa.Table.from_pylist([{**entry, "lattice": [3.5, 3.5, 3.5, 90.0, 90.0, 90.0]}])
    pq.write_table(table, tmp_path / "t.parquet")
    options = ("--column", "band_gap", "--keep", 1, "--infill", 0, "-q")
    done = tomat_main("crystal-text", tmp_path / "t.parquet", "-o", tmp_path / "o.parquet", *options)
    assert done.code == 0, done.err
    assert "The band gap is 0.5." in rows(tmp_path / "o.parquet")[0]["prompt"]
    wrong = tomat_main(
        "crystal-text", tmp_path / "t.parquet", "-o", tmp_path / "p.parquet", "--column", "gap"
    )
    assert wrong.code == 1
    assert "no crystal has a number 'gap'; there are: band_gap" in wrong.err


def test_what_is_left_out_is_named_and_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("nothing")
    source = str(CRYSTALS / "As-grey.cif")
    out = tmp_path / "t.parquet"
    done = tomat_main("crystal-text", source, tmp_path / "bad.cif", "-o", out, "--json")
    assert done.code == 3
    facts = json.loads(done.out)
    assert (facts["crystals"], facts["listed"], list(facts["left_out"])) == (1, 2, ["bad"])
    assert done.err.count("bad.cif") == 1
    before = out.read_bytes()
    again = tomat_main("crystal-text", source, "-o", out)
    assert again.code == 1
    assert "give --overwrite to replace it" in again.err
    none = tomat_main("crystal-text", tmp_path / "bad.cif", "-o", out, "--overwrite")
    assert none.code == 1
    assert "none of 1 crystals can be written" in none.err
    assert out.read_bytes() == before


def test_a_formula_keeps_the_order_of_the_atoms() -> None:
    places = [[0.0, 0.0, 0.1 * i] for i in range(5)]
    assert formula(Crystal.from_parameters([4.0] * 3 + [90.0] * 3, [38, 22, 8, 8, 8], places)) == "SrTiO3"


@pytest.mark.parametrize("options", [{"frames": 0}, {"infill": 1.5}, {"keep": -0.1}])
def test_settings_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        InstructionConfig(**options)
