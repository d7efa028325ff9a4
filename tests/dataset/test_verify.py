"""`tomat verify`: a sound dataset is sound, and each kind of damage is found and named."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tomat
from runs import LABEL, ROOT, SMALL, Result, edit_meta, save_zarr, sound, tomat_main

INPUTS = [LABEL / f"{name}.zarr" for name in ("qe-0039", "vasp-pmg-Fe3O4", "qev-0003", "vasp-mp-2300242")]
SHARD = "shard-00001.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four materials in two shards."""
    out = tmp_path_factory.mktemp("verify") / "rows"
    sound(*INPUTS, "--out", out, *SMALL, "--rows-per-shard", 6, "--quiet")
    return out


@pytest.fixture
def rows(original: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(original, tmp_path / "rows"))


def verify(folder: Path, *, source: bool = False) -> Result:
    return tomat_main("verify", folder, *(["--source", ROOT] if source else []))


def found(folder: Path, *words: str, source: bool = False) -> None:
    """The damage is found, and one problem names all the words."""
    result = verify(folder, source=source)
    assert result.code == 1, result.out
    problems = [line for line in result.out.splitlines() if line.startswith("problem: ")]
    assert any(all(word in line for word in words) for line in problems), result.out
    assert "problems: " in result.out.splitlines()[-1]


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a file; of a manifest the digests are made to fit, so that only the change itself can be found."""
    if path.name == "meta.json":
        edit_meta(path.parent, change)
        return
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def forge(
    folder: Path, change: Callable[[dict[str, list[Any]]], object], schema: pa.Schema | None = None
) -> None:
    """Rewrite a shard with its columns changed, and make size and hash in meta.json fit."""
    path = folder / SHARD
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=schema or table.schema), path, compression="zstd")
    content = path.read_bytes()

    def fix(meta: dict[str, Any]) -> None:
        entry = next(shard for shard in meta["shards"] if shard["name"] == SHARD)
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit_json(folder / "meta.json", fix)


# --- sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [False, True])
def test_sound(original: Path, source: bool) -> None:
    result = verify(original, source=source)
    assert result.code == 0, result.out
    assert "sound: 12 rows of 4 materials in 2 shards" in result.out
    assert ("4 densities read again, 768 voxels" in result.out) == source
    quiet = tomat_main("verify", original, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    report = tomat_main("verify", original, "--json", *(["--source", ROOT] if source else [])).json
    clipped, errors, nmae = (report.pop(key) for key in ("clipped", "errors", "nmae"))
    assert (clipped["materials"], clipped["worst"]["task_id"]) == (1, "vasp-mp-2300242")
    assert errors.keys() == ({path.stem for path in INPUTS} if source else set())
    assert (nmae is not None) == source
    assert report == {
        "lossy": {}, "shards": 2, "rows": 12, "materials": 4, "problems": [], "notes": [], "is_sound": True,
        "materials_compared": 4 if source else 0, "voxels_compared": 768 if source else 0,
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["v1", "v2", "v2-lat", "v3"])
@pytest.mark.parametrize("codec", ["lmq-16k", "two_token_9_12", "fp16_1token", "tomol_3byte"])
def test_sound_for_all_layouts_and_codecs(tmp_path: Path, layout: str, codec: str) -> None:
    sound(*INPUTS, "--out", tmp_path / "out", "--layout", layout, "--codec", codec, "--patch-size", 6, "--pad-to", 900,
          "--patches-per-material", 9, "--quiet")  # fmt: skip
    result = verify(tmp_path / "out", source=True)
    assert result.code == 0, result.out
    assert f"{4 * 9 * 216:,} voxels" in result.out


def test_sound_with_workers_and_materials_left_out(tmp_path: Path) -> None:
    for worker in range(2):
        sound(*INPUTS, tmp_path / "no.zarr", "--out", tmp_path / "out", *SMALL, "--on-error", "skip", "--quiet",
              "--n-workers", 2, "--worker-index", worker)  # fmt: skip
    assert verify(tmp_path / "out", source=True).code == 0
    shutil.rmtree(tmp_path / "out" / "worker-01")
    absent = verify(tmp_path / "out")
    assert absent.code == 1
    assert "1 of 2 workers are missing: [1]" in absent.err
    assert tomat_main("verify", tmp_path / "out", "--allow-partial").code == 0


def test_a_material_with_more_rows_than_a_row_group(tmp_path: Path) -> None:
    sound(INPUTS[0], "--out", tmp_path / "out", *SMALL, "--patches-per-material", 1100, "--quiet")
    assert pq.ParquetFile(tmp_path / "out" / "shard-00000.parquet").metadata.num_rows == 1100
    assert verify(tmp_path / "out", source=True).code == 0


@pytest.mark.parametrize("name", ["lmq-16k", "two_token_9_12", "fp16_1token", "tomol_3byte"])
def test_the_check_of_bins(name: str) -> None:
    """Values are inside their own bin, and neither in the next one nor in that of the other sign."""
    codec = tomat.load_codec(name)
    values = np.concatenate([np.geomspace(1e-3, 1e4, 500), [0.0, 1e9]])
    parts = codec.encode(values)
    assert codec.outside_bin(values, codec.decode(parts)) == 0
    beside = parts.copy()
    beside[:-2, -1] ^= 1  # the neighbour, above or below
    # The finest bins are a millionth wide, so that a value may lie within the slack of an edge.
    assert codec.outside_bin(values, codec.decode(beside)) >= 498
    if isinstance(codec, tomat.LogCodec):
        assert codec.outside_bin(-values[:500], codec.decode(parts)[:500]) == 500


# --- damaged files ------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere(rows: Path) -> None:
    path, luck = rows / SHARD, random.Random(3)
    content = path.read_bytes()
    places = [0, 4, len(content) - 1, len(content) - 6, *(luck.randrange(len(content)) for _ in range(20))]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << luck.randrange(8)
        path.write_bytes(flipped)
        found(rows, SHARD, "SHA-256")


def test_a_truncated_shard(rows: Path) -> None:
    content = (rows / SHARD).read_bytes()
    for length in (0, 7, len(content) // 2, len(content) - 1):
        (rows / SHARD).write_bytes(content[:length])
        found(rows, SHARD, f"{length} bytes, but {len(content)} were written")


def test_a_missing_shard(rows: Path) -> None:
    (rows / SHARD).unlink()
    found(rows, f"{rows / SHARD}: missing")
    found(rows, "total_rows = 12, but the shards hold 6")


def test_an_extra_shard(rows: Path) -> None:
    shutil.copy(rows / SHARD, rows / "shard-00002.parquet")
    found(rows, "shard-00002.parquet", "not listed")


def test_a_shard_that_is_not_parquet(rows: Path) -> None:
    content = b"PAR1 and then nothing of the kind PAR1"
    (rows / SHARD).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_json(rows / "meta.json", lambda meta: meta["shards"][1].update(bytes=len(content), sha256=digest))
    found(rows, SHARD, "cannot be read")


def test_swapped_shards(rows: Path) -> None:
    names = ("shard-00000.parquet", SHARD)
    contents = [(rows / name).read_bytes() for name in names]
    for name, content in zip(names, contents[::-1], strict=True):
        (rows / name).write_bytes(content)
    for name in names:
        found(rows, name)


# --- damaged rows behind hashes that fit ---------------------------------------------------------------------


def first_density(ids: list[int]) -> int:
    """Where the density of a row begins: after [DENS_START]."""
    return ids.index(15) + 1


@pytest.mark.parametrize("source", [False, True])
def test_an_id_outside_its_region(rows: Path, source: bool) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["input_ids"][4][first_density(columns["input_ids"][4])] = 500

    forge(rows, change)
    found(rows, SHARD, "row 4 (vasp-mp-2300242)", "DENS", source=source)


def test_an_id_that_only_the_source_can_tell(rows: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        ids = columns["input_ids"][1]
        at = first_density(ids)
        ids[at] = ids[at] - 1 if ids[at] > 2187 else ids[at] + 1

    forge(rows, change)
    assert verify(rows).code == 0
    found(rows, SHARD, "qev-0003", "1 rows differ from the source, the first is 1", source=True)


def test_an_edited_offset(rows: Path) -> None:
    forge(rows, lambda columns: columns["offset_y"].__setitem__(2, columns["offset_y"][2] + 1))
    found(rows, SHARD, "qev-0003", "the offsets are not those of seed 0 and epoch 0", "row 2")


def test_exchanged_rows(rows: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        ids = columns["input_ids"]
        ids[0], ids[1] = ids[1], ids[0]

    forge(rows, change)
    found(rows, SHARD, "qev-0003", "2 rows differ", source=True)


def test_an_edited_name(rows: Path) -> None:
    forge(rows, lambda columns: columns["task_id"].__setitem__(slice(0, 3), ["qe-0048"] * 3))
    found(rows, SHARD, "qe-0048", "offsets are not those")
    found(rows, SHARD, "qe-0048", "rows differ from the source", source=True)
    forge(rows, lambda columns: columns["task_id"].__setitem__(slice(0, 3), ["nobody"] * 3))
    found(rows, "nobody is not among the sources", source=True)


def test_a_material_in_two_shards(rows: Path) -> None:
    forge(rows, lambda columns: columns["task_id"].__setitem__(0, "qe-0039"))
    found(rows, SHARD, "rows of qe-0039 are split across shards")
    found(rows, "qe-0039 has 4 rows, expected 3")


def test_a_row_more_and_a_row_less(rows: Path) -> None:
    forge(rows, lambda columns: columns.update({name: [*c, c[-1]] for name, c in columns.items()}))
    found(rows, SHARD, "7 rows, but meta.json lists 6")
    forge(rows, lambda columns: columns.update({name: c[:4] for name, c in columns.items()}))
    found(rows, SHARD, "4 rows, but meta.json lists 6")


def test_a_row_that_is_short_and_one_that_is_not_there(rows: Path) -> None:
    forge(rows, lambda columns: columns["input_ids"][3].pop())
    found(rows, SHARD, "row 3 has 255 tokens, expected pad_to = 256")
    forge(rows, lambda columns: columns["input_ids"][3].append(None))
    found(rows, SHARD, "input_ids holds nulls")
    forge(rows, lambda columns: columns["input_ids"].__setitem__(3, None))
    found(rows, SHARD, "column input_ids holds nulls")


def test_other_columns(rows: Path) -> None:
    schema = pq.read_schema(rows / SHARD)
    wide = schema.set(schema.get_field_index("offset_x"), pa.field("offset_x", pa.int64()))
    forge(rows, lambda columns: None, wide)
    found(rows, SHARD, "columns are", "int64")
    forge(rows, lambda columns: columns.pop("offset_z"), schema.remove(3))
    found(rows, SHARD, "columns are")


# --- what stands beside the shards --------------------------------------------------------------------------


def test_another_codec(rows: Path) -> None:
    codec = tomat.load_codec("lmq-16k")
    assert isinstance(codec, tomat.LloydMaxCodec)
    points = codec.recon_points.copy()
    points[100] = np.nextafter(points[100], np.float32(1e9))
    tomat.LloydMaxCodec(codec.boundaries, points, codec.clip_max).save(rows / "codec.npz")
    found(rows, str(rows), "codec_hash", "but the codec found gives")
    for content in (b"", b"PK garbage"):
        (rows / "codec.npz").write_bytes(content)
        found(rows, str(rows / "codec.npz"))
    (rows / "codec.npz").unlink()
    found(rows, str(rows / "codec.npz"))


def test_another_codec_of_one_worker(tmp_path: Path) -> None:
    for worker in range(2):
        sound(*INPUTS, "--out", tmp_path, *SMALL, "--quiet", "--n-workers", 2, "--worker-index", worker)
    codec = tomat.load_codec("lmq-16k")
    assert isinstance(codec, tomat.LloydMaxCodec)
    other = tomat.LloydMaxCodec(codec.boundaries, codec.recon_points, codec.clip_max * 2)
    other.save(tmp_path / "worker-01" / "codec.npz")
    found(tmp_path, "worker-01", "codec_hash")


def test_a_material_in_two_workers(tmp_path: Path) -> None:
    sound(*INPUTS, "--out", tmp_path, *SMALL, "--quiet", "--n-workers", 2, "--worker-index", 0)
    shutil.copytree(tmp_path / "worker-00", tmp_path / "worker-01")
    edit_json(tmp_path / "worker-01" / "meta.json", lambda meta: meta.update(worker_index=1))
    found(tmp_path, "material qe-0039 is in 2 workers")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("total_rows", 13, ["total_rows = 13, but the shards hold 12"]),
        ("n_materials", 5, ["n_materials = 5, but 4 have rows"]),
        ("n_shards", 3, ["n_shards = 3, but 2 are listed"]),
        ("n_materials_missing", 1, ["4 materials listed, but 5 are in or left out"]),
        ("patches_per_material", 4, ["qev-0003 has 3 rows, expected 4"]),
        ("seed", 1, ["offsets are not those of seed 1"]),
        ("epoch", 1, ["offsets are not those of seed 0 and epoch 1"]),
        ("pad_to", 255, ["has 256 tokens, expected pad_to = 255"]),
        ("patch_size", 5, ["DENS"]),
        ("tokenizer_version", "v2", ["meta.json"]),
        ("vocabulary_hash", "0" * 64, ["vocabulary_hash"]),
    ],
)
def test_an_edited_number_in_meta(rows: Path, key: str, value: object, words: list[str]) -> None:
    edit_json(rows / "meta.json", lambda meta: meta.update({key: value}))
    found(rows, *words)


def test_an_edited_vocabulary_in_meta(rows: Path) -> None:
    edit_json(rows / "meta.json", lambda meta: meta["vocab"].update(total_size=18568))
    found(rows, "vocabulary of 18568 tokens")
    edit_json(rows / "meta.json", lambda meta: meta["vocab"]["specials"].update({"[EOS]": 3}))
    found(rows, "specials")


def test_a_damaged_meta(rows: Path) -> None:
    (rows / "meta.json").write_text('{"total_rows": ')
    result = verify(rows)
    assert result.code == 1
    assert f"{rows / 'meta.json'}: damaged" in result.err
    (rows / "meta.json").unlink()
    assert "not a dataset" in verify(rows).err
    assert "no such directory" in verify(rows / "nowhere").err


def test_an_edited_coverage(rows: Path) -> None:
    path = rows / "coverage_histogram.json"
    text = path.read_text()

    def moved(counts: list[int]) -> None:
        counts[0] -= 1
        counts[1] += 1

    edit_json(path, lambda content: moved(content["histogram"]))
    found(rows, "coverage_histogram.json", "the histogram is")
    path.write_text(text)
    edit_json(path, lambda content: content["histogram"].pop())
    found(rows, "coverage_histogram.json", "the histogram is")
    path.write_text(text)
    # One material and the sum alike: the rows still tell.
    edit_json(path, lambda content: moved(content["histogram"]))
    edit_json(path, lambda content: moved(content["per_material"]["qe-0039"]))
    found(rows, "coverage_histogram.json", "qe-0039")
    edit_json(path, lambda content: content["per_material"].pop("qe-0039"))
    found(rows, "coverage_histogram.json", "lists 3 materials")
    path.write_text("[]")
    found(rows, "coverage_histogram.json", "not a JSON object")
    path.unlink()
    found(rows, "coverage_histogram.json", "missing")


# --- the source ---------------------------------------------------------------------------------------------


def test_a_source_that_changed(original: Path, tmp_path: Path) -> None:
    material = tomat.read(LABEL / "qe-0039.zarr")
    names = [path.stem for path in INPUTS]

    def sources(change: tomat.Material) -> list[object]:
        save_zarr(tmp_path / "qe-0039.zarr", change)
        return ["--source", tmp_path / "qe-0039.zarr", *(x for p in INPUTS[1:] for x in ("--source", p))]

    same = tomat_main("verify", original, *sources(material))
    assert same.code == 0, same.out + str(names)
    parts = (material.unit, material.lattice, material.atomic_numbers, material.frac_coords)
    changed = {
        "one percent": tomat.Material.of("x", material.density * np.float32(1.01), *parts),
        "rolled": tomat.Material.of("x", np.roll(material.density, 1, axis=0), *parts),
        "another grid": tomat.Material.of("x", material.density[:, :, ::2], *parts),
        "moved atoms": tomat.Material.of("x", material.density, *parts[:3], material.frac_coords + 0.01),
    }
    for name, change in changed.items():
        result = tomat_main("verify", original, *sources(change))
        assert result.code == 1, name
        assert "qe-0039" in result.out, name
    shutil.rmtree(tmp_path / "qe-0039.zarr")
    paths = [tmp_path / "qe-0039.zarr", *INPUTS[1:]]
    gone = tomat_main("verify", original, *(x for path in paths for x in ("--source", path)))
    assert gone.code == 1
    assert "the source cannot be read" in gone.out
