"""Files that were damaged or made to do harm: refused by every reader, or read as what they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flips
import tomat
from runs import (
    FOREIGN,
    ROOT,
    SHARD_EACH,
    SMALL,
    edit_meta,
    make_foreign,
    meta,
    sound,
    tokenize,
    tomat_main,
    tree,
)
from tomat import catalogue
from tomat.dataset import open_dataset, sync_dataset
from tomat.dataset.export_hf import export_hf
from tomat.dataset.inputs import resolve_inputs
from tomat.dataset.meta import read_coverage
from tomat.dataset.verify import verify_dataset
from tomat.lm.data.config import DataConfig
from tomat.lm.data.parquet import ParquetSource
from tomat.plan.measured import measured_coverage
from tomat.promolecule import Promolecule
from tomat.report.sources import load_sources

#: No name of a shard: paths out of the folder, other files in it, and names that only look like one.
HOSTILE = (
    "../../victim",
    "/etc/passwd",
    "../shard-00000.parquet",
    "sub/shard-00000.parquet",
    "..",
    "meta.json",
    "shard-00000.parquet\n",
    "shard-0000.parquet",
    "shard-00000.parquet/../../victim",
    f"shard-{chr(0x660) * 5}.parquet",
    "",
    None,
    7,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("integrity") / "rows"
    sound(ROOT, "--out", out, *SHARD_EACH, "--limit", 3, "--quiet")
    return out


@pytest.fixture
def rows(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage, with a file above it that nothing may touch."""
    (tmp_path / "victim").write_text("not yours")
    return Path(shutil.copytree(original, tmp_path / "a" / "rows"))


def readers(tmp_path: Path) -> dict[str, Callable[[Path], Any]]:
    """Everything that reads a manifest."""
    return {
        "open": open_dataset,
        "sync": lambda rows: sync_dataset(rows, tmp_path / "b" / "copy"),
        "verify": verify_dataset,
        "export_hf": lambda rows: export_hf([rows], tmp_path / "hub"),
        "train": lambda rows: ParquetSource(DataConfig(path=str(rows))),
        "coverage": lambda rows: measured_coverage(open_dataset(rows)),
        "report": lambda rows: load_sources([rows]),
    }


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("foreign", [False, True], ids=["own", "foreign"])
def test_a_name_that_leads_elsewhere_is_refused_by_every_reader(
    rows: Path, tmp_path: Path, name: object, foreign: bool
) -> None:
    entry = meta(rows)["shards"][0] | {"name": name}
    if foreign:
        make_foreign(rows)
    edit_meta(rows, lambda facts: facts.update(shards=[entry]))
    for reader, read in readers(tmp_path).items():
        with pytest.raises(
            ValueError, match=r"(?s)meta\.json: .*(no name of a shard|name' is|no shard)"
        ) as error:
            read(rows)
        assert str(rows) in str(error.value), reader
    assert (tmp_path / "victim").read_text() == "not yours"
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "hub" / "data").exists()
    for command in ("sync", "verify", "info", "coverage", "export-hf"):
        arguments = (rows, tmp_path / "b" / "copy") if command in ("sync", "export-hf") else (rows,)
        result = tomat_main(command, *arguments)
        assert result.code == 1, command
        assert "Traceback" not in result.err
    finished = tokenize(ROOT, "--out", rows, *SHARD_EACH, "--limit", 3, "--quiet", "--resume")
    assert finished.code == 1


def test_a_codec_that_leads_elsewhere_is_not_copied(rows: Path, tmp_path: Path) -> None:
    make_foreign(rows)
    for name in ("..", "meta.json", ".hidden.npz", "a\\b.npz", "c:evil.npz"):
        edit_meta(rows, lambda facts, name=name: facts.update(lmq_path=name))  # type: ignore[misc]
        with pytest.raises(ValueError, match="no name of a codec file"):
            sync_dataset(rows, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_folders_that_are_no_workers_are_refused(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "rows" / "worker-0x")
    with pytest.raises(ValueError, match=r"worker-0x.* is no folder of a worker"):
        open_dataset(tmp_path / "rows")


def test_datasets_of_other_programs_open_as_they_did(rows: Path, tmp_path: Path) -> None:
    before = open_dataset(rows)
    make_foreign(rows)
    after = open_dataset(rows)
    assert after.total_rows == before.total_rows
    assert [path.name for path in after.shard_paths()] == [path.name for path in before.shard_paths()]
    assert tomat_main("verify", rows).code == 0
    sync_dataset(rows, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(rows)
    (rows / "shard-00000-copy.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="shard-00000-copy"):
        list(open_dataset(rows).shard_paths())


def test_every_key_of_its_version_is_required(rows: Path) -> None:
    facts = meta(rows)
    # Datasets from before there was such a table have no such key.
    for key in facts.keys() - {"crystals_sha256"}:
        edit_meta(rows, lambda content, key=key: content.pop(key))  # type: ignore[misc]
        with pytest.raises(ValueError, match=r"meta\.json"):
            open_dataset(rows)
        other: Any = [] if isinstance(facts[key], dict) else {"another": "type"}
        edit_meta(rows, lambda content, key=key, other=other: content.update({key: other}))  # type: ignore[misc]
        if not key.endswith("_sha256") or key == "budget_sha256":  # the others are made to fit
            with pytest.raises(ValueError, match=r"meta\.json"):
                open_dataset(rows)
        (rows / "meta.json").write_text(json.dumps(facts))
    assert open_dataset(rows).total_rows == facts["total_rows"]
    assert set(FOREIGN) < facts.keys()


def test_a_manifest_of_version_1_opens_and_verify_says_what_it_lacks(rows: Path) -> None:
    def older(facts: dict[str, Any]) -> None:
        facts["format_version"] = 1
        for key in ("meta_sha256", "coverage_sha256", "codec_sha256"):
            del facts[key]

    edit_meta(rows, older)
    result = tomat_main("verify", rows)
    assert result.code == 0, result.out
    assert "note: " in result.out
    assert "without digests" in result.out
    edit_meta(rows, lambda facts: facts.pop("unit"))
    assert "no 'unit' in it" in tomat_main("verify", rows).err


def test_a_bit_of_a_manifest(rows: Path) -> None:
    def read() -> object:
        dataset = open_dataset(rows)
        return dataset.meta, dataset.tokenizer.vocabulary.hash, dataset.tokenizer.density_codec.hash

    size = (rows / "meta.json").stat().st_size * 8
    refused, same = flips.survive(rows / "meta.json", read, 1200)
    assert refused > 100 * same, (size, refused, same)


def test_a_bit_of_a_manifest_of_a_worker(original: Path, tmp_path: Path) -> None:
    for worker in range(2):
        sound(ROOT, "--out", tmp_path, *SMALL, "--limit", 2, "-q", "--n-workers", 2, "--worker-index", worker)

    def read() -> object:
        return [worker.meta for worker in open_dataset(tmp_path).workers]

    refused, same = flips.survive(tmp_path / "worker-01" / "meta.json", read, 400)
    assert refused > 100 * same


def test_a_bit_of_what_stands_beside_the_shards(rows: Path, tmp_path: Path) -> None:
    facts = meta(rows)
    refused, same = flips.survive(rows / "coverage_histogram.json", lambda: read_coverage(rows, facts), 300)
    assert (refused, same) == (301, 0)
    codec = rows / "codec.npz"
    raw = bytearray(codec.read_bytes())
    raw[len(raw) // 2] ^= 4
    codec.write_bytes(raw)
    with pytest.raises(OSError, match="not what was written"):
        sync_dataset(rows, tmp_path / "copy")
    assert "codec.npz: the content is not what meta.json states" in tomat_main("verify", rows).out


# --- codecs and promolecules ---------------------------------------------------------------------------------


def _small_codec(unit: str = "e_per_A3") -> tomat.LloydMaxCodec:
    return tomat.LloydMaxCodec(
        [-2.0, 0.25, 7.5],
        [-4.0, 0.125, 0.5, 20.0],
        1500.0,
        unit=unit,
        clip_min=-7.5,
        about={"points": "median", "method": "by hand"},
        recon_points_mean=[-4.5, 0.1, 0.6, 21.0],
    )


def _facts(path: Path) -> object:
    codec = tomat.load_codec(path)
    if isinstance(codec, tomat.LogCodec):
        return codec.parameters
    assert isinstance(codec, tomat.LloydMaxCodec)
    points = [getattr(codec, f"recon_points_{name}") for name in ("mean", "median")]
    return (
        codec.hash,
        codec.unit,
        codec.clip_min,
        codec.clip_max,
        codec.about,
        [None if array is None else array.tobytes() for array in points],
    )


def test_every_bit_of_a_codec_file(tmp_path: Path) -> None:
    path = tmp_path / "codec.npz"
    _small_codec().save(path)
    refused, same = flips.survive(path, lambda: _facts(path), 1 << 20)
    assert refused > 10 * same
    assert same > 0  # time stamps and other fields that no reader looks at


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_bit_of_a_codec_file_of_another_program(tmp_path: Path, save: Any) -> None:
    codec, path = _small_codec(), tmp_path / "codec.npz"
    unit = np.frombuffer(b"e_per_A3", dtype=np.uint8)
    save(path, boundaries=codec.boundaries, recon_points=codec.recon_points, clip_max=1500.0, unit=unit)
    assert tomat.load_codec(path).hash != codec.hash  # not signed: the file does not say so
    flips.survive(path, lambda: _facts(path), 1 << 20)


@pytest.mark.parametrize("name", ["l1-1k", "l1-1k-e_per_A3"])
def test_bits_of_the_codecs_of_the_package(tmp_path: Path, name: str) -> None:
    source = Path(tomat.__file__).parent / "codecs" / f"{name}.npz"
    path = Path(shutil.copy(source, tmp_path))
    flips.survive(path, lambda: _facts(path), 1500, seed=1)
    # The directory, where names, sizes and checksums stand again.
    content, facts = path.read_bytes(), _facts(path)
    for _, raw in flips.turned(content, range(8 * (len(content) - 450), 8 * len(content))):
        path.write_bytes(raw)
        try:
            assert _facts(path) == facts
        except ValueError:
            continue


def test_a_codec_file_whose_parts_are_of_two_codecs_is_refused(tmp_path: Path) -> None:
    """Sound members, each with its checksum: only the digest over all of them tells."""
    for name, codec in {"a": _small_codec(), "b": _small_codec("chgcar")}.items():
        codec.save(tmp_path / f"{name}.npz")
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        members = dict(one)
        for changed in ("unit", "recon_points_mean", "clip_max", "clip_min", "about"):
            value = other[changed] if changed in ("unit", "about") else members[changed] * np.float32(1.5)
            np.savez(tmp_path / "mixed.npz", **(members | {changed: value}))
            with pytest.raises(ValueError, match=r"mixed\.npz: .*(digest|content hash|not a codec)"):
                tomat.load_codec(tmp_path / "mixed.npz")
        for absent in ("unit", "clip_min", "recon_points_mean"):
            np.savez(
                tmp_path / "mixed.npz", **{key: value for key, value in members.items() if key != absent}
            )
            with pytest.raises(ValueError, match=r"mixed\.npz"):
                tomat.load_codec(tmp_path / "mixed.npz")


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "twice.npz"
    _small_codec().save(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("unit.npy", archive.read("unit.npy"))
    with pytest.raises(ValueError, match=r"twice\.npz.*unit is in it twice"):
        tomat.load_codec(path)


def test_an_array_that_lies_about_its_size_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    import io
    import zipfile

    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    one = io.BytesIO()
    np.save(one, np.float64(1.0))
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        for name in ("boundaries", "recon_points"):
            archive.writestr(f"{name}.npy", array)
        archive.writestr("clip_max.npy", one.getvalue())
    with pytest.raises(ValueError, match=r"huge\.npz.*its header gives the shape"):
        tomat.load_codec(tmp_path / "huge.npz")


def test_every_bit_of_a_log_codec_file(tmp_path: Path) -> None:
    path = tmp_path / "codec.json"
    tomat.LogCodec(-3.0, 4.0, (9, 12)).save(path)
    flips.survive(path, lambda: _facts(path), 1 << 20)
    path.write_text('{"kind": "log", "log_min": -3.0, "log_max": 4.0, "token_mag_bits": [9, 12]}')
    assert tomat.load_codec(path).hash == tomat.LogCodec(-3.0, 4.0, (9, 12)).hash


def test_bits_of_a_promolecule(tmp_path: Path) -> None:
    path = tmp_path / "atoms.npz"
    Promolecule.load("qe-sg15").save(path)

    def read() -> object:
        loaded = Promolecule.load(path)
        return loaded.hash, loaded.about

    flips.survive(path, read, 1500)
    content = path.read_bytes()
    tail = bytearray(content)
    tail[-200] ^= 1
    path.write_bytes(tail)
    flips.survive(path, lambda: 0, 1)


# --- the catalogue -------------------------------------------------------------------------------------------


def test_bits_of_a_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    catalogue.build(resolve_inputs([ROOT])[:6], path, threads=1)
    refused, same = flips.survive(path, lambda: catalogue.load(path).to_pydict(), 1500)
    assert refused > same
    some = ["id", "electrons", "nx"]
    flips.survive(path, lambda: catalogue.load(path, some).to_pydict(), 300, seed=1)


def test_an_edited_catalogue_is_refused_and_one_of_another_program_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "c.parquet"
    catalogue.build(resolve_inputs([ROOT])[:6], path, threads=1)
    table = pq.read_table(path)
    column = table.column_names.index("electrons")
    edited = table.set_column(column, "electrons", pa.array([1.0] * table.num_rows))
    pq.write_table(edited, path)
    with pytest.raises(ValueError, match=r"column electrons is not what was written.*build it again"):
        catalogue.load(path)
    assert catalogue.load(path, ["id", "nx"]).num_rows == 6
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="no digests of its columns"):
        catalogue.load(path)
    pq.write_table(pa.table({"id": ["a"], "electrons": [8.0]}), path)
    assert catalogue.electrons_of(path, ["a"]) == [8.0]


def test_a_damaged_line_of_a_journal_is_read_again(tmp_path: Path) -> None:
    entries = resolve_inputs([ROOT])[:6]

    def stop(name: str) -> None:
        if name == entries[3].task_id:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalogue.build(entries, tmp_path / "c.parquet", watch=stop, threads=1)
    journal = tmp_path / ".c.parquet.unfinished"
    text = journal.read_text()
    journal.write_text(text.replace('"n_atoms": ', '"n_atoms": 1', 1))
    report = catalogue.build(entries, tmp_path / "c.parquet", threads=1)
    assert (report.kept, report.read) == (3, 3)
