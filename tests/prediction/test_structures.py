"""Crystals from files: every reader gives the same one, and errors name the file, the problem and the remedy."""

from __future__ import annotations

import gzip
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.atoms import Atoms
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.io.cif import CifWriter

import tomat
from tomat.crystal import Crystal
from tomat.prediction.run import expand
from tomat.prediction.structures import as_crystal, name_of, read_crystal

POSCAR = """a comment
1.0
  3.1  0.2 -0.1
 -1.3  4.4  0.3
  0.5  0.9  5.2
Li O
1 2
Direct
 0.1 0.2 0.3
 0.4 0.5 0.6
 0.7 0.8 0.95
"""
LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])
COORDINATES = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.95]])
NUMBERS = [3, 8, 8]


def lengths(crystal: Crystal) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What a rotation of the cell does not change."""
    return np.asarray(crystal.lattice @ crystal.lattice.T)


def expect(crystal: Crystal, *, exact: bool = True) -> None:
    assert crystal.atomic_numbers.tolist() == NUMBERS
    assert crystal.atomic_numbers.dtype == np.int32
    np.testing.assert_allclose(crystal.frac_coords, COORDINATES, atol=1e-7)
    if exact:
        np.testing.assert_allclose(crystal.lattice, LATTICE, atol=1e-7)
    # A CIF keeps lengths and angles, not the orientation.
    np.testing.assert_allclose(lengths(crystal), LATTICE @ LATTICE.T, atol=1e-4)


def structure() -> Structure:
    return Structure(Lattice(LATTICE), ["Li", "O", "O"], COORDINATES)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("POSCAR", None),
        ("x/CONTCAR", "x"),
        ("POSCAR_li2o", "POSCAR_li2o"),
        ("li2o.vasp", "li2o"),
        ("li2o.POSCAR", "li2o"),
        ("mp-1.poscar.gz", "mp-1"),
        ("x/POSCAR.gz", "x"),
    ],
)
def test_poscars(tmp_path: Path, path: str, name: str | None) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    text = POSCAR.encode()
    file.write_bytes(gzip.compress(text) if path.endswith(".gz") else text)
    crystal = read_crystal(file)
    expect(crystal)
    assert crystal.name == (name or tmp_path.name)
    assert name_of(file) == crystal.name


def test_other_formats(tmp_path: Path) -> None:
    CifWriter(structure(), significant_figures=9).write_file(tmp_path / "li2o.cif")
    structure().to(filename=str(tmp_path / "li2o.json"))
    atoms: Any = Atoms(numbers=NUMBERS, scaled_positions=COORDINATES, cell=LATTICE, pbc=True)
    atoms.write(tmp_path / "li2o.extxyz")
    atoms.write(tmp_path / "li2o.xsf")
    for suffix in ("cif", "json", "extxyz", "xsf"):
        crystal = read_crystal(tmp_path / f"li2o.{suffix}")
        expect(crystal, exact=suffix != "cif")
        assert crystal.name == "li2o"


def test_a_cif_with_symmetry_is_the_whole_cell(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    CifWriter(salt, symprec=0.01).write_file(tmp_path / "salt.cif")
    crystal = read_crystal(tmp_path / "salt.cif")
    assert sorted(crystal.atomic_numbers.tolist()) == [11] * 4 + [17] * 4
    assert crystal.volume == pytest.approx(5.64**3)


def test_densities_give_their_crystals(data: Path) -> None:
    for path in (
        data / "rho_gga" / "label" / "qe-0039.zarr",
        data / "cube" / "qe-0039-Si.cube.gz",
        data / "chgcar" / "vasp-mp-2300242.CHGCAR.gz",
    ):
        crystal = read_crystal(path)
        m = tomat.read(path)
        np.testing.assert_array_equal(crystal.lattice, m.lattice)
        np.testing.assert_array_equal(crystal.frac_coords, m.frac_coords)
        assert crystal.name == m.task_id == name_of(path)


def test_objects(data: Path) -> None:
    expect(as_crystal(structure()))
    expect(as_crystal(Atoms(numbers=NUMBERS, scaled_positions=COORDINATES, cell=LATTICE, pbc=True)))
    crystal = Crystal.of(LATTICE, NUMBERS, COORDINATES)
    assert as_crystal(crystal) is crystal
    expect(as_crystal(tomat.Material.on(crystal, np.ones((2, 3, 4)), "chgcar")))
    with pytest.raises(TypeError, match="a float is not a crystal"):
        as_crystal(1.0)  # type: ignore[arg-type]


def test_a_url() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/structures/li2o.vasp", POSCAR.encode())
    crystal = read_crystal("memory://structures/li2o.vasp")
    expect(crystal)
    assert crystal.name == "li2o"
    with pytest.raises(FileNotFoundError):
        read_crystal("memory://structures/none.vasp")


PARTLY = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Fe1 Fe 0 0 0 0.5
Ni1 Ni 0 0 0 0.5
O1 O 0.5 0.5 0.5 1.0
"""


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("x.cif", PARTLY, r"x\.cif: 1 of 2 sites are partly occupied \(first: site 1.*order it first"),
        ("x.cif", PARTLY + PARTLY.replace("data_x", "data_y"), r"x\.cif: it holds 2 crystals"),
        ("x.cif", "data_x\n", r"x\.cif: no crystal could be read: pymatgen.*ASE"),
        ("POSCAR", POSCAR.replace("Li O\n", ""), "POSCAR: the file has the VASP 4 format.*symbols"),
        ("POSCAR", POSCAR[:60], "POSCAR: no crystal could be read: pymatgen"),
        ("POSCAR", "", "POSCAR: no crystal could be read"),
        ("x.vasp", POSCAR.replace("Li O", "Xx Yy"), r"x\.vasp"),
        ("x.xyz", "1\nno cell\nHe 0 0 0\n", r"x\.xyz: .*have no cell"),
        ("x.extxyz", "1\nLattice=\"1 0 0 0 1 0 0 0 1\"\nHe 0 0 0\n" * 2, r"x\.extxyz: it holds 2 crystals"),
        ("x.unknown", "?", r"x\.unknown: no crystal could be read.*usual suffix"),
        ("x.CHGCAR", POSCAR, r"x\.CHGCAR"),
        ("x.json", "{}", r"x\.json: no crystal could be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"(?s){match}"):
            read_crystal(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.cif: no such file"):
        read_crystal(tmp_path / "none.cif")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel without extras."""
    for module in [m for m in sys.modules if m.split(".")[0] in ("pymatgen", "ase")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pymatgen", None)
    monkeypatch.setitem(sys.modules, "ase", None)


def cifs(folder: Path, data: Path) -> dict[Path, Crystal]:
    """Crystals of the data as CIFs, with and without their symmetry, and what pymatgen reads from these."""
    found = {}
    for path in sorted((data / "rho_gga" / "label").iterdir()):
        for precision in (None, 0.01):
            file = folder / f"{path.stem}-{precision}.cif"
            CifWriter(
                tomat.read(path).to_pymatgen().structure, symprec=precision, significant_figures=9
            ).write_file(file)
            found[file] = read_crystal(file)
    return found


def test_cifs_are_the_same_crystals_without_pymatgen(
    tmp_path: Path, data: Path, request: pytest.FixtureRequest
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cifs(tmp_path, data)
    request.getfixturevalue("alone")
    for file, one in expected.items():
        found = read_crystal(file)
        np.testing.assert_allclose(found.lattice, one.lattice, atol=1e-6)
        assert sorted(found.atomic_numbers.tolist()) == sorted(one.atomic_numbers.tolist()), file
        for z, place in zip(one.atomic_numbers, one.frac_coords, strict=True):
            apart = found.frac_coords[found.atomic_numbers == z] - place
            apart = (apart - np.round(apart)) @ one.lattice
            assert np.linalg.norm(apart, axis=1).min() < 1e-4, file


@pytest.mark.parametrize("name", ["POSCAR", "x.vasp", "x.poscar.gz"])
def test_poscars_are_read_without_pymatgen(tmp_path: Path, name: str, alone: None) -> None:
    text = POSCAR.encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    expect(read_crystal(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("x.cif", PARTLY, r"x\.cif: 2 of 3 sites are partly occupied \(first: Fe1\)"),
        ("x.cif", PARTLY + PARTLY.replace("data_x", "data_y"), r"x\.cif: it holds 2 crystals"),
        ("x.cif", "data_x\n", r"x\.cif: no crystal could be read: .*pip install 'tomat\[structures\]'"),
        ("POSCAR", POSCAR.replace("Li O\n", ""), r"POSCAR: no crystal could be read: .*line 7"),
        ("x.xyz", "1\n\nHe 0 0 0\n", r"x\.xyz: .*pip install 'tomat\[structures\]'"),
    ],
)
def test_without_the_packages_errors_name_the_file(
    tmp_path: Path, name: str, text: str, match: str, alone: None
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        read_crystal(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lattice": np.eye(2)}, "lattice has shape"),
        ({"lattice": np.zeros((3, 3))}, "volume"),
        ({"lattice": np.full((3, 3), np.inf)}, "finite"),
        ({"atomic_numbers": [3, 8]}, "do not fit"),
        ({"atomic_numbers": [3, 8, 119]}, "elements are 1 to 118"),
        ({"atomic_numbers": [3, 8, 8.5]}, "whole"),
        ({"atomic_numbers": [], "frac_coords": np.zeros((0, 3))}, "at least one atom"),
        ({"frac_coords": COORDINATES * np.nan}, "NaN"),
    ],
)
def test_bad_arrays_are_named(change: dict[str, object], match: str) -> None:
    arguments: dict[str, object] = {
        "lattice": LATTICE,
        "atomic_numbers": NUMBERS,
        "frac_coords": COORDINATES,
    }
    with pytest.raises(ValueError, match=f"x: .*{match}"):
        Crystal.of(**(arguments | change), name="x")  # type: ignore[arg-type]


def test_partly_occupied_atoms_of_ase() -> None:
    atoms = Atoms("Fe", cell=LATTICE, pbc=True)
    atoms.info["occupancy"] = {"0": {"Fe": 0.5, "Ni": 0.5}}
    with pytest.raises(ValueError, match="site 0 is partly occupied"):
        Crystal.from_ase(atoms)


def test_folders_and_lists(tmp_path: Path, data: Path) -> None:
    for name in ("b.vasp", "a.cif", ".hidden"):
        (tmp_path / name).write_text("")
    (tmp_path / "list").mkdir()
    listed = tmp_path / "list" / "paths.txt"
    listed.write_text("x/POSCAR\n\n y/POSCAR \n")
    (tmp_path / "c.zarr").symlink_to(data / "rho_gga" / "label" / "qe-0039.zarr")
    zarr = tmp_path / "c.zarr"
    assert expand([zarr, listed]) == [str(zarr), "x/POSCAR", "y/POSCAR"]
    (tmp_path / "list" / "paths.txt").unlink()
    (tmp_path / "list").rmdir()
    assert expand([tmp_path]) == [str(tmp_path / name) for name in ("a.cif", "b.vasp", "c.zarr")]
    with pytest.raises(ValueError, match="both have the name x"):
        expand(["a/x.cif", "b/x.vasp"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no structures found"):
        expand([tmp_path / "empty"])
