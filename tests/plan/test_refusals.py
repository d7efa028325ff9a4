"""Why a material is left out: a run, its plan and rows cut while training give one reason, that of the core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import oracle
from runs import SMALL, meta, tokenize
from tomat.dataset.config import TokenizeConfig
from tomat.dataset.meta import REASONS
from tomat.lm.data import DataConfig, open_rows
from tomat.plan import plan

CUBE = np.diag([4.0, 4.0, 4.0])
LONG = np.diag([51.18, 4.0, 4.0])
#: Rows span a plane: such a cell has no volume.
FLAT = np.array([[4.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
#: 85 + 10 n tokens in a row of 256: 17 atoms fit.
MANY = 18

#: Grid, cell, atoms and the reason; each but the first is wrong in one way or in several at once.
CASES: dict[str, tuple[oracle.Shape, oracle.Floats, int, str | None]] = {
    "sound": ((4, 4, 4), CUBE, 17, None),
    "long-axis": ((4, 1024, 4), CUBE, 1, "oversized"),
    "long-axis-and-cell": ((1024, 4, 4), LONG, 1, "oversized"),
    "long-axis-many-atoms": ((4, 4, 1024), CUBE, MANY, "oversized"),
    "all": ((4, 1024, 4), LONG, MANY, "oversized"),
    "long-cell": ((4, 4, 4), LONG, 1, "bad_lattice"),
    "long-cell-many-atoms": ((4, 4, 4), LONG, MANY, "bad_lattice"),
    "many-atoms": ((4, 4, 4), CUBE, MANY, "overflow"),
    "flat-cell": ((4, 4, 4), FLAT, 1, "unreadable"),
    "flat-cell-many-atoms": ((4, 4, 4), FLAT, MANY, "unreadable"),
    "no-atoms": ((4, 4, 4), CUBE, 0, "unreadable"),
    "empty-axis": ((4, 0, 4), CUBE, 1, "unreadable"),
    "empty-axis-many-atoms": ((4, 0, 4), CUBE, MANY, "unreadable"),
}


def write_chgcar(path: Path, grid: oracle.Shape, cell: oracle.Floats, n_atoms: int) -> None:
    """Also one that no program would write."""
    rows = [" ".join(f"{x:.6f}" for x in row) for row in cell]
    atoms = [f"{x:.6f} 0.1 0.2" for x in np.linspace(0, 0.9, n_atoms)]
    values = " ".join(["4.0"] * int(np.prod(grid)))
    lines = ["made", "1.0", *rows, "Si", str(n_atoms), "Direct", *atoms, "", " ".join(map(str, grid)), values]
    path.write_text("\n".join(lines) + "\n")


def lengths_and_angles(cell: oracle.Floats) -> dict[str, float]:
    """As a catalogue has them."""
    return dict(
        zip(("a", "b", "c", "alpha", "beta", "gamma"), oracle.lattice_parameters(cell.tolist()), strict=True)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cases")
    for name, (grid, cell, n_atoms, _) in CASES.items():
        write_chgcar(folder / f"{name}.CHGCAR", grid, cell, n_atoms)
    return [folder / f"{name}.CHGCAR" for name in CASES]


EXPECTED = {name: reason for name, (*_, reason) in CASES.items() if reason is not None}


def test_a_run_leaves_out_what_it_should(files: list[Path], tmp_path: Path) -> None:
    result = tokenize(
        *files, "--out", tmp_path / "out", *SMALL, "--fallback-shape", "4,4,4", "--on-error", "skip"
    )
    assert result.code == 0, result.err
    facts = meta(tmp_path / "out")
    assert {name: reason for reason in REASONS for name in facts[f"first_materials_{reason}"]} == EXPECTED


def test_a_plan_says_so_before(files: list[Path]) -> None:
    rows = [
        {
            "id": name,
            "nx": grid[0],
            "ny": grid[1],
            "nz": grid[2],
            "n_atoms": n_atoms,
            **lengths_and_angles(cell),
        }
        for name, (grid, cell, n_atoms, _) in CASES.items()
    ]
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, fallback_shapes=((4, 4, 4),))
    found = {m["id"]: m["reason"] for m in plan(config, rows).materials if m["reason"] is not None}
    assert found == EXPECTED


def test_training_on_densities_leaves_out_the_same(files: list[Path]) -> None:
    config = DataConfig(
        densities=tuple(map(str, files)), patch_size=4, patches_per_material=3, fallback_shapes=((4, 4, 4),),
        pad_to=256, on_error="skip",
    )  # fmt: skip
    source = open_rows(config, 256).source
    assert {name: reason for reason, names in source.left_out.items() for name in names} == EXPECTED
    assert list(source.task_ids) == ["sound"]
