"""Crystals from files of every kind, with the numbers beside them; what cannot be read is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from places import DATA
from tomat.crystal import Crystal
from tomat.language.sources import Found, read_crystals

CRYSTALS = DATA / "crystals"


def crystal() -> Crystal:
    places = [[0.0, 0.0, 0.0], [0.25, 0.25, 0.25]]
    return Crystal.from_parameters([3.8, 3.8, 3.9, 60.0, 60.0, 61.0], [31, 33], places, "GaAs")


def row(**values: object) -> dict[str, object]:
    of = crystal()
    arrays = {"lattice": of.lattice.ravel().tolist(), "atomic_numbers": of.atomic_numbers.tolist()}
    return {"id": "a", **arrays, "frac_coords": of.frac_coords.ravel().tolist(), **values}


def one(path: Path) -> Found:
    (found,) = read_crystals([path])
    assert found.crystal is not None, found.problem
    got, expected = found.crystal, crystal()
    np.testing.assert_allclose(got.lattice @ got.lattice.T, expected.lattice @ expected.lattice.T, rtol=1e-6)
    np.testing.assert_array_equal(got.atomic_numbers, expected.atomic_numbers)
    np.testing.assert_allclose(got.frac_coords, expected.frac_coords, atol=1e-6)
    assert got.name == found.name
    return found


def parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist([row(band_gap=1.4)]), path)
    return path


def six_numbers(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist([row(band_gap=1.4, lattice=[3.8, 3.8, 3.9, 60.0, 60.0, 61.0])]), path)
    return path


def csv(path: Path) -> Path:
    from pymatgen.io.cif import CifWriter

    text = str(CifWriter(crystal().to_pymatgen()))
    path.write_text(f'material_id,band_gap,cif\na,1.4,"{text}"\n')
    return path


def jsonl(path: Path) -> Path:
    entry = {"material_id": "a", "structure": crystal().to_pymatgen().as_dict(), "band_gap": 1.4}
    path.write_text(json.dumps(entry) + "\n")
    return path


def mapping(path: Path) -> Path:
    path.write_bytes(gzip.compress(json.dumps({"a": row(band_gap=1.4)}).encode()))
    return path


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (parquet, "t.parquet"),
        (six_numbers, "t.parquet"),
        (csv, "t.csv"),
        (jsonl, "t.jsonl"),
        (mapping, "t.json.gz"),
    ],
)
def test_tables_hold_crystals_and_numbers(make: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    found = one(make(tmp_path / name))
    assert (found.name, dict(found.values)) == ("a", {"band_gap": 1.4})


def test_a_structure_of_pymatgen_is_a_crystal(tmp_path: Path) -> None:
    path = tmp_path / "GaAs.json"
    path.write_text(crystal().to_pymatgen().to_json())
    assert one(path).name == "GaAs"
    path.write_text(json.dumps([json.loads(crystal().to_pymatgen().to_json())]))
    assert one(path).name == "GaAs-1"


def test_folders_globs_lists_and_roots() -> None:
    below = [found.name for found in read_crystals([CRYSTALS])]
    assert len(below) == 10
    assert below == sorted(below)
    cifs = [found.name for found in read_crystals([str(CRYSTALS / "*.cif")])]
    assert set(cifs) < set(below)
    root = [found.name for found in read_crystals([DATA / "rho_gga"])]
    assert "qe-0039" in root


def test_a_list_names_files(tmp_path: Path) -> None:
    listed = tmp_path / "some.txt"
    listed.write_text(f"# two\n{CRYSTALS / 'As-grey.cif'}\n\n{CRYSTALS / 'P-A7.vasp'}\n")
    assert [found.name for found in read_crystals([listed])] == ["As-grey", "P-A7"]


def test_what_is_damaged_is_given_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("no crystal")
    entries = {"d": {"lattice": 3, "sites": 4}, "e": {"structure": "POSCAR"}, "f": 5, "g": {"cif": None}}
    (tmp_path / "u.json").write_text(json.dumps(entries))
    rows = [row(), row(id="b", frac_coords=[0.0]), row(id="c", atomic_numbers=[0, 33])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    found = {one.name: one for one in read_crystals([tmp_path])}
    assert [name for name, of in found.items() if of.crystal is None] == ["bad", *"bcdefg"]
    assert found["b"].source.endswith("t.parquet, row 2")
    assert "2 atomic numbers and 1 coordinates" in str(found["b"].problem)
    assert "elements are 1 to 118" in str(found["c"].problem)


def test_what_holds_no_crystals_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(read_crystals([tmp_path / "none.cif"]))
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        list(read_crystals([str(tmp_path / "*.cif")]))
    with pytest.raises(FileNotFoundError, match="no crystals in this folder"):
        list(read_crystals([tmp_path]))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="its columns are a; a table of crystals has lattice"):
        list(read_crystals([tmp_path / "t.parquet"]))
    (tmp_path / "t.json").write_text("[")
    with pytest.raises(ValueError, match=r"t\.json: not JSON"):
        list(read_crystals([tmp_path / "t.json"]))
    for content in (b"PAR1", b"PAR1" + b"\0" * 64 + b"PAR1"):
        (tmp_path / "t.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"t\.parquet: not a parquet file"):
            list(read_crystals([tmp_path / "t.parquet"]))


def test_two_crystals_of_one_id_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row(), row()]), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"the id a is that of .*row 1, too"):
        list(read_crystals([tmp_path / "t.parquet"]))
