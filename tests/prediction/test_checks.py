"""What cannot be right is refused or warned about: other crystals, strange elements, atoms on one site, bad numbers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from predictors import TokenPredictor
from runs import LABEL, Result, tomat_main
from tomat.crystal import Crystal
from tomat.prediction.assemble import CellRequest
from tomat.prediction.checks import check_same_crystal, crystal_warnings
from tomat.prediction.grid import choose_grid
from tomat.prediction.predictor import TrainingFacts
from tomat.promolecule import Promolecule

SILICON = LABEL / "qe-0039.zarr"
CUBE = np.eye(3) * 4.0
ZARR = ("--format", "zarr")


def crystal(numbers: list[int], coordinates: Any, lattice: Any = CUBE) -> Crystal:
    return Crystal.of(lattice, numbers, coordinates, "x")


def poscar(
    path: Path, species: str, coordinates: list[tuple[float, float, float]], edge: float = 4.0
) -> Path:
    lines = ["x", f"{edge}", "1 0 0", "0 1 0", "0 0 1", species, str(len(coordinates)), "Direct"]
    path.write_text("\n".join([*lines, *(" ".join(map(str, row)) for row in coordinates)]) + "\n")
    return path


def predict(*arguments: object, checkpoint: str = "promolecule") -> Result:
    return tomat_main("predict", checkpoint, *arguments)


# --- the crystal ---------------------------------------------------------------------------------------------


def test_atoms_on_one_site_are_refused_whatever_the_cell() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        lattice = rng.normal(size=(3, 3)) * 4 + np.eye(3) * 5
        if abs(np.linalg.det(lattice)) < 20:
            continue
        place = rng.uniform(size=3)
        image = place + rng.integers(-2, 3, 3)
        with pytest.raises(ValueError, match=r"x: atoms Si \(1\) and Si \(2\) are on one site"):
            crystal_warnings(crystal([14, 14], [place, image], lattice))
        step = rng.normal(size=3)
        step *= 0.3 / np.linalg.norm(step)
        near = image + step @ np.linalg.inv(lattice)
        (doubt, *_) = crystal_warnings(crystal([14, 8], [place, near], lattice))[-1:]
        assert "O (2) are only 0.3 A apart" in doubt


def test_real_crystals_are_not_doubted() -> None:
    for path in sorted(LABEL.iterdir()):
        m = tomat.read(path)
        assert crystal_warnings(m.crystal) == []


def test_small_cells_are_warned_about() -> None:
    small = crystal([14], [[0, 0, 0]], np.diag([1.2, 4.0, 5.0]))
    assert "the cell has a = 1.2 A" in crystal_warnings(small)[0]
    # In Python they are warnings.
    with pytest.warns(UserWarning, match=r"x: the cell has a = 1\.2 A"):
        tomat.predict(small, "promolecule", grid=(4, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tomat.predict(crystal([14], [[0, 0, 0]]), "promolecule", grid=(4, 4, 4))


def test_the_command_warns_and_records_and_refuses(tmp_path: Path) -> None:
    small = poscar(tmp_path / "small.vasp", "Si", [(0, 0, 0)], 1.4)
    near = poscar(tmp_path / "near.vasp", "Si", [(0, 0, 0), (0.1, 0, 0)])
    twice = poscar(tmp_path / "twice.vasp", "Si", [(0, 0, 0), (1, 0, 0)])
    result = predict(small, near, twice, "-o", tmp_path / "out", *ZARR, "--spacing", "0.3")
    assert result.code == 1
    assert "warning: small: the cell has a = 1.4, b = 1.4, c = 1.4 A" in result.err
    assert "warning: near: atoms Si (1) and Si (2) are only 0.4 A apart" in result.err
    assert "failed: twice: atoms Si (1) and Si (2) are on one site" in result.err
    assert "2 predicted, 1 failed" in result.out
    record = json.loads((tmp_path / "out" / "small.json").read_text())
    assert record["warnings"][0].startswith("the cell has")


# --- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--spacing", "--electrons", "--max-guess-error"])
@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf"])
def test_numbers_that_are_none_are_bad_arguments(tmp_path: Path, option: str, value: str) -> None:
    result = predict(SILICON, "-o", tmp_path / "out", *ZARR, option, value)
    assert result.code == 2
    assert "is not a number above 0" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf")])
def test_they_are_errors_in_python_too(value: float) -> None:
    from tomat.prediction.run import RunOptions

    for options in ({"electrons": value}, {"spacing": value}, {"electrons": value, "normalize": True}):
        with pytest.raises(ValueError, match="above 0"):
            tomat.predict(SILICON, "promolecule", **{"grid": (4, 4, 4), **options})  # type: ignore[arg-type]
    one = tomat.read(SILICON).crystal
    with pytest.raises(ValueError, match=r"electrons = .* above 0"):
        CellRequest(one, (4, 4, 4), electrons=value)
    with pytest.raises(ValueError, match="spacing"):
        choose_grid(one, spacing=value)
    for wrong in (
        RunOptions(spacing=value),
        RunOptions(electrons=value),
        RunOptions(max_guess_error=value),
    ):
        with pytest.raises(ValueError, match="above 0"):
            wrong.check(1)


def test_counts_of_another_promolecule_are_not_mixed_with_the_predictors_own(tmp_path: Path) -> None:
    known = Promolecule.load("qe-sg15")
    electrons = known.electrons.copy()
    electrons[known.atomic_numbers == 14] = np.nan
    lacking = Promolecule(
        "splines", known.atomic_numbers, electrons, known.cutoff, known.inner, known.coefficients
    )
    lacking.save(tmp_path / "lacking.npz")
    result = predict(SILICON, "-o", tmp_path / "out", *ZARR, "--valence", tmp_path / "lacking.npz")
    assert result.code == 1
    assert "qe-0039: --valence has no count for Si" in result.err
    assert "--electrons" in result.err


# --- the truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "truth", "part"),
    [
        ("qe-0039", "qe-0770", "it has the atoms O1 Mg1, the structure has Si2"),
        ("qe-0039", "vasp-mp-2300242", "it has the atoms Si1, the structure has Si2"),
        ("qe-0770", "vasp-mp-2456484", "its cell has"),
        ("qe-0934", "qev-0003", "atoms"),
    ],
)
def test_the_truth_of_another_crystal_is_refused(
    tmp_path: Path, structure: str, truth: str, part: str
) -> None:
    result = predict(
        LABEL / f"{structure}.zarr", "-o", tmp_path / "out", *ZARR, "--truth", LABEL / f"{truth}.zarr"
    )
    assert result.code == 1
    assert f"{structure}: the true density ({truth}) is of another crystal" in result.err
    assert part in result.err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_truth_on_another_grid_is_refused(tmp_path: Path) -> None:
    result = predict(SILICON, "-o", tmp_path / "out", *ZARR, "--truth", SILICON, "--spacing", "0.2")
    assert result.code == 1
    assert "qe-0039: the true density has the grid (40, 40, 40), not (20, 20, 20)" in result.err


def test_order_turns_and_relaxation_do_not_make_another_crystal() -> None:
    m = tomat.read(LABEL / "qe-0848.zarr")
    one = m.crystal
    order = np.array([4, 2, 0, 1, 3])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    moved = m.frac_coords[order] + np.array([1, -1, 0]) + 0.02
    other = tomat.Material.of("t", m.density, m.unit, m.lattice @ turn, m.atomic_numbers[order], moved)
    check_same_crystal(one, other)
    far = tomat.Material.of("t", m.density, m.unit, m.lattice, m.atomic_numbers, m.frac_coords + 0.25)
    with pytest.raises(ValueError, match=r"its origin lies elsewhere: an atom is .* A from the nearest"):
        check_same_crystal(one, far)
    strained = tomat.Material.of("t", m.density, m.unit, m.lattice * 1.01, m.atomic_numbers, m.frac_coords)
    with pytest.raises(ValueError, match="its cell has"):
        check_same_crystal(one, strained)


# --- the kind of the starting density ------------------------------------------------------------------------


def test_a_promolecule_of_another_kind_than_the_truth_is_refused(tmp_path: Path) -> None:
    lithium = LABEL / "vasp-pmg-Li-nospin.zarr"
    result = predict(lithium, "-o", tmp_path / "out", *ZARR, "--truth", lithium)
    assert result.code == 1
    for part in ("vasp-pmg-Li-nospin: the starting density is of another kind", "tomat promolecule fit"):
        assert part in result.err
    options = ("--truth", lithium, "--max-guess-error", "10", "--json")
    allowed = predict(lithium, "-o", tmp_path / "out", *ZARR, *options)
    assert allowed.code == 0, allowed.err
    assert allowed.json["predicted"][0]["metrics"]["nmae"] > 1
    # Of its own kind every one passes; analytic ones are of no kind.
    for path in sorted(LABEL.glob("qe*.zarr")):
        assert predict(path, "-o", tmp_path / "same", *ZARR, "--truth", path).code == 0, path
    slater = predict(
        SILICON, "-o", tmp_path / "slater", *ZARR, "--truth", SILICON, checkpoint="promolecule:slater"
    )
    assert slater.code == 0, slater.err


def test_a_start_that_disagrees_with_the_training_data_is_refused(tmp_path: Path) -> None:
    """A checkpoint whose data counted 8 electrons for Mg, with a starting density that has 10."""
    from dataclasses import replace

    from tomat.prediction.assemble import Failure, predict_densities

    oxide = tomat.read(LABEL / "qe-0770.zarr").crystal
    facts = TrainingFacts(valence={12: 8.0, 8: 6.0}, promolecule=Promolecule.load("qe-sg15"))
    predictor = TokenPredictor(needs_guess=True, facts=facts)
    cells = [CellRequest(oxide, (20, 20, 20))]
    (refused,) = predict_densities(predictor, cells, max_guess_error=0.25)
    assert isinstance(refused, Failure)
    assert "electrons, but the valence counts of the training data give 14" in str(refused.error)
    (passed,) = predict_densities(predictor, cells)
    assert not isinstance(passed, Failure)
    right = replace(predictor, facts=replace(facts, valence={12: 10.0, 8: 6.0}))
    (fine,) = predict_densities(right, cells, max_guess_error=0.25)
    assert not isinstance(fine, Failure)
