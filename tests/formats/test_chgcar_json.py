"""pymatgen's Chgcar as JSON: there and back, as the Materials Project keeps it, and what is not one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from runs import LABEL, sound
from tomat.dataset import resolve_inputs
from tomat.formats import FORMATS
from tomat.material import task_id_of

SOURCE = LABEL / "vasp-mp-2300242.zarr"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What pymatgen itself writes."""
    monty = pytest.importorskip("monty.json", reason="pymatgen is not installed")
    chgcar = tomat.read(SOURCE).to_pymatgen()
    return dict(json.loads(json.dumps(chgcar.as_dict(), cls=monty.MontyEncoder)))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"data": x, "fs_id": "0"}, lambda x: [{"data": x}]])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_pymatgen_and_the_materials_project_write_is_read(
    content: dict[str, Any], tmp_path: Path, wrap: Any, suffix: str
) -> None:
    data = json.dumps(wrap(content)).encode()
    path = tmp_path / f"mp-149.chgcar.json{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    found, expected = tomat.read(path), tomat.read(SOURCE)
    assert (found.task_id, found.unit) == ("mp-149", "chgcar")
    np.testing.assert_allclose(found.density, expected.density, rtol=1e-6)
    np.testing.assert_allclose(found.lattice, expected.lattice, atol=1e-9)
    np.testing.assert_array_equal(found.atomic_numbers, expected.atomic_numbers)
    assert found.n_electrons == pytest.approx(expected.n_electrons)


def test_pymatgen_reads_what_is_written(tmp_path: Path) -> None:
    outputs = pytest.importorskip("pymatgen.io.vasp.outputs", reason="pymatgen is not installed")
    material = tomat.read(SOURCE)
    material.write(tmp_path / "x.chgcar.json.gz")
    monty = pytest.importorskip("monty.json")
    decoded = monty.MontyDecoder().decode(
        gzip.decompress((tmp_path / "x.chgcar.json.gz").read_bytes()).decode()
    )
    assert isinstance(decoded, outputs.Chgcar)
    again = tomat.Material.from_pymatgen(decoded)
    np.testing.assert_array_equal(again.density, material.density)
    assert tomat.read(tmp_path / "x.chgcar.json.gz").renamed(material.task_id).hash == material.hash


def test_the_tokenizer_takes_them(tmp_path: Path) -> None:
    material = tomat.read(SOURCE)
    (tmp_path / "in").mkdir()
    material.write(tmp_path / "in" / "x.chgcar.json.gz")
    material.renamed("x").write(tmp_path / "x.zarr")
    assert [entry.task_id for entry in resolve_inputs([tmp_path / "in"])] == ["x"]
    small = ("--patch-size", 4, "--pad-to", 256, "--patches-per-material", 3, "--codec", "lmq-16k")
    for source, out in ((tmp_path / "in", "a"), (tmp_path / "x.zarr", "b")):
        sound(source, "--out", tmp_path / out, *small)
    shards = [sorted((tmp_path / out).glob("*.parquet")) for out in "ab"]
    assert shards[0][0].read_bytes() == shards[1][0].read_bytes()


def test_what_is_no_chgcar_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    without = {**content, "data": {}}
    flat = {**content, "data": {"total": [1.0, 2.0]}}
    for data, words in (
        (b"{", "not JSON"),
        (b"[1, 2]", "no pymatgen Chgcar"),
        (json.dumps(without).encode(), "has no 'total'"),
        (json.dumps(flat).encode(), r"shape \(2,\)"),
        (gzip.compress(json.dumps(content).encode())[:200], "damaged"),
    ):
        path = tmp_path / "bad.chgcar.json"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=words) as caught:
            tomat.read(path)
        assert str(path) in str(caught.value)


def test_names() -> None:
    assert FORMATS["chgcar_json"].names is not None
    assert task_id_of("a/mp-1.chgcar.json.gz") == task_id_of("mp-1.chgcar.json") == "mp-1"
