"""Files that unpack to far more than they should: refused before the memory is taken, whatever the codec."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zarr
import zarr.codecs

import tomat
from places import DATA
from runs import LABEL, structure_json, tokenize
from tomat.fitting import Sketch
from tomat.promolecule import Promolecule

#: What the bombs here unpack to, and what the process that reads them may take.
BOMB, LIMIT = 5 << 28, 1 << 30

PROBE = """
import resource, sys
import tomat, tomat.promolecule, tomat.fitting
def used(): return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = used()
limit = before + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    eval(sys.argv[2])(*sys.argv[3:])
except (ValueError, OSError, MemoryError) as error:
    print(type(error).__name__, error)
else:
    print("read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024)
"""


def probe(reader: str, *arguments: object, limit: int = LIMIT, **environment: str) -> tuple[str, int]:
    """What a process that may grow by ``limit`` bytes says of a file, and by how many MiB it grew."""
    command = [sys.executable, "-c", PROBE, str(limit), reader, *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    message, grown = result.stdout.strip().rsplit("\n", 1)
    return message, int(grown)


def refused(reader: str, path: Path, most: int = 300) -> str:
    message, grown = probe(reader, path)
    assert message.startswith("ValueError"), message
    assert path.name in message
    assert grown < most, f"{grown} MiB for {path}"
    return message


# --- compressors --------------------------------------------------------------------------------------------


def zeros_zstd(size: int) -> bytes:
    """One frame, which does not say how much it holds: it is written as a stream."""
    sink = pa.BufferOutputStream()
    block = bytes(1 << 24)
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(size >> 24):
            stream.write(block)
    return bytes(sink.getvalue().to_pybytes())


def zeros_gzip(size: int) -> bytes:
    """Members in a row, of which every reader makes one stream."""
    return gzip.compress(bytes(1 << 24), mtime=0) * (size >> 24)


# --- zarr ---------------------------------------------------------------------------------------------------


def group(folder: Path, compressors: Any, chunk: bytes | None = None, **array: Any) -> Path:
    """A real material as a group, with another chunk and other array metadata."""
    store = folder / "bomb.zarr"
    material = tomat.read(LABEL / "qe-0039.zarr")
    made = zarr.open_group(store, mode="w", zarr_format=3)
    made.attrs["structure"] = structure_json(material)
    made.create_array(
        "charge_density_total", data=material.density, chunks=material.grid_shape, compressors=compressors
    )
    metadata = store / "charge_density_total" / "zarr.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | array))
    if chunk is not None:
        (store / "charge_density_total" / "c" / "0" / "0" / "0").write_bytes(chunk)
    return store


CHECKED = [zarr.codecs.ZstdCodec(checksum=True), zarr.codecs.Crc32cCodec()]


@pytest.mark.parametrize(
    "compressors",
    [
        None,
        [zarr.codecs.ZstdCodec()],
        [zarr.codecs.GzipCodec()],
        [zarr.codecs.BloscCodec(cname="zstd")],
        CHECKED,
        [*CHECKED, zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec(cname="lz4"), zarr.codecs.Crc32cCodec()],
        [zarr.codecs.BloscCodec(cname="lz4"), zarr.codecs.BloscCodec(cname="zstd"), zarr.codecs.ZstdCodec()],
    ],
    ids=["plain", "zstd", "gzip", "blosc", "checksum", "five", "nested-blosc"],
)
def test_every_chain_of_codecs_is_read(tmp_path: Path, compressors: Any) -> None:
    """zarr-python writes it, and its checksum or its frame tells of every damage to its end."""
    store = group(tmp_path, compressors)
    whole = tomat.read(LABEL / "qe-0039.zarr").density
    np.testing.assert_array_equal(tomat.read(store).density, whole)
    chunk = store / "charge_density_total" / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    for damaged in (content[:-1], content + b"\0", content[: len(content) // 2]):
        chunk.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bomb\.zarr.*copy the folder again"):
            tomat.read(store)


def test_a_flipped_bit_behind_a_checksum(tmp_path: Path) -> None:
    store = group(tmp_path, CHECKED)
    chunk = store / "charge_density_total" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    for place in range(0, len(content), 997):
        content[place] ^= 4
        chunk.write_bytes(content)
        with pytest.raises(ValueError, match=r"bomb\.zarr"):
            tomat.read(store)
        content[place] ^= 4


def _blosc(size: int) -> bytes:
    """A header that says so much and little behind it."""
    return struct.pack("<BBBBIII", 2, 1, 0x21, 4, size, 1 << 16, 4096) + bytes(4080)


BOMBS: dict[str, Callable[[Path], Path]] = {
    "zstd": lambda p: group(p, [zarr.codecs.ZstdCodec()], zeros_zstd(BOMB)),
    "gzip": lambda p: group(p, [zarr.codecs.GzipCodec()], zeros_gzip(BOMB)),
    "blosc": lambda p: group(p, [zarr.codecs.BloscCodec()], _blosc(2**31 - 17)),
    "zstd in gzip": lambda p: group(
        p, [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()], gzip.compress(zeros_zstd(BOMB))
    ),
    "gzip in zstd": lambda p: group(
        p,
        [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()],
        bytes(pa.compress(zeros_gzip(BOMB), codec="zstd", asbytes=True)),
    ),
    "gzip, inner stage": lambda p: group(
        p, [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()], zeros_zstd(BOMB)
    ),
    "checksum": lambda p: group(p, [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()], zeros_zstd(BOMB)),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_chunk_that_unpacks_without_end(tmp_path: Path, name: str) -> None:
    refused("tomat.read", BOMBS[name](tmp_path))


def huge(axis: int) -> dict[str, Any]:
    grid = {"name": "regular", "configuration": {"chunk_shape": [axis] * 3}}
    return {"shape": [axis] * 3, "chunk_grid": grid}


def test_a_bomb_that_is_what_its_metadata_say(tmp_path: Path) -> None:
    """1023^3 zeros: nothing is wrong with the file but its size."""
    chunk = gzip.compress(zeros_zstd(1 << 24))
    store = group(tmp_path, [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()], chunk, **huge(1023))
    message = refused("tomat.read", store)
    assert "1070599167 points" in message
    assert "TOMAT_MAX_GRID_POINTS" in message


def test_the_largest_grid_can_be_set(tmp_path: Path) -> None:
    store = LABEL / "qe-0039.zarr"
    shape = tomat.read(store).grid_shape
    points = shape[0] * shape[1] * shape[2]
    message, _ = probe("tomat.read", store, TOMAT_MAX_GRID_POINTS=str(points - 1))
    assert f"{points} points, more than the {points - 1}" in message
    assert probe("tomat.read", store, TOMAT_MAX_GRID_POINTS=str(points))[0] == "read"
    for text in ("many", "0", "-1"):
        message, _ = probe("tomat.read", store, TOMAT_MAX_GRID_POINTS=text)
        assert "TOMAT_MAX_GRID_POINTS" in message
        assert repr(text).strip("'") in message


def test_chunks_that_cannot_hold_the_array(tmp_path: Path) -> None:
    """A grid of 600^3 in chunks, one of which is there, or all of which are tiny."""
    store = group(tmp_path, [zarr.codecs.ZstdCodec()], b"", **huge(600))
    assert "cannot hold" in refused("tomat.read", store)
    many = {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}}
    store = group(tmp_path, [zarr.codecs.ZstdCodec()], b"x", shape=[600] * 3, chunk_grid=many)
    assert "chunks" in refused("tomat.read", store)


def test_a_chunk_file_larger_than_its_chunk(tmp_path: Path) -> None:
    store = group(tmp_path, None)
    with (store / "charge_density_total" / "c" / "0" / "0" / "0").open("ab") as file:
        file.truncate(64 << 30)
    refused("tomat.read", store)


def test_shards_are_refused_in_any_chain(tmp_path: Path) -> None:
    store = tmp_path / "bomb.zarr"
    material = tomat.read(LABEL / "qe-0039.zarr")
    made = zarr.open_group(store, mode="w", zarr_format=3)
    made.attrs["structure"] = structure_json(material)
    shape = material.grid_shape
    made.create_array("charge_density_total", data=material.density, chunks=(1, *shape[1:]), shards=shape)
    assert "sharded" in refused("tomat.read", store)


# --- text ---------------------------------------------------------------------------------------------------

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda text: lzma.compress(text, preset=0),
    "zst": lambda text: bytes(pa.compress(text, codec="zstd", asbytes=True)),
}


@pytest.mark.parametrize("suffix", sorted(PACKED))
@pytest.mark.parametrize("name", ["chgcar", "cube"])
def test_a_text_that_inflates_without_end(tmp_path: Path, suffix: str, name: str) -> None:
    """A whole file of 18 x 20 x 20 values, and zeros behind it: members in a row, of which one text is made."""
    real = {"chgcar": "chgcar/vasp-mp-2300242.CHGCAR.gz", "cube": "cube/qe-0039-Si.cube.gz"}[name]
    text = gzip.decompress((DATA / real).read_bytes())
    path = tmp_path / f"bomb.{name}.{suffix}"
    pack = PACKED[suffix]
    with path.open("wb") as file:
        file.write(pack(text.rstrip() + b"\n"))
        member = pack(b" 0.0\n" * (1 << 20))
        for _ in range(100):
            file.write(member)
    message = refused("tomat.read", path)
    assert "no density on the grid of its header" in message


def test_a_plain_file_without_end(tmp_path: Path) -> None:
    """64 GB by its size, a small density by its header."""
    real = DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz"
    path = tmp_path / "bomb.CHGCAR"
    path.write_bytes(gzip.decompress(real.read_bytes()))
    with path.open("ab") as file:
        file.truncate(64 << 30)
    refused("tomat.read", path)


# --- archives -----------------------------------------------------------------------------------------------


def archive(path: Path, source: Path, name: str, content: Callable[[zipfile.ZipFile], None]) -> Path:
    """An .npz in which one member is another."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        content(new)
    return path


def _zeros(name: str, size: int) -> Callable[[zipfile.ZipFile], None]:
    def write(target: zipfile.ZipFile) -> None:
        with target.open(name, "w", force_zip64=True) as member:
            header = (
                f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4},), }}".ljust(117) + "\n"
            )
            member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
            for _ in range(size >> 24):
                member.write(bytes(1 << 24))

    return write


@pytest.mark.parametrize("member", ["boundaries.npy", "recon_points_mean.npy", "about.npy", "other.npy"])
def test_a_codec_that_unpacks_without_end(tmp_path: Path, member: str) -> None:
    tomat.load_codec("l1-1k").save(tmp_path / "whole.npz")
    bomb = archive(tmp_path / "bomb.npz", tmp_path / "whole.npz", member, _zeros(member, 1 << 29))
    refused("tomat.load_codec", bomb)


def test_a_promolecule_that_unpacks_without_end(tmp_path: Path) -> None:
    Promolecule.load("qe-sg15").save(tmp_path / "whole.npz")
    name = "coefficients.npy"
    bomb = archive(tmp_path / "bomb.npz", tmp_path / "whole.npz", name, _zeros(name, 1 << 29))
    refused("tomat.promolecule.Promolecule.load", bomb)


def test_a_sketch_that_unpacks_without_end(tmp_path: Path) -> None:
    (tmp_path / "bomb.xz").write_bytes(lzma.compress(bytes((1 << 28) + (1 << 20)), preset=0))
    refused("tomat.fitting.Sketch.load", tmp_path / "bomb.xz", most=700)
    sketch = Sketch("chgcar")
    sketch.add_material(tomat.read(LABEL / "qe-0039.zarr"))
    sketch.save(tmp_path / "whole.xz")
    assert Sketch.load(tmp_path / "whole.xz").hash == sketch.hash
    (tmp_path / "cut.xz").write_bytes((tmp_path / "whole.xz").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut\.xz"):
        Sketch.load(tmp_path / "cut.xz")


# --- memory that is not there -------------------------------------------------------------------------------

#: Called as readers are: with one argument, which says what is asked for.
EVALUATE = (
    "lambda n: tomat.promolecule.Promolecule.load('slater')"
    ".evaluate(tomat.crystal.Crystal.of([[3, 0, 0], [0, 3, 0], [0, 0, 3]], [14], [[0, 0, 0]]), (int(n),) * 3)"
)
OFFSETS = "lambda n: tomat.sample_offsets((20, 20, 20), int(n), seed=0, task_id='x')"


@pytest.mark.parametrize(("call", "size"), [(EVALUATE, 1023), (OFFSETS, 10**9), (OFFSETS, 10**18)])
def test_memory_that_is_not_given_is_an_error_of_python(call: str, size: int) -> None:
    """Where the system says no: MemoryError, and the process goes on."""
    message, _ = probe(call, size)
    assert message.startswith("MemoryError"), message
    assert "bytes of memory" in message


def test_a_density_for_which_there_is_no_memory(tmp_path: Path) -> None:
    """A sound file; MemoryError names it, and a run does not take it for a fault of the file."""
    store = LABEL / "qe-0039.zarr"
    large = tomat.read(store).supercell((8, 8, 8))
    large.write(tmp_path / "large.zarr")
    message, _ = probe("tomat.read", tmp_path / "large.zarr", limit=large.density.nbytes // 2)
    assert message.startswith("MemoryError"), message
    assert "large.zarr" in message


def test_predicting_on_a_grid_for_which_there_is_no_memory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import resource, sys; from tomat import cli; import tomat.prediction.run\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {LIMIT},) * 2)\n"
        f"sys.argv = ['tomat', 'predict', 'promolecule', {str(LABEL / 'qe-0039.zarr')!r}, '-o', {str(out)!r}, "
        "'--grid', '1023,1023,1023']\n"
        "cli.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1, result
    assert "memory" in result.stderr.lower() + result.stdout.lower()
    assert "Traceback" not in result.stderr


# --- threads ------------------------------------------------------------------------------------------------


def test_threads_beyond_reason_are_refused(tmp_path: Path) -> None:
    result = tokenize(LABEL / "qe-0039.zarr", "--out", tmp_path / "out", "--threads", 100_000)
    assert result.code != 0
    assert "1024" in result.err
    assert not (tmp_path / "out").exists()
    from tomat._threads import in_order
    from tomat.dataset.config import TokenizeConfig
    from tomat.dataset.inputs import resolve_inputs
    from tomat.engine import Run

    entries = resolve_inputs([LABEL / "qe-0039.zarr"])
    with pytest.raises(ValueError, match="100000 threads"):
        Run(TokenizeConfig(), entries, tmp_path / "out", threads=100_000)
    with pytest.raises(ValueError, match="100000 threads"):
        list(in_order(str, [1], 100_000))
    with pytest.raises(ValueError, match="-1 threads"):
        list(in_order(str, [1], -1))
