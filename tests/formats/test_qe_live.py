"""pw.x starts from written folders: the format is right if the exact density is already the answer."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tomat
from silicon import PW, mesh, needs_pw, pw_input
from tomat.formats.qe import charge, hdf5
from tomat.formats.qe.vectors import BOHR

pytestmark = needs_pw
MESH = mesh(2)


def pw(folder: Path, data: Path, *, task: str = "scf", start: str = "atomic", k_points: str = MESH) -> str:
    """What a run in a folder prints; a second or less."""
    assert PW is not None
    (folder / "Si.UPF").write_bytes(gzip.decompress((data / "qe" / "Si.UPF.gz").read_bytes()))
    (folder / "in").write_text(pw_input(task=task, start=start, k_points=k_points))
    command = [PW, "-in", "in"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert "JOB DONE" in done.stdout, done.stdout + done.stderr
    return done.stdout


def bands(printed: str) -> list[float]:
    """The band energies in eV."""
    blocks = re.findall(r"bands \(ev\):\s+([-\d.\s]+)", printed)
    assert blocks, printed
    return [float(word) for block in blocks for word in re.findall(r"-?\d+\.\d{4}", block)]


def accuracies(printed: str) -> list[float]:
    """The estimated accuracy of each iteration, in Ry."""
    assert "convergence has been achieved" in printed
    return [float(word) for word in re.findall(r"estimated scf accuracy\s+<\s+(\S+) Ry", printed)]


@pytest.mark.parametrize("k_points", [MESH, "gamma"])
def test_pw_starts_from_the_exact_density(tmp_path: Path, data: Path, k_points: str) -> None:
    """As it starts from its own file: read and written again, on the same grid and on a finer one."""
    ran = tmp_path / "ran"
    ran.mkdir()
    assert len(accuracies(pw(ran, data, k_points=k_points))) > 4
    converged = tomat.read(ran / "x.save")
    theirs = charge.parse((ran / "x.save" / charge.NAME).read_bytes(), "x")
    assert theirs.gamma_only is (k_points == "gamma")
    own = tmp_path / "own"
    own.mkdir()
    (own / "x.save").mkdir()
    shutil.copy(ran / "x.save" / charge.NAME, own / "x.save")
    expected = accuracies(pw(own, data, start="file", k_points=k_points))
    fine = charge.to_grid(theirs, (27, 25, 24)) / BOHR**3
    on_fine = tomat.Material.on(converged.crystal, fine, "e_per_A3", converged.source)
    for name, material in (("same", converged), ("fine", on_fine)):
        folder = tmp_path / name
        folder.mkdir()
        material.write(folder / "x.save")
        ours = charge.parse((folder / "x.save" / charge.NAME).read_bytes(), "x")
        np.testing.assert_array_equal(ours.miller, theirs.miller)
        printed = pw(folder, data, start="file", k_points=k_points)
        assert "The initial density is read from file" in printed
        found = accuracies(printed)
        assert found[0] < 1e-8
        assert len(found) == len(expected)
    assert k_points == "gamma" or len(expected) == 1


def test_pw_finds_the_bands_of_a_density(tmp_path: Path, data: Path) -> None:
    """With nothing but the two written files, on the mesh and along a path; another density has other bands."""
    ran = tmp_path / "ran"
    ran.mkdir()
    pw(ran, data)
    converged = tomat.read(ran / "x.save")
    found = {}
    for name, mix in (("exact", 0.0), ("half", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        flat = converged.n_electrons / converged.volume
        mixed = (1 - mix) * converged.density + mix * flat
        tomat.Material.on(converged.crystal, mixed, "e_per_A3", converged.source).write(folder / "x.save")
        found[name] = bands(pw(folder, data, task="nscf", start="file"))
    again = bands(pw(ran, data, task="nscf", start="file"))
    np.testing.assert_allclose(found["exact"], again, atol=2e-4)
    assert np.abs(np.subtract(found["half"], again)).max() > 0.1
    k_points = "crystal\n2\n0 0 0 1\n0.5 0.5 0 1"
    path = bands(pw(tmp_path / "exact", data, task="bands", start="file", k_points=k_points))
    at_gamma = len(path) // 2
    np.testing.assert_allclose(path[:at_gamma], again[:at_gamma], atol=2e-4)


@pytest.mark.parametrize("k_points", [MESH, "gamma"])
def test_pw_with_hdf5_starts_from_the_exact_density(tmp_path: Path, data: Path, k_points: str) -> None:
    """Where pw.x is a build with HDF5; that of Debian is none."""
    pytest.importorskip("h5py")
    ran = tmp_path / "ran"
    ran.mkdir()
    first = accuracies(pw(ran, data, k_points=k_points))
    if not (ran / "x.save" / hdf5.NAME).exists():
        pytest.skip("this pw.x is built without HDF5")
    converged = tomat.read(ran / "x.save")
    assert converged.source["hdf5"] is True
    folder = tmp_path / "again"
    folder.mkdir()
    converged.write(folder / "x.save")
    assert not (folder / "x.save" / charge.NAME).exists()
    found = accuracies(pw(folder, data, start="file", k_points=k_points))
    assert found[0] < 1e-8
    assert len(found) < len(first) / 3
