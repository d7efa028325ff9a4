"""Writers: what they write reads back, here and in pymatgen, ASE and zarr, for every cell and grid."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import ase.io.cube
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core.structure import Structure
from pymatgen.io.vasp.outputs import Chgcar

import tomat
from strategies import SPECIAL_VALUES, grids, seeds
from tomat.formats import format_of
from tomat.formats.text import fortran, scientific
from tomat.formats.vasp import read_augmentation
from tomat.formats.zarr import structure_dict

write = tomat.Material.write

TRICLINIC = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])


def material(
    grid: tuple[int, int, int] = (3, 4, 5), seed: int = 0, unit: str = "chgcar", name: str = "m"
) -> tomat.Material:
    """A triclinic cell, atoms in mixed order and outside it, values of both signs over nine decades."""
    rng = np.random.default_rng(seed)
    values = rng.choice([-1.0, 1.0, 1.0], grid) * 10.0 ** rng.uniform(-5, 4, grid)
    values[0, 0, 0] = 0.0
    lattice = TRICLINIC * rng.uniform(0.8, 1.2)
    return tomat.Material.of(name, values, unit, lattice, [8, 3, 8, 118], rng.uniform(-1, 2, (4, 3)))


@given(grid=grids(7), seed=seeds, unit=st.sampled_from(tomat.UNITS))
@settings(max_examples=25)
def test_zarr_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int, unit: str
) -> None:
    m = material(grid, seed, unit)
    path = tmp_path_factory.mktemp("zarr") / "m.zarr"
    write(m, path)
    back = tomat.read(path)
    np.testing.assert_array_equal(back.density, m.in_unit("chgcar").density)
    np.testing.assert_array_equal(back.lattice, m.lattice)
    np.testing.assert_array_equal(back.frac_coords, m.frac_coords)
    np.testing.assert_array_equal(back.atomic_numbers, m.atomic_numbers)
    assert (back.task_id, back.unit) == ("m", "chgcar")


def test_zarr_is_the_layout_of_the_data(tmp_path: Path, data: Path) -> None:
    """The same metadata as the real files but for its checksums, and readable by zarr and pymatgen."""
    source = data / "rho_gga" / "label" / "qe-0934.zarr"
    m = tomat.read(source)
    m.write(tmp_path / "copy.zarr")
    name = "charge_density_total/zarr.json"
    written = json.loads((tmp_path / "copy.zarr" / name).read_text())
    assert written["codecs"].pop() == {"name": "crc32c"}
    assert written["codecs"][1]["configuration"].pop("checksum") is True
    original = json.loads((source / name).read_text())
    assert original["codecs"][1]["configuration"].pop("checksum") is False
    assert written == original
    group: Any = zarr.open_group(tmp_path / "copy.zarr", mode="r")
    np.testing.assert_array_equal(group["charge_density_total"][...], m.density)
    structure = Structure.from_dict(json.loads(group.attrs["structure"]))
    assert structure.composition.reduced_formula == "BN"
    np.testing.assert_allclose(structure.lattice.matrix, m.lattice)
    original = json.loads(json.loads((source / "zarr.json").read_text())["attributes"]["structure"])
    made = structure_dict(m.crystal)
    assert made.keys() == original.keys()
    assert made["sites"][0].keys() == original["sites"][0].keys()
    assert made["lattice"].keys() == original["lattice"].keys()
    assert json.loads(group.attrs["metadata"])["task_id"] == "qe-0934"
    assert json.loads(group.attrs["metadata"])["n_electrons"] == pytest.approx(m.n_electrons)


def test_a_flipped_bit_in_a_zarr_chunk_is_an_error(tmp_path: Path) -> None:
    write(material((3, 2, 4)), tmp_path / "m.zarr")
    chunk = tmp_path / "m.zarr" / "charge_density_total" / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"m\.zarr: chunk charge_density_total/c/0/0/0"):
            tomat.read(tmp_path / "m.zarr")
        if bit % 29 == 0:  # the readers of others tell too
            with pytest.raises(Exception, match=r"checksum|decompress|[Zz]std"):
                np.asarray(zarr.open_group(tmp_path / "m.zarr", mode="r")["charge_density_total"])
    chunk.write_bytes(content)
    assert tomat.read(tmp_path / "m.zarr").grid_shape == (3, 2, 4)


@given(grid=grids(7), seed=seeds, unit=st.sampled_from(tomat.UNITS))
@settings(max_examples=25)
def test_chgcar_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int, unit: str
) -> None:
    m = material(grid, seed, unit)
    path = tmp_path_factory.mktemp("chgcar") / "CHGCAR"
    write(m, path)
    back = tomat.read(path)
    # Eleven digits are more than float32 holds; the header has VASP's six decimals.
    np.testing.assert_array_equal(back.density, m.in_unit("chgcar").density)
    np.testing.assert_allclose(back.lattice, m.lattice, atol=6e-7)
    np.testing.assert_allclose(back.frac_coords, m.frac_coords, atol=6e-7)
    np.testing.assert_array_equal(back.atomic_numbers, m.atomic_numbers)
    assert not back.source["has_augmentation"]


def test_pymatgen_reads_the_chgcar(tmp_path: Path) -> None:
    m = material((4, 3, 7))
    m = tomat.Material.of("m", np.abs(m.density), m.unit, m.lattice, [8, 3, 8, 26], m.frac_coords)
    write(m, tmp_path / "m.vasp")
    chgcar = Chgcar.from_file(str(tmp_path / "m.vasp"))
    np.testing.assert_allclose(chgcar.data["total"], m.density, rtol=1e-7)
    assert [site.specie.symbol for site in chgcar.structure] == ["O", "Li", "O", "Fe"]
    assert chgcar.data["total"].mean() == pytest.approx(m.n_electrons)


def test_the_chgcar_of_vasp_comes_out_as_it_went_in(tmp_path: Path, data: Path) -> None:
    """The header and the columns of a file that VASP wrote, and its numbers as far as float32 holds them."""
    source = data / "chgcar" / "vasp-pmg-Li-nospin.CHGCAR.gz"
    m = tomat.read(source)
    write(m, tmp_path / "CHGCAR")
    theirs = gzip.decompress(source.read_bytes()).decode().splitlines()
    ours = (tmp_path / "CHGCAR").read_text().splitlines()
    assert [line.split() for line in ours[1:11]] == [line.split() for line in theirs[1:11]]
    assert len(ours[11]) == len(theirs[11].rstrip()) == 90
    # The same columns and exponents; what float32 loses is in the eighth digit.
    for mine, his in zip(ours[11:], theirs[11:], strict=False):
        assert [word[-4:] for word in mine.split()] == [word[-4:] for word in his.split()]
        np.testing.assert_allclose(
            np.array(mine.split(), dtype=float), np.array(his.split(), dtype=float), rtol=1e-7
        )
    assert len(ours) == 11 + -(-(32**3) // 5)


@given(grid=grids(7), seed=seeds, unit=st.sampled_from(tomat.UNITS))
@settings(max_examples=25)
def test_cube_reads_back_to_its_digits(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int, unit: str
) -> None:
    m = material(grid, seed, unit)
    path = tmp_path_factory.mktemp("cube") / "m.cube"
    write(m, path)
    back = tomat.read(path)
    assert back.unit == "e_per_A3"
    np.testing.assert_allclose(back.density, m.in_unit("e_per_A3").density, rtol=6e-6)
    np.testing.assert_allclose(back.lattice, m.lattice, atol=1e-9)
    np.testing.assert_allclose(back.frac_coords, m.frac_coords, atol=1e-8)
    np.testing.assert_array_equal(back.atomic_numbers, m.atomic_numbers)


def test_ase_reads_the_cube(tmp_path: Path) -> None:
    m = material((4, 3, 7))
    write(m, tmp_path / "m.cube")
    read_cube: Any = ase.io.cube.read_cube
    with (tmp_path / "m.cube").open() as file:
        content = read_cube(file)
    np.testing.assert_allclose(content["data"], m.in_unit("e_per_A3").density * 0.529177210903**3, rtol=6e-6)
    np.testing.assert_allclose(content["atoms"].cell.array, m.lattice, atol=1e-6)
    np.testing.assert_array_equal(content["atoms"].numbers, m.atomic_numbers)


@pytest.mark.parametrize(
    "name", ["a.CHGCAR.gz", "a.chgcar.xz", "a.vasp.bz2", "a.CHG.zst", "a.cube.gz", "a.cub"]
)
def test_text_is_compressed_by_suffix(tmp_path: Path, name: str) -> None:
    m = material((5, 2, 3))
    m.write(tmp_path / name)
    np.testing.assert_allclose(tomat.read(tmp_path / name).in_unit("chgcar").density, m.density, rtol=6e-6)
    plain = tmp_path / "plain"
    write(m, plain, format_of(name))
    first = (tmp_path / name).read_bytes()
    assert (first == plain.read_bytes()) == name.endswith("cub")
    m.write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


@given(seed=seeds)
@settings(max_examples=50)
def test_numbers_are_those_of_format(seed: int) -> None:
    """Against Python's own formatting, powers of ten and carries among them."""
    rng = np.random.default_rng(seed)
    special = [value for value in SPECIAL_VALUES if abs(value) > 1e-90 or value == 0]
    carries = [9.999999999999e3, 0.99999999999999, 99999.95, 1e-5, 1e5, 123456789012.0, 0.1, 1e22]
    drawn = rng.choice([-1, 1], 50) * 10.0 ** rng.uniform(-40, 38, 50)
    values = np.array([*special, *carries, *drawn, *(-np.array(carries))])
    lines = [bytes(row).decode() for row in fortran(values)]
    for value, text in zip(values, lines, strict=True):
        assert len(text) == 18
        assert float(text) == pytest.approx(value, rel=5.01e-11, abs=0)
        assert text[1:3] == ("-." if value < 0 else "0.")
        assert value == 0 or text[3] != "0"
    for value, row in zip(values, scientific(values), strict=True):
        # Halves may round to either side: log10 and the product are float64.
        assert float(bytes(row).decode()) == pytest.approx(float(f"{value:.5E}"), rel=1.01e-5)
        assert len(f"{value:13.5E}") == len(row)


@pytest.mark.parametrize("name", ["density", "a.txt", "a.zarr.gz", "POSCAR"])
def test_a_name_without_a_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="implies no format"):
        material().write(tmp_path / name)
    with pytest.raises(ValueError, match="not one of"):
        write(material(), tmp_path / name, "hdf5")


@pytest.mark.parametrize("name", ["m.zarr", "m.CHGCAR", "m.cube"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = material(seed=1), material(seed=2)
    first.write(tmp_path / name)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            second.write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_allclose(
        tomat.read(tmp_path / name).in_unit("chgcar").density, first.density, rtol=6e-6
    )
    second.write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_allclose(
        tomat.read(tmp_path / name).in_unit("chgcar").density, second.density, rtol=6e-6
    )


def test_strange_names_stay_on_one_line(tmp_path: Path) -> None:
    write(material(name="Fe\u2082O\u2083\nrelaxed\t!"), tmp_path / "CHGCAR")
    assert (tmp_path / "CHGCAR").read_bytes().splitlines()[0] == b"Fe?O? relaxed !"
    assert tomat.read(tmp_path / "CHGCAR").grid_shape == (3, 4, 5)


# --- augmentation occupancies -------------------------------------------------------------------------------


def test_augmentation_is_taken_over(tmp_path: Path, data: Path) -> None:
    for name in ("vasp-pmg-Li-nospin", "vasp-pmg-Li-spin"):
        source = data / "chgcar" / f"{name}.CHGCAR.gz"
        text = read_augmentation(source, 1)
        assert text.splitlines()[0].split()[-2:] == [b"1", b"15"]
        assert len(text.splitlines()) == 4
        write(tomat.read(source), tmp_path / "CHGCAR", augmentation=text)
        back = tomat.read(tmp_path / "CHGCAR")
        assert back.source["has_augmentation"]
        assert not back.source["has_spin"]
        assert Chgcar.from_file(str(tmp_path / "CHGCAR")).data_aug["total"]


def test_augmentation_that_does_not_fit_is_refused(tmp_path: Path, data: Path) -> None:
    source = data / "chgcar" / "vasp-pmg-Li-spin.CHGCAR.gz"
    with pytest.raises(ValueError, match="of 1 atoms, where the crystal has 2"):
        read_augmentation(source, 2)
    with pytest.raises(ValueError, match="of 0 atoms"):
        read_augmentation(data / "chgcar" / "vasp-mp-2300242.CHGCAR.gz", 2)
    two = tmp_path / "two"
    two.write_bytes(b"augmentation occupancies   1   2\n 1.0 2.0\naugmentation occupancies   2   1\n 1.0\n")
    assert read_augmentation(two, 2) == two.read_bytes()
    with pytest.raises(ValueError, match="of more atoms"):
        read_augmentation(two, 1)
    for damaged in (
        b"augmentation occupancies   1   9\n 1.0 2.0\n",
        b"augmentation occupancies   1   x\n1\n",
    ):
        two.write_bytes(damaged)
        with pytest.raises(ValueError, match="atom 1 are damaged or cut off"):
            read_augmentation(two, 1)
    two.write_bytes(gzip.compress(b"augmentation" * 9)[:-9])
    with pytest.raises(ValueError, match="two: damaged or cut off"):
        read_augmentation(two, 1)
