"""The catalogue: what a row says, what is read again, what SQL gives back, and splits without leakage."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tomat
from places import DATA
from runs import IDS, LABEL, ROOT, farm, tokenize, tomat_main
from tomat import catalogue
from tomat.catalogue import builder
from tomat.catalogue.division import split_groups
from tomat.catalogue.rows import row_of
from tomat.catalogue.table import COLUMNS, SCHEMA
from tomat.categories import category
from tomat.dataset.inputs import resolve_inputs
from tomat.material import Entry
from tomat.tokenizer import LAYOUTS


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("catalogue") / "catalogue.parquet"
    result = tomat_main("catalogue", "build", ROOT, "-o", out, "--json")
    assert result.code == 0, result.err
    assert result.json == {"rows": 20, "read": 20, "kept": 0, "dropped": 0, "errors": {}}
    return out


def test_rows(path: Path) -> None:
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == IDS
    splits = json.loads((ROOT / "split.json").read_text())
    split_of = {IDS[i]: name for name, members in splits.items() for i in members}
    for row in rows:
        material = tomat.read(row["path"])
        structure = material.to_pymatgen().structure
        assert (row["nx"], row["ny"], row["nz"]) == material.grid_shape
        assert row["voxels"] == material.density.size
        assert row["n_atoms"] == len(structure)
        assert row["electrons"] == material.n_electrons
        lengths = (row["a"], row["b"], row["c"], row["alpha"], row["beta"], row["gamma"])
        np.testing.assert_allclose(lengths, structure.lattice.parameters, rtol=1e-12)
        assert row["volume"] == pytest.approx(structure.volume)
        composition = structure.composition
        assert row["formula"] == composition.hill_formula.replace(" ", "")
        assert row["chemsys"] == composition.chemical_system
        assert row["category"] == category([e.symbol for e in composition.elements])
        assert row["split"] == split_of[row["id"]]
        for layout in LAYOUTS.values():
            tokenizer = tomat.PatchTokenizer(layout.name, layout.default_codec)
            assert row[f"tokens_{layout.name.replace('-', '_')}"] == tokenizer.length(row["n_atoms"])


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "label").mkdir(parents=True)
    for name in IDS[:4]:
        shutil.copytree(LABEL / f"{name}.zarr", root / "label" / f"{name}.zarr")
    read: list[str] = []

    def watched(entry: Entry) -> dict[str, Any]:
        read.append(entry.task_id)
        return row_of(entry)

    monkeypatch.setattr(builder, "row_of", watched)
    out = tmp_path / "c.parquet"

    def build() -> catalogue.BuildReport:
        read.clear()
        return catalogue.build(resolve_inputs([root]), out, threads=2)

    assert build().read == 4
    before = out.read_bytes()
    report = build()
    assert (read, report.kept, out.read_bytes()) == ([], 4, before)
    # One rewritten, one gone, one new.
    chunk = next((root / "label" / f"{IDS[0]}.zarr").rglob("0/0/0"))
    os.utime(chunk, ns=(1, chunk.stat().st_mtime_ns + 10**9))
    shutil.rmtree(root / "label" / f"{IDS[1]}.zarr")
    shutil.copytree(LABEL / f"{IDS[5]}.zarr", root / "label" / f"{IDS[5]}.zarr")
    report = build()
    assert sorted(read) == sorted([IDS[0], IDS[5]])
    assert (report.rows, report.kept, report.dropped) == (4, 2, 1)
    # The same as from nothing.
    incremental = pq.read_table(out)
    out.unlink()
    build()
    assert pq.read_table(out).equals(incremental)


def test_what_cannot_be_read_is_named_and_tried_again(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", ["a", "b", "c", "d"])
    (root / "label" / "b.zarr").unlink()
    (root / "label" / "c.zarr").unlink()
    (root / "label" / "c.zarr").mkdir()
    (root / "label" / "c.zarr" / "zarr.json").write_text("{}")
    out = tmp_path / "c.parquet"
    result = tomat_main("catalogue", "build", root, "-o", out)
    assert result.code == 3
    assert "2 could not be read and are left out" in result.err
    assert "b.zarr" in result.err
    assert "c.zarr" in result.err
    assert [row["id"] for row in catalogue.load(out).to_pylist()] == ["a", "d"]
    (root / "label" / "b.zarr").symlink_to(LABEL / f"{IDS[1]}.zarr")
    report = tomat_main("catalogue", "build", root, "-o", out, "--json").json
    assert (report["rows"], report["read"], report["kept"], list(report["errors"])) == (3, 1, 2, ["c"])


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = resolve_inputs([ROOT])
    out = tmp_path / "c.parquet"

    def stop(name: str) -> None:
        if name == IDS[11]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalogue.build(entries, out, watch=stop, threads=1)
    assert not out.exists()
    journal = tmp_path / ".c.parquet.unfinished"
    with journal.open("a") as file:
        file.write('{"id": "cut o')
    report = catalogue.build(entries, out)
    assert (report.kept, report.read) == (12, 8)
    assert not journal.exists()
    whole = tmp_path / "whole.parquet"
    catalogue.build(entries, whole)
    assert pq.read_table(whole).equals(pq.read_table(out))


def test_urls_are_known_by_what_their_file_system_says(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    content = (DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz").read_bytes()
    fs.pipe("/catalogue/one/CHGCAR.gz", content)
    entries = [
        Entry("one", "memory://catalogue/one/CHGCAR.gz"),
        Entry("gone", "memory://catalogue/gone/CHGCAR"),
    ]
    report = catalogue.build(entries, tmp_path / "c.parquet")
    assert (report.rows, report.read, list(report.errors)) == (1, 1, ["gone"])
    assert catalogue.build(entries, tmp_path / "c.parquet").kept == 1
    fs.pipe("/catalogue/one/CHGCAR.gz", content)  # written again: another time
    assert catalogue.build(entries, tmp_path / "c.parquet").read == 1


# --- CSV ----------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    text = "mp_id,nx,ny,nz,n_atoms,formula,colour\nmp-1,96,96,96,4,Fe2O3,red\nmp-2,20,,30,,,\n"
    (tmp_path / "m.csv").write_text(text)
    out = tmp_path / "c.parquet"
    assert tomat_main("catalogue", "build", tmp_path / "m.csv", "-o", out, "--split", "train").code == 0
    one, two = catalogue.load(out).to_pylist()
    expected = {
        "id": "mp-1", "split": "train", "nx": 96, "voxels": 96**3, "n_atoms": 4, "formula": "Fe2O3",
        "reduced_formula": "Fe2O3", "chemsys": "Fe-O", "category": "oxide", "tokens_v3": 6920, "electrons": None,
        "path": None,
    }  # fmt: skip
    assert {k: one[k] for k in expected} == expected
    assert {k for k, v in two.items() if v is not None} == {"id", "split", "nx", "nz"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nx,ny\n1,2\n", "no column of ids; call it one of id, task_id, mp_id, material_id (found: nx, ny)"),
        ("id,nx\na,1\nb,x\n", "line 3: nx = 'x' is not a number above zero"),
        ("id,nx\na,0\n", "line 2: nx = '0'"),
        ("id,electrons\na,nan\n", "line 2: electrons = 'nan'"),
        ("id,nx\na,1\na,2\n", "line 3: 'a' is in line 2 already"),
        ("id,formula\na,Fe2(SO4)3\n", "formula 'Fe2(SO4)3' is not elements"),
        ("id,formula\na,Xx2\n", "formula 'Xx2'"),
        ("id,nx\n,2\n", "line 2: no id"),
        ("id,nx\n", "no materials"),
    ],
)
def test_csv_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    result = tomat_main("catalogue", "build", tmp_path / "m.csv", "-o", tmp_path / "c.parquet")
    assert result.code == 1
    assert message in result.err
    assert not (tmp_path / "c.parquet").exists()


# --- questions ----------------------------------------------------------------------------------------------


def test_query(path: Path) -> None:
    sql = "SELECT id, n_atoms, electrons FROM catalogue WHERE n_atoms > 3 ORDER BY id"
    rows = [row for row in catalogue.load(path).to_pylist() if row["n_atoms"] > 3]
    expected = [
        {k: row[k] for k in ("id", "n_atoms", "electrons")} for row in sorted(rows, key=lambda r: r["id"])
    ]
    got = json.loads(tomat_main("catalogue", "query", path, sql, "--json").out)
    assert got == expected
    read = list(csv.DictReader(io.StringIO(tomat_main("catalogue", "query", path, sql, "--csv").out)))
    assert [row["id"] for row in read] == [row["id"] for row in expected]
    table = tomat_main("catalogue", "query", path, sql).out
    assert all(str(row["id"]) in table for row in expected)
    wrong = tomat_main("catalogue", "query", path, "SELECT nothing FROM catalogue")
    assert wrong.code == 1
    assert "nothing" in wrong.err
    assert tomat_main("catalogue", "query", path.with_name("none"), "SELECT 1").code == 1
    assert tomat_main("catalogue", "query", path, "SELECT 1", "--json", "--csv").code == 2


def test_a_path_with_quotes(path: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s; a "path".parquet'
    shutil.copy(path, odd)
    assert catalogue.query(odd, "SELECT count(*) FROM catalogue")[1] == [(20,)]


def test_summary(path: Path) -> None:
    facts = tomat_main("catalogue", "summary", path, "--json").json
    rows = catalogue.load(path).to_pylist()
    assert facts["materials"] == 20
    assert facts["split"] == dict(Counter(row["split"] for row in rows))
    assert facts["category"] == dict(Counter(row["category"] for row in rows))
    assert facts["distributions"]["voxels"]["sum"] == sum(row["voxels"] for row in rows)
    assert facts["distributions"]["electrons"]["max"] == max(row["electrons"] for row in rows)
    printed = tomat_main("catalogue", "summary", path)
    assert printed.code == 0
    assert "20 materials" in printed.out
    assert set(COLUMNS) == set(rows[0])


# --- splits -------------------------------------------------------------------------------------------------

GROUPS = st.lists(st.integers(0, 30), min_size=1, max_size=120)
FRACTIONS = st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 1.0), min_size=1)


@given(GROUPS, FRACTIONS, st.integers(0, 2**70), st.randoms())
def test_no_group_is_on_two_sides(
    groups: list[int], fractions: dict[str, float], seed: int, random: object
) -> None:
    ids = [f"m-{i:03d}" for i in range(len(groups))]
    names = [f"g{g}" for g in groups]
    found = split_groups(ids, names, fractions, seed)
    side = {name: split for split, members in found.items() for name in members}
    assert sorted(side) == ids
    of = dict(zip(ids, names, strict=True))
    assert len({(of[name], split) for name, split in side.items()}) == len(set(names))
    # As near to the fractions as the largest group allows.
    largest = max(Counter(names).values())
    for split, members in found.items():
        target = fractions[split] / sum(fractions.values()) * len(ids)
        assert len(members) < target + largest + 1
    order = list(range(len(ids)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = split_groups([ids[i] for i in order], [names[i] for i in order], fractions, seed)
    assert {k: set(v) for k, v in again.items()} == {k: set(v) for k, v in found.items()}


def test_fractions_are_met_exactly_with_enough_small_groups() -> None:
    groups = [f"big-{k}" for k in range(5) for _ in range(30)] + [f"small-{k}" for k in range(350)]
    ids = [f"m-{i}" for i in range(500)]
    sides = []
    for seed in range(20):
        found = split_groups(ids, groups, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed)
        assert {name: len(members) for name, members in found.items()} == {
            "train": 400, "validation": 50, "test": 50
        }  # fmt: skip
        sides.append({groups[ids.index(name)] for name in found["test"]})
    assert any("big-0" in side or "big-1" in side for side in sides), "large groups are not always in train"
    assert len({frozenset(side) for side in sides}) == 20


def test_the_split_file_is_one_that_tokenize_takes(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.json"
    arguments = (
        "catalogue",
        "split",
        path,
        "--by",
        "chemsys",
        "--fractions",
        "train=0.6,test=0.4",
        "-o",
        out,
    )
    report = tomat_main(*arguments, "--json").json
    assert sum(report["materials"].values()) == 20
    first = out.read_bytes()
    assert "none on two sides" in tomat_main(*arguments).out
    assert out.read_bytes() == first
    splits = json.loads(first)
    assert list(splits) == ["train", "test"]
    entries = resolve_inputs([ROOT], split_file=out, split="test")
    assert [entry.task_id for entry in entries] == splits["test"]
    chemsys = {row["id"]: row["chemsys"] for row in catalogue.load(path).to_pylist()}
    assert not {chemsys[i] for i in splits["train"]} & {chemsys[i] for i in splits["test"]}
    for fractions in ("train", "train=0,test=1", "train=1,train=2"):
        assert tomat_main(*arguments[:5], "--fractions", fractions, "-o", out).code == 2
    (tmp_path / "m.csv").write_text("id,nx\na,3\n")
    tomat_main("catalogue", "build", tmp_path / "m.csv", "-o", tmp_path / "c.parquet")
    refused = tomat_main("catalogue", "split", tmp_path / "c.parquet", "-o", tmp_path / "s.json")
    assert refused.code == 1
    assert "1 materials have no reduced_formula" in refused.err


def test_a_budget_from_a_catalogue(path: Path, tmp_path: Path) -> None:
    options = ("--patch-size", 4, "--pad-to", 256, "--patches-per-material", 2, "--quiet")
    result = tokenize(
        ROOT, *options, "--budget", "electrons", "--catalogue", path, "--out", tmp_path / "rows"
    )
    assert result.code == 0, result.err
    assert tomat_main("verify", tmp_path / "rows").code == 0
