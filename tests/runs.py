"""Runs of the command line, in this process and as real ones, on sets of materials made from the real densities."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

import tomat
from places import DATA
from tomat import cli

ROOT = DATA / "rho_gga"
LABEL = ROOT / "label"
IDS = (ROOT / "mp_filelist.txt").read_text().split()

#: Short rows, so that hundreds of materials take a second: 4 x 4 x 4 voxels and at most 14 atoms.
SMALL = ("--patch-size", "4", "--pad-to", "256", "--patches-per-material", "3", "--codec", "lmq-16k")
#: A shard a material: many places to be killed at.
SHARD_EACH = (*SMALL, "--rows-per-shard", 3, "--threads", 2)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its output, which must be one JSON object."""
        return dict(json.loads(self.out))


def tomat_main(*arguments: object, columns: int = 100) -> Result:
    """``tomat ARGUMENTS`` in this process."""
    return invoke(cli.main, *arguments, columns=columns)


def tokenize(*arguments: object, columns: int = 100) -> Result:
    """``tomat-tokenize ARGUMENTS`` in this process."""
    return invoke(cli.tokenize_main, *arguments, columns=columns)


def sound(*arguments: object) -> Result:
    """``tomat-tokenize ARGUMENTS``, which must succeed."""
    result = tokenize(*arguments)
    assert result.code == 0, result.err
    return result


def invoke(main: Any, *arguments: object, columns: int = 100) -> Result:
    """What ``main`` does with these words of a command line, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["tomat", *map(str, arguments)]),
        mock.patch.dict(os.environ, {"COLUMNS": str(columns)}),
    ):
        try:
            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
    return Result(code, out.getvalue(), err.getvalue())


def process_of(*arguments: object, before: str = "") -> list[str]:
    """The command line of ``tomat-tokenize ARGUMENTS`` as a process of its own; ``before`` is Python run first."""
    program = f"{before}\nfrom tomat.cli import tokenize_main\ntokenize_main()"
    return [sys.executable, "-c", program, *map(str, arguments)]


def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
    """Start such a process."""
    return subprocess.Popen(
        process_of(*arguments, before=before), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> Result:
    """Wait for a process."""
    out, err = process.communicate(timeout=120)
    return Result(process.returncode, out, err)


def run_process(*arguments: object, before: str = "") -> Result:
    """Run such a process to its end."""
    return end(start(*arguments, before=before))


def shards(out: Path) -> int:
    """Shards under their final name."""
    return len(list(out.glob("shard-*.parquet")))


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not ready() and process.poll() is None:
        time.sleep(0.002)


# --- materials ----------------------------------------------------------------------------------------------


def farm(root: Path, ids: Sequence[str]) -> Path:
    """A ``rho_gga`` root in which ``ids`` are links to the real materials, taken in turn."""
    (root / "label").mkdir(parents=True)
    for index, name in enumerate(ids):
        (root / "label" / f"{name}.zarr").symlink_to(LABEL / f"{IDS[index % len(IDS)]}.zarr")
    (root / "mp_filelist.txt").write_text("\n".join(ids) + "\n")
    return root


def many(root: Path, count: int) -> Path:
    """A farm of ``count`` materials."""
    return farm(root, [f"m-{index:04d}" for index in range(count)])


def structure_json(material: tomat.Material) -> str:
    """The JSON text of a pymatgen Structure dict."""
    return str(material.to_pymatgen().structure.to_json())


def save_zarr(place: Any, material: tomat.Material, structure: str | None = None) -> None:
    """Write a material in the ``rho_gga`` layout with zarr-python; ``place`` is a path or a store."""
    group = zarr.open_group(place, mode="w", zarr_format=3)
    group.attrs["structure"] = structure or structure_json(material)
    group.attrs["metadata"] = json.dumps({"task_id": material.task_id})
    values = material.in_unit("chgcar").density
    group.create_array("charge_density_total", data=values, chunks=values.shape)


class Gate:
    """A material that is read only when the test lets it: a named pipe in the middle of a list."""

    def __init__(self, folder: Path, before: int, after: int) -> None:
        self.pipe = folder / "gate" / "CHGCAR"
        self.pipe.parent.mkdir()
        self.content = (DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz").read_bytes()
        self.list = folder / "list.txt"
        root = many(folder / "gated", before + after)
        paths = [str(path) for path in sorted((root / "label").iterdir())]
        self.list.write_text("\n".join([*paths[:before], str(self.pipe), *paths[before:]]))
        os.mkfifo(self.pipe)

    def open(self, process: subprocess.Popen[Any]) -> None:
        """Give the material to whoever asks for it; a process that ended before it asked needs none."""
        end = time.monotonic() + 120
        while process.poll() is None:
            assert time.monotonic() < end, "nobody reads the gate, and the run does not end"
            try:
                pipe = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # which says that nobody reads yet
                    raise
                time.sleep(0.02)
                continue
            os.set_blocking(pipe, True)
            with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as file:
                file.write(self.content)
            return

    def remove(self) -> None:
        self.pipe.unlink()
        self.pipe.write_bytes(self.content)


# --- what was written ---------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by relative path; folders count as such."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "/"
        for path in sorted(folder.rglob("*"))
    }


def meta(folder: Path) -> dict[str, Any]:
    """``meta.json`` of a dataset."""
    return dict(json.loads((folder / "meta.json").read_text()))


def write_meta(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``meta.json`` as a writer of these facts would have: with the digests of what is there."""
    facts = dict(content)
    for key, name in (
        ("coverage_sha256", "coverage_histogram.json"),
        ("codec_sha256", "codec.npz"),
        ("crystals_sha256", "crystals.parquet"),
    ):
        if facts.get(key) is not None and (folder / name).exists():
            facts[key] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if "meta_sha256" in facts:
        del facts["meta_sha256"]
        plain = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        facts["meta_sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(facts))


def edit_meta(folder: Path, change: Callable[[dict[str, Any]], object] = lambda facts: None) -> None:
    """Change ``meta.json`` and make its digests fit."""
    facts = meta(folder)
    change(facts)
    write_meta(folder, facts)


#: What the datasets of other programs say of themselves.
FOREIGN = (
    "split", "n_materials", "patches_per_material", "shape", "tokenizer_version", "patch_size", "density_codec_name",
    "lmq_path", "seed", "pad_to", "total_rows", "n_shards", "vocab",
)  # fmt: skip


def make_foreign(folder: Path) -> None:
    """Make a dataset look as one that another program wrote."""
    facts = meta(folder)
    (folder / "meta.json").write_text(json.dumps({key: facts[key] for key in FOREIGN}))
    (folder / "crystals.parquet").unlink(missing_ok=True)


@dataclass(frozen=True)
class Rows:
    """The rows of one material: offsets (n, 3) and ids (n, pad_to)."""

    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]


def rows_of(folder: Path) -> dict[str, Rows]:
    """All rows under a folder by material, read with pyarrow."""
    found: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
    for path in sorted(folder.rglob("shard-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            offsets, ids = found.setdefault(row["task_id"], ([], []))
            offsets.append([row[f"offset_{axis}"] for axis in "xyz"])
            ids.append(row["input_ids"])
    return {
        name: Rows(np.array(offsets, dtype=np.int32), np.array(ids, dtype=np.int32))
        for name, (offsets, ids) in found.items()
    }


def same_rows(got: Mapping[str, Rows], expected: Mapping[str, Rows]) -> None:
    """The same materials with the same rows in the same order."""
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_array_equal(got[name].offsets, rows.offsets, err_msg=name)
        np.testing.assert_array_equal(got[name].ids, rows.ids, err_msg=name)


def a_cell(shape: tuple[int, int, int], a: float, n_atoms: int = 1) -> tomat.Material:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 100
    coordinates = np.linspace(0, 0.9, 3 * n_atoms).reshape(n_atoms, 3)
    return tomat.Material.of("cell", values, "chgcar", np.diag([a, 4.0, 4.0]), [14] * n_atoms, coordinates)
