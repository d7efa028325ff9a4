"""What files hold that nobody should write: each gets the package's own error, which names the file."""

from __future__ import annotations

import http.server
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
import tomat.dataset
from runs import LABEL, SHARD_EACH, sound, tokenize, tree
from tomat.dataset.inputs import resolve_inputs
from tomat.material import task_id_of
from tomat.prediction.run import expand
from tomat.prediction.structures import as_crystal, name_of, read_crystal
from tomat.storage.remote import UrlPath
from tomat.workplace import parse_record, read_record, write_record

SILICON = LABEL / "qe-0039.zarr"


# --- names --------------------------------------------------------------------------------------------------


def test_names_come_from_what_a_path_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`..`, `.` and slashes are no names of materials; neither is that of a file VASP named."""
    material = tomat.read(SILICON)
    folder = tmp_path / "mp-1"
    (folder / "deep").mkdir(parents=True)
    material.write(folder / "CHGCAR")
    material.to_pymatgen().structure.to(str(folder / "POSCAR"))
    shutil.copytree(SILICON, folder / "qe.zarr")
    (tmp_path / "link").symlink_to(folder / "deep")
    monkeypatch.chdir(folder / "deep")
    for path, name in {
        "../CHGCAR": "mp-1",
        "../POSCAR": "mp-1",
        "./../POSCAR": "mp-1",
        "../deep/../CHGCAR": "mp-1",
        "../qe.zarr/": "qe",
        "../qe.zarr/.": "qe",
        "../../link/../POSCAR": "mp-1",
        "..//CHGCAR": "mp-1",
    }.items():
        assert name_of(path) == name, path
        assert read_crystal(path).name == name
        if "POSCAR" not in path:
            assert tomat.read(path).task_id == task_id_of(path) == name
    monkeypatch.chdir(folder / "qe.zarr")
    assert tomat.read(".").task_id == name_of(".") == "qe"
    monkeypatch.chdir(folder / "qe.zarr" / "charge_density_total")
    assert tomat.read("..").task_id == name_of("..") == "qe"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        ".",
        "..",
        "../..",
        "",
        "...cif",
        "..vasp",
        ".cif",
        "..zarr/",
        "x/.",
        "a/b/../..",
        "memory://",
        "s3://b",
    ],
)
def test_no_path_gives_a_name_that_is_none(path: str) -> None:
    for name in (task_id_of(path), name_of(path)):
        assert name not in ("", ".", "..")
        assert "/" not in name


def test_two_files_in_one_folder_go_by_one_name(tmp_path: Path) -> None:
    (tmp_path / "mp-1").mkdir()
    tomat.read(SILICON).write(tmp_path / "mp-1" / "CHGCAR")
    shutil.copy(tmp_path / "mp-1" / "CHGCAR", tmp_path / "mp-1" / "AECCAR0")
    both = [tmp_path / "mp-1" / name for name in ("CHGCAR", "AECCAR0")]
    with pytest.raises(ValueError, match="two materials are called 'mp-1'"):
        resolve_inputs(both)
    with pytest.raises(ValueError, match="both have the name mp-1"):
        expand([str(path) for path in both])


@pytest.mark.parametrize("name", ["../../outside", "..", ".", "a/b", "x\0y"])
@pytest.mark.parametrize("where", ["filelist", "split"])
def test_lists_name_materials_and_no_paths(tmp_path: Path, name: str, where: str) -> None:
    (tmp_path / "label").mkdir()
    names = ["good", name] if where == "filelist" else ["good"]
    (tmp_path / "mp_filelist.txt").write_text("\n".join(names))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["good", name]}))
    with pytest.raises(ValueError, match="not a valid id of a material"):
        resolve_inputs([tmp_path], split=None if where == "filelist" else "train")


@pytest.mark.parametrize(
    ("file", "content"), [("mp_filelist.txt", b"\xff\xfe"), ("split.json", b"[" * 10_000)]
)
def test_lists_that_are_none(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / "label").mkdir()
    (tmp_path / "mp_filelist.txt").write_text("a")
    (tmp_path / "split.json").write_text('{"train": [0]}')
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=file):
        resolve_inputs([tmp_path], split="train")


# --- records ------------------------------------------------------------------------------------------------


def damaged(content: bytes) -> Iterator[bytes]:
    """A record cut anywhere, empty, with a changed number, of another kind, or of the time before the digest."""
    yield from (content[:n] for n in (0, 1, len(content) // 2, len(content) - 2))
    for place in range(0, len(content) - 1, 41):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    yield content.partition(b"\n")[0]
    yield b"[]\n" + content.rpartition(b"\n")[0].rpartition(b"\n")[2]


def test_a_damaged_record_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = {"identity": "1", "shard": "shard-00000.parquet", "rows": 3, "materials": [{"task_id": "Ä\n"}]}
    path = tmp_path / "shard-00000.parquet.json"
    write_record(path, record)
    assert read_record(path) == record
    caplog.set_level(logging.WARNING)
    for content in damaged(path.read_bytes()):
        caplog.clear()
        assert parse_record(content, path) is None, content
        assert str(path) in caplog.text


def test_a_shard_whose_record_is_damaged_is_written_again(tmp_path: Path) -> None:
    """Neither an error nor trusted: the end is what it would have been."""
    names = ("qe-0039", "qe-0048", "qe-1004")
    inputs = [LABEL / f"{name}.zarr" for name in names]
    late = tmp_path / "late.zarr"
    out = tmp_path / "out"
    arguments = (*inputs, late, "--out", out, *SHARD_EACH)
    assert tokenize(*arguments).code == 1
    record = out / ".progress" / "shard-00001.parquet.json"
    content = record.read_bytes()
    assert read_record(record) is not None
    # Plausible and wrong: more rows than there are.
    edited = content.replace(b'"rows":3', b'"rows":4')
    assert edited != content
    late.symlink_to(LABEL / "qe-0913.zarr")
    kept = tmp_path / "kept"
    shutil.copytree(out, kept, symlinks=True)
    sound(*inputs, late, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    for wrong in (edited, content[:40], b"", b"null"):
        shutil.rmtree(out)
        shutil.copytree(kept, out, symlinks=True)
        record.write_bytes(wrong)
        assert sound(*arguments, "--resume", "--json").json["resumed_shards"] == 2
        assert tree(out) == tree(tmp_path / "calm")


def test_a_damaged_note_of_a_run_says_what_to_do(tmp_path: Path) -> None:
    arguments = (SILICON, tmp_path / "no.zarr", "--out", tmp_path / "out", *SHARD_EACH)
    assert tokenize(*arguments).code == 1
    (tmp_path / "out" / ".progress" / "run.json").write_bytes(b"{")
    result = tokenize(*arguments, "--resume")
    assert result.code == 1
    assert "run.json" in result.err
    assert "--overwrite" in result.err


# --- crystals -----------------------------------------------------------------------------------------------


def test_species_that_are_no_elements(tmp_path: Path) -> None:
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    structure = Structure(Lattice.cubic(4.0), ["Si", "Xx"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    with pytest.raises(ValueError, match="not an element"):
        as_crystal(structure)
    with pytest.raises(ValueError, match="not an element"):
        tomat.Material.from_pymatgen(structure, np.ones((4, 4, 4)), "e_per_A3")
    (tmp_path / "x.vasp").write_text("x\n1\n4 0 0\n0 4 0\n0 0 4\nSi Xx\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    with pytest.raises(ValueError, match=r"x\.vasp"):
        read_crystal(tmp_path / "x.vasp")
    (tmp_path / "x.json").write_text(structure.to_json())
    with pytest.raises(ValueError, match=r"x\.json"):
        read_crystal(tmp_path / "x.json")


@pytest.mark.parametrize("number", [0, 119, -1, 10**6])
def test_atomic_numbers_that_are_no_elements(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 118"):
        tomat.Material.of("x", np.ones((2, 2, 2)), "e_per_A3", np.eye(3) * 4, [number], [[0, 0, 0]])


# --- stores -------------------------------------------------------------------------------------------------


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers all it is asked with the status that the path begins with."""

    def answer(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = answer  # noqa: N815
    do_HEAD = answer  # noqa: N815

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, PermissionError), (401, PermissionError), (404, FileNotFoundError), (400, OSError)],
)
def test_answers_of_a_web_server(server: str, status: int, kind: type[OSError]) -> None:
    """Errors as those of files, which say which; no class of the client gets out."""
    url = f"{server}/{status}/mp-1/CHGCAR.gz"
    with pytest.raises(kind, match=r"mp-1/CHGCAR\.gz"):
        tomat.read(url)
    with pytest.raises(kind, match=r"codec\.npz"):
        tomat.load_codec(f"{server}/{status}/codec.npz")
    with pytest.raises(kind, match=r"meta\.json"):
        UrlPath(f"{server}/{status}/meta.json").read_bytes()
    with pytest.raises(OSError, match=r"mp-1\.zarr"):
        tomat.read(f"{server}/{status}/mp-1.zarr")


# --- codecs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"log_min": "a", "log_max": 1, "token_mag_bits": [9]}',
        b'{"log_min": -4, "log_max": 1e999, "token_mag_bits": [9]}',
        b'{"log_min": -4, "log_max": 1' + b"0" * 400 + b', "token_mag_bits": [9]}',
        b'{"log_min": -4, "log_max": 1, "token_mag_bits": 9}',
        b'{"log_min": -4, "log_max": 1, "token_mag_bits": [-1]}',
        b'{"log_min": -4, "log_max": 1, "token_mag_bits": [18446744073709551616]}',
        b'{"log_min": -4, "log_max": 1, "token_mag_bits": [[9]]}',
        b'{"log_min": null, "log_max": 1, "token_mag_bits": [9]}',
    ],
)
def test_log_codecs_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json"):
        tomat.load_codec(tmp_path / "x.json")


# --- manifests ----------------------------------------------------------------------------------------------

HUGE = 10**400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("patch_size",), 2**63),
        (("patch_size",), HUGE),
        (("pad_to",), 2**64),
        (("fallback_shapes",), [[2**63, 1, 1]]),
        (("tokenizer_version",), "v9"),
        (("vocab", "density_codec", "token_mag_bits"), [-1]),
        (("vocab", "density_codec", "token_mag_bits"), [HUGE]),
        (("vocab", "density_codec", "log_min"), HUGE),
        (("vocab", "density_codec", "log_max"), float("nan")),
    ],
)
def test_a_manifest_of_others_that_cannot_be(path: tuple[str, ...], value: object, tmp_path: Path) -> None:
    """Few keys, no digest: the format of the field. A number beyond 64 bits is as wrong as one below zero."""
    tokenizer = tomat.PatchTokenizer("v3", "fp16_1token", 4, 256, unit="chgcar")
    codec = tomat.LogCodec.load("fp16_1token").parameters
    meta: dict[str, Any] = {
        "tokenizer_version": "v3",
        "patch_size": 4,
        "pad_to": 256,
        "total_rows": 0,
        "fallback_shapes": [[3, 4, 4]],
        "density_codec_name": "fp16_1token",
        "vocab": {"total_size": tokenizer.vocabulary.total_size, "density_codec": codec},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    opened = tomat.dataset.open_dataset(tmp_path)
    assert opened.tokenizer.vocabulary.hash == tokenizer.vocabulary.hash
    inner = meta
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"meta\.json"):
        _ = tomat.dataset.open_dataset(tmp_path).tokenizer
