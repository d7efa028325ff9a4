"""_DEN of ABINIT: one by ABINIT 9.6.2, what is written reads back, what is damaged is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from flips import positions, turned
from strategies import grids, seeds
from tomat.dataset import TokenizeConfig, open_dataset, resolve_inputs
from tomat.engine import tokenize
from tomat.formats.abinit import decode
from tomat.material import task_id_of

#: The lattice and the atoms in the input of the recorded run.
LATTICE = np.array([[2.4, 0.1, 0.0], [0.0, 2.7, 0.2], [-0.3, 0.0, 3.5]])
ATOMS = np.array([[0.1, 0.2, 0.3], [0.12, 0.21, 0.51]])


@pytest.fixture
def recorded(data: Path) -> Path:
    return data / "abinit" / "H2_DEN"


def test_what_abinit_wrote_is_read(recorded: Path) -> None:
    """The molecule lies along its third axis; with a wrong order of axes the density would lie elsewhere."""
    found = tomat.read(recorded)
    assert (found.task_id, found.unit, found.grid_shape) == ("H2", "e_per_A3", (10, 12, 15))
    np.testing.assert_allclose(found.lattice, LATTICE, atol=1e-7)
    np.testing.assert_allclose(found.frac_coords, ATOMS, atol=1e-12)
    assert found.atomic_numbers.tolist() == [1, 1]
    assert found.n_electrons == pytest.approx(2.0, rel=1e-6)
    assert found.source["ecutwfc_Ry"] == 10.0
    assert found.source["electrons"] == 2.0
    peak = np.array(np.unravel_index(found.density.argmax(), found.grid_shape)) / found.grid_shape
    assert np.abs(peak - ATOMS.mean(axis=0)).max() < 0.1
    assert found.density.min() > 0


@given(grid=grids(7), seed=seeds, spread=st.floats(0.1, 3.0))
@settings(max_examples=25)
def test_a_written_file_reads_back(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    numbers, coordinates = rng.choice([1, 8, 26], 5), rng.uniform(-1, 2, (5, 3))
    made = tomat.Material.of("made", rng.random(grid) * spread, "e_per_A3", LATTICE, numbers, coordinates)
    path = tmp_path_factory.mktemp("abinit") / "made_DEN"
    made.write(path)
    back = tomat.read(path)
    np.testing.assert_allclose(back.density, made.density, rtol=2e-7)
    np.testing.assert_allclose(back.lattice, made.lattice, atol=1e-14)
    np.testing.assert_array_equal(back.frac_coords, made.frac_coords)
    np.testing.assert_array_equal(back.atomic_numbers, made.atomic_numbers)
    assert back.task_id == "made"


def test_names_and_inputs(recorded: Path, tmp_path: Path) -> None:
    """A folder is searched for them, and they become the rows of the same density as a Zarr group."""
    assert task_id_of("runs/Si_DS1_DEN") == "Si_DS1"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a_DEN").write_bytes(recorded.read_bytes())
    (tmp_path / "zarr").mkdir()
    tomat.read(tmp_path / "runs" / "a_DEN").write(tmp_path / "zarr" / "a.zarr")
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k")
    for name in ("runs", "zarr"):
        tokenize(config, resolve_inputs([tmp_path / name]), tmp_path / f"{name}-rows")
    rows, expected = (
        [path.read_bytes() for path in open_dataset(tmp_path / f"{name}-rows").shard_paths()]
        for name in ("runs", "zarr")
    )
    assert rows == expected


def test_a_file_cut_off_is_named(recorded: Path) -> None:
    content = recorded.read_bytes()
    for size in [*range(0, 400), *range(400, len(content), 499), len(content) - 1]:
        with pytest.raises(ValueError, match="H2_DEN: "):
            decode(content[:size], "H2_DEN")


#: Bytes at which numbers of the recorded file are: after a count of bytes, in the first record (24 with both counts)
#: or the second.
FORM, ATOM_COUNT, GRID, SPINS, PAW = 16, 24 + 4 + 16, 24 + 4 + 20, 24 + 4 + 36, 24 + 4 + 68


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (FORM, 102, "file form 102"),
        (ATOM_COUNT, 0, "counts 0 atoms"),
        (ATOM_COUNT, 3, "the third record has"),
        (GRID, 11, "the density has 14400 bytes and not 15840"),
        (GRID, 5000, "5000 x 12 x 15 points"),
        (SPINS, 2, "7 records, where the header asks for 8"),
        (SPINS, 3, "3 components"),
        (PAW, 1, "PAW run"),
    ],
)
def test_a_wrong_header_is_named(recorded: Path, at: int, value: int, message: str) -> None:
    content = bytearray(recorded.read_bytes())
    content[at : at + 4] = struct.pack("<i", value)
    with pytest.raises(ValueError, match=f"x_DEN: .*{message}"):
        decode(bytes(content), "x_DEN")


def test_what_is_no_density_is_named(recorded: Path, data: Path) -> None:
    with pytest.raises(ValueError, match=r"x_DEN: .*no _DEN of ABINIT"):
        decode((data / "qe" / "Si.save" / "data-file-schema.xml").read_bytes(), "x_DEN")
    with pytest.raises(ValueError, match=r"x_DEN: the first record has 12 bytes and not 16"):
        decode(b"".join(b"\x0c\0\0\0" + bytes(12) + b"\x0c\0\0\0" for _ in range(5)), "x_DEN")
    content = bytearray(recorded.read_bytes())
    content[-4 - 8 : -4] = struct.pack("<d", float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        decode(bytes(content), "x_DEN")
    content[-4 - 8 : -4] = struct.pack("<d", 1e3)
    with pytest.raises(ValueError, match="the header says 2"):
        decode(bytes(content), "x_DEN")


def test_turned_bits_raise_nothing_but_value_errors(recorded: Path) -> None:
    """ABINIT keeps no checksum: what shows is the frame, the header, and the number of electrons."""
    content = recorded.read_bytes()
    refused = 0
    for _, raw in turned(content, positions(len(content), 400)):
        try:
            decode(raw, "H2_DEN")
        except ValueError as error:
            assert str(error).startswith("H2_DEN: ")  # noqa: PT017
            refused += 1
    assert refused > 20
