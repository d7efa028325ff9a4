"""Readers against pymatgen, zarr-python and ASE on real files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io.cube
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from pymatgen.core.structure import IStructure, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp.outputs import Chgcar

import tomat
from places import DATA

ROOT = DATA / "rho_gga"
IDS = (ROOT / "mp_filelist.txt").read_text().split()
CHGCARS = sorted((DATA / "chgcar").glob("*.gz"), key=str)
CUBES = {"qe-0039-Si": "qe-0039", "qe-0770-MgO-rocksalt": "qe-0770", "qe-0934-BN-hex": "qe-0934"}
read_cube: Any = ase.io.cube.read_cube  # has no types
BOHR = 0.529177210903  # angstrom, CODATA 2018


def zarr_python(task_id: str) -> tuple[NDArray[np.float32], IStructure]:
    """The same store through zarr-python and pymatgen."""
    group = zarr.open_group(ROOT / "label" / f"{task_id}.zarr", mode="r")
    density = np.asarray(group["charge_density_total"])
    return density, Structure.from_str(str(group.attrs["structure"]), fmt="json")


def same_structure(material: tomat.Material, structure: IStructure, atol: float = 0.0) -> None:
    np.testing.assert_allclose(material.lattice, structure.lattice.matrix, rtol=0, atol=atol)
    np.testing.assert_allclose(material.volume, structure.lattice.volume, rtol=1e-12 + atol)
    assert list(material.atomic_numbers) == [site.specie.Z for site in structure]
    apart = material.frac_coords - structure.frac_coords
    np.testing.assert_allclose(apart - np.round(apart), 0.0, atol=atol or 1e-12)


def of_a_density(material: tomat.Material) -> None:
    assert material.density.dtype == np.float32
    assert material.density.flags.c_contiguous
    assert material.lattice.dtype == material.frac_coords.dtype == np.float64
    assert material.lattice.shape == (3, 3)
    assert material.frac_coords.shape == (len(material.atomic_numbers), 3)


# --- rho_gga ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", IDS)
def test_zarr_equals_zarr_python(task_id: str) -> None:
    material = tomat.read(ROOT / "label" / f"{task_id}.zarr")
    density, structure = zarr_python(task_id)
    of_a_density(material)
    assert material.task_id == task_id
    assert material.unit == "chgcar"
    np.testing.assert_array_equal(material.density, density)
    same_structure(material, structure)
    assert material.n_electrons == pytest.approx(density.mean(dtype=np.float64), rel=1e-12)
    assert abs(material.n_electrons - round(material.n_electrons)) < 5e-4


def test_the_set_is_what_its_table_says() -> None:
    grids = {i: zarr_python(i)[0].shape for i in IDS}
    atoms = {i: len(zarr_python(i)[1]) for i in IDS}
    assert min(map(min, grids.values())) == 18
    assert max(atoms.values()) == atoms["vasp-pmg-Fe3O4"] == 14
    assert all(abs(a - 90) > 1 for a in zarr_python("qev-0003")[1].lattice.angles)


# --- CHGCAR -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHGCARS, ids=lambda p: p.name)
def test_chgcar_equals_pymatgen(path: Path) -> None:
    material, expected = tomat.read(path), Chgcar.from_file(str(path))
    of_a_density(material)
    assert material.unit == "chgcar"
    np.testing.assert_array_equal(material.density, expected.data["total"].astype(np.float32))
    same_structure(material, expected.structure, atol=1e-9)


@pytest.mark.parametrize("path", [p for p in CHGCARS if p.name.split(".")[0] in IDS], ids=lambda p: p.name)
def test_chgcar_equals_its_zarr(path: Path) -> None:
    density, structure = zarr_python(path.name.split(".")[0])
    material = tomat.read(path)
    np.testing.assert_array_equal(material.density, density)
    same_structure(material, structure, atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
@pytest.mark.parametrize("name", ["CHGCAR", "CHG", "AECCAR0", "mp-1.CHGCAR"])
def test_chgcar_packed(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], name: str) -> None:
    source = DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz"
    (tmp_path / f"{name}{suffix}").write_bytes(pack(gzip.decompress(source.read_bytes())))
    material = tomat.read(tmp_path / f"{name}{suffix}")
    np.testing.assert_array_equal(material.density, tomat.read(source).density)


def test_chgcar_axis_order(tmp_path: Path) -> None:
    """The first axis is the fastest in the file: value n is at (n % nx, n // nx % ny, n // (nx * ny))."""
    nx, ny, nz = 2, 3, 4
    numbers = " ".join(f"{n}.5" for n in range(nx * ny * nz))
    (tmp_path / "CHGCAR").write_text(
        f"order\n 2.0\n 1 0 0\n 0 2 0\n 0 0 3\n H He\n 1 1\nDirect\n 0 0 0\n 0.5 0.25 0.125\n\n"
        f" {nx} {ny} {nz}\n{numbers}\n"
    )
    material = tomat.read(tmp_path / "CHGCAR")
    expected = np.arange(nx * ny * nz).reshape(nz, ny, nx).transpose(2, 1, 0) + 0.5
    np.testing.assert_array_equal(material.density, expected)
    np.testing.assert_array_equal(material.lattice, np.diag([2.0, 4.0, 6.0]))
    assert list(material.atomic_numbers) == [1, 2]
    np.testing.assert_allclose(material.frac_coords, [[0.0, 0.0, 0.0], [0.5, 0.25, 0.125]])
    assert material.volume == pytest.approx(48.0)
    assert material.n_electrons == pytest.approx(12.0)


# --- cube ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CUBES))
def test_cube_equals_its_zarr(name: str) -> None:
    """Axis order and units, from a file that another program wrote with six digits."""
    cube = tomat.read(DATA / "cube" / f"{name}.cube.gz")
    of_a_density(cube)
    density, structure = zarr_python(CUBES[name])
    assert cube.unit == "e_per_A3"
    assert cube.density.shape == density.shape
    np.testing.assert_allclose(cube.in_unit("chgcar").density, density, rtol=5e-5, atol=5e-5 * density.max())
    same_structure(cube, structure, atol=2e-4)
    assert cube.n_electrons == pytest.approx(density.mean(dtype=np.float64), rel=5e-5)


@pytest.mark.parametrize("name", sorted(CUBES))
def test_cube_equals_ase(name: str) -> None:
    path = DATA / "cube" / f"{name}.cube.gz"
    with gzip.open(path, "rt") as file:
        expected: dict[str, Any] = read_cube(file)
    cube = tomat.read(path)
    np.testing.assert_allclose(cube.density, expected["data"] / BOHR**3, rtol=2e-6)
    np.testing.assert_allclose(cube.lattice, expected["atoms"].cell, rtol=1e-6)
    assert list(cube.atomic_numbers) == list(expected["atoms"].numbers)


def test_cube_in_angstrom(tmp_path: Path) -> None:
    """Negative numbers of points mean lengths in angstrom; the density is per cubic bohr all the same."""
    body = "\n".join(f" {n / 10:.5E}" for n in range(24))
    atom = "    1    1.0    0.5 0.25 0.0\n"
    header = "a\nb\n    1    0.0 0.0 0.0\n"
    angstrom = "   -2    0.5 0.0 0.0\n   -3    0.0 0.5 0.0\n   -4    0.0 0.0 0.5\n"
    (tmp_path / "a.cube").write_text(header + angstrom + atom + body + "\n")
    cube = tomat.read(tmp_path / "a.cube")
    np.testing.assert_allclose(cube.lattice, np.diag([1.0, 1.5, 2.0]))
    np.testing.assert_allclose(cube.density.ravel(), np.arange(24) / 10 / BOHR**3, rtol=1e-6)
    np.testing.assert_allclose(cube.frac_coords, [[0.5, 0.25 / 1.5, 0.0]])


# --- Material -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["vasp-mp-2300242", "qev-0003"])
def test_units_there_and_back(task_id: str) -> None:
    material = tomat.read(ROOT / "label" / f"{task_id}.zarr")
    other = material.in_unit("e_per_A3")
    assert (material.unit, other.unit) == ("chgcar", "e_per_A3")
    np.testing.assert_allclose(other.density, material.density / material.volume, rtol=3e-7)
    assert other.n_electrons == pytest.approx(material.n_electrons, rel=1e-6)
    np.testing.assert_allclose(other.in_unit("chgcar").density, material.density, rtol=3e-7)
    with pytest.raises((ValueError, KeyError), match="e_per_A3"):
        material.in_unit("e_per_bohr3")


def test_from_pymatgen_and_back() -> None:
    path = DATA / "chgcar" / "vasp-pmg-Li-nospin.CHGCAR.gz"
    read, chgcar = tomat.read(path), Chgcar.from_file(str(path))
    converted = tomat.Material.from_pymatgen(chgcar)
    assert converted.unit == "chgcar"
    np.testing.assert_array_equal(converted.density, read.density)
    same_structure(converted, chgcar.structure)
    again = tomat.Material.from_pymatgen(converted.to_pymatgen())
    np.testing.assert_array_equal(again.density, read.density)
    parts = tomat.Material.from_pymatgen(chgcar.structure, chgcar.data["total"] / read.volume, "e_per_A3")
    assert parts.n_electrons == pytest.approx(read.n_electrons, rel=1e-6)


def test_from_ase_and_back() -> None:
    density, structure = zarr_python("qe-0934")
    atoms = AseAtomsAdaptor.get_atoms(structure)
    material = tomat.Material.from_ase(atoms, density, "chgcar")
    np.testing.assert_array_equal(material.density, density)
    same_structure(material, structure, atol=1e-9)
    back = material.to_ase()
    np.testing.assert_allclose(back.cell, atoms.cell)
    assert list(back.numbers) == list(atoms.numbers)


def test_reading_and_tokenizing_fit_together() -> None:
    material = tomat.read(ROOT / "label" / "vasp-mp-2300242.zarr")
    tokenizer = tomat.PatchTokenizer("v3", tomat.load_codec("lmq-16k"))
    offsets = tomat.sample_offsets(material.density.shape, 4, seed=0, task_id=material.task_id)
    rows = tokenizer.encode(
        material.density, material.lattice, material.atomic_numbers, material.frac_coords, offsets
    )
    for row, offset in zip(rows, offsets, strict=True):
        patch = tokenizer.decode(row)
        axes = [(np.arange(19) + o) % n for o, n in zip(offset, material.density.shape, strict=True)]
        truth = material.density[np.ix_(*axes)].clip(0)
        assert np.abs(patch.density - truth).sum() / truth.sum() < 2e-3


def test_the_cube_files_are_read_by_content_when_the_name_says_nothing(tmp_path: Path) -> None:
    source = DATA / "cube" / "qe-0770-MgO-rocksalt.cube.gz"
    (tmp_path / "density.cub").write_bytes(gzip.decompress(source.read_bytes()))
    text = io.StringIO((tmp_path / "density.cub").read_text())
    assert tomat.read(tmp_path / "density.cub").density.shape == read_cube(text)["data"].shape
