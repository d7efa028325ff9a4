"""Save folders of Quantum ESPRESSO: two by pw.x 6.7, what is written reads back, what is damaged is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from flips import positions, turned
from strategies import seeds
from tomat.crystal import Crystal
from tomat.dataset import TokenizeConfig, open_dataset, resolve_inputs
from tomat.engine import tokenize
from tomat.formats.qe import charge, encode, schema
from tomat.formats.qe.vectors import BOHR, fft_grid, good_size, heap_sort, miller_indices
from tomat.material import task_id_of
from tomat.prediction.run import expand
from tomat.prediction.structures import read_crystal
from tomat.symmetry import operations

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
#: The lattice in the input of each recorded run, and its cutoff of the density in Ry.
RUNS = {
    "Si": (-2.7344445 * np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), 48.0),
    "LiH": (4.08 * FCC, 32.0),
}


@pytest.fixture
def recorded(data: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of the recorded folders."""
    return {
        name: Path(shutil.copytree(data / "qe" / f"{name}.save", tmp_path / f"{name}.save")) for name in RUNS
    }


def components(folder: Path) -> charge.Components:
    return charge.parse((folder / charge.NAME).read_bytes(), str(folder))


def change(folder: Path, old: str, new: str) -> None:
    path = folder / schema.NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def smooth(seed: int, lattice: np.ndarray, ecutrho: float) -> tomat.Material:
    """A positive density made of the components below a cutoff, on a grid that holds them all."""
    rng = np.random.default_rng(seed)
    miller = miller_indices(lattice, ecutrho, gamma_only=True)
    values = rng.normal(size=len(miller)) + 1j * rng.normal(size=len(miller))
    values[0] = 40.0 * len(values)
    reciprocal = 2 * np.pi * np.linalg.inv(lattice / BOHR).T
    grid = charge.to_grid(charge.Components(True, reciprocal, miller, values), fft_grid(lattice, ecutrho))
    atoms = ([3, 8, 3], rng.uniform(-1, 2, (3, 3)))
    made = tomat.Material.of("made", grid / grid.mean(), "chgcar", lattice, *atoms)
    return made.with_source(ecutrho_Ry=ecutrho)


@pytest.mark.parametrize("name", RUNS)
def test_g_vectors_are_those_of_pw_in_its_order(recorded: dict[str, Path], name: str) -> None:
    found = components(recorded[name])
    lattice, ecutrho = RUNS[name]
    made = miller_indices(lattice, ecutrho, gamma_only=found.gamma_only)
    np.testing.assert_array_equal(made, found.miller)
    np.testing.assert_allclose(
        found.reciprocal, 2 * np.pi * np.linalg.inv(lattice / BOHR).T, rtol=1e-9, atol=1e-9
    )


def test_what_pw_wrote_is_read(recorded: dict[str, Path]) -> None:
    si = tomat.read(recorded["Si"])
    assert (si.task_id, si.unit, si.grid_shape) == ("Si", "e_per_A3", (20, 20, 20))
    np.testing.assert_allclose(si.lattice, RUNS["Si"][0], atol=1e-9)
    np.testing.assert_allclose(si.frac_coords, [[0.5] * 3, [0.25] * 3], atol=1e-9)
    assert si.atomic_numbers.tolist() == [14, 14]
    assert si.n_electrons == pytest.approx(8.0, rel=1e-6)
    assert si.source["ecutwfc_Ry"] == 12.0
    assert si.source["ecutrho_Ry"] == 48.0
    lih = tomat.read(str(recorded["LiH"]) + "/")
    assert lih.atomic_numbers.tolist() == [3, 1]  # the species Li1 and H
    assert lih.source["gamma_only"] is True
    assert lih.n_electrons == pytest.approx(4.0, rel=1e-6)


def test_the_density_has_the_symmetry_of_its_crystal(recorded: dict[str, Path]) -> None:
    """A wrong sign or axis order would not: the bonds of diamond are no mirror images about an atom."""
    si = tomat.read(recorded["Si"])
    # Inversion about the middle of a bond, at 3/8: i -> 15 - i.
    swapped = np.roll(si.density[::-1, ::-1, ::-1], 16, axis=(0, 1, 2))
    np.testing.assert_allclose(si.density, swapped, atol=1e-5)
    middle = si.density[7, 7, 7] + si.density[8, 8, 8]
    assert middle > 3 * (
        si.density[2, 2, 2] + si.density[3, 3, 3]
    )  # the bond, and the cavity behind the atom


@pytest.mark.parametrize("name", RUNS)
def test_the_grid_gives_the_components_back(recorded: dict[str, Path], name: str) -> None:
    found = components(recorded[name])
    for shape in (fft_grid(*RUNS[name]), (20, 20, 20), (24, 25, 27)):
        back = charge.from_grid(charge.to_grid(found, shape), found.miller)
        np.testing.assert_allclose(back, found.values, atol=1e-10 * abs(found.values[0]))
    assert charge.dump(found) == (recorded[name] / charge.NAME).read_bytes()


@given(seed=seeds, ecutrho=st.floats(4.0, 30.0), gamma_only=st.booleans())
@settings(max_examples=25)
def test_a_written_folder_reads_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, ecutrho: float, gamma_only: bool
) -> None:
    lattice = np.random.default_rng(seed).normal(size=(3, 3)) + 3.0 * np.eye(3)
    made = smooth(seed, lattice, ecutrho).with_source(gamma_only=gamma_only)
    path = tmp_path_factory.mktemp("qe") / "made.save"
    made.write(path)
    back = tomat.read(path)
    assert back.grid_shape == made.grid_shape
    assert back.source["gamma_only"] is gamma_only
    np.testing.assert_allclose(
        back.in_unit("chgcar").density, made.density, rtol=0, atol=1e-5 * made.density.max()
    )
    np.testing.assert_allclose(back.lattice, made.lattice, atol=1e-12)
    np.testing.assert_allclose(back.frac_coords, made.frac_coords, atol=1e-12)
    np.testing.assert_array_equal(back.atomic_numbers, made.atomic_numbers)
    assert back.task_id == "made"


def test_another_grid_is_interpolated_by_fourier() -> None:
    """Components do not depend on the grid that a density comes on, if it holds them; a coarser one gives zeros."""
    lattice = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])
    made = smooth(3, lattice, 12.0)
    found = charge.parse(encode(made.crystal, made.density, 1.0, made.source)[charge.NAME], "made")
    finer = charge.to_grid(found, (24, 30, 32)).astype(np.float32)
    again = charge.from_grid(finer, found.miller)
    np.testing.assert_allclose(again, found.values, atol=1e-6 * abs(found.values[0]))
    coarse = charge.from_grid(charge.to_grid(found, (4, 4, 4)), found.miller)
    assert (coarse[np.abs(found.miller).max(axis=1) > 2] == 0).all()
    # The highest component of an even axis belongs to both signs: the cosine of 2 x on four points.
    wave = np.tile(np.array([1.0, -1.0, 1.0, -1.0])[:, None, None], (1, 4, 4))
    shares = charge.from_grid(wave, np.array([[2, 0, 0], [-2, 0, 0], [0, 0, 0]], dtype=np.int32))
    np.testing.assert_allclose(shares, [0.5, 0.5, 0.0], atol=1e-12)


def test_electrons_per_cubic_bohr() -> None:
    crystal = Crystal.of(4.0 * np.eye(3), [2], [[0, 0, 0]])
    files = encode(crystal, np.full((8, 8, 8), 0.25, np.float32), 16.0, {"ecutwfc_Ry": 5.0})
    found = charge.parse(files[charge.NAME], "made")
    assert found.values[0] == pytest.approx(0.25 * 0.529177210903**3)
    assert np.abs(found.values[1:]).max() < 1e-12
    np.testing.assert_array_equal(found.miller, miller_indices(crystal.lattice, 20.0))


def test_the_electrons_are_whole() -> None:
    """pw.x takes their number from the file, and scales the density to it."""
    crystal = Crystal.of(4.0 * np.eye(3), [2], [[0, 0, 0]])
    flat = np.full((8, 8, 8), 0.25, np.float32)
    for n, source, expected in ((15.9, {}, 16.0), (16.2, {}, 16.0), (15.5, {"electrons": 16.0}, 16.0)):
        files = encode(crystal, flat * np.float32(n / 16), n, {"ecutwfc_Ry": 5.0, **source})
        assert schema.parse(files[schema.NAME], "made").electrons == expected
        held = charge.parse(files[charge.NAME], "made").values[0].real * 64.0 / BOHR**3
        assert held == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"holds 15\.5000 electrons.*--normalize"):
        encode(crystal, flat, 15.5, {"ecutwfc_Ry": 5.0})


def test_good_sizes() -> None:
    sizes = [good_size(n) for n in (1, 7, 11, 13, 17, 19, 21, 23, 26, 31, 37, 49, 121)]
    assert sizes == [1, 8, 12, 15, 18, 20, 24, 24, 27, 32, 40, 50, 125]
    assert good_size(17, 4) == 20
    assert good_size(25, 6) == 30


def test_grids_are_those_pw_took(data: Path) -> None:
    """Or larger ones, where the translations of a space group ask for a multiple."""
    n_same = 0
    for path in sorted((data / "rho_gga" / "label").glob("qe*")):
        metadata = json.loads(json.loads((path / "zarr.json").read_text())["attributes"]["metadata"])
        material, ecutrho = tomat.read(path), metadata["source"]["ecutrho_Ry"]
        translations = operations(material.crystal).translations
        denominators = [
            [next(n for n in (1, 2, 3, 4, 6) if abs(n * x - round(n * x)) < 1e-4) for x in t]
            for t in translations
        ]
        multiples = np.lcm.reduce(denominators).tolist()
        assert fft_grid(material.lattice, ecutrho, multiples) == material.grid_shape, path.name
        n_same += fft_grid(material.lattice, ecutrho) == material.grid_shape
    assert n_same > 10
    assert fft_grid(*RUNS["Si"]) == (18, 18, 18)
    assert fft_grid(*RUNS["Si"], multiples=(4, 4, 4)) == (20, 20, 20)
    with pytest.raises(ValueError, match="ecutrho = 0"):
        fft_grid(np.eye(3), 0)


@given(seed=seeds, n=st.integers(1, 200))
def test_the_heap_sort_is_stable_for_shells_that_are_apart(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).integers(0, 12, n) + 1e-10 * np.random.default_rng(seed).random(n)
    assert heap_sort(values.tolist()) == np.lexsort((np.arange(n), np.round(values))).tolist()


def test_names(data: Path, recorded: dict[str, Path], tmp_path: Path) -> None:
    """A prefix that says nothing gives way to the folder."""
    assert task_id_of(recorded["Si"]) == "Si"
    for run in ("a", "b"):
        shutil.copytree(data / "qe" / "Si.save", tmp_path / "runs" / run / "x.save")
    found = resolve_inputs([tmp_path / "runs" / "*" / "x.save"])
    assert [entry.task_id for entry in found] == ["a", "b"]
    assert [entry.task_id for entry in resolve_inputs([tmp_path / "runs"])] == ["a", "b"]
    assert task_id_of("s3://bucket/run-7/pwscf.save/") == "run-7"
    assert expand([recorded["Si"]]) == [str(recorded["Si"])]
    assert read_crystal(recorded["LiH"]).name == "LiH"


def test_runs_become_rows(data: Path, tmp_path: Path) -> None:
    """Rows are those of the same density as a Zarr group."""
    (tmp_path / "zarr").mkdir()
    for run in ("a", "b"):
        shutil.copytree(data / "qe" / "Si.save", tmp_path / "runs" / run / "x.save")
        tomat.read(tmp_path / "runs" / run / "x.save").write(tmp_path / "zarr" / f"{run}.zarr")
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k")
    tokenize(config, resolve_inputs([tmp_path / "runs" / "*" / "x.save"]), tmp_path / "rows")
    tokenize(config, resolve_inputs([tmp_path / "zarr"]), tmp_path / "expected")
    rows, expected = (
        [path.read_bytes() for path in open_dataset(tmp_path / name).shard_paths()]
        for name in ("rows", "expected")
    )
    assert rows == expected
    (tmp_path / "runs" / "b" / "x.save" / charge.NAME).write_bytes(b"")
    with pytest.raises(ValueError, match=r"b/x.save.*cut off or damaged"):
        tokenize(config, resolve_inputs([tmp_path / "runs"]), tmp_path / "again")


def test_folders_at_urls(recorded: dict[str, Path]) -> None:
    found = tomat.read(recorded["Si"].as_uri())
    np.testing.assert_array_equal(found.density, tomat.read(recorded["Si"]).density)
    assert found.task_id == "Si"


def test_a_cutoff_is_asked_for(tmp_path: Path, data: Path) -> None:
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr")
    with pytest.raises(ValueError, match=r"qe-0039: .* needs the cutoff .*ecutwfc"):
        material.write(tmp_path / "x.save")


def test_what_is_missing_is_named(recorded: dict[str, Path], tmp_path: Path) -> None:
    folder = recorded["Si"]
    (folder / charge.NAME).unlink()
    with pytest.raises(
        ValueError, match=r"Si.save: no charge-density.dat and no charge-density.hdf5; .*disk_io"
    ):
        tomat.read(folder)
    (folder / schema.NAME).unlink()
    with pytest.raises(ValueError, match=r"Si.save: no data-file-schema.xml.*pw.x"):
        tomat.read(folder)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        tomat.read(tmp_path / "gone.save")
    (tmp_path / "file.save").write_text("")
    with pytest.raises(ValueError, match="give the folder"):
        tomat.read(tmp_path / "file.save")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<lsda>false</lsda>", "<lsda>true</lsda>", "1 spin components, where the run .* has 2"),
        (
            "<noncolin>false</noncolin>",
            "<noncolin>perhaps</noncolin>",
            "magnetization/noncolin> is 'perhaps'",
        ),
        ("<gamma_only>false", "<gamma_only>true", "gamma trick is off here and on in data-file-schema.xml"),
        ('nr1="20"', 'nr1="12"', "needs 17 x 17 x 17 points, but the grid .* is 12 x 20 x 20"),
        ('nr1="20"', 'nr1="20000"', "1 to 1023"),
        (
            '<fft_grid nr1="20" nr2="20" nr3="20">',
            '<fft_grid nr1="1000" nr2="1000" nr3="1000">',
            "1471 components",
        ),
        ("<nelec>8.0", "<nelec>9.0", "holds 8 electrons and the run .* 9"),
        ('name="Si"', 'name="Xx"', None),  # the pseudopotential says it
        ("Si", "Xq", "'Xq' names no element"),
        ("-5.167351207989252e0 -5.1", "-5.267351207989252e0 -5.1", "of another cell"),
        ("<a1>-5.167351207989252e0", "<a1>", "<atomic_structure/cell/a1> should be 3 numbers"),
        ("</output>", "", "damaged"),
        ("<qes:espresso", "<!DOCTYPE x><qes:espresso", "document type"),
    ],
)
def test_a_wrong_schema_is_named(recorded: dict[str, Path], old: str, new: str, message: str | None) -> None:
    change(recorded["Si"], old, new)
    if message is None:
        assert tomat.read(recorded["Si"]).atomic_numbers.tolist() == [14, 14]
        return
    with pytest.raises(ValueError, match=rf"Si\.save.*{message}"):
        tomat.read(recorded["Si"])


@pytest.mark.parametrize("name", RUNS)
def test_a_density_cut_off_is_named(recorded: dict[str, Path], name: str) -> None:
    path = recorded[name] / charge.NAME
    content = path.read_bytes()
    for size in [*range(0, 110), *range(110, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"charge-density\.dat: "):
            tomat.read(recorded[name])
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="follow the density"):
        tomat.read(recorded[name])


def test_of_a_run_with_spin_the_total_density_is_read(data: Path) -> None:
    """As pp.x wrote it to an XSF file (plot_num = 0), with six digits; one electron, all of it spin up."""
    found = tomat.read(data / "qe" / "Hspin.save")
    assert found.source["has_spin"] is True
    assert found.n_electrons == pytest.approx(1.0, rel=1e-6)
    theirs = tomat.read(data / "xsf" / "qe-Hspin.xsf.gz")
    assert theirs.grid_shape == found.grid_shape
    np.testing.assert_allclose(theirs.density, found.density, rtol=0, atol=2e-6 * found.density.max())
    np.testing.assert_allclose(theirs.lattice, found.lattice, atol=1e-8)
    np.testing.assert_allclose(theirs.frac_coords, found.frac_coords, atol=1e-8)


def test_a_density_with_a_wrong_count_or_flag_is_named(recorded: dict[str, Path]) -> None:
    path = recorded["Si"] / charge.NAME
    content = bytearray(path.read_bytes())
    content[12] = 2  # the number of spins
    with pytest.raises(ValueError, match=r"cut off or damaged: the record with spin component 2"):
        charge.parse(bytes(content), "x")
    content[12] = 3
    with pytest.raises(ValueError, match=r"counts 3 spin components"):
        charge.parse(bytes(content), "x")
    content[12], content[4] = 1, 1  # the gamma trick
    with pytest.raises(ValueError, match="lists both G and -G"):
        charge.parse(bytes(content), "x")
    gamma = bytearray((recorded["LiH"] / charge.NAME).read_bytes())
    gamma[4] = 0
    with pytest.raises(ValueError, match="lists G without -G"):
        charge.parse(bytes(gamma), "x")
    with pytest.raises(ValueError, match="not 12"):
        charge.parse(b"\x04\0\0\0abcd\x04\0\0\0", "x")


def test_turned_bits_are_refused_or_harmless(recorded: dict[str, Path]) -> None:
    """rho(G) and rho(-G) witness for each other, and the electrons for rho(0)."""
    folder = recorded["Si"]
    path = folder / charge.NAME
    content, before = path.read_bytes(), tomat.read(folder).density
    refused = 0
    bits = positions(len(content), 400)
    for bit, raw in turned(content, bits):
        path.write_bytes(raw)
        try:
            found = tomat.read(folder).density
        except ValueError:
            refused += 1
            continue
        assert np.abs(found - before).max() <= 1e-3 * before.mean(), f"bit {bit}"
    assert refused > 250
