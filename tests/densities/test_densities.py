"""Densities of many structures by a program that stands for pw.x: going on, failures, workers, the layout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from fake_pw import FakePw
from runs import Result, tomat_main
from tomat.dataset.inputs import resolve_inputs, splits_of
from tomat.densities.base import EngineOptions
from tomat.densities.engines import open_engine
from tomat.densities.run import compute_densities
from training.studies.scf.study import choose


@pytest.fixture
def fake(tmp_path: Path) -> FakePw:
    return FakePw(tmp_path / "fake")


def densities(fake: FakePw, out: Path, *arguments: object) -> Result:
    """The command, for all structures of the fake."""
    given = ["--pseudo", fake.pseudo, "--ecutwfc", 12, "--pw", fake.command, "-o", out]
    return tomat_main("densities", fake.structures, *given, *arguments)


def metadata(out: Path, name: str) -> dict[str, Any]:
    attributes = json.loads((out / "label" / f"{name}.zarr" / "zarr.json").read_text())["attributes"]
    found: dict[str, Any] = json.loads(attributes["metadata"])
    return found


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_root_is_written(fake: FakePw, tmp_path: Path, data: Path) -> None:
    """What a user trains on: densities, lists, and how they were made."""
    fake.structure("one")
    fake.structure("two")
    out = tmp_path / "rho"
    done = densities(fake, out, "--split", "train=1", "--kspacing", "0.5")
    assert done.code == 0, done.err
    assert "2 computed" in done.out
    assert "one: Si2, 8 electrons, grid 20 x 20 x 20, k points 4 x 4 x 4, 6 iterations" in done.out
    material = tomat.read(out / "label" / "one.zarr")
    expected = tomat.read(data / "qe" / "Si.save").in_unit("chgcar")
    np.testing.assert_allclose(material.density, expected.density, rtol=1e-6)
    mine, theirs = (one.lattice @ one.lattice.T for one in (material, expected))
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    known = metadata(out, "one")
    source = known["source"]
    assert known["formula"] == "Si2"
    assert known["scf"] == {"energy_Ry": -15.7, "scf_accuracy_Ry": 8.3e-10, "n_iter": 6, "nk_irr": 4}
    assert (source["code"], source["functional"]) == ("Quantum ESPRESSO 6.7MaX", "PBE")
    assert (source["ecutwfc_Ry"], source["ecutrho_Ry"], source["kmesh"]) == (12.0, 48.0, [4, 4, 4])
    assert source["pseudopotentials"]["Si"]["file"] == "Si.UPF"
    assert source["pseudopotentials"]["Si"]["z_valence"] == 4.0
    assert len(source["pseudopotentials"]["Si"]["sha256"]) == 64
    assert "K_POINTS automatic\n4 4 4 0 0 0" in source["pw_input"]
    assert [one.task_id for one in resolve_inputs([out], split="train")] == ["one", "two"]
    rows = [json.loads(line) for line in (out / "materials.jsonl").read_text().splitlines()]
    assert [row["task_id"] for row in rows] == ["one", "two"]
    assert (rows[0]["chemsys"], rows[0]["nelec"], rows[0]["grid"]) == ("Si", 8.0, [20, 20, 20])
    assert not (out / "failed").exists()
    assert not (out / ".work").exists()
    assert choose(out, 10) == []  # the SCF study reads such a root: nothing here is held out


def test_the_same_command_goes_on(fake: FakePw, tmp_path: Path) -> None:
    for name in ("one", "two", "crash"):
        fake.structure(name)
    out = tmp_path / "rho"
    assert densities(fake, out).code == 1
    assert sorted(fake.runs()) == ["crash", "one", "two"]
    before = files(out)
    again = densities(fake, out)
    assert again.code == 1
    assert "0 computed, 2 there already, 1 failed" in again.out
    assert sorted(fake.runs()) == ["crash", "crash", "one", "two"]
    assert files(out) == before
    fake.structure("three")
    assert "1 computed, 2 there already, 1 failed" in densities(fake, out).out
    assert splits_of(out).keys() == {"one", "two", "three"}


def test_failures_are_named(fake: FakePw, tmp_path: Path) -> None:
    """Each with its own reason; the others are there, and nothing of the failed ones is."""
    for name in ("crash", "good", "killed", "silent", "stubborn", "hang"):
        fake.structure(name)
    fake.structure("iron", 26)
    (fake.structures / "notes.cif").write_text("no crystal")
    out = tmp_path / "rho"
    done = densities(fake, out, "--timeout", 1, "--workers", 4, "--json")
    assert done.code == 1
    summary = json.loads(done.out)
    assert [one["name"] for one in summary["computed"]] == ["good"]
    errors = {one["name"]: one["error"] for one in summary["failed"]}
    assert list(errors) == ["crash", "hang", "iron", "killed", "notes", "silent", "stubborn"]
    assert errors["crash"].endswith("S matrix not positive definite")
    assert "error while writing" in errors["silent"]
    assert "signal 9" in errors["killed"]
    assert errors["hang"].startswith("pw.x took more than 1 s")
    assert errors["stubborn"].startswith(
        "SCF did not converge in 100 iterations, the last estimated accuracy 0.00475"
    )
    assert "no pseudopotential for Fe" in errors["iron"]
    assert "no crystal could be read" in errors["notes"]
    assert [path.name for path in (out / "label").iterdir()] == ["good.zarr"]
    assert (out / "mp_filelist.txt").read_text() == "good\n"
    kept = {path.name: {file.name for file in path.iterdir()} for path in (out / "failed").iterdir()}
    assert kept["crash"] == {"pw.in", "pw.out"}
    assert kept["silent"] == {"pw.in", "pw.out", "CRASH"}
    assert kept.keys() == {"crash", "hang", "killed", "silent", "stubborn"}
    printed = densities(fake, out, "--timeout", 1, "--quiet")
    assert "failed: iron: no pseudopotential for Fe" in printed.err
    assert printed.out == ""


def test_a_killed_program_is_tried_again(fake: FakePw, tmp_path: Path) -> None:
    fake.structure("once")
    done = densities(fake, tmp_path / "rho")
    assert done.code == 0, done.err
    assert fake.runs() == ["once", "once"]
    assert not (tmp_path / "rho" / "failed").exists()


def test_workers_change_nothing(fake: FakePw, tmp_path: Path) -> None:
    """Nor does a stop in between: the same files, byte for byte."""
    for name in ("a", "b-slow", "c", "d-slow", "e"):
        fake.structure(name)
    engine = open_engine("qe", EngineOptions(fake.pseudo, 12.0, command=fake.command))
    paths = sorted(str(path) for path in fake.structures.iterdir())
    found = []
    for workers, parts in ((1, [paths]), (4, [paths]), (2, [paths[3:], paths])):
        out = tmp_path / f"rho-{workers}"
        for part in parts:
            summary = compute_densities(engine, part, out, workers=workers)
        assert [record["name"] for record in summary.computed] == [
            Path(p).stem for p in paths[: len(summary.computed)]
        ]
        found.append(files(out))
    assert found[0] == found[1] == found[2]


def test_a_stopped_run_leaves_nothing_that_looks_finished(fake: FakePw, tmp_path: Path) -> None:
    """SIGTERM ends the programs; SIGKILL does not, but what they leave is not taken for a density either."""
    for name in ("hang", "quick"):
        fake.structure(name)
    out = tmp_path / "rho"
    arguments = [
        "--pseudo",
        fake.pseudo,
        "--ecutwfc",
        "12",
        "--pw",
        fake.command,
        "-o",
        out,
        "--workers",
        "1",
    ]
    arguments += ["--split", "train=1"]
    command = [sys.executable, "-m", "tomat", "densities", *map(str, [fake.structures, *arguments])]
    for number, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        known = len(fake.runs())
        # Its log tells when the program is at work.
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + 120
        while len(fake.runs()) == known and time.monotonic() < deadline:
            time.sleep(0.05)
        busy = densities(fake, out, "--split", "train=1")
        assert "another tomat densities is at work here" in busy.err
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert list((out / "label").iterdir()) == []
    os.kill(fake.processes()[-1], signal.SIGKILL)
    assert fake.runs() == ["hang", "hang"]
    (fake.structures / "hang.cif").unlink()
    assert "1 computed" in densities(fake, out, "--split", "train=1").out
    assert [path.name for path in (out / "label").iterdir()] == ["quick.zarr"]
    assert not (out / ".work").exists()


def test_one_folder_one_dialect(fake: FakePw, tmp_path: Path) -> None:
    fake.structure("one")
    out = tmp_path / "rho"
    assert densities(fake, out).code == 0
    for changed in (("--ecutrho", 300), ("--degauss", 0.01), ("--kpoints", "2"), ("--conv-thr", 1e-6)):
        refused = densities(fake, out, *changed)
        assert refused.code == 1
        assert "give another folder" in refused.err
    # How SCF gets there is no part of it.
    assert densities(fake, out, "--mixing-beta", 0.2, "--max-steps", 200).code == 0
    assert fake.runs() == ["one"]
    fake.structure("one", 32)
    (fake.pseudo / "Ge.UPF").write_text('<PP_HEADER element="Ge" pseudo_type="NC" z_valence="4.0"/>')
    assert "density of another crystal" in densities(fake, out).err
    fake.structure("one")
    (fake.pseudo / "Si.UPF.gz").unlink()
    (fake.pseudo / "Si.UPF").write_text('<PP_HEADER element="Si" pseudo_type="NC" z_valence="4.0"/>')
    assert "the pseudopotential of Si is another" in densities(fake, out).err
    (fake.pseudo / "Si_other.UPF").write_text("")
    assert "2 pseudopotentials for Si" in densities(fake, out).err


def test_sides_are_kept(fake: FakePw, tmp_path: Path) -> None:
    """A chemical system stays where it is, whatever comes later and whatever the fractions are."""
    fake.structure("one")
    out = tmp_path / "rho"
    assert densities(fake, out, "--split", "validation=1").code == 0
    fake.structure("two")
    done = densities(fake, out, "--split", "train=0.9,test=0.1")
    assert done.code == 0
    assert splits_of(out) == {"one": "validation", "two": "validation"}
    assert "splits: 0 train, 0 test, 2 validation" in done.out


def test_what_cannot_be_run(fake: FakePw, tmp_path: Path) -> None:
    fake.structure("one")
    out = tmp_path / "rho"
    for arguments, words in (
        (("--engine", "vasp"), "unknown engine 'vasp'; known: qe"),
        (("--pw", "no-such-pw.x"), "no-such-pw.x is not installed"),
        (("--smearing", "cold"), "smearing 'cold' is not one of gaussian, mp, mv, fd"),
        (("--split", "train"), "fractions 'train'"),
        (("--pseudo", tmp_path / "gone"), "no such folder"),
        (("--ecutrho", 9), "ecutrho the larger"),
    ):
        done = densities(fake, out, *arguments)
        assert done.code == 1
        assert words in done.err
    assert not out.exists()
    # Another program's save folder: its electrons are not those of the pseudopotentials.
    (fake.pseudo / "Si.UPF.gz").unlink()
    (fake.pseudo / "Si.UPF").write_text('<PP_HEADER element="Si" pseudo_type="NC" z_valence="14.0"/>')
    assert "pw.x counts 8 electrons and the pseudopotentials have 28" in densities(fake, out).err
