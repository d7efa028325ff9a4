"""Densities of the Materials Project, from a bucket on this machine with the real client of S3."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import tomat
from tomat.dataset.materials_project import BUCKET, fetch_densities

LATTICE = np.diag([3.0, 4.0, 5.0])
VALUES = np.random.default_rng(0).lognormal(size=(4, 5, 6)).astype(np.float32)


def put(folder: Path, name: str) -> Path:
    """An object as the bucket has it."""
    material = tomat.Material.of(name, VALUES, "chgcar", LATTICE, [14], [[0.0, 0.0, 0.0]])
    made = folder / f"{name}.chgcar.json.gz"
    material.write(made)
    return made.rename(folder / f"{name}.json.gz")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    for name in ("mp-1", "mp-2"):
        put(folder, name)
    (folder / "mp-3.json.gz").write_bytes((folder / "mp-1.json.gz").read_bytes()[:99])
    return folder


def test_what_is_there_is_kept_and_what_is_not_is_named(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = fetch_densities(["mp-1"], out, str(store))
    assert (first.fetched, first.there, first.failed) == (["mp-1"], [], {})
    np.testing.assert_array_equal(tomat.read(out / "mp-1.chgcar.json.gz").density, VALUES)
    stamp = (out / "mp-1.chgcar.json.gz").stat().st_mtime_ns
    done = fetch_densities(["mp-1", "mp-2", "mp-3", "mp-4", "mp-2"], out, str(store))
    assert (done.fetched, done.there) == (["mp-2"], ["mp-1"])
    assert (out / "mp-1.chgcar.json.gz").stat().st_mtime_ns == stamp
    assert "damaged" in done.failed["mp-3"]
    assert "task id" in done.failed["mp-4"]
    # Nothing half done stays.
    assert sorted(path.name for path in out.iterdir()) == ["mp-1.chgcar.json.gz", "mp-2.chgcar.json.gz"]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'Si' is no id of the Materials Project"):
        fetch_densities(["Si"], tmp_path / "out")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"pip install 'tomat\[s3\]'"):
        fetch_densities(["mp-149"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bucket(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The public bucket, on this machine."""
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0)
    import boto3
    import s3fs

    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}"
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": url})
    s3fs.S3FileSystem.clear_instance_cache()
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client: Any = boto3.client("s3", endpoint_url=url, **keys)
    name, prefix = BUCKET.removeprefix("s3://").split("/")
    client.create_bucket(Bucket=name, ACL="public-read")
    for path in store.iterdir():
        client.put_object(Bucket=name, Key=f"{prefix}/{path.name}", Body=path.read_bytes(), ACL="public-read")
    try:
        yield
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.mark.usefixtures("bucket")
def test_from_the_bucket_without_credentials(tmp_path: Path) -> None:
    done = fetch_densities(["mp-1", "mp-4"], tmp_path / "out")
    assert (done.fetched, list(done.failed)) == (["mp-1"], ["mp-4"])
    assert "task id" in done.failed["mp-4"]
    np.testing.assert_array_equal(tomat.read(tmp_path / "out" / "mp-1.chgcar.json.gz").density, VALUES)
    assert fsspec.config.conf["s3"]["anon"] is True
