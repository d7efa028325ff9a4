"""Inputs of pw.x, and runs of a program that stands for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_pw import FakePw
from tomat.crystal import Crystal
from tomat.densities.base import EngineOptions, KilledError, StoppedError
from tomat.densities.qe import pw
from tomat.densities.qe.orientation import upright
from tomat.densities.qe.pw_input import pw_input

BN = Crystal.of(
    [[1 / 3, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]], [7, 5], [[1 / 3, 0.1, 0], [1 - 1e-9, 0, 0.25]]
)


def test_an_input() -> None:
    options = EngineOptions(Path(), 30.0, ecutrho=200.0, degauss=0.02, conv_thr=1e-8)
    text = pw_input(BN, {"N": "N.upf", "B": "B_x.UPF"}, (4, 4, 2), options)
    lines = text.splitlines()
    at = lines.index("ATOMIC_SPECIES")
    assert lines[at + 1 : at + 3] == ["B 1.0 B_x.UPF", "N 1.0 N.upf"]
    assert "nat=2, ntyp=2, ecutwfc=30, ecutrho=200" in text
    assert "occupations='smearing', smearing='mv', degauss=0.02, nspin=1" in text
    assert "conv_thr=1e-08, electron_maxstep=100, mixing_beta=0.6" in text
    assert lines[-2:] == ["K_POINTS automatic", "4 4 2 0 0 0"]
    # To the digit: what is read back is the crystal that was given.
    cell = lines.index("CELL_PARAMETERS angstrom")
    rows = [[float(word) for word in line.split()] for line in lines[cell + 1 : cell + 4]]
    np.testing.assert_array_equal(rows, BN.lattice)
    atoms = [line.split() for line in lines[cell + 5 : cell + 7]]
    assert [one[0] for one in atoms] == ["N", "B"]
    np.testing.assert_array_equal([[float(word) for word in one[1:]] for one in atoms], BN.frac_coords)
    assert pw_input(BN, {"N": "N", "B": "B"}, (1, 1, 1), options).splitlines()[-1] == "K_POINTS gamma"


def test_options() -> None:
    for changed in ({"ecutwfc": 0.0}, {"kspacing": -1.0}, {"conv_thr": float("nan")}, {"kpoints": (2, 2, 0)}):
        given: dict[str, object] = {"pseudo": Path(), "ecutwfc": 30.0, **changed}
        with pytest.raises(ValueError, match=next(iter(changed)).replace("kpoints", "k points")):
            EngineOptions(**given)  # type: ignore[arg-type]


def test_a_cell_from_lengths_and_angles_is_turned_upright() -> None:
    """Rigidly: lengths, angles and fractional coordinates stay; cubic axes then lie along x, y, z."""
    edge = 3.8
    tilted: list[list[float]] = [
        [edge, 0, 0],
        [edge / 2, edge * 3**0.5 / 2, 0],
        [edge / 2, edge / 12**0.5, edge * (2 / 3) ** 0.5],
    ]
    silicon = Crystal.of(tilted, [14, 14], np.array([[0, 0, 0], [0.25, 0.25, 0.25]]))
    turned = upright(silicon)
    np.testing.assert_allclose(
        turned.lattice @ turned.lattice.T, silicon.lattice @ silicon.lattice.T, atol=1e-12
    )
    np.testing.assert_array_equal(turned.frac_coords, silicon.frac_coords)
    # Of each face-centred vector one component is 0 and the others are +-a/2.
    half = edge / 2**0.5
    np.testing.assert_allclose(np.sort(np.abs(turned.lattice), axis=1), [[0.0, half, half]] * 3, atol=1e-9)
    # Atoms on top of each other are for pw.x to complain of.
    same = Crystal.of(np.eye(3) * 3, [1, 1], np.array([[0, 0, 0], [0, 0, 1e-7]]))
    np.testing.assert_array_equal(upright(same).lattice, same.lattice)


def run(fake: FakePw, work: Path, name: str, **given: Any) -> pw.Run:
    folder = work / f"{name}-1"
    folder.mkdir()
    return pw.run(fake.command, folder, "the input", **given)


def test_what_a_run_prints(tmp_path: Path) -> None:
    found = run(FakePw(tmp_path), tmp_path, "good")
    assert found.first_energy is not None
    assert found.energy is not None
    assert 0 < abs(found.first_energy - found.energy) < 0.1
    assert (found.iterations, found.first_accuracy, found.accuracy) == (6, 0.09373722, 8.3e-10)
    assert (found.energy, found.k_points, found.version) == (-15.7, 4, "6.7MaX")
    assert (tmp_path / "good-1" / "pw.in").read_text() == "the input"
    assert run(FakePw(tmp_path / "x"), tmp_path, "stubborn").iterations is None


def test_failures_have_its_own_words(tmp_path: Path) -> None:
    fake = FakePw(tmp_path)
    with pytest.raises(
        ValueError, match=r"Error in routine cdiaghg \(12\):\nS matrix not positive definite$"
    ):
        run(fake, tmp_path, "crash")
    with pytest.raises(ValueError, match=r"from davcio : error # 10\nerror while writing from file"):
        run(fake, tmp_path, "silent")
    with pytest.raises(KilledError, match=r"signal 9 \(SIGKILL\)"):
        run(fake, tmp_path, "killed")


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_that_hangs_is_ended(tmp_path: Path) -> None:
    fake = FakePw(tmp_path)
    with pytest.raises(ValueError, match=r"more than 0\.2 s; give a longer --timeout"):
        run(fake, tmp_path, "hang", timeout=0.2)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    folder = tmp_path / "hang-2"
    folder.mkdir()
    with pytest.raises(StoppedError):
        pw.run(fake.command, folder, "", stop=stop)
    time.sleep(0.05)
    assert len(fake.processes()) == 2
    assert not any(is_alive(process) for process in fake.processes())
