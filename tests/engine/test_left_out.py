"""Materials that cannot be in a dataset: a damaged one stops the run, the others are left out and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from places import DATA
from runs import LABEL, SMALL, a_cell, farm, meta, rows_of, save_zarr, sound, tokenize, tomat_main, tree

GOOD = [LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr"]
CHGCAR = (DATA / "chgcar" / "vasp-mp-2456484.CHGCAR.gz").read_bytes()


def copied(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(LABEL / "qe-1004.zarr", folder / f"{name}.zarr"))


def cut_chunk(folder: Path) -> Path:
    path = copied(folder, "bad")
    chunk = path / "charge_density_total" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-100])
    return path


def no_chunk(folder: Path) -> Path:
    path = copied(folder, "bad")
    (path / "charge_density_total" / "c" / "0" / "0" / "0").unlink()
    return path


def no_metadata(folder: Path) -> Path:
    path = copied(folder, "bad")
    (path / "zarr.json").unlink()
    return path


def with_value(value: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = copied(folder, "bad")
        array = zarr.open_group(path)["charge_density_total"]
        assert isinstance(array, zarr.Array)
        values = np.asarray(array)
        values[3, 2, 1] = value
        array[...] = values
        return path

    return make


def two_axes(folder: Path) -> Path:
    path = copied(folder, "bad")
    group = zarr.open_group(path)
    del group["charge_density_total"]
    group.create_array("charge_density_total", data=np.ones((4, 4), dtype=np.float32))
    return path


def no_structure(folder: Path) -> Path:
    path = copied(folder, "bad")
    metadata = json.loads((path / "zarr.json").read_text())
    del metadata["attributes"]["structure"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    return path


def cut_chgcar(folder: Path) -> Path:
    (folder / "bad.CHGCAR.gz").write_bytes(CHGCAR[:-500])
    return folder / "bad.CHGCAR.gz"


def garbage(folder: Path) -> Path:
    (folder / "bad.cube").write_bytes(bytes(range(256)) * 9)
    return folder / "bad.cube"


def empty(folder: Path) -> Path:
    (folder / "bad.CHGCAR").write_bytes(b"")
    return folder / "bad.CHGCAR"


def plain_folder(folder: Path) -> Path:
    (folder / "bad.zarr").mkdir()
    return folder / "bad.zarr"


def nothing(folder: Path) -> Path:
    return folder / "bad.zarr"


DAMAGE = [
    cut_chunk, no_chunk, no_metadata, with_value(np.nan), with_value(np.inf), two_axes, no_structure, cut_chgcar,
    garbage, empty, plain_folder, nothing,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_stops_the_run_with_its_name(tmp_path: Path, damage: Callable[[Path], Path]) -> None:
    bad = damage(tmp_path)
    (tmp_path / "list.txt").write_text("\n".join(map(str, [GOOD[0], bad, GOOD[1]])))
    arguments = (tmp_path / "list.txt", "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3)
    result = tokenize(*arguments)
    assert result.code == 1
    assert result.err.startswith(f"error: {bad}"), result.err
    assert result.out == ""
    assert not (tmp_path / "out" / "meta.json").exists()
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["shard-00000.parquet"]
    # Skipping: counted, named, and the others are there. The run that stopped may go on so.
    reason = "missing" if damage is nothing else "unreadable"
    skipped = tokenize(*arguments, "--on-error", "skip", "--resume")
    assert skipped.code == 0, skipped.err
    assert f"left out 1 of 3 materials: 1 {reason}\n  bad: {reason}: {bad}" in skipped.err
    facts = meta(tmp_path / "out")
    assert (facts["n_materials"], facts["n_materials_listed"], facts["n_shards"]) == (2, 3, 3)
    for other in ("missing", "oversized", "bad_lattice", "overflow", "clipped", "unreadable"):
        assert facts[f"n_materials_{other}"] == (other == reason)
        assert facts[f"first_materials_{other}"] == (["bad"] if other == reason else [])
    assert list(rows_of(tmp_path / "out")) == ["qe-0039", "qe-0048"]
    assert tomat_main("verify", tmp_path / "out", *(x for p in GOOD for x in ("--source", p))).code == 0


def test_a_damaged_file_that_was_mended(tmp_path: Path) -> None:
    bad = cut_chunk(tmp_path)
    arguments = (GOOD[0], bad, GOOD[1], "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3)
    assert tokenize(*arguments).code == 1
    shutil.rmtree(bad)
    copied(tmp_path, "bad")
    sound(*arguments, "--resume", "--quiet")
    sound(*arguments[:3], "--out", tmp_path / "calm", *arguments[5:], "--quiet")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


# --- sound materials that the format cannot hold ------------------------------------------------------------


def out_of_reach(folder: Path) -> list[Path]:
    """One for each reason, and beside each one that is just within."""
    made = {
        "grid-1023": a_cell((1023, 3, 4), 4.0),
        "grid-1024": a_cell((1024, 3, 4), 4.0),
        "cell-51.17": a_cell((4, 4, 4), 51.17),
        "cell-51.18": a_cell((4, 4, 4), 51.18),
        # 85 + 10 n tokens: 17 atoms fill 255 of 256.
        "atoms-17": a_cell((4, 4, 4), 4.0, 17),
        "atoms-18": a_cell((4, 4, 4), 4.0, 18),
    }
    for name, material in made.items():
        save_zarr(folder / f"{name}.zarr", material)
    return [folder / f"{name}.zarr" for name in made]


def test_what_the_format_cannot_hold_is_left_out_and_named(tmp_path: Path) -> None:
    options = (*SMALL, "--fallback-shape", "4,4,4")
    result = tokenize(*out_of_reach(tmp_path), "--out", tmp_path / "out", *options)
    assert result.code == 3, result.err
    assert "left out 3 of 6 materials: 1 oversized, 1 bad_lattice, 1 overflow" in result.err
    assert "grid-1024: oversized: grid axis x has 1024 points" in result.err
    assert "cell-51.18: bad_lattice: lattice parameter a = 51.18 angstrom falls in bin 1024" in result.err
    assert "atoms-18: overflow: 18 atoms" in result.err
    facts = meta(tmp_path / "out")
    for reason, name in {
        "oversized": "grid-1024",
        "bad_lattice": "cell-51.18",
        "overflow": "atoms-18",
    }.items():
        assert (facts[f"n_materials_{reason}"], facts[f"first_materials_{reason}"]) == (1, [name])
    assert facts["n_materials"] == 3
    assert list(rows_of(tmp_path / "out")) == ["grid-1023", "cell-51.17", "atoms-17"]
    coverage = json.loads((tmp_path / "out" / "coverage_histogram.json").read_text())
    assert coverage["per_material"].keys() == {"grid-1023", "cell-51.17", "atoms-17"}
    # With skip it is as agreed: exit code 0, the same files.
    again = tokenize(*out_of_reach(tmp_path), "--out", tmp_path / "skip", *options, "--on-error", "skip")
    assert again.code == 0
    assert tree(tmp_path / "skip") == tree(tmp_path / "out")
    assert tomat_main("verify", tmp_path / "out").code == 0


def test_a_layout_without_a_lattice_takes_a_long_cell(tmp_path: Path) -> None:
    save_zarr(tmp_path / "long.zarr", a_cell((8, 4, 4), 80.0))
    arguments = (tmp_path / "long.zarr", "--out", tmp_path / "out", *SMALL)
    sound(*arguments, "--layout", "v2", "--quiet")
    assert list(rows_of(tmp_path / "out")) == ["long"]
    assert tokenize(*arguments, "--layout", "v2-lat", "--overwrite").code == 3


def test_nothing_but_left_out(tmp_path: Path) -> None:
    save_zarr(tmp_path / "long.zarr", a_cell((8, 4, 4), 80.0))
    result = tokenize(tmp_path / "long.zarr", "--out", tmp_path / "out", *SMALL)
    assert result.code == 3
    facts = meta(tmp_path / "out")
    assert (facts["n_materials"], facts["total_rows"], facts["n_shards"]) == (0, 0, 1)
    verified = tomat_main("verify", tmp_path / "out")
    assert verified.code == 0, verified.out
    assert tomat_main("info", tmp_path / "out", "--json").json["left_out"] == {"bad_lattice": 1}


def test_only_the_first_ids_are_named(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", [f"m-{k:02d}" for k in range(30)])
    for k in range(27):
        (root / "label" / f"m-{k:02d}.zarr").unlink()
    result = tokenize(root, "--out", tmp_path / "out", *SMALL, "--on-error", "skip", "--quiet")
    assert result.code == 0
    facts = meta(tmp_path / "out")
    assert facts["n_materials_missing"] == 27
    assert facts["first_materials_missing"] == [f"m-{k:02d}" for k in range(20)]
    assert result.err.splitlines()[-1] == "  and 7 more"


def test_a_resumed_run_still_names_what_was_left_out_before(tmp_path: Path) -> None:
    inputs = [GOOD[0], *out_of_reach(tmp_path)[:2], tmp_path / "later.zarr"]
    arguments = (*inputs, "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 3)
    assert tokenize(*arguments).code == 1
    shutil.copytree(GOOD[1], inputs[-1])
    result = tokenize(*arguments, "--resume", "--json")
    assert result.code == 3
    assert result.json["left_out"] == {"oversized": 1}
    assert "1024 points" in result.json["left_out_first"]["grid-1024"]
    assert meta(tmp_path / "out")["first_materials_oversized"] == ["grid-1024"]
    # Asked once more, the finished dataset says the same, and the exit code is the same.
    assert tokenize(*arguments, "--resume").code == 3
