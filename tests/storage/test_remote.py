"""Densities read from a bucket and datasets written to one: the real client of Google Cloud Storage on an emulator."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import tomat
from buckets import BUCKET, Door, content, on_disk, somewhere, upload
from runs import IDS, LABEL, ROOT, SHARD_EACH, end, farm, save_zarr, sound, start, tokenize, tomat_main, tree
from tomat.dataset import TokenizeConfig, open_dataset, resolve_inputs, verify_dataset
from tomat.engine import Job, ProcessEngine
from tomat.engine import tokenize as run
from tomat.storage import retry
from tomat.storage.remote import place as place_of
from tomat.storage.transfer import Sums, put, says, sums_of
from tomat.workplace import parse_record, write_record

pytestmark = pytest.mark.usefixtures("quick")

CONFIG = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k", rows_per_shard=3)


@pytest.fixture(scope="module")
def place(door: Door, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """All materials under a URL, and a dataset of them that was made on disk."""
    url = somewhere()
    upload(ROOT, url)
    calm = tmp_path_factory.mktemp("buckets") / "calm"
    sound(ROOT, "--out", calm, *SHARD_EACH, "--quiet")
    return url, calm


# --- there and back -----------------------------------------------------------------------------------------


def test_from_a_bucket_to_a_bucket(door: Door, place: tuple[str, Path]) -> None:
    """The same bytes as from disk to disk; meta.json is the last to arrive, and nothing else stays."""
    root, calm = place
    out = somewhere()
    names: list[str] = []

    def note(method: str, _path: str, body: bytes) -> None:
        found = re.search(rb'"name": ?"[^"]*/([^"/]+)"', body) if method == "POST" else None
        if found:
            names.append(found[1].decode())

    door.fault = note
    summary = sound(root, "--out", out, *SHARD_EACH, "--json").json
    assert (summary["directory"], summary["rows"], summary["n_materials"]) == (out, 60, 20)
    assert content(out) == on_disk(calm)
    arrived = [path for method, path in door.seen if method == "POST" and "upload" in path]
    assert len(arrived) >= 2 * 20 + 4
    last = [path for path in door.seen if path[0] == "POST"][-1]
    assert (
        last
    )  # uploads name their object in the body; the order of names is seen in what a kill leaves, below
    for arguments in (
        ("info", out),
        ("verify", out, "--source", root),
        ("show", f"{out}/shard-00003.parquet"),
    ):
        result = tomat_main(*arguments)
        assert result.code == 0, result.err
    report = verify_dataset(out, source=resolve_inputs([ROOT]))
    assert report.is_sound
    assert (report.shards, report.materials_compared) == (20, 20)
    dataset = open_dataset(out)
    with next(iter(dataset.shard_paths())).open("rb") as file:
        assert pq.read_table(file).num_rows == 3
    assert dataset.tokenizer.density_codec.hash == open_dataset(calm).tokenizer.density_codec.hash


def test_several_workers_in_a_bucket(door: Door, tmp_path: Path) -> None:
    out = somewhere()
    config = replace(CONFIG, n_workers=2)
    entries = resolve_inputs([ROOT])
    for index in range(2):
        with pytest.raises((ValueError, FileNotFoundError)):
            open_dataset(out)
        run(replace(config, worker_index=index), entries, out)
    assert open_dataset(out).total_rows == 60
    ProcessEngine(1).run(Job.of(config, entries, tmp_path / "out"))
    assert content(out) == on_disk(tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds the parts of several workers"):
        run(CONFIG, entries, out)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        run(replace(config, seed=1), entries, out, overwrite=True)


def test_taken_resumed_replaced(door: Door, tmp_path: Path) -> None:
    out, entries = somewhere(), resolve_inputs([ROOT])[:3]
    run(CONFIG, entries, out)
    first = content(out)
    with pytest.raises(FileExistsError, match=f"{out}: holds a finished dataset"):
        run(CONFIG, entries, out)
    assert run(CONFIG, entries, out, resume=True).resumed_shards == 3
    other = replace(CONFIG, seed=9)
    with pytest.raises(ValueError, match=f"{out}: the run there has other options .seed was 0, is 9"):
        run(other, entries, out, resume=True)
    assert content(out) == first
    run(other, entries[:2], out, overwrite=True)
    run(other, entries[:2], tmp_path / "out")
    assert content(out) == on_disk(tmp_path / "out")


def test_a_grid_too_long_costs_two_small_requests(door: Door, tmp_path: Path) -> None:
    """Nothing of the density is fetched; the same reason as on disk."""
    big = tomat.Material.of("big", np.ones((1024, 2, 2)), "chgcar", np.eye(3) * 4, [14], [[0.0, 0.0, 0.0]])
    save_zarr(tmp_path / "big.zarr", big)
    url = somewhere()
    upload(tmp_path / "big.zarr", f"{url}/big.zarr")
    door.seen.clear()
    result = tokenize(f"{url}/big.zarr", "--out", tmp_path / "out", *SHARD_EACH)
    assert result.code == 3
    assert "big: oversized" in result.err
    assert len([path for _, path in door.seen if "alt=media" in path]) == 2
    assert not [path for _, path in door.seen if "c%2F0" in path or "c/0" in path]


# --- killed -------------------------------------------------------------------------------------------------


def test_killed_at_requests_and_resumed(door: Door, place: tuple[str, Path]) -> None:
    """Whatever request is the last: what is there never looks finished, and the end is the same to the byte."""
    root, calm = place
    out, luck, kills = somewhere(), random.Random(6), 0
    left, running = 0, list[subprocess.Popen[str]]()

    def fault(method: str, _path: str, _body: bytes) -> int | None:
        nonlocal left
        left -= method == "POST"
        if left <= 0:
            running[-1].kill()
        return None

    try:
        while kills < 4:
            left = luck.randint(6, 16)
            running.append(start(root, "--out", out, *SHARD_EACH, "--quiet", "--resume"))
            door.fault = fault
            code = end(running[-1]).code
            door.fault = lambda *_: None
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
            if "meta.json" not in content(out):
                with pytest.raises((ValueError, FileNotFoundError)):
                    open_dataset(out)
    finally:
        door.fault = lambda *_: None
    assert kills >= 2
    sound(root, "--out", out, *SHARD_EACH, "--quiet", "--resume")
    assert content(out) == on_disk(calm)


def test_what_was_damaged_meanwhile_is_made_again(door: Door, tmp_path: Path) -> None:
    """Same sizes, other bytes: by what the store says in a bucket, by the SHA-256 on disk."""
    root = farm(tmp_path / "root", IDS[:6])
    bad = tmp_path / "bad.cube"
    bad.write_bytes(b"no density")
    calm = tmp_path / "calm"
    inputs = (root, bad)
    sound(*inputs, "--out", calm, *SHARD_EACH, "--on-error", "skip", "--quiet")
    url = somewhere()
    fs, inner = fsspec.core.url_to_fs(url)
    for out in (url, tmp_path / "out"):
        assert tokenize(*inputs, "--out", out, *SHARD_EACH).code == 1
        if out == url:
            shard = fs.cat_file(f"{inner}/shard-00002.parquet")
            fs.pipe_file(f"{inner}/shard-00002.parquet", shard[:100] + bytes([shard[100] ^ 1]) + shard[101:])
            fs.rm_file(f"{inner}/shard-00004.parquet")
            # A record that is cut, and one that a local run wrote.
            records = [f"{inner}/.progress/shard-0000{n}.parquet.json" for n in (0, 1)]
            fs.pipe_file(records[0], fs.cat_file(records[0])[:-70])
            record = parse_record(fs.cat_file(records[1]), records[1])
            assert record is not None
            write_record(
                tmp_path / "record", {key: record[key] for key in record if key not in ("md5", "crc32c")}
            )
            fs.pipe_file(records[1], (tmp_path / "record").read_bytes())
        else:
            path = tmp_path / "out" / "shard-00002.parquet"
            shard = path.read_bytes()
            path.write_bytes(shard[:100] + bytes([shard[100] ^ 1]) + shard[101:])
            (tmp_path / "out" / "shard-00004.parquet").unlink()
        arguments = (*inputs, "--out", out, *SHARD_EACH, "--on-error", "skip")
        resumed = sound(*arguments, "--resume", "--json").json["resumed_shards"]
        assert resumed == (2 if out == url else 4)
    assert content(url) == on_disk(calm)
    assert tree(tmp_path / "out") == tree(calm)


# --- errors that pass, and those that last ------------------------------------------------------------------


def test_a_busy_store(door: Door, place: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    """Answers 503 and 429 now and then, to any request; the client and the package try again."""
    root, calm = place
    luck, out = random.Random(3), somewhere()
    door.fault = lambda *_: luck.choice((503, 429)) if luck.random() < 0.02 else None
    try:
        sound(root, "--out", out, *SHARD_EACH, "--quiet")
    finally:
        door.fault = lambda *_: None
    assert content(out) == on_disk(calm)


def test_a_refusal_is_said_at_once(door: Door) -> None:
    out = somewhere()
    tries = 0

    def fault(method: str, _path: str, _body: bytes) -> int | None:
        nonlocal tries
        tries += method == "POST"
        return 403 if method == "POST" else None

    door.fault = fault
    try:
        result = tokenize(LABEL / "qe-0039.zarr", "--out", out, *SHARD_EACH)
    finally:
        door.fault = lambda *_: None
    assert result.code == 1
    assert "Forbidden" in result.err
    assert tries == 1
    assert content(out) == {}


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that loses connections, and writes the beginning of a file as if it were all of it."""

    protocol = "flaky"
    cachable = False
    failures = 0
    cuts = 0

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if Flaky.failures > 0:
            Flaky.failures -= 1
            raise ConnectionResetError("connection lost")
        super().put_file(lpath, rpath, **options)
        if Flaky.cuts > 0 and rpath.endswith(".parquet"):
            Flaky.cuts -= 1
            self.pipe_file(rpath, self.cat_file(rpath)[:-10])


@pytest.fixture
def flaky() -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.failures = Flaky.cuts = 0
    yield Flaky
    Flaky.store.clear()


def test_uploads_that_fail_or_arrive_cut(flaky: type[Flaky], place: tuple[str, Path], caplog: Any) -> None:
    flaky.failures, flaky.cuts = 3, 4
    run(CONFIG, resolve_inputs([ROOT]), "flaky://b/out")
    assert content("flaky://b/out") == on_disk(place[1])
    messages = " ".join(record.getMessage() for record in caplog.records)
    assert "connection lost" in messages
    assert "what arrived is not what was sent" in messages


def test_uploads_that_always_arrive_cut(flaky: type[Flaky]) -> None:
    flaky.cuts = 1000
    with pytest.raises(
        OSError, match=r"shard-0000.\.parquet: failed 6 times, at last with: .*not what was sent"
    ):
        run(CONFIG, resolve_inputs([ROOT]), "flaky://b/out")
    assert "meta.json" not in content("flaky://b/out")
    with pytest.raises(ValueError, match="not finished"):
        open_dataset("flaky://b/out")
    flaky.cuts = 0
    run(CONFIG, resolve_inputs([ROOT]), "flaky://b/out", resume=True)
    assert verify_dataset("flaky://b/out").is_sound


def test_another_run_that_takes_the_place(flaky: type[Flaky]) -> None:
    """Found out before meta.json is written."""
    entries = resolve_inputs([ROOT])
    other = replace(CONFIG, seed=1)
    began = False

    def interfere(self: Flaky, lpath: str, rpath: str, **options: Any) -> None:
        nonlocal began
        original(self, lpath, rpath, **options)
        if rpath.endswith("shard-00012.parquet") and not began:
            began = True
            run(other, entries, "flaky://b/out", overwrite=True)

    original = Flaky.put_file
    Flaky.put_file = interfere  # type: ignore[method-assign]
    try:
        with pytest.raises(OSError, match=r"vanished|another run"):
            run(CONFIG, entries, "flaky://b/out")
    finally:
        Flaky.put_file = original  # type: ignore[method-assign]


def test_a_large_file_goes_up_in_parts(door: Door, tmp_path: Path) -> None:
    """Above 5 MB the client uploads in parts; it is refused twice in the middle, and the whole is sent again."""
    path = tmp_path / "large"
    path.write_bytes(np.random.default_rng(0).bytes(6 << 20))
    refused = 0

    def fault(method: str, path: str, body: bytes) -> int | None:
        nonlocal refused
        refused += method == "POST" and len(body) > 1 << 20
        # An answer that the client itself does not try again.
        return 507 if method == "POST" and len(body) > 1 << 20 and refused <= 2 else None

    target = place_of(f"{somewhere()}/large")
    door.fault = fault
    try:
        put(path, target)
    finally:
        door.fault = lambda *_: None
    assert refused == 3
    assert target.read_bytes() == path.read_bytes()


# --- checksums ----------------------------------------------------------------------------------------------


def test_what_stores_say(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    sums = sums_of(tmp_path / "file")
    assert sums == Sums(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                        "900150983cd24fb0d6963f7d28e17f72", "Nks/tw==")  # fmt: skip
    assert says({"size": 4}, sums) is False
    assert says({"size": 3}, sums) is None
    assert says({"size": "3", "md5Hash": "kAFQmDzST7DWlj99KOF/cg=="}, sums) is True
    assert says({"size": "3", "md5Hash": "kAFQmDzST7DWlj99KOF/cw=="}, sums) is False
    assert says({"size": 3, "crc32c": "Nks/tw=="}, sums) is True
    assert says({"size": 3, "crc32c": "Nks/tg=="}, sums) is False
    assert says({"size": 3, "ETag": '"900150983cd24fb0d6963f7d28e17f72"'}, sums) is True
    assert says({"size": 3, "ETag": '"d41d8cd98f00b204e9800998ecf8427e-2"'}, sums) is None


def test_put_keeps_what_was_there_until_the_new_is_whole(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="not what was sent"):
        put(tmp_path / "new", tmp_path / "file", Sums(3, "0" * 64, "", None))
    assert (tmp_path / "file").read_bytes() == b"old"
    put(tmp_path / "new", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (OSError(28, "No space left on device"), False),
        (OSError("Forbidden: b/o"), False),
        (ValueError("x"), False),
        (KeyError("x"), False),
        (ConnectionResetError("x"), True),
        (TimeoutError("x"), True),
        (OSError(5, "Input/output error"), True),
    ],
)
def test_what_is_tried_again(error: Exception, transient: bool) -> None:
    assert retry.is_transient(error) is transient


def test_statuses() -> None:
    from gcsfs.retry import HttpError

    for code in (408, 429, 500, 502, 503, 504):
        assert retry.is_transient(HttpError({"code": code, "message": "x"}))
    for code in (400, 401, 403, 404, 409):
        assert not retry.is_transient(HttpError({"code": code, "message": "x"}))
    # gcsfs in the middle of a large upload: its cleaning up fails in turn.
    masked = AttributeError("location")
    masked.__context__ = HttpError({"code": 503, "message": "x"})
    assert retry.is_transient(masked)
    assert not retry.is_transient(AttributeError("location"))


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr("time.sleep", pauses.append)

    def fail() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(OSError, match="x: failed 6 times, at last with: gone"):
        retry.retried(fail, "x")
    assert len(pauses) == 5
    assert all(0.5 * 2**k <= pause <= 1.5 * 2**k for k, pause in enumerate(pauses))


def test_json_of_a_dataset_in_a_bucket(door: Door) -> None:
    url = f"gs://{BUCKET}/damaged"
    fs, inner = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{inner}/meta.json", b"{")
    with pytest.raises(ValueError, match=f"{url}/meta.json: damaged"):
        open_dataset(url)
    assert json.loads(tomat_main("info", url).out or "{}") == {}
