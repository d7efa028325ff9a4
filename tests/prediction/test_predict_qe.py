"""Predictions for Quantum ESPRESSO: cutoffs in, the grid and the save folder out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tomat
from runs import LABEL, tomat_main
from tomat.formats.qe import cutoffs
from tomat.formats.qe.vectors import fft_grid
from tomat.promolecule import Promolecule

CRYSTAL = LABEL / "qe-0934.zarr"


def test_a_save_folder_is_predicted(tmp_path: Path) -> None:
    """On the grid of the cutoff; what is read back is the promolecule without its components beyond the cutoff."""
    crystal = tomat.read(CRYSTAL).crystal
    options = ("-o", tmp_path, "--ecutwfc", 20, "--format", "qe", "--format", "zarr", "--normalize", "--json")
    result = tomat_main("predict", "promolecule", CRYSTAL, *options)
    assert result.code == 0, result.err
    (record,) = result.json["predicted"]
    assert record["files"] == ["qe-0934.save", "qe-0934.zarr"]
    assert record["made_from"]["cutoffs"] == [20.0, 80.0]
    grid = fft_grid(crystal.lattice, 80.0)
    assert record["made_from"]["grid"] == list(grid)
    found = tomat.read(tmp_path / "qe-0934.save")
    assert found.grid_shape == grid
    assert (found.source["ecutwfc_Ry"], found.source["ecutrho_Ry"]) == (20.0, 80.0)
    assert found.n_electrons == pytest.approx(16.0, rel=1e-5)
    expected = Promolecule.load("qe-sg15").evaluate(crystal, grid, "chgcar")
    difference = found.in_unit("chgcar").density - expected
    assert np.abs(difference).sum() < 0.02 * expected.sum()
    assert "1 there already" not in tomat_main("predict", "promolecule", CRYSTAL, *options[:-1]).err
    other = tomat_main("predict", "promolecule", CRYSTAL, "-o", tmp_path, "--ecutwfc", 30, "--format", "qe")
    assert other.code == 1
    assert "cutoffs was [20.0, 80.0] and is [30.0, 120.0]" in other.err


def test_a_grid_of_ones_own_stays(tmp_path: Path) -> None:
    options = ("-o", tmp_path, "--ecutrho", 80, "--grid", "30,30,60", "--format", "qe", "--json")
    result = tomat_main("predict", "promolecule", CRYSTAL, *options)
    assert result.json["predicted"][0]["made_from"]["grid"] == [30, 30, 60]
    assert tomat.read(tmp_path / "qe-0934.save").grid_shape == (30, 30, 60)
    assert json.loads((tmp_path / "qe-0934.json").read_text())["made_from"]["cutoffs"] == [20.0, 80.0]


def test_cutoffs_are_asked_for(tmp_path: Path) -> None:
    result = tomat_main("predict", "promolecule", CRYSTAL, "-o", tmp_path, "--format", "qe")
    assert result.code == 1
    assert "--format qe needs the cutoffs" in result.err
    assert "--ecutwfc" in result.err
    assert cutoffs(60.0, None) == (60.0, 240.0)
    assert cutoffs(None, 200.0) == (50.0, 200.0)
    assert cutoffs(40.0, 480.0) == (40.0, 480.0)
    with pytest.raises(ValueError, match="ecutrho the larger"):
        cutoffs(60.0, 50.0)
    with pytest.raises(ValueError, match="give ecutwfc or ecutrho"):
        cutoffs(None, None)


def test_half_of_the_components_and_hdf5(tmp_path: Path) -> None:
    """Each by an option; a prediction without it is another one. For --format qe alone."""
    pytest.importorskip("h5py")
    options = ("promolecule", CRYSTAL, "--ecutwfc", 10, "--format", "qe", "--normalize")
    found = {}
    for name, more in (("plain", ()), ("half", ("--gamma-only",)), ("both", ("--gamma-only", "--hdf5"))):
        result = tomat_main("predict", *options, "-o", tmp_path / name, *more)
        assert result.code == 0, result.err
        found[name] = tomat.read(tmp_path / name / "qe-0934.save")
    assert [(one.source["gamma_only"], one.source["hdf5"]) for one in found.values()] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert (tmp_path / "both" / "qe-0934.save" / "charge-density.hdf5").exists()
    for one in found.values():
        np.testing.assert_allclose(one.density, found["plain"].density, atol=1e-6 * one.density.max())
    other = tomat_main("predict", *options, "-o", tmp_path / "plain", "--gamma-only")
    assert other.code == 1
    assert "gamma_only was None and is True" in other.err
    wrong = tomat_main("predict", "promolecule", CRYSTAL, "-o", tmp_path, "--hdf5", "--format", "cube")
    assert "--hdf5 is for --format qe" in wrong.err


def test_other_doors(tmp_path: Path) -> None:
    """One prediction in each format, and all of them read back as the same density."""
    names = ("zarr", "xsf", "npz", "abinit", "xsf.gz")
    formats = [word for name in names for word in ("--format", name)]
    options = ("-o", tmp_path, "--ecutwfc", 10, "--normalize", "--json", *formats)
    result = tomat_main("predict", "promolecule", CRYSTAL, *options)
    assert result.code == 0, result.err
    (record,) = result.json["predicted"]
    assert record["files"] == [f"qe-0934{end}" for end in (".zarr", ".xsf", ".npz", "_DEN", ".xsf.gz")]
    expected = tomat.read(tmp_path / "qe-0934.zarr")
    for file in record["files"]:
        back = tomat.read(tmp_path / file).in_unit("chgcar")
        assert back.task_id == "qe-0934"
        np.testing.assert_allclose(back.density, expected.density, rtol=1e-5)
        np.testing.assert_allclose(back.frac_coords, expected.frac_coords, atol=1e-9)
    assert tomat.read(tmp_path / "qe-0934_DEN").source["ecutwfc_Ry"] == 10.0
    exact = tomat.read(tmp_path / "qe-0934.npz")
    np.testing.assert_array_equal(exact.density, expected.density)
