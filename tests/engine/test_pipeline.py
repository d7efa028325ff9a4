"""The rows of a material are a function of the material and the configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import oracle
import tomat
from runs import IDS, LABEL, ROOT, SMALL, farm, meta, rows_of, run_process, same_rows, sound, tokenize, tree
from tomat.dataset import open_dataset

OTHER_IDS = [f"x-{index}" for index in range(47)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """47 materials, and a dataset of them written with one thread in shards of seven."""
    folder = tmp_path_factory.mktemp("pipeline")
    farm(folder / "root", OTHER_IDS)
    sound(folder / "root", "--out", folder / "one", *SMALL, "--rows-per-shard", 21, "--threads", 1, "--quiet")
    return folder


@pytest.mark.parametrize("threads", [2, 5])
def test_files_do_not_depend_on_threads(place: Path, tmp_path: Path, threads: int) -> None:
    out = tmp_path / "out"
    sound(place / "root", "--out", out, *SMALL, "--rows-per-shard", 21, "--threads", threads, "--quiet")
    assert tree(out) == tree(place / "one")
    assert meta(out)["n_shards"] == 7
    assert sorted(path.name for path in out.iterdir()) == [
        "codec.npz",
        "coverage_histogram.json",
        "crystals.parquet",
        "meta.json",
        *(f"shard-{k:05d}.parquet" for k in range(7)),
    ]


def test_files_do_not_depend_on_the_process_or_the_place(place: Path, tmp_path: Path) -> None:
    root = farm(tmp_path / "elsewhere" / "root", OTHER_IDS)
    out = tmp_path / "deep" / "er" / "out"
    result = run_process(root, "--out", out, *SMALL, "--rows-per-shard", 21, "--threads", 3)
    assert result.code == 0, result.err
    assert tree(out) == tree(place / "one")


def test_rows_do_not_depend_on_workers(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parts = {}
    for worker in (2, 0, 1):
        sound(place / "root", "--out", out, *SMALL, "--worker-index", worker, "--n-workers", 3, "--quiet")
        parts[worker] = rows_of(out / f"worker-{worker:02d}")
    # Every third material, from the worker's own number; nothing is lost and nothing is double.
    assert {w: list(rows) for w, rows in parts.items()} == {w: OTHER_IDS[w::3] for w in range(3)}
    same_rows(rows_of(out), rows_of(place / "one"))
    assert sorted(path.name for path in out.iterdir()) == ["worker-00", "worker-01", "worker-02"]
    assert sum(meta(out / f"worker-{w:02d}")["total_rows"] for w in range(3)) == 47 * 3


def test_more_workers_than_materials(tmp_path: Path) -> None:
    for worker in range(3):
        sound(LABEL / "qe-0039.zarr", LABEL / "qe-0048.zarr", "--out", tmp_path, *SMALL, "--quiet",
              "--worker-index", worker, "--n-workers", 3)  # fmt: skip
    assert [meta(tmp_path / f"worker-{w:02d}")["total_rows"] for w in range(3)] == [3, 3, 0]
    assert open_dataset(tmp_path).total_rows == 6
    assert list(rows_of(tmp_path)) == ["qe-0039", "qe-0048"]


def test_rows_do_not_depend_on_the_order_of_inputs(place: Path, tmp_path: Path) -> None:
    paths = [f"{place}/root/label/{name}.zarr" for name in reversed(OTHER_IDS)]
    (tmp_path / "reverse.txt").write_text("\n".join(paths))
    sound(tmp_path / "reverse.txt", "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 21, "--quiet")
    got = rows_of(tmp_path / "out")
    assert list(got) == OTHER_IDS[::-1]
    same_rows(got, rows_of(place / "one"))


@pytest.mark.parametrize("rows_per_shard", [3, 5, 100, 2048])
def test_rows_do_not_depend_on_the_shards(place: Path, tmp_path: Path, rows_per_shard: int) -> None:
    sound(place / "root", "--out", tmp_path / "out", *SMALL, "--rows-per-shard", rows_per_shard, "--quiet")
    same_rows(rows_of(tmp_path / "out"), rows_of(place / "one"))
    # As many whole materials as fit: none is split.
    each = [
        pq.read_table(path)["task_id"].to_pylist()
        for path in sorted((tmp_path / "out").glob("shard-*.parquet"))
    ]
    assert [len(ids) for ids in each[:-1]] == [rows_per_shard // 3 * 3] * (len(each) - 1)
    for ids in each:
        assert all(ids.count(name) == 3 for name in ids)
    assert meta(tmp_path / "out")["n_shards"] == len(each)


def test_the_first_patches_are_those_of_a_longer_draw(place: Path, tmp_path: Path) -> None:
    sound(place / "root", "--out", tmp_path / "out", *SMALL, "--patches-per-material", 5, "--quiet")
    shorter, longer = rows_of(place / "one"), rows_of(tmp_path / "out")
    for name, rows in shorter.items():
        np.testing.assert_array_equal(longer[name].ids[:3], rows.ids)


def test_seed_epoch_and_id_each_change_the_patches(place: Path, tmp_path: Path) -> None:
    first = rows_of(place / "one")
    for name, options in {"seed": ("--seed", 1), "epoch": ("--epoch", 1)}.items():
        sound(place / "root", "--out", tmp_path / name, *SMALL, *options, "--quiet")
    for name in ("seed", "epoch"):
        other = rows_of(tmp_path / name)
        assert all((other[i].offsets != first[i].offsets).any() for i in first)
        assert meta(tmp_path / name)[name] == 1
    # x-0 and x-20 are the same density under two names.
    assert (first["x-0"].offsets != first["x-20"].offsets).any()
    assert not (rows_of(tmp_path / "seed")["x-0"].offsets == rows_of(tmp_path / "epoch")["x-0"].offsets).all()


@pytest.mark.parametrize("task_id", ["vasp-mp-2300242", "qev-0003", "vasp-pmg-Fe3O4"])
@pytest.mark.parametrize("layout", ["v1", "v2", "v2-lat", "v3"])
def test_rows_are_those_of_the_oracle(tmp_path: Path, layout: str, task_id: str) -> None:
    """At the layout's own patch size, or at 5 where a voxel costs two tokens."""
    size = 5 if layout == "v1" else 7
    sound(LABEL / f"{task_id}.zarr", "--out", tmp_path / "out", "--layout", layout, "--patch-size", size,
          "--patches-per-material", 2, "--pad-to", 1000, "--seed", 9, "--epoch", 4, "--quiet")  # fmt: skip
    got = rows_of(tmp_path / "out")[task_id]
    material = tomat.read(LABEL / f"{task_id}.zarr")
    grid = material.grid_shape
    offsets = oracle.sample_offsets(grid, 2, seed=9, task_id=task_id, epoch=4)
    np.testing.assert_array_equal(got.offsets, offsets)
    shipped = tomat.load_codec(tomat.LAYOUTS["v3"].default_codec)
    assert isinstance(shipped, tomat.LloydMaxCodec)
    density = material.in_unit("chgcar" if layout == "v1" else "e_per_A3").density
    codec: oracle.Codec = oracle.NAMED_LOG_CODECS["two_token_9_12"]
    if layout != "v1":
        codec = oracle.LloydMax(
            tuple(shipped.boundaries.tolist()),
            tuple(shipped.recon_points.tolist()),
            shipped.clip_max,
            shipped.clip_min,
        )
    tokenizer = oracle.Tokenizer(layout, codec, size, 1000)
    parameters = oracle.lattice_parameters(material.lattice.tolist())
    numbers, coordinates = material.atomic_numbers.tolist(), material.frac_coords.tolist()
    for row, offset in zip(got.ids, offsets.tolist(), strict=True):
        x, y, z = offset
        assert row.tolist() == tokenizer.encode(density, parameters, numbers, coordinates, (x, y, z))


@pytest.mark.parametrize("layout", ["v1", "v2", "v2-lat", "v3"])
def test_rows_are_those_of_the_tokenizer(tmp_path: Path, layout: str) -> None:
    """All real materials with the layout's defaults."""
    sound(ROOT, "--out", tmp_path / "out", "--layout", layout, "--patches-per-material", 2, "--quiet")
    default = {"v1": "two_token_9_12"}.get(layout, "l1-16k-e_per_A3-1e4")
    tokenizer = tomat.PatchTokenizer(layout, tomat.load_codec(default))
    assert tomat.PatchTokenizer(layout).density_codec.hash == tokenizer.density_codec.hash
    found = rows_of(tmp_path / "out")
    assert list(found) == IDS
    for name, rows in found.items():
        material = tomat.read(LABEL / f"{name}.zarr")
        offsets = tomat.sample_offsets(material.grid_shape, 2, seed=0, task_id=name)
        np.testing.assert_array_equal(rows.offsets, offsets)
        np.testing.assert_array_equal(rows.ids, tokenizer.encode_material(material, offsets))
    facts = meta(tmp_path / "out")
    assert (facts["tokenizer_version"], facts["pad_to"], facts["patch_size"]) == (
        layout,
        8192,
        19 if layout == "v3" else 14,
    )
    assert facts["density_codec_name"] == default
    assert facts["unit"] == tokenizer.unit == ("chgcar" if layout == "v1" else "e_per_A3")
    assert facts["vocab"]["total_size"] == tokenizer.vocabulary.total_size
    assert facts["vocab"]["specials"]["[DENS_END]"] == 16
    assert facts["vocab"]["position_codec"] == {"log_min": -4.0, "log_max": 0.0, "token_mag_bits": [8, 8, 8]}


def test_cube_and_chgcar_are_brought_to_the_unit_of_the_codec(tmp_path: Path, data: Path) -> None:
    """A cube is in e/A^3; the shipped codec is in the chgcar convention. The rows decode to that."""
    sound(data / "cube" / "qe-0770-MgO-rocksalt.cube.gz", data / "chgcar" / "vasp-mp-2456484.CHGCAR.gz",
          "--out", tmp_path / "out", *SMALL, "--quiet")  # fmt: skip
    found = rows_of(tmp_path / "out")
    tokenizer = tomat.PatchTokenizer("v3", "lmq-16k", 4, 256)
    twins = {"qe-0770-MgO-rocksalt": "qe-0770", "vasp-mp-2456484": "vasp-mp-2456484"}
    assert found.keys() == twins.keys()
    for name, twin in twins.items():
        truth = tomat.read(LABEL / f"{twin}.zarr").density
        for row, offset in zip(found[name].ids, found[name].offsets, strict=True):
            axes = [(np.arange(4) + o) % n for o, n in zip(offset, truth.shape, strict=True)]
            patch = truth[np.ix_(*axes)]
            np.testing.assert_allclose(tokenizer.decode(row).density, patch, rtol=2e-2, atol=2e-2)


def test_log_codecs_take_the_unit_asked_for(tmp_path: Path) -> None:
    options = (LABEL / "qe-0039.zarr", *SMALL[:-1], "two_token_9_12", "--pad-to", 512, "--quiet")
    material = tomat.read(LABEL / "qe-0039.zarr")
    for unit in ("chgcar", "e_per_A3"):
        sound(*options, "--out", tmp_path / unit, "--unit", unit)
        assert meta(tmp_path / unit)["unit"] == unit
        rows = rows_of(tmp_path / unit)["qe-0039"]
        tokenizer = tomat.PatchTokenizer("v3", "two_token_9_12", 4, 512)
        for row, offset in zip(rows.ids, rows.offsets, strict=True):
            axes = [(np.arange(4) + o) % 40 for o in offset]
            truth = material.in_unit(unit).density[np.ix_(*axes)]
            np.testing.assert_allclose(tokenizer.decode(row).density, truth, rtol=1e-4)


def test_meta_holds_what_existing_readers_use(place: Path) -> None:
    facts = meta(place / "one")
    expected = {
        "split": "all", "n_materials": 47, "patches_per_material": 3, "shape": "cube", "tokenizer_version": "v3",
        "patch_size": 4, "density_codec_name": "lmq-16k", "lmq_path": "codec.npz", "seed": 0, "pad_to": 256,
        "total_rows": 141, "n_shards": 7, "n_materials_missing": 0, "n_materials_oversized": 0,
        "n_materials_bad_lattice": 0, "n_materials_overflow": 0, "n_materials_unreadable": 0,
    }  # fmt: skip
    assert {key: facts[key] for key in expected} == expected
    assert facts["vocab"]["total_size"] == 18570
    stored = tomat.load_codec(place / "one" / facts["lmq_path"])
    assert stored.hash == facts["codec_hash"] == tomat.load_codec("lmq-16k").hash


def test_coverage_adds_up(place: Path, tmp_path: Path) -> None:
    stored = json.loads((place / "one" / "coverage_histogram.json").read_text())
    rows = rows_of(place / "one")
    assert stored["per_material"].keys() == rows.keys()
    for index, (name, histogram) in enumerate(stored["per_material"].items()):
        grid = tomat.read(LABEL / f"{IDS[index % 20]}.zarr").grid_shape
        assert histogram == oracle.coverage_histogram(grid, (4, 4, 4), rows[name].offsets.tolist()).tolist()
        assert sum(histogram) == np.prod(grid)
        assert sum(k * n for k, n in enumerate(histogram)) == 3 * 4**3
    width = len(stored["histogram"])
    total = np.sum([np.pad(h, (0, width - len(h))) for h in stored["per_material"].values()], axis=0)
    assert stored["histogram"] == total.tolist()
    # Workers' histograms add up to that of one worker.
    for worker in range(2):
        sound(
            place / "root", "--out", tmp_path, *SMALL, "--worker-index", worker, "--n-workers", 2, "--quiet"
        )
    parts = [
        json.loads((tmp_path / f"worker-0{w}" / "coverage_histogram.json").read_text()) for w in range(2)
    ]
    assert parts[0]["per_material"] | parts[1]["per_material"] == stored["per_material"]
    padded = [np.pad(part["histogram"], (0, width - len(part["histogram"]))) for part in parts]
    assert np.sum(padded, axis=0).tolist() == stored["histogram"]


def test_limit_takes_the_first(place: Path, tmp_path: Path) -> None:
    sound(place / "root", "--out", tmp_path / "out", *SMALL, "--limit", 4, "--quiet")
    first = rows_of(place / "one")
    same_rows(rows_of(tmp_path / "out"), {name: first[name] for name in OTHER_IDS[:4]})


def test_one_material_must_fit_a_shard(tmp_path: Path) -> None:
    result = tokenize(ROOT, "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 2)
    assert result.code == 1
    assert "rows_per_shard" in result.err
    assert not (tmp_path / "out").exists()
