"""What the inputs of a run may be: files, folders, globs, lists and ``rho_gga`` roots, local or behind URLs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore

import tomat
from places import DATA
from runs import IDS, LABEL, ROOT, SMALL, farm, meta, rows_of, same_rows, save_zarr, sound, tokenize
from tomat.dataset import resolve_inputs

CHGCAR = DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz"
CUBE = DATA / "cube" / "qe-0039-Si.cube.gz"


def ids(*inputs: str | Path, **options: str | Path | int | None) -> list[str]:
    return [entry.task_id for entry in resolve_inputs(inputs, **options)]  # type: ignore[arg-type]


# --- files, folders, globs, lists ---------------------------------------------------------------------------


def test_files_come_in_the_order_given() -> None:
    assert ids(CUBE, LABEL / "qe-0048.zarr", CHGCAR) == ["qe-0039-Si", "qe-0048", "vasp-mp-2300242"]
    assert ids(f"{LABEL / 'qe-0048.zarr'}/") == ["qe-0048"]


def test_a_folder_is_searched_and_sorted(tmp_path: Path) -> None:
    for name in (
        "b/CHGCAR.gz",
        "a/deep/AECCAR0.xz",
        "c.cube",
        "d.vasp",
        "e/CHG",
        "f.CHGCAR.bz2",
        "g.cub.zst",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in ("README.txt", "b/POSCAR", "OUTCAR.gz", ".hidden/CHGCAR", "CHGS", "b/LOCPOT"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "z.zarr" / "CHGCAR.zarr").mkdir(parents=True)
    assert ids(tmp_path) == ["deep", "b", "c", "d", "e", "f", "g", "z"]
    assert ids(DATA / "chgcar") == sorted(path.name.split(".")[0] for path in (DATA / "chgcar").iterdir())


def test_globs(tmp_path: Path) -> None:
    for name in ("run-2/CHGCAR", "run-10/CHGCAR", "other/CHGCAR"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert ids(f"{tmp_path}/run-*/CHGCAR") == ["run-10", "run-2"]
    assert ids(f"{tmp_path}/**/CHGCAR") == ["other", "run-10", "run-2"]
    assert ids(f"{tmp_path}/run-?/CHGCAR", f"{tmp_path}/[o]*/CHGCAR") == ["run-2", "other"]
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        ids(f"{tmp_path}/walk-*/CHGCAR")


def test_a_glob_of_zarr_folders(tmp_path: Path) -> None:
    for name in ("qe-2.zarr", "qe-1.zarr", "other.zarr"):
        (tmp_path / name).mkdir()
    assert ids(f"{tmp_path}/qe-*.zarr") == ["qe-1", "qe-2"]
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        ids(f"{tmp_path}/mp-*.zarr")
    # Without a wildcard a folder that is not there stays in the list, to be counted as missing.
    assert ids(tmp_path / "qe-3.zarr") == ["qe-3"]


def test_a_relative_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "CHGCAR").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert ids("*/CHGCAR") == ["x"]
    assert ids("x") == ids("x/CHGCAR") == ["x"]
    assert ids(".") == ["x"]


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "Si[2].cube").write_bytes(b"")
    assert ids(tmp_path / "Si[2].cube") == ["Si[2]"]


def test_a_list_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    shutil.copy(CUBE, tmp_path / "sub" / "near.cube.gz")
    listed = tmp_path / "list.txt"
    listed.write_bytes(
        f"# densities\r\n\r\nsub/near.cube.gz\r\n  {LABEL}/qe-0048.zarr  \n#{CHGCAR}\nmemory://x/far.cube\n".encode()
    )
    entries = resolve_inputs([listed])
    assert [entry.task_id for entry in entries] == ["near", "qe-0048", "far"]
    assert [entry.path for entry in entries] == [
        str(tmp_path / "sub" / "near.cube.gz"),
        str(LABEL / "qe-0048.zarr"),
        "memory://x/far.cube",
    ]
    listed.write_text("# nothing\n\n")
    with pytest.raises(ValueError, match=r"list\.txt: the list is empty"):
        ids(listed)
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt: not a list of paths"):
        ids(listed)


def test_nothing_there(tmp_path: Path) -> None:
    for missing in ("CHGCAR", "list.txt", "folder/"):
        with pytest.raises(FileNotFoundError, match=missing.rstrip("/")):
            ids(tmp_path / missing)
    with pytest.raises(FileNotFoundError, match="no densities in this folder"):
        ids(tmp_path)
    with pytest.raises(ValueError, match="no densities found"):
        ids()


def test_two_materials_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two materials are called 'qe-0048'"):
        ids(LABEL / "qe-0048.zarr", ROOT)
    shutil.copy(CHGCAR, tmp_path / "vasp-mp-2300242.chgcar.gz")
    result = tokenize(CHGCAR, tmp_path / "vasp-mp-2300242.chgcar.gz", "--out", tmp_path / "out", *SMALL)
    assert result.code == 1
    assert str(CHGCAR) in result.err
    assert str(tmp_path) in result.err
    assert not (tmp_path / "out").exists()


# --- rho_gga roots ------------------------------------------------------------------------------------------


def test_a_root_follows_its_list_or_its_folder(tmp_path: Path) -> None:
    assert ids(ROOT) == IDS
    root = farm(tmp_path / "root", ["b", "a", "c"])
    assert ids(root) == ["b", "a", "c"]
    assert ids(root, limit=2) == ["b", "a"]
    (root / "mp_filelist.txt").unlink()
    (root / "label" / "notes.txt").write_text("")
    assert ids(root) == ["a", "b", "c"]
    assert ids(root, CHGCAR) == ["a", "b", "c", "vasp-mp-2300242"]


def test_splits_of_indices_and_of_ids(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", ["b", "a", "c", "d"])
    (root / "split.json").write_text(json.dumps({"train": [3, 0], "test": ["c", 1], "none": []}))
    assert ids(root, split="train") == ["d", "b"]
    assert ids(root, split="test") == ["c", "a"]
    elsewhere = tmp_path / "other.json"
    elsewhere.write_text(json.dumps({"train": ["c"]}))
    assert ids(root, split="train", split_file=elsewhere) == ["c"]
    with pytest.raises(ValueError, match="no densities found"):
        ids(root, split="none")
    (root / "split_2.json").write_text("{}")
    with pytest.raises(ValueError, match=r"2 files match split\*\.json; choose one with --split-file"):
        ids(root, split="train")


def test_the_split_of_the_real_set(tmp_path: Path) -> None:
    splits = json.loads((ROOT / "split.json").read_text())
    chosen = {name: ids(ROOT, split=name) for name in splits}
    assert sorted(name for part in chosen.values() for name in part) == sorted(IDS)
    assert "qe-0048" in chosen["test"]
    sound(ROOT, "--split", "validation", "--out", tmp_path / "out", *SMALL, "--quiet")
    assert meta(tmp_path / "out")["split"] == "validation"
    assert list(rows_of(tmp_path / "out")) == chosen["validation"]


@pytest.mark.parametrize(
    ("content", "split", "match"),
    [
        ('{"train": [0]}', "valid", "no split 'valid'; choose one with --split: train"),
        ('{"train": [0]}', None, "no split None; choose one with --split: train"),
        ('{"train": [4]}', "train", "index 4 in split 'train', but mp_filelist.txt has 4 ids"),
        ('{"train": [-1]}', "train", "index -1"),
        ('{"train": [true]}', "train", "True in split 'train' is neither an id nor an index"),
        ('{"train": [1.5]}', "train", "1.5 in split 'train' is neither"),
        ('{"train": [0, 0]}', "train", "two materials are called 'b'"),
        ('{"train": "abc"}', "train", "split 'train' is not a list"),
        ('{"train": 3}', "train", "split 'train' is not a list"),
        ('["b"]', "train", "not a split file"),
        ('{"train": ', "train", "not a split file"),
    ],
)
def test_split_files_that_cannot_be(tmp_path: Path, content: str, split: str | None, match: str) -> None:
    root = farm(tmp_path / "root", ["b", "a", "c", "d"])
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(ValueError, match=match):
        ids(root, split=split, split_file=tmp_path / "s.json")


def test_a_split_needs_a_root(tmp_path: Path) -> None:
    result = tokenize(CHGCAR, "--split", "train", "--out", tmp_path / "out", *SMALL)
    assert result.code == 1
    assert "need a rho_gga root" in result.err


# --- URLs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def upload(fs: fsspec.AbstractFileSystem, source: Path, target: str) -> None:
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file():
            fs.pipe_file(
                f"{target}/{path.relative_to(source)}" if source.is_dir() else target, path.read_bytes()
            )


def test_files_behind_urls(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for name, path in {"one/vasp-mp-2300242.CHGCAR.gz": CHGCAR, "two/qe-0039-Si.cube.gz": CUBE}.items():
        upload(memory, path, f"/bucket/{name}")
    memory.pipe_file("/bucket/list.txt", b"# both\none/vasp-mp-2300242.CHGCAR.gz\n\ntwo/qe-0039-Si.cube.gz\n")
    sound(CHGCAR, CUBE, "--out", tmp_path / "local", *SMALL, "--quiet")
    inputs: dict[str, list[str]] = {
        "files": ["memory://bucket/one/vasp-mp-2300242.CHGCAR.gz", "memory://bucket/two/qe-0039-Si.cube.gz"],
        "folder": ["memory://bucket"],
        "glob": ["memory://bucket/*/*.gz"],
        "list": ["memory://bucket/list.txt"],
        "mixed": [str(CHGCAR), "memory://bucket/two/qe-0039-Si.cube.gz"],
    }
    for name, urls in inputs.items():
        sound(*urls, "--out", tmp_path / name, *SMALL, "--quiet", "--threads", 3)
        same_rows(rows_of(tmp_path / name), rows_of(tmp_path / "local"))
    memory.pipe_file("/bucket/a/CHGCAR", b"")
    assert ids("memory://bucket") == ["a", "vasp-mp-2300242", "qe-0039-Si"]
    memory.pipe_file("/bucket/three/CHGCAR.gz", b"")
    assert ids("memory://bucket/*/*.gz") == ["vasp-mp-2300242", "three", "qe-0039-Si"]
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        ids("memory://bucket/*/*.xz")
    with pytest.raises(FileNotFoundError, match="memory://bucket/nowhere"):
        ids("memory://bucket/nowhere")


def test_a_root_behind_a_url(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    names = ["vasp-mp-2300242", "qev-0003", "vasp-pmg-Fe3O4"]
    for name in names:
        upload(memory, LABEL / f"{name}.zarr", f"/set/label/{name}.zarr")
    memory.pipe_file("/set/mp_filelist.txt", "\n".join(names).encode())
    memory.pipe_file("/set/split.json", b'{"train": [2, 0]}')
    sound(*(LABEL / f"{name}.zarr" for name in names), "--out", tmp_path / "local", *SMALL, "--quiet")
    sound("memory://set", "--out", tmp_path / "remote", *SMALL, "--quiet")
    same_rows(rows_of(tmp_path / "remote"), rows_of(tmp_path / "local"))
    shard = "shard-00000.parquet"
    assert (tmp_path / "remote" / shard).read_bytes() == (tmp_path / "local" / shard).read_bytes()
    assert ids("memory://set", split="train") == ["vasp-pmg-Fe3O4", "vasp-mp-2300242"]
    assert ids("memory://set/label/qev-0003.zarr") == ["qev-0003"]


def test_damage_behind_urls(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    upload(memory, LABEL / "qev-0003.zarr", "/d/nochunk.zarr")
    memory.rm_file("/d/nochunk.zarr/charge_density_total/c/0/0/0")
    upload(memory, LABEL / "qev-0003.zarr", "/d/cut.zarr")
    chunk = "/d/cut.zarr/charge_density_total/c/0/0/0"
    memory.pipe_file(chunk, memory.cat_file(chunk)[:1000])
    memory.pipe_file("/d/cut.CHGCAR.gz", CHGCAR.read_bytes()[:3000])
    memory.pipe_file("/d/garbage.cube", b"\x00\x01garbage")
    material = tomat.read(LABEL / "qev-0003.zarr")
    values = material.density.copy()
    values[1, 2, 3] = np.nan
    store = FsspecStore.from_url("memory://d/nan.zarr")
    save_zarr(store, tomat.Material.of("nan", material.density, "chgcar", material.lattice,
                                       material.atomic_numbers, material.frac_coords))  # fmt: skip
    array = zarr.open_group(store)["charge_density_total"]
    assert isinstance(array, zarr.Array)
    array[...] = values
    names = ["nochunk.zarr", "cut.zarr", "cut.CHGCAR.gz", "garbage.cube", "nan.zarr"]
    for name in names:
        url = f"memory://d/{name}"
        result = tokenize(url, "--out", tmp_path / "out", *SMALL)
        assert result.code == 1, name
        assert result.err.startswith(f"error: {url}: "), result.err
        assert result.err.count(url) == 1, result.err
        shutil.rmtree(tmp_path / "out")
    missing = "memory://d/not-there.zarr"
    assert tokenize(missing, "--out", tmp_path / "out", *SMALL).code == 1
    shutil.rmtree(tmp_path / "out")
    sound(missing, *(f"memory://d/{name}" for name in names[:2]), names and str(CHGCAR), "--out", tmp_path / "out",
          *SMALL, "--on-error", "skip", "--quiet")  # fmt: skip
    facts = meta(tmp_path / "out")
    assert (facts["n_materials_missing"], facts["n_materials_unreadable"]) == (1, 2)
    assert list(rows_of(tmp_path / "out")) == ["vasp-mp-2300242"]


def test_an_oversized_grid_behind_a_url(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    parts = ("chgcar", np.eye(3) * 4, [14], [[0.0, 0.0, 0.0]])
    save_zarr(
        FsspecStore.from_url("memory://o/big.zarr"), tomat.Material.of("big", np.ones((1024, 2, 2)), *parts)
    )
    grid = "\n".join(["Si", "1.0", "4 0 0", "0 4 0", "0 0 4", "Si", "1", "Direct", "0 0 0", "", "1 1 1024"])
    memory.pipe_file("/o/long.CHGCAR", (grid + "\n" + "1.0 " * 1024 + "\n").encode())
    result = tokenize(
        "memory://o/big.zarr", "memory://o/long.CHGCAR", CHGCAR, "--out", tmp_path / "out", *SMALL
    )
    assert result.code == 3, result.err
    facts = meta(tmp_path / "out")
    assert facts["n_materials_oversized"] == 2
    assert facts["first_materials_oversized"] == ["big", "long"]


def test_an_unknown_protocol(tmp_path: Path) -> None:
    result = tokenize("nowhere://bucket/x.zarr", "--out", tmp_path / "out", *SMALL)
    assert result.code == 1
    assert "nowhere" in result.err
    assert "Traceback" not in result.err
