"""XSF files: against ASE's reader and a file by pp.x, with their repeated points and their unit."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase.io.xsf
import numpy as np
import pytest
from ase.atoms import Atoms
from hypothesis import given, settings

import tomat
from strategies import grids, seeds
from tomat.dataset import TokenizeConfig, resolve_inputs
from tomat.engine import tokenize
from tomat.formats.compression import COMPRESSORS
from tomat.formats.qe.vectors import BOHR
from tomat.formats.xsf import decode
from tomat.prediction.structures import read_crystal

LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])
ATOMS = ([8, 3, 8], np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, 0.6], [1.7, 0.8, 0.9]]))


def material(grid: tuple[int, int, int] = (3, 4, 5), seed: int = 0) -> tomat.Material:
    values = np.random.default_rng(seed).uniform(-0.1, 2.0, grid)
    return tomat.Material.of("made", values, "e_per_A3", LATTICE, *ATOMS)


def text(tmp_path: Path) -> str:
    material().write(tmp_path / "made.xsf")
    return (tmp_path / "made.xsf").read_text()


@given(grid=grids(7), seed=seeds)
@settings(max_examples=25)
def test_ase_reads_it(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int
) -> None:
    """A general grid: one point more along each axis, equal to the first; per cubic bohr; in the order of ASE."""
    made = material(grid, seed)
    path = tmp_path_factory.mktemp("xsf") / "made.xsf"
    made.write(path)
    with path.open() as file:
        values, origin, vectors, atoms = ase.io.xsf.read_xsf(file, read_data=True)  # type: ignore[no-untyped-call]
    assert values.shape == tuple(n + 1 for n in grid)
    np.testing.assert_array_equal(origin, 0.0)
    np.testing.assert_allclose(vectors, LATTICE, atol=1e-11)
    np.testing.assert_allclose(atoms.cell, LATTICE, atol=1e-11)
    np.testing.assert_allclose(atoms.get_scaled_positions(wrap=False), ATOMS[1], atol=1e-10)
    assert atoms.numbers.tolist() == ATOMS[0]
    expected = np.pad(made.density, (0, 1), mode="wrap") * BOHR**3
    np.testing.assert_allclose(values, expected, rtol=6e-6)
    back = tomat.read(path)
    assert (back.task_id, back.unit, back.grid_shape) == ("made", "e_per_A3", grid)
    np.testing.assert_allclose(back.density, made.density, rtol=6e-6)
    np.testing.assert_allclose(back.lattice, made.lattice, atol=1e-11)
    np.testing.assert_allclose(back.frac_coords, made.frac_coords, atol=1e-11)
    np.testing.assert_array_equal(back.atomic_numbers, made.atomic_numbers)


def test_what_ase_writes_is_read(tmp_path: Path) -> None:
    """Given the vectors of the cell and the repeated points, or vectors that end before them; and its unit."""
    made = material()
    atoms = Atoms(ATOMS[0], scaled_positions=ATOMS[1], cell=LATTICE, pbc=True)
    whole = np.pad(made.density, (0, 1), mode="wrap")
    shares = [(n - 1) / n for n in made.grid_shape]
    for values, vectors in ((whole, LATTICE), (made.density, LATTICE * np.array(shares)[:, None])):
        path = tmp_path / "x.xsf"
        with path.open("w") as file:
            ase.io.xsf.write_xsf(file, [atoms], data=values, span_vectors=vectors)
        with pytest.raises(ValueError, match=r"x\.xsf: it does not say its unit.*add a first line"):
            tomat.read(path)
        path.write_text("# electrons per cubic angstrom\n" + path.read_text())
        found = tomat.read(path)
        assert found.grid_shape == made.grid_shape
        np.testing.assert_allclose(found.density, made.density, atol=1e-6)
        path.write_text(path.read_text().replace("angstrom", "bohr"))
        np.testing.assert_allclose(tomat.read(path).density, found.density / BOHR**3, rtol=1e-6)


def test_an_origin_shifts_the_atoms(tmp_path: Path) -> None:
    """Grid points are where the file says; here a density begins at its first point."""
    lines = text(tmp_path).splitlines()
    at = next(i for i, line in enumerate(lines) if "BEGIN_DATAGRID" in line) + 2
    lines[at] = " ".join(map(str, LATTICE[0] / 2))
    (tmp_path / "shifted.xsf").write_text("\n".join(lines))
    found, before = tomat.read(tmp_path / "shifted.xsf"), tomat.read(tmp_path / "made.xsf")
    np.testing.assert_array_equal(found.density, before.density)
    np.testing.assert_allclose(found.frac_coords, before.frac_coords - [0.5, 0, 0], atol=1e-9)


def test_a_file_by_pp_is_in_its_unit(data: Path, tmp_path: Path) -> None:
    """tests/formats/test_qe.py compares the density; here what a file with several blocks of names needs."""
    content = gzip.decompress((data / "xsf" / "qe-Hspin.xsf.gz").read_bytes())
    assert decode(content, "x").density.sum() > 0
    with pytest.raises(ValueError, match="does not say its unit"):
        decode(content.replace(b"3D_PWSCF", b"something"), "x")


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed(tmp_path: Path, suffix: str) -> None:
    material().write(tmp_path / f"x.xsf{suffix}")
    material().write(tmp_path / "y.xsf")
    found = tomat.read(tmp_path / f"x.xsf{suffix}")
    np.testing.assert_array_equal(found.density, tomat.read(tmp_path / "y.xsf").density)
    assert found.task_id == "x"
    packed = (tmp_path / f"x.xsf{suffix}").read_bytes()
    (tmp_path / f"x.xsf{suffix}").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=rf"x\.xsf{suffix}: "):
        tomat.read(tmp_path / f"x.xsf{suffix}")


def test_a_text_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.xsf.gz").write_bytes(gzip.compress(bytes(400 << 20), 9))
    with pytest.raises(ValueError, match=r"x\.xsf\.gz: it unpacks to more than"):
        tomat.read(tmp_path / "x.xsf.gz")


def test_a_crystal_alone_is_still_a_structure(tmp_path: Path) -> None:
    """An XSF file is a density where one is asked for, and a structure where that is."""
    whole = text(tmp_path)
    crystal = read_crystal(tmp_path / "made.xsf")
    np.testing.assert_allclose(crystal.lattice, LATTICE, atol=1e-6)
    (tmp_path / "alone.xsf").write_text(whole[: whole.index("BEGIN_BLOCK")])
    assert read_crystal(tmp_path / "alone.xsf").atomic_numbers.tolist() == ATOMS[0]
    with pytest.raises(ValueError, match=r"alone\.xsf: no BEGIN_BLOCK_DATAGRID_3D"):
        tomat.read(tmp_path / "alone.xsf")


def test_they_are_inputs_where_they_are_named(tmp_path: Path) -> None:
    material((8, 8, 8)).write(tmp_path / "a.xsf")
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k")
    found = resolve_inputs([tmp_path / "a.xsf"])
    assert [entry.task_id for entry in found] == ["a"]
    tokenize(config, found, tmp_path / "rows")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("     4     5     6\n", "     4     5     7\n", "120 values for a grid of 140"),
        ("     4     5     6\n", "     4     5\n", "the points of the grid .* should be 3 finite numbers"),
        ("     4     5     6\n", "     4     5     1\n", "4 x 5 x 1 points"),
        ("     4     5     6\n", "     4     5  9999\n", "4 x 5 x 9999 points"),
        (" END_DATAGRID_3D", "", "no END_DATAGRID_3D; cut off"),
        (" END_DATAGRID_3D", " END_DATAGRID_3D\n END_DATAGRID_3D", "several grids"),
        ("PRIMVEC", "CONVVEC", "no crystal"),
        ("PRIMCOORD", "ATOMS", "no crystal"),
        ("    3 1\n", "  300 1\n", "PRIMCOORD of '300' atoms, with 3 lines"),
        ("\n    8   ", "\n  999   ", "an atom of kind '999'"),
        ("\n    3   ", "\n   Xx   ", "an atom of kind 'Xx'"),
        ("electrons_per_cubic_bohr", "x", None),  # the comment says it as well
        ("E-0", "Q-0", "could not convert"),
        ("  1.", "  nan.", "could not convert|finite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    whole = text(tmp_path)
    assert old in whole
    content = whole.replace(old, new).encode()
    if message is None:
        assert decode(content, "x.xsf").density.shape == (3, 4, 5)
        return
    with pytest.raises(ValueError, match=rf"x\.xsf: .*({message})"):
        decode(content, "x.xsf")


def test_a_grid_of_another_cell_is_named(tmp_path: Path) -> None:
    """Also one whose last points are not the first: a molecule in a box, or a grid of ASE's own vectors."""
    lines = text(tmp_path).splitlines()
    at = next(i for i, line in enumerate(lines) if "BEGIN_DATAGRID" in line) + 3
    wrong = [*lines[:at], "6.2 0.4 -0.2", *lines[at + 1 :]]
    with pytest.raises(ValueError, match=r"vector 1 of the grid .* primitive cell"):
        decode("\n".join(wrong).encode(), "x.xsf")
    wrong = [*lines]
    values = wrong[at + 3].split()
    wrong[at + 3] = " ".join([*values[:3], "7.5"])
    with pytest.raises(ValueError, match="do not repeat the first"):
        decode("\n".join(wrong).encode(), "x.xsf")


def test_a_file_cut_off_is_named(tmp_path: Path) -> None:
    content = text(tmp_path).encode()
    end = content.index(b" END_DATAGRID")
    for size in range(0, end, 97):
        with pytest.raises(ValueError, match=r"x\.xsf: "):
            decode(content[:size], "x.xsf")
