"""Both sources give the same rows, and refuse what is not what the configuration says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import tomat
from data_sets import CASES, PATCHES, SEED
from places import DATA
from runs import IDS, LABEL, ROOT, farm, make_foreign, sound
from tomat.lm.data import DataConfig, RowBatch, open_rows
from tomat.sampling import sample_offsets

FIELDS = ("tokens", "segments", "positions", "n_voxels")


def whole(rows: Any, epoch: int = 0) -> RowBatch:
    batch = rows.rows(epoch, np.arange(len(rows)))
    assert isinstance(batch, RowBatch)
    return batch


@pytest.mark.parametrize("packed", [False, True], ids=["one each", "packed"])
@pytest.mark.parametrize("name", list(CASES))
def test_both_sources_give_the_same_rows(name: str, packed: bool, datasets: dict[str, Path]) -> None:
    case = CASES[name]
    stored = open_rows(DataConfig(path=str(datasets[name]), seed=SEED, pack=packed), case.pad_to)
    cut = open_rows(case.on_the_fly(pack=packed), case.pad_to)
    assert stored.counts == cut.counts
    assert cut.counts["sequences"] == len(IDS) * PATCHES
    ours, theirs = whole(stored), whole(cut)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    assert [stored.row_id(0, i) for i in range(len(stored))] == [cut.row_id(0, i) for i in range(len(cut))]
    # What tokens decode to is the truth but for the bin, and what a bin holds of the voxel's last token.
    assert np.array_equal(ours.values != 0, (theirs.values != 0) & (ours.values != 0))
    inside = theirs.weight > 0
    error = np.abs(ours.values - theirs.values)[inside] * theirs.weight[inside]
    assert error.mean() < 0.002
    by_name = [i for i in range(len(cut)) if "vasp" not in cut.row_id(0, i)]
    assert len(by_name) > len(cut) // 3
    # The valence electrons of the elements are those of these pseudopotentials; cells in rows are in bins.
    np.testing.assert_allclose(ours.electrons[by_name], theirs.electrons[by_name], rtol=0.05)
    np.testing.assert_allclose(ours.weight[by_name], theirs.weight[by_name], rtol=0.05)


@pytest.mark.parametrize("name", list(CASES))
def test_rows_are_what_the_tokenizer_writes(name: str) -> None:
    case = CASES[name]
    rows = open_rows(case.on_the_fly(), case.pad_to)
    k = len(rows.tokenizer.density_codec.sizes)
    unit = rows.tokenizer.unit
    for number, name_of in enumerate(IDS[:4]):
        material = tomat.read(LABEL / f"{name_of}.zarr").in_unit(unit)
        offsets = sample_offsets(material.grid_shape, PATCHES, seed=SEED, task_id=name_of, epoch=2)
        index = np.arange(number * PATCHES, (number + 1) * PATCHES)
        batch = rows.rows(2, index)
        np.testing.assert_array_equal(batch.tokens, rows.tokenizer.encode_material(material, offsets))
        shape = rows.tokenizer.shape_for(len(material.atomic_numbers))
        for row, offset in enumerate(offsets):
            voxels = patch(material.density, offset, shape)
            truth = np.zeros((voxels.size, k), dtype=np.float32)
            truth[:, -1] = voxels.ravel()
            length = int((batch.segments[row] == 0).sum())
            start = length - 2 - truth.size
            np.testing.assert_array_equal(batch.values[row, start : length - 2], truth.ravel())
            assert not batch.values[row, :start].any()
            assert not batch.values[row, length - 2 :].any()
            scale = material.volume if unit == "e_per_A3" else 1.0
            assert batch.electrons[row] == pytest.approx(
                voxels.sum() * scale / material.density.size, rel=1e-4
            )
            np.testing.assert_array_equal(np.flatnonzero(batch.weight[row]), np.arange(start, length - 2))
            assert batch.weight[row, start] == pytest.approx(1 / np.abs(material.density).mean(), rel=1e-5)
        assert rows.row_id(2, int(index[1])) == f"{name_of}@{','.join(map(str, offsets[1]))}"
        np.testing.assert_array_equal(batch.n_voxels, np.full(PATCHES, np.prod(shape)))


def patch(
    density: NDArray[np.float32], offset: ArrayLike, shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    for axis, start in enumerate(np.asarray(offset).tolist()):
        density = np.take(density, np.arange(start, start + shape[axis]), axis=axis, mode="wrap")
    return density


def test_packed_rows_hold_whole_sequences() -> None:
    case = CASES["v3"]
    alone = open_rows(case.on_the_fly(), case.pad_to)
    packed = open_rows(case.on_the_fly(pack=True), 2048)
    singles, batch = whole(alone), whole(packed)
    assert packed.counts["fill"] > 0.9
    assert len(packed) < len(alone) / 4
    seen = []
    for row in range(len(packed)):
        assert len(packed.row_id(0, row).split("+")) == batch.segments[row].max() + 1
        for segment, sequence in enumerate(packed.sequences(row).tolist()):
            places = np.flatnonzero(batch.segments[row] == segment)
            n = len(places)
            assert np.array_equal(places, np.arange(places[0], places[0] + n))
            for field in ("tokens", "values", "weight", "positions"):
                got, expected = getattr(batch, field)[row, places], getattr(singles, field)[sequence, :n]
                np.testing.assert_array_equal(got, expected, err_msg=field)
            seen.append(sequence)
        padding = batch.segments[row] < 0
        assert not batch.tokens[row, padding].any()
        assert not batch.weight[row, padding].any()
    assert sorted(seen) == list(range(len(alone)))


def test_every_epoch_has_other_patches(datasets: dict[str, Path]) -> None:
    case = CASES["v3"]
    cut = open_rows(case.on_the_fly(), case.pad_to)
    assert not np.array_equal(whole(cut, 0).tokens, whole(cut, 1).tokens)
    np.testing.assert_array_equal(whole(cut, 0).tokens, whole(cut, 0).tokens)
    stored = open_rows(DataConfig(path=str(datasets["v3"])), case.pad_to)
    np.testing.assert_array_equal(whole(stored, 0).tokens, whole(stored, 1).tokens)


def test_a_batch_may_be_written_over() -> None:
    case = CASES["v3"]
    rows = open_rows(case.on_the_fly(pack=True), 1024)
    used = rows.rows(0, [0, 1])
    fresh = rows.rows(3, [4, 2])
    again = rows.rows(3, [4, 2], into=used)
    assert again is used
    for field in (*FIELDS, "values", "weight", "electrons"):
        np.testing.assert_array_equal(getattr(again, field), getattr(fresh, field), err_msg=field)


# --- the model's length ---------------------------------------------------------------------------------------


def test_rows_may_be_shorter_or_longer_than_they_were_written(datasets: dict[str, Path]) -> None:
    config = DataConfig(path=str(datasets["v3"]))
    longest = int(open_rows(config, 512).source.lengths.max())
    short, long = open_rows(config, longest), open_rows(config, 700)
    np.testing.assert_array_equal(whole(short).tokens, whole(long).tokens[:, :longest])
    with pytest.raises(ValueError, match=rf"the longest \(.*\) has {longest}"):
        open_rows(config, longest - 1)


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "v2"}, "layout is v3, the configuration says v2"),
        ({"codec": "l1-4k"}, "codec_hash is"),
        ({"patch_size": 19}, "patch_size is 6, the configuration says 19"),
        ({"pad_to": 8192}, "pad_to is 512, the configuration says 8192"),
        ({"unit": "e_per_A3"}, "unit is chgcar, the configuration says e_per_A3"),
        ({"split": "train"}, "split is all, the configuration says train"),
    ],
)
def test_a_dataset_is_what_the_configuration_says(
    change: dict[str, Any], message: str, datasets: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match=message):
        open_rows(DataConfig(path=str(datasets["v3"]), **change), 512)
    right: dict[str, Any] = {
        "layout": "v3",
        "codec": "lmq-16k",
        "patch_size": 6,
        "pad_to": 512,
        "unit": "chgcar",
        "split": "all",
    }
    open_rows(DataConfig(path=str(datasets["v3"]), **right), 512)


def test_a_dataset_is_whole(tmp_path: Path, datasets: dict[str, Path]) -> None:
    out = tmp_path / "set"
    config = DataConfig(path=str(out))
    with pytest.raises(FileNotFoundError):
        open_rows(config, 512)
    shutil.copytree(datasets["v3"], out)
    shard = out / "shard-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"not what meta\.json states"):
        open_rows(config, 512)
    shard.write_bytes(bytes(content)[:-100])
    with pytest.raises(ValueError, match=r"bytes, but meta\.json says"):
        open_rows(config, 512)
    shard.unlink()
    with pytest.raises(ValueError, match=r"shard-00000.parquet: missing"):
        open_rows(config, 512)
    (out / "meta.json").unlink()
    with pytest.raises(ValueError, match=r"not a dataset|not finished"):
        open_rows(config, 512)


def test_all_workers_are_there(tmp_path: Path) -> None:
    case, out = CASES["v3"], tmp_path / "set"
    options = ("--patch-size", 6, "--pad-to", 512, "--patches-per-material", PATCHES, "--seed", SEED)
    for worker in range(2):
        sound(ROOT, "--out", out, *options, "--n-workers", 2, "--worker-index", worker)
    rows = open_rows(DataConfig(path=str(out)), 512)
    cut = open_rows(case.on_the_fly(), 512)
    assert sorted(rows.row_id(0, i) for i in range(len(rows))) == sorted(
        cut.row_id(0, i) for i in range(len(cut))
    )
    shutil.rmtree(out / "worker-01")
    with pytest.raises(ValueError, match="1 of 2 workers are missing"):
        open_rows(DataConfig(path=str(out)), 512)


def test_datasets_of_other_writers_are_checked_row_by_row(tmp_path: Path, datasets: dict[str, Path]) -> None:
    """They state no hashes: a row that does not decode is found all the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = tmp_path / "set"
    shutil.copytree(datasets["v3"], out)
    make_foreign(out)
    rows = open_rows(DataConfig(path=str(out)), 512)
    np.testing.assert_array_equal(
        whole(rows).tokens, whole(open_rows(DataConfig(path=str(datasets["v3"])), 512)).tokens
    )
    shard = out / "shard-00000.parquet"
    table = pq.read_table(shard).to_pydict()
    table["input_ids"][3][40] = 5
    schema = pq.read_schema(shard)
    pq.write_table(pa.table(table, schema=schema), shard)
    with pytest.raises(ValueError, match="1 rows cannot be decoded, the first is row 3"):
        open_rows(DataConfig(path=str(out)), 512)
    pq.write_table(pa.table({k: v[:-1] for k, v in table.items()}, schema=schema), shard)
    with pytest.raises(ValueError, match=r"1 rows cannot be decoded|meta.json says"):
        open_rows(DataConfig(path=str(out)), 512)


def test_datasets_behind_a_url_are_the_same(tmp_path: Path, datasets: dict[str, Path]) -> None:
    import fsspec

    bucket = fsspec.filesystem("memory")
    for file in datasets["v3"].iterdir():
        if file.is_file():
            bucket.pipe_file(f"/lm-data/{file.name}", file.read_bytes())
    there = open_rows(DataConfig(path="memory://lm-data", cache=str(tmp_path)), 512)
    here = open_rows(DataConfig(path=str(datasets["v3"])), 512)
    np.testing.assert_array_equal(whole(there).tokens, whole(here).tokens)
    bucket.rm_file("/lm-data/shard-00000.parquet")
    with pytest.raises(ValueError, match=r"shard-00000\.parquet: missing"):
        open_rows(DataConfig(path="memory://lm-data", cache=str(tmp_path)), 512)


def test_what_was_left_out_of_a_dataset_is_named(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", IDS[:3])
    (root / "mp_filelist.txt").write_text("\n".join([*IDS[:3], "mp-none"]))
    options = ("--patch-size", 6, "--pad-to", 512, "--patches-per-material", 2, "--on-error", "skip")
    sound(root, "--out", tmp_path / "set", *options)
    rows = open_rows(DataConfig(path=str(tmp_path / "set")), 512)
    assert rows.source.left_out == {"missing": ["mp-none"]}
    assert rows.counts["left_out"] == {"missing": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either data.path"),
        ({"path": "x", "densities": ("y",)}, "give either data.path"),
        ({"path": "x", "limit": 3}, "belong to data.densities"),
        ({"path": "x", "on_error": "ignore"}, "neither raise nor skip"),
        ({"path": "x", "seed": -1}, "data.seed = -1"),
    ],
)
def test_configurations_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**settings)


# --- densities ------------------------------------------------------------------------------------------------


def test_materials_that_cannot_be_had_are_counted_and_named(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", IDS)
    ids = [*IDS, "mp-none"]
    (root / "mp_filelist.txt").write_text("\n".join(ids))
    broken = root / "label" / f"{IDS[2]}.zarr"
    broken.unlink()
    shutil.copytree(LABEL / f"{IDS[2]}.zarr", broken)
    (broken / "zarr.json").write_text("{}")
    config = DataConfig(densities=(str(root),), patch_size=6, patches_per_material=2)
    with pytest.raises(ValueError, match=r"1 unreadable, 1 missing.*on_error = skip") as caught:
        open_rows(config, 512)
    assert IDS[2] in str(caught.value)
    assert "mp-none" in str(caught.value)
    rows = open_rows(
        DataConfig(densities=(str(root),), patch_size=6, patches_per_material=2, on_error="skip"), 512
    )
    assert rows.counts["left_out"] == {"unreadable": 1, "missing": 1}
    assert rows.source.left_out == {"unreadable": [IDS[2]], "missing": ["mp-none"]}
    assert rows.counts["materials"] == len(IDS) - 1


def test_materials_the_layout_cannot_write_are_named() -> None:
    config = DataConfig(densities=(str(ROOT),), patch_size=6, patches_per_material=2, fallback_shapes=())
    with pytest.raises(ValueError, match=r"cannot be written as v3 rows.*tokens"):
        open_rows(config, 300)
    skipping = DataConfig(
        densities=(str(ROOT),), patch_size=6, patches_per_material=2, fallback_shapes=(), on_error="skip"
    )
    rows = open_rows(skipping, 300)
    assert 0 < rows.counts["left_out"]["overflow"] < len(IDS)
    assert rows.counts["materials"] + rows.counts["left_out"]["overflow"] == len(IDS)


def test_materials_the_codec_cannot_hold_are_refused_or_left_out(tmp_path: Path) -> None:
    """The same rule and the same numbers as in a dataset; what is clipped of the others is counted."""
    big = tmp_path / "Fe3O4-2.zarr"
    tomat.read(LABEL / "vasp-pmg-Fe3O4.zarr").supercell((2, 2, 2)).write(big)
    inputs = (str(big), str(LABEL / "qe-0039.zarr"), str(LABEL / "vasp-mp-2300242.zarr"))
    settings: dict[str, Any] = {
        "codec": "lmq-16k", "patch_size": 4, "patches_per_material": 2, "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    with pytest.raises(
        ValueError, match=r"Fe3O4-2: the codec holds 0 to 2305\.71\d* chgcar.* 25\.112 %.*max_clipped"
    ):
        open_rows(DataConfig(densities=inputs, **settings), 4096)
    rows = open_rows(DataConfig(densities=inputs, on_error="skip", **settings), 4096)
    assert rows.source.left_out == {"clipped": ["Fe3O4-2"]}
    assert rows.counts["left_out"] == {"clipped": 1}
    assert rows.source.task_ids == ["qe-0039", "vasp-mp-2300242"]
    sound(*inputs, "--out", tmp_path / "rows", "--codec", "lmq-16k", "--patch-size", 4, "--pad-to", 4096,
          "--patches-per-material", 2, "--on-error", "skip", "--quiet")  # fmt: skip
    stored = open_rows(DataConfig(path=str(tmp_path / "rows")), 4096)
    assert stored.counts["clipped"] == rows.counts["clipped"]
    assert rows.counts["clipped"]["worst"]["task_id"] == "vasp-mp-2300242"
    assert stored.source.left_out == {"clipped": ["Fe3O4-2"]}
    allowed = open_rows(DataConfig(densities=inputs, max_clipped=0.3, **settings), 4096)
    assert allowed.counts["clipped"]["materials"] == 2
    assert allowed.source.left_out == {}
    with pytest.raises(ValueError, match="max_clipped = 2 must be between 0"):
        DataConfig(densities=inputs, max_clipped=2)


def test_files_and_splits_are_inputs_too() -> None:
    chgcar = DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz"
    rows = open_rows(DataConfig(densities=(str(chgcar),), patch_size=5, patches_per_material=3), 512)
    assert len(rows) == 3
    split = open_rows(
        DataConfig(densities=(str(ROOT),), split="train", patch_size=5, patches_per_material=1), 512
    )
    assert 0 < len(split) < len(IDS)


def test_samplers_and_budgets_are_arguments() -> None:
    def corner(material: tomat.Material, n: int, seed: int, epoch: int) -> Any:
        assert seed == SEED
        return np.full((n, 3), epoch) % np.array(material.grid_shape)

    def budget(material: tomat.Material) -> int:
        return 1 + len(material.atomic_numbers) % 3

    config = CASES["v3"].on_the_fly(sampler="corner")
    with pytest.raises(KeyError, match="unknown sampler"):
        open_rows(config, 512)
    rows = open_rows(config, 512, sampler=corner, budget=budget)
    materials = [tomat.read(LABEL / f"{name}.zarr") for name in IDS]
    assert len(rows) == sum(map(budget, materials))
    assert rows.row_id(7, 0) == f"{IDS[0]}@7,7,7"
    assert rows.identity()["sampler"] == "corner"

    def outside(material: tomat.Material, n: int, seed: int, epoch: int) -> ArrayLike:
        return np.full((n, 3), material.grid_shape[0])

    with pytest.raises(ValueError, match="sampler corner gave offsets"):
        open_rows(config, 512, sampler=outside).rows(0, [0])


def test_identities_tell_data_apart(datasets: dict[str, Path]) -> None:
    case = CASES["v3"]
    configs = [
        case.on_the_fly(),
        case.on_the_fly(seed=4),
        case.on_the_fly(patch_size=5),
        case.on_the_fly(codec="l1-4k"),
        case.on_the_fly(pack=True),
        case.on_the_fly(patches_per_material=2),
        case.on_the_fly(limit=3),
        DataConfig(path=str(datasets["v3"])),
    ]
    identities = [json.dumps(open_rows(config, 512).identity(), sort_keys=True) for config in configs]
    assert len(set(identities)) == len(configs)
    assert identities[0] == json.dumps(open_rows(configs[0], 512).identity(), sort_keys=True)
