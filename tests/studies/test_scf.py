"""The study of what a density is worth to pw.x: inputs, bands, which crystals, going on, the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from silicon import mesh, needs_pw, pw_input
from tomat.lm.decode.opening import open_predictor
from training.studies.scf import pw, study, table
from training.studies.scf.study import Candidate, StudyConfig, choose, run_study

INPUT = """&control
calculation='scf', prefix='x', outdir='./o', disk_io='low'
pseudo_dir='./pp'
/
&system
ibrav=0, nat=2, ntyp=2, ecutwfc=60, ecutrho=240
/
&electrons
conv_thr=1e-09, startingpot='atomic'
/
ATOMIC_SPECIES
Ti 1.0 Ti.UPF
H 1.0 H.UPF
CELL_PARAMETERS angstrom
0.0 2.0 2.0
2.0 0.0 2.0
2.0 2.0 0.0
"""


def test_an_input_is_edited() -> None:
    text = pw.with_variable(INPUT, "control", "calculation", "'nscf'")
    text = pw.with_variable(text, "electrons", "startingpot", "'file'")
    text = pw.with_variable(text, "control", "tstress", ".false.")
    assert text.count("calculation=") == text.count("startingpot=") == 1
    control, _, rest = text.partition("\n/")
    assert "calculation='nscf'" in control
    assert "tstress=.false." in control
    assert "outdir='./o'" in control
    assert "pseudo_dir='./pp'" in control
    assert "conv_thr=1e-09" in rest
    assert text.split("ATOMIC_SPECIES")[1] == INPUT.split("ATOMIC_SPECIES")[1]
    with pytest.raises(ValueError, match="&ions"):
        pw.with_variable(INPUT, "ions", "x", "1")


def test_an_input_is_read() -> None:
    np.testing.assert_array_equal(pw.lattice_of(INPUT), 2.0 * (1.0 - np.eye(3)))
    assert pw.species_of(INPUT) == {"Ti": "Ti.UPF", "H": "H.UPF"}
    with pytest.raises(ValueError, match="angstrom"):
        pw.lattice_of(INPUT.replace("angstrom", "bohr"))


def test_bands_of_a_run(data: Path) -> None:
    """The four k points of a recorded run; pw.x printed 6.3370 eV for its Fermi level."""
    bands = pw.bands_of(data / "qe" / "Si.save" / "data-file-schema.xml")
    assert bands.energies.shape == (4, 8)
    assert bands.fermi == pytest.approx(6.3370, abs=5e-5)
    assert (np.diff(bands.energies, axis=1) >= 0).all()


def test_the_error_counts_bands_up_to_the_window() -> None:
    reference = pw.Bands(np.array([[0.0, 1.0, 5.0], [0.5, 2.9, 6.0]]), 1.0)
    moved = pw.Bands(reference.energies + np.array([0.01, -0.03, 7.0]), 99.0)
    assert pw.band_error(moved, reference, 2.0) == pytest.approx(20.0)
    assert pw.band_error(moved, reference, 1.0) == pytest.approx(50 / 3)
    assert pw.band_error(reference, reference, 2.0) == 0.0
    shifted = pw.Bands(reference.energies + 0.1, 1.1)
    assert pw.band_error(shifted, reference, 2.0) == pytest.approx(100.0)  # nothing is aligned
    with pytest.raises(ValueError, match="shape"):
        pw.band_error(pw.Bands(np.zeros((1, 3)), 0.0), reference, 2.0)


def test_pseudopotentials_are_unpacked(tmp_path: Path, data: Path) -> None:
    pw.unpack(data / "qe", ["Si.UPF"], tmp_path)
    assert (tmp_path / "Si.UPF").read_bytes().startswith(b"<UPF")
    with pytest.raises(FileNotFoundError, match=r"Ti\.UPF"):
        pw.unpack(data / "qe", ["Si.UPF", "Ti.UPF"], tmp_path)


def test_crystals_are_chosen_by_cost_alone(data: Path) -> None:
    """Held out, of two elements or more, one of each chemical system, the cheapest first."""
    found = choose(data / "rho_gga", 10)
    split = {"qe-0015": "TiH2", "qe-0848": "BaTiO3", "qe-0913": "CsCl", "qe-0954": "ZrS2"}
    assert {one.task_id: one.formula for one in found} == split  # not Mo, Ir, nor the strained diamond
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    assert choose(data / "rho_gga", 2) == found[:2]
    assert len({one.chemsys for one in found}) == len(found)


def row(task_id: str, scale: float, *, scf: bool) -> dict[str, Any]:
    def start(error: float) -> dict[str, Any]:
        one: dict[str, Any] = {"nmae": error / 100, "hartree_error": 100 * error, "band_error": 90 * error}
        return one | ({"scf": {"iterations": round(5 + error)}} if scf else {})

    starts = {"exact": start(0.0), "promolecule": start(2 * scale), "field": start(scale)}
    if not scf:
        starts["exact"]["band_error"] = None
    facts = {"task_id": task_id, "formula": "LiH", "k_points": 4, "states": 12, "starts": starts}
    return facts | ({"scf": {"iterations": 9}} if scf else {})


def test_a_study_goes_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(one: Candidate, _: object, config: StudyConfig) -> dict[str, Any]:
        measured.append(one.task_id)
        return row(one.task_id, 1.0, scf=config.scf)

    monkeypatch.setattr(study, "measure_crystal", measure)
    chosen = choose(data / "rho_gga", 3)
    starts = {"promolecule": open_predictor("promolecule")}
    config = StudyConfig(tmp_path)
    first = next(run_study(chosen, starts, config, tmp_path / "out"))
    assert measured == [chosen[0].task_id]
    rows = list(run_study(chosen, starts, config, tmp_path / "out"))
    assert measured == [one.task_id for one in chosen]
    assert rows[0] == json.loads((tmp_path / "out" / f"{chosen[0].task_id}.json").read_text()) == first
    for changed in (StudyConfig(tmp_path, window=1.0), StudyConfig(tmp_path, window=1.0, scf=True)):
        measured.clear()
        list(run_study(chosen, starts, changed, tmp_path / "out"))
        assert measured == [one.task_id for one in chosen]
    # What was measured with SCF holds without it too.
    measured.clear()
    list(run_study(chosen, starts, StudyConfig(tmp_path, window=1.0), tmp_path / "out"))
    assert measured == []


def test_the_table() -> None:
    text = table.markdown([row("a", 1.0, scf=True), row("b", 3.0, scf=True)])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert len({len(line) for line in lines}) == 1
    named = dict(zip(lines[0], lines[4], strict=True))
    assert named["crystal"] == "**mean**"
    assert (named["NMAE promolecule, %"], named["NMAE field, %"]) == ("4.00", "2.00")
    assert (named["Hartree error field, meV"], named["bands promolecule, meV"]) == ("200", "360")
    assert (named["bands exact, meV"], named["iterations superposition"]) == ("0", "9")
    assert named["iterations field"] == "7"
    assert "iterations" not in table.markdown([row("a", 1.0, scf=False)])
    mixed = table.markdown([row("a", 1.0, scf=True), row("b", 3.0, scf=False)]).splitlines()
    assert mixed[3].split("|")[-3:-1] == [" - ", " - "]
    assert mixed[4].split("|")[-2].strip() == "5"  # of the one crystal that has it
    words = table.in_words([row("a", 1.0, scf=True), row("b", 3.0, scf=False)])
    assert "Bands from field: 180 meV on average, 50 % of promolecule." in words
    assert "Over 4 densities, the error of the bands is 0.90 to 0.90 times the Hartree error" in words
    assert "correlation of logarithms 1.00" in words
    with pytest.raises(ValueError, match="no crystals"):
        table.markdown([])


def test_the_table_of_cycles() -> None:
    def cycle(first: float, accuracy: float) -> dict[str, Any]:
        return {
            "iterations": 5,
            "first_energy": first,
            "energy": -8.0,
            "first_accuracy": accuracy,
            "seconds": 10.0,
        }

    one = row("a", 1.0, scf=True) | {"atoms": 2, "scf": cycle(-7.9, 0.5)}
    for name, first in (("exact", -8.0), ("promolecule", -7.98), ("field", -8.01)):
        one["starts"][name] |= {"scf": cycle(first, 0.01), "prediction_seconds": 1.5}
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.cycles([one]).splitlines()
    ]
    found = dict(zip(lines[0], lines[2], strict=True))
    assert found["crystal"] == "LiH `a`"
    assert found["first energy superposition, meV/atom"] == "680"  # 0.1 Ry, two atoms
    assert found["first energy exact, meV/atom"] == "0"
    assert found["first energy field, meV/atom"] == "-68"
    assert dict(zip(lines[0], lines[3], strict=True))["first energy field, meV/atom"] == "68"
    assert (found["first accuracy superposition, mRy"], found["first accuracy field, mRy"]) == ("500", "10")
    assert (found["superposition, s"], found["field, s"]) == ("10", "11.5")
    # Rows of before, and rows without SCF, have none of this.
    assert table.cycles([row("b", 1.0, scf=True), row("c", 1.0, scf=False)]) == ""


@needs_pw
def test_a_crystal_is_measured_by_pw(tmp_path: Path, data: Path) -> None:
    """The exact density gives the bands of pw.x's own, and is converged; the promolecule does not and is not."""
    one = Candidate("Si", "Si", "Si", str(data / "qe" / "Si.save"), 1.0, pw_input(k_points=mesh(3)))
    starts = {"promolecule": open_predictor("promolecule")}
    found = study.measure_crystal(one, starts, StudyConfig(data / "qe", scf=True, timeout=300.0))
    exact, promolecule = found["starts"]["exact"], found["starts"]["promolecule"]
    assert found["k_points"] == 4
    assert exact["nmae"] == exact["hartree_error"] == 0.0
    assert exact["band_error"] < 0.1
    assert exact["scf"]["iterations"] == 1
    off = {
        name: abs(of["scf"]["first_energy"] - found["scf"]["energy"]) for name, of in found["starts"].items()
    }
    assert off["exact"] < 1e-6
    assert off["promolecule"] > 1e-4
    assert found["atoms"] == 2
    assert promolecule["band_error"] > 10.0
    assert promolecule["hartree_error"] > 10.0
    assert promolecule["scf"]["iterations"] > 3
    assert found["scf"]["iterations"] > 3
