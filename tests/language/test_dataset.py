"""Datasets of crystals: what was given, no more and no less; damage is found, nothing is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from places import DATA
from runs import tomat_main
from tomat._seal import sealed
from tomat.cli import main, tokenize_main
from tomat.dataset.manifest import open_dataset
from tomat.language.dataset import SEAL, CrystalConfig, open_crystals, write_crystals

CRYSTALS = DATA / "crystals"


def write(folder: Path, *options: object, source: object = CRYSTALS) -> None:
    done = tomat_main("tokenize-crystals", source, "--out", folder, *options)
    assert done.code == 0, done.err


def test_the_option_of_tokenize_is_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for at, (entry, words) in enumerate([(main, ["tomat", "tokenize"]), (tokenize_main, ["tomat-tokenize"])]):
        out = tmp_path / str(at)
        monkeypatch.setattr("sys.argv", [*words, str(CRYSTALS), "--crystals", "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            entry()
        assert ended.value.code == 0
        assert "10 rows of" in capsys.readouterr().out
        assert open_crystals(out).verify() == []


@pytest.mark.parametrize("order", ["sorted", "given", "shuffled"])
@pytest.mark.parametrize("positions", [1024, 4096])
def test_what_is_written_is_what_was_given(order: str, positions: int, tmp_path: Path) -> None:
    options = ("--order", order, "--positions", positions, "--frames", 3, "--formula", "--space-group")
    write(tmp_path / "rows", *options)
    dataset = open_crystals(tmp_path / "rows")
    assert dataset.verify() == []
    rows = list(dataset.rows())
    assert len(rows) == 3 * len(list(dataset.crystals()))
    frames = {frame for _, frame, _ in rows}
    assert (0, 0, 0) in frames
    assert len(frames) == 1 + len(rows) * 2 // 3
    for _, _, ids in rows:
        elements = dataset.language.decode(ids).elements
        if order == "sorted":
            assert (np.diff(elements) >= 0).all()


def test_rows_depend_on_seed_and_id_alone(tmp_path: Path) -> None:
    options = ("--frames", 2, "--order", "shuffled", "--pad-to", 100)
    write(tmp_path / "all", *options)
    write(tmp_path / "again", *options)
    write(tmp_path / "one", *options, source=CRYSTALS / "BP-wurtzite.cif")
    write(tmp_path / "other", *options, "--seed", 1)

    def rows(name: str) -> dict[tuple[str, tuple[int, int, int]], list[int]]:
        return {(task, frame): ids.tolist() for task, frame, ids in open_crystals(tmp_path / name).rows()}

    assert rows("all") == rows("again")
    assert rows("one").items() <= rows("all").items()
    assert rows("other").keys() != rows("all").keys()
    shards = [(tmp_path / name / "shard-00000.parquet").read_bytes() for name in ("all", "again")]
    assert shards[0] == shards[1]


def test_columns_become_conditions(tmp_path: Path) -> None:
    entries = [
        {
            "id": f"c{i}",
            "lattice": [4.0, 4.0, 4.0, 90.0, 90.0, 90.0],
            "atomic_numbers": [i + 1],
            "frac_coords": [0.1, 0.2, 0.3],
            "gap": float(i) if i else None,
        }
        for i in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(entries), tmp_path / "t.parquet")
    write(tmp_path / "rows", "--column", "gap", "--bins", 4, "--n-atoms", source=tmp_path / "t.parquet")
    dataset = open_crystals(tmp_path / "rows")
    assert dataset.verify() == []
    found = [dataset.language.decode(ids).conditions for _, _, ids in dataset.rows()]
    assert found[0] == ((1, (1,)),)
    assert [slots[1] for slots in found[1:]] == [(3, (i // 2,)) for i in range(8)]
    done = tomat_main("tokenize-crystals", tmp_path / "t.parquet", "--out", tmp_path / "x", "--column", "Gap")
    assert done.code == 1
    assert "no crystal has a number 'Gap'; there are: gap" in done.err


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.cif").write_text((CRYSTALS / "As-grey.cif").read_text())
    (source / "bad.cif").write_text("nothing")
    long = {
        "id": "long",
        "lattice": [110.0, 4, 4, 90, 90, 90],
        "atomic_numbers": [1],
        "frac_coords": [0, 0, 0],
    }
    (source / "t.json").write_text(json.dumps([long]))
    done = tomat_main("tokenize-crystals", source, "--out", tmp_path / "rows", "--json")
    assert done.code == 3
    facts = json.loads(done.out)
    assert (facts["crystals"], facts["listed"], set(facts["left_out"])) == (1, 3, {"bad", "long"})
    assert done.err.count("bad.cif") == 1
    assert "t.json, entry 1: lattice parameter a = 110 angstrom cannot be written" in done.err
    meta = open_crystals(tmp_path / "rows").meta
    assert (meta["n_left_out"], set(meta["first_left_out"])) == (2, {"bad", "long"})
    skipped = tomat_main("tokenize-crystals", source, "--out", tmp_path / "s", "--on-error", "skip", "-q")
    assert skipped.code == 0
    short = tomat_main("tokenize-crystals", source / "good.cif", "--out", tmp_path / "p", "--pad-to", 8)
    assert short.code == 1
    assert "tokens, more than pad_to = 8" in short.err
    assert not (tmp_path / "p").exists()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    again = tomat_main("tokenize-crystals", CRYSTALS, "--out", tmp_path / "rows")
    assert again.code == 1
    assert "give --overwrite to replace it" in again.err
    write(tmp_path / "rows", "--overwrite", "--frames", 2)
    assert open_crystals(tmp_path / "rows").meta["frames"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    refused = tomat_main("tokenize-crystals", CRYSTALS, "--out", tmp_path / "mine", "--overwrite")
    assert refused.code == 1
    assert "no dataset of crystals" in refused.err
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_a_run_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "rows")
    before = (tmp_path / "rows" / "meta.json").read_bytes()
    monkeypatch.setattr("tomat.language.dataset.write_json", full)
    for place in ("new", "rows"):
        with pytest.raises(OSError, match="No space"):
            write_crystals([CRYSTALS], tmp_path / place, CrystalConfig(frames=2), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]
    assert (tmp_path / "rows" / "meta.json").read_bytes() == before


def test_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path / "rows", "--formula")
    shard = tmp_path / "rows" / "shard-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = tomat_main("verify", tmp_path / "rows")
    assert done.code == 1
    assert "not what was written" in done.out
    shard.unlink()
    assert "missing" in tomat_main("verify", tmp_path / "rows").out
    meta = tmp_path / "rows" / "meta.json"
    meta.write_text(meta.read_text().replace('"frames": 1', '"frames": 2'))
    done = tomat_main("verify", tmp_path / "rows")
    assert done.code == 1
    assert "damaged or was edited" in done.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crystals_sha256": None}, "'crystals_sha256' is null"),
        ({"positions": -1}, "choose 1024 or 4096"),
        ({"positions": 512}, "positions with 512 values"),
        ({"conditions": {}}, "write it again"),
        ({"shards": [{"name": "../../secret"}]}, "a shard"),
        ({"vocabulary": {}}, "other meanings"),
        ({"format_version": 9}, "of version 9"),
    ],
)
def test_a_record_that_lies_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """Its digest is made right: whoever wrote it meant it."""
    write(tmp_path / "rows", "-q")
    path = tmp_path / "rows" / "meta.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **change}, SEAL)))
    with pytest.raises(ValueError, match=message) as caught:
        open_crystals(tmp_path / "rows")
    assert "rows" in str(caught.value)


def _spoil(folder: Path, change: object) -> list[str]:
    """Problems after the rows were changed by someone who kept all digests true."""
    import hashlib

    path = folder / "shard-00000.parquet"
    table = pq.read_table(path).to_pylist()
    change(table)  # type: ignore[operator]
    pq.write_table(pa.Table.from_pylist(table), path)
    meta = json.loads((folder / "meta.json").read_text())
    meta["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(sealed(meta, SEAL)))
    return open_crystals(folder).verify()


def test_rows_of_another_crystal_are_found(tmp_path: Path) -> None:
    write(tmp_path / "rows", "--formula", "--order", "given")
    ids = open_crystals(tmp_path / "rows").language.specials

    def other_element(table: list[dict[str, list[int]]]) -> None:
        row = table[0]["input_ids"]
        row[row.index(ids["[ATOMS_START]"]) + 1] += 1

    def other_place(table: list[dict[str, list[int]]]) -> None:
        row = table[1]["input_ids"]
        row[row.index(ids["[POS_START]"]) + 1] += 1

    def other_cell(table: list[dict[str, list[int]]]) -> None:
        row = table[2]["input_ids"]
        row[row.index(ids["[LATTICE_START]"]) + 1] += 1

    def other_formula(table: list[dict[str, list[int]]]) -> None:
        row = table[3]["input_ids"]
        row[row.index(ids["[CONDITIONS_START]"]) + 3] += 1

    def one_less(table: list[dict[str, list[int]]]) -> None:
        del table[4]

    def all_of_it(table: list[dict[str, list[int]]]) -> None:
        for change in (other_element, other_place, other_cell, other_formula, one_less):
            change(table)

    problems = _spoil(tmp_path / "rows", all_of_it)
    assert len(problems) == 5
    words = ("its atoms are not", "its atoms are not", "cell (", "conditions ((0,", "0 rows, expected 1")
    for problem, expected in zip(problems, words, strict=True):
        assert expected in problem


def test_rows_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "rows", "--frames", 2, source=CRYSTALS / "Si-diamond.vasp")
    done = tomat_main("show", tmp_path / "rows" / "shard-00000.parquet", columns=200)
    assert "Si-diamond, moved by (0, 0, 0) of 1024, row 0" in done.out
    assert "[ATOMS_START] Si Si [ATOMS_END]" in done.out
    shown = tomat_main("show", tmp_path / "rows" / "shard-00000.parquet", "--row", 1, "--json")
    content = json.loads(shown.out)
    assert content["crystal"]["atomic_numbers"] == [14, 14]
    assert content["length"] == len(content["input_ids"])


def test_a_dataset_of_crystals_is_none_of_densities(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    with pytest.raises(ValueError, match=r"meta\.json: rows of crystals, not of densities"):
        open_dataset(tmp_path / "rows")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="not a dataset of crystals"):
        open_crystals(tmp_path / "d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "random"}, "order = random"),
        ({"frames": 0}, "frames = 0"),
        ({"bins": 1}, "bins = 1"),
        ({"columns": ("a", "a")}, "one of them twice"),
    ],
)
def test_settings_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrystalConfig(**options)  # type: ignore[arg-type]
