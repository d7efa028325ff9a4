"""`tomat audit`: every voxel, electron and bit by a second path, and each thing that does not agree is named."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import oracle
import tomat
from places import DATA
from runs import LABEL, ROOT, SMALL, Result, a_cell, edit_meta, meta, save_zarr, sound, tomat_main
from tomat.dataset.audit import audit_dataset
from tomat.dataset.audit.account import entropy_bits
from tomat.dataset.audit.rows import LogLevels
from tomat.dataset.inputs import resolve_inputs
from tomat.formats.compression import COMPRESSORS, unpacked

NAMES = ("qe-0039", "vasp-pmg-Fe3O4", "qev-0003", "vasp-mp-2300242")
SHARD = "shard-00000.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four materials and their rows."""
    folder = tmp_path_factory.mktemp("audit")
    for name in NAMES:
        shutil.copytree(LABEL / f"{name}.zarr", folder / "source" / f"{name}.zarr")
    sound(folder / "source", "--out", folder / "rows", *SMALL, "--quiet")
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    """A copy of both to damage."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def audit(folder: Path, *options: object, source: Sequence[object] | None = None) -> Result:
    sources = [folder / "source"] if source is None else source
    words = [word for one in sources for word in ("--source", one)]
    return tomat_main("audit", folder / "rows", *words, *options, columns=200)


def found(result: Result, *words: str) -> None:
    """It fails, and one problem has all the words."""
    assert result.code == 1, result.out
    problems = [line for line in result.out.splitlines() if line.startswith("problem: ")]
    assert any(all(word in line for word in words) for line in problems), result.out


def forge(
    folder: Path, change: Callable[[dict[str, list[Any]]], object], row_group_size: int | None = None
) -> None:
    """Rewrite the shard with its columns changed, and make all digests fit."""
    path = folder / "rows" / SHARD
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    changed = pa.table(columns, schema=table.schema)
    pq.write_table(changed, path, compression="zstd", row_group_size=row_group_size)
    content = path.read_bytes()
    entry = {
        "name": SHARD,
        "rows": len(columns["task_id"]),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    edit_meta(folder / "rows", lambda facts: facts.update(shards=[entry]))


# --- what agrees --------------------------------------------------------------------------------------------


def test_the_demo_set_to_the_voxel(tmp_path: Path) -> None:
    """What `make demo` makes, with all defaults: nothing is off by a token, and electrons are whole numbers."""
    sound(ROOT, "--out", tmp_path / "rows", "--quiet")
    result = audit(tmp_path, "--json", source=[ROOT])
    assert result.code == 0, result.out
    account = result.json
    assert account["problems"] == account["notes"] == []
    assert account["is_complete"]
    audited = account["audited"]
    assert audited["readers"] == {"numpy": 20}
    assert audited["edges"] == 0
    assert audited["voxels"] == sum(m["voxels"] for m in account["materials"]) == 712278
    # Densities of pseudopotentials and PAW hold whole numbers of electrons.
    assert audited["electrons"] == pytest.approx(397, abs=1e-3)
    assert all(abs(m["electrons"] - round(m["electrons"])) < 1e-3 for m in account["materials"])
    assert audited["row_voxels"] == 20 * 64 * 19**3
    bits = account["bits"]
    assert bits["raw_width"]["a_voxel"] == 14
    assert bits["unigram"] == bits["unigram_of_sources"]
    assert bits["parquet"]["bits"] == 8 * (tmp_path / "rows" / SHARD).stat().st_size
    assert bits["parquet"]["a_voxel"] < bits["unigram"]["a_voxel"] < 14
    assert bits["source_float32"]["an_electron"] == pytest.approx(32 * 712278 / audited["electrons"])
    assert bits["raw_width"]["an_electron"] == pytest.approx(14 * 20 * 64 * 19**3 / audited["row_electrons"])
    tokens = account["tokens"]
    assert tokens["density"] + tokens["preamble"] + tokens["padding"] == tokens["total"] == 1280 * 8192
    stored = json.loads((tmp_path / "rows" / "coverage_histogram.json").read_text())["histogram"]
    assert account["coverage"]["voxels"] == {"zero": stored[0], "one": stored[1], "many": sum(stored[2:])}
    # The floor of the codec is the one that the package computes by itself.
    material = tomat.read(LABEL / "qe-0039.zarr").in_unit("e_per_A3")
    back = tomat.load_codec("l1-16k-e_per_A3-1e4").roundtrip(material.density)
    own = next(m for m in account["materials"] if m["task_id"] == "qe-0039")
    error = np.abs(back - material.density.astype(float)).sum() / material.density.sum(dtype=float)
    assert own["nmae"] == pytest.approx(error, rel=1e-9)
    assert own["electrons_decoded"] == pytest.approx(back.mean() * material.volume, rel=1e-9)


@pytest.mark.parametrize("layout", ["v1", "v2", "v2-lat", "v3"])
@pytest.mark.parametrize("codec", ["l1-1k-e_per_A3", "two_token_9_12", "fp16_1token"])
def test_all_layouts_and_codecs(original: Path, tmp_path: Path, layout: str, codec: str) -> None:
    sound(original / "source", "--out", tmp_path / "rows", "--layout", layout, "--codec", codec, "--patch-size", 6,
          "--pad-to", 900, "--patches-per-material", 5, "--quiet")  # fmt: skip
    result = audit(tmp_path, source=[original / "source"])
    assert result.code == 0, result.out
    assert "every token accounted for: 20 rows of 4 materials" in result.out


def test_other_formats_are_read_by_other_programs(tmp_path: Path) -> None:
    files = [
        *(DATA / "chgcar").glob("vasp-mp-*"),
        DATA / "chgcar" / "vasp-pmg-NiO-SOC.CHGCAR.gz",
        DATA / "cube" / "qe-0934-BN-hex.cube.gz",
    ]
    tomat.read(LABEL / "qe-0003.zarr").write(tmp_path / "a.npz")
    files.append(tmp_path / "a.npz")
    sound(*files, "--out", tmp_path / "rows", *SMALL, "--quiet")
    result = audit(tmp_path, "--json", source=files)
    assert result.code == 0, result.out
    assert result.json["audited"]["readers"] == {"pymatgen": 3, "ase": 1, "tomat": 1}


def test_every_compression_that_is_tokenized_is_audited(tmp_path: Path) -> None:
    files = []
    for source in (DATA / "cube" / "qe-0934-BN-hex.cube.gz", min((DATA / "chgcar").glob("vasp-mp-*"))):
        text = unpacked(source.read_bytes(), source.name)
        for suffix, pack in COMPRESSORS.items():
            name, _, kind = source.name.removesuffix(".gz").rpartition(".")
            files.append(tmp_path / f"{name}{suffix.replace('.', '-')}.{kind}{suffix}")
            files[-1].write_bytes(pack(text))
    sound(*files, "--out", tmp_path / "rows", *SMALL, "--quiet")
    result = audit(tmp_path, "--json", source=files)
    assert result.code == 0, result.out
    assert result.json["audited"]["readers"] == {"pymatgen": 4, "ase": 4}


def test_fallback_shapes_workers_and_materials_left_out(tmp_path: Path) -> None:
    """Each material is in the rows or has its reason, found from its file again."""
    save_zarr(tmp_path / "s" / "many.zarr", a_cell((6, 6, 6), 6.0, 9).renamed("many"))
    save_zarr(tmp_path / "s" / "few.zarr", a_cell((6, 6, 6), 6.0).renamed("few"))
    save_zarr(tmp_path / "s" / "long.zarr", a_cell((6, 6, 6), 60.0).renamed("long"))
    save_zarr(tmp_path / "s" / "full.zarr", a_cell((6, 6, 6), 6.0, 40).renamed("full"))
    save_zarr(tmp_path / "s" / "large.zarr", a_cell((1030, 2, 2), 9.0).renamed("large"))
    bright = a_cell((6, 6, 6), 6.0).renamed("bright")
    save_zarr(
        tmp_path / "s" / "bright.zarr", tomat.Material.on(bright.crystal, bright.density * 1e7, "chgcar")
    )
    (tmp_path / "list.txt").write_text(
        "\n".join(f"s/{name}.zarr" for name in ("many", "few", "long", "full", "large", "bright", "gone"))
    )
    options = ("--patch-size", 5, "--pad-to", 210, "--fallback-shape", "3,3,4", "--patches-per-material", 2)
    for worker in range(2):
        sound(tmp_path / "list.txt", "--out", tmp_path / "rows", *options, "--on-error", "skip", "--quiet",
              "--workers", 2, "--worker-index", worker)  # fmt: skip
    result = audit(tmp_path, "--json", source=[tmp_path / "list.txt"])
    assert result.code == 0, result.out
    account = result.json
    assert account["dataset"]["left_out"] == {
        "bad_lattice": 1, "overflow": 1, "oversized": 1, "clipped": 1, "missing": 1,
    }  # fmt: skip
    assert account["tokens"]["fallback"] == {
        "materials": 1, "rows": 2, "voxels_lost": 2 * (125 - 36),
        "share_of_voxels_lost": pytest.approx(178 / (178 + 2 * 36 + 2 * 125)),
    }  # fmt: skip
    # One of them comes back: it could be written, and is not there.
    save_zarr(tmp_path / "s" / "gone.zarr", a_cell((6, 6, 6), 6.0).renamed("gone"))
    found(audit(tmp_path, source=[tmp_path / "list.txt"]), "gone has no rows, and nothing says why")


def test_a_sample_is_drawn_by_name(place: Path) -> None:
    first = audit(place, "--sample", 2, "--json").json
    assert (first["is_complete"], len(first["materials"]), first["dataset"]["rows"]) == (False, 2, 12)
    assert "parquet" not in first["bits"]
    names = {m["task_id"] for m in first["materials"]}
    assert {m["task_id"] for m in audit(place, "--sample", 2, "--json").json["materials"]} == names
    others = [audit(place, "--sample", 2, "--sample-seed", seed, "--json").json for seed in range(1, 6)]
    assert any({m["task_id"] for m in one["materials"]} != names for one in others)
    # Counts are checked over all of them.
    edit_meta(place / "rows", lambda facts: facts.update(total_rows=13))
    found(audit(place, "--sample", 1), "total_rows = 13, but the shards hold 12")


def test_the_second_path_is_the_page_of_the_format() -> None:
    """Log levels against the slow reference, at steps and beside them, where a logarithm's last bit decides."""
    levels = LogLevels(-4.127, 4.967, (8, 12))
    reference = oracle.Log(-4.127, 4.967, (8, 12))
    edges = 10 ** (np.arange(0, 2**20, 9973) / (2**20 - 1) * (4.967 + 4.127) - 4.127)
    values = np.concatenate(
        [edges, np.nextafter(edges, 0), np.nextafter(edges, 9e9), -edges, [0.0, 1e-16, 1e9]]
    )
    words = levels.encode(values)
    assert words.tolist() == [list(reference.encode(float(v))) for v in values]
    decoded = [reference.decode(word) for word in words.tolist()]
    np.testing.assert_allclose(levels.decode(words), decoded, rtol=1e-14)


def test_entropy() -> None:
    assert entropy_bits(np.array([4, 4, 0, 8])) == 16 * 1.5
    assert entropy_bits(np.array([0, 7])) == entropy_bits(np.array([0])) == 0
    n = np.random.default_rng(0).integers(0, 100, 50)
    assert entropy_bits(n) == pytest.approx(sum(-k * math.log2(k / n.sum()) for k in n if k))


# --- what does not ------------------------------------------------------------------------------------------


def test_a_source_changed_after_tokenizing(place: Path) -> None:
    path = place / "source" / "qev-0003.zarr"
    material = tomat.read(path)
    values = material.density * np.float32(1.001)
    structure = json.loads((path / "zarr.json").read_text())["attributes"]["structure"]
    save_zarr(path, tomat.Material.on(material.crystal, values, material.unit), structure)
    found(audit(place), "qev-0003: ", " rows differ from the source", "(DENS)", "voxels differ")
    moved = tomat.Material.of("qev-0003", material.density, "chgcar", material.lattice, material.atomic_numbers,
                              material.frac_coords + np.array([1e-3, 0, 0]))  # fmt: skip
    save_zarr(path, moved)
    found(audit(place), "qev-0003: the crystal of the source is not the one in crystals.parquet")
    shutil.rmtree(path)
    found(audit(place), "qev-0003 has rows, but is not among the sources")


@pytest.mark.parametrize(("position", "block"), [(2, "GRID"), (20, "POS"), (-10, "DENS")])
def test_a_flipped_token_behind_digests_that_fit(place: Path, position: int, block: str) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        row = columns["task_id"].index("vasp-mp-2300242") + 1
        ids = columns["input_ids"][row]
        end = ids.index(2)
        at = position if position > 0 else end + position
        ids[at] += 1 if ids[at + 1] != 15 else -1

    forge(place, change)
    row = 3 * sorted(NAMES).index("vasp-mp-2300242") + 1
    found(
        audit(place),
        f"vasp-mp-2300242: 1 of 3 rows differ from the source, the first is row {row}",
        f"({block})",
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("total_rows", 13, "total_rows = 13, but the shards hold 12"),
        ("n_materials", 5, "n_materials = 5, but the shards hold 4"),
        ("n_materials_listed", 5, "5 materials were listed when it was written, 4 are given"),
        ("n_materials_missing", 1, "n_materials_missing = 1, the sources give 0"),
        ("n_materials_fallback", 1, "n_materials_fallback = 1, the sources give 0"),
        ("patches_per_material", 4, "qe-0039 has 3 rows, but meta.json states 4"),
        ("clipped_materials", {}, "vasp-mp-2300242: states 0 clipped voxels"),
    ],
)  # fmt: skip
def test_a_wrong_count_in_meta(place: Path, key: str, value: object, words: str) -> None:
    assert meta(place / "rows")[key] != value
    edit_meta(place / "rows", lambda facts: facts.update({key: value}))
    found(audit(place), words)


def test_a_wrong_coverage(place: Path) -> None:
    path = place / "rows" / "coverage_histogram.json"
    stored = json.loads(path.read_text())
    stored["per_material"]["qe-0039"][0] += 1
    path.write_text(json.dumps(stored))
    edit_meta(place / "rows")
    result = audit(place)
    found(
        result,
        "coverage_histogram.json: qe-0039: 64,001 voxels on the grid [40, 40, 40], the source has 64,000",
    )
    found(result, "the histogram is not the sum of its materials")


def test_a_missing_material(place: Path) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        keep = [i for i, name in enumerate(columns["task_id"]) if name != "qev-0003"]
        for name, column in columns.items():
            columns[name] = [column[i] for i in keep]

    forge(place, change)
    edit_meta(place / "rows", lambda facts: facts.update(total_rows=9, n_materials=3))
    found(audit(place), "qev-0003 has no rows, and nothing says why")
    shutil.rmtree(place / "source" / "qe-0039.zarr")
    found(audit(place), "qe-0039 has rows, but is not among the sources")


def test_a_wrong_unit(original: Path, tmp_path: Path) -> None:
    """A log codec takes any unit, so that nothing but the tokens shows which one they are in."""
    options = ("--layout", "v1", "--patch-size", 6, "--pad-to", 900, "--patches-per-material", 2, "--quiet")
    sound(original / "source", "--out", tmp_path / "rows", *options)
    edit_meta(tmp_path / "rows", lambda facts: facts.update(unit="e_per_A3"))
    result = audit(tmp_path, source=[original / "source"])
    found(
        result,
        "qe-0039: 2 of 2 rows differ",
        "times the volume of the cell",
        "the dataset (e_per_A3) is wrong",
    )


def test_a_source_in_another_unit_than_its_format(tmp_path: Path) -> None:
    """Tokenized as it was: the rows agree with the file, but the file does not agree with itself."""
    target = shutil.copytree(LABEL / "qe-0039.zarr", tmp_path / "source" / "qe-0039.zarr")
    about = json.loads((target / "zarr.json").read_text())
    material = tomat.read(target)
    save_zarr(target, tomat.Material.on(material.crystal, material.in_unit("e_per_A3").density, "chgcar"))
    (target / "zarr.json").write_text(json.dumps(about))
    sound(tmp_path / "source", "--out", tmp_path / "rows", *SMALL, "--quiet")
    found(audit(tmp_path), "qe-0039", "the file states 8 electrons, but its density holds 0.19")


def test_a_damaged_shard_and_an_unknown_codec(place: Path) -> None:
    path = place / "rows" / SHARD
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    found(audit(place), SHARD, "cannot be read")
    path.write_bytes(content)
    (place / "rows" / "codec.npz").unlink()
    told = audit(place)
    assert told.code == 1
    assert "codec.npz" in told.err


def test_a_stray_shard_and_a_problem_said_once(place: Path) -> None:
    """Rows of one material in two row groups; its source is damaged."""
    forge(place, lambda columns: None, row_group_size=2)
    assert pq.ParquetFile(place / "rows" / SHARD).num_row_groups == 6
    assert audit(place).code == 0
    target = place / "source" / "qe-0039.zarr"
    (target / "charge_density_total" / "c" / "0" / "0" / "0").write_bytes(b"nothing")
    shutil.copy(place / "rows" / SHARD, place / "rows" / "shard-00009.parquet")
    result = audit(place)
    found(result, "shard-00009.parquet: not listed in meta.json")
    found(result, "qe-0039 has rows, but its source", "would be left out: unreadable")
    assert result.out.count("would be left out") == 1


def test_the_split_of_the_dataset_is_taken(tmp_path: Path) -> None:
    sound(ROOT, "--split", "test", "--out", tmp_path / "rows", *SMALL, "--quiet")
    assert audit(tmp_path, source=[ROOT]).code == 0
    found(audit(tmp_path, "--split", "train", source=[ROOT]), "is not among the sources")
    account = audit_dataset(tmp_path / "rows", resolve_inputs([ROOT], split="test"))
    assert account.is_complete
    assert account.coverage["least"]["task_id"] in {m.task_id for m in account.materials}
