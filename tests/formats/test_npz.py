""".npz files: documented keys, exact densities, what others write, and what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomat
from flips import positions, turned
from strategies import grids, seeds
from tomat.dataset import TokenizeConfig, resolve_inputs
from tomat.engine import tokenize
from tomat.formats.npz import decode

LATTICE = np.array([[3.1, 0.2, -0.1], [-1.3, 4.4, 0.3], [0.5, 0.9, 5.2]])
ATOMS = ([8, 3, 8], np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, 0.6], [1.7, 0.8, 0.9]]))


def members(**changed: Any) -> dict[str, Any]:
    """What someone else would save."""
    rng = np.random.default_rng(0)
    made = {
        "lattice": LATTICE,
        "species": np.array(["O", "Li", "O"]),
        "positions": ATOMS[1] @ LATTICE,
        "density": rng.random((3, 4, 5)),
        "unit": "e_per_A3",
    }
    return {key: value for key, value in {**made, **changed}.items() if value is not None}


def saved(path: Path, *, pack: bool = False, **changed: Any) -> bytes:
    (np.savez_compressed if pack else np.savez)(path, **members(**changed))
    return path.read_bytes()


@given(grid=grids(7), seed=seeds, decades=st.floats(0, 8))
@settings(max_examples=25)
def test_it_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, grid: tuple[int, int, int], seed: int, decades: float
) -> None:
    """To the last bit of the density, as models predict it, and with NumPy alone."""
    values = (np.random.default_rng(seed).normal(size=grid) * 10**decades).astype(np.float32)
    made = tomat.Material.of("made", values, "chgcar", LATTICE, *ATOMS)
    path = tmp_path_factory.mktemp("npz") / "made.npz"
    made.write(path)
    back = tomat.read(path)
    np.testing.assert_array_equal(back.density, values)
    assert (back.unit, back.task_id) == ("chgcar", "made")
    np.testing.assert_array_equal(back.lattice, made.lattice)
    np.testing.assert_array_equal(back.atomic_numbers, made.atomic_numbers)
    np.testing.assert_allclose(back.frac_coords, made.frac_coords, atol=1e-12)
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {"lattice", "species", "positions", "density", "unit"}
        np.testing.assert_array_equal(file["density"], values)
        assert file["unit"] == "chgcar"
        np.testing.assert_allclose(file["positions"], made.frac_coords @ made.lattice)


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("species", [np.array(["O", "Li", "O"]), np.array([b"O", b"Li", b"O"]), [8, 3, 8]])
def test_what_others_save_is_read(tmp_path: Path, species: Any, pack: bool) -> None:
    saved(tmp_path / "x.npz", species=species, pack=pack)
    found = tomat.read(tmp_path / "x.npz")
    assert found.atomic_numbers.tolist() == [8, 3, 8]
    assert found.unit == "e_per_A3"
    np.testing.assert_allclose(found.frac_coords, ATOMS[1], atol=1e-12)
    np.testing.assert_array_equal(found.density, members()["density"].astype(np.float32))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"unit": None, "density": None}, "no density, unit in it, but lattice"),
        ({"unit": "e/bohr3"}, r"the unit is \['e/bohr3'\], and not chgcar or e_per_A3"),
        ({"unit": np.array(1)}, "unit: its values are '<i8', not short texts"),
        ({"species": np.array(["O", "Xx", "O"])}, "species 'Xx' is no symbol"),
        ({"species": np.array([8.0, 3.0, 8.0])}, "species are float64"),
        ({"species": np.array([8, 3])}, "x.npz: "),
        ({"species": np.array([8, 3, 400])}, "x.npz: "),
        ({"lattice": np.eye(2)}, r"lattice \(2, 2\)"),
        ({"lattice": np.zeros((3, 3))}, "spans no volume"),
        ({"lattice": np.full((3, 3), np.nan)}, "spans no volume"),
        ({"density": np.ones((4, 4))}, r"density \(4, 4\)"),
        ({"density": np.ones((2, 2, 2000))}, "at most 1023 points"),
        ({"density": np.full((2, 2, 2), np.inf)}, "NaN or infinite"),
        ({"density": np.array([[[None]]])}, "never unpickled"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    saved(tmp_path / "x.npz", **changed)
    with pytest.raises(ValueError, match=rf"x\.npz: .*{message}|{message}"):
        tomat.read(tmp_path / "x.npz")


def test_a_file_cut_off_or_with_turned_bits_is_named(tmp_path: Path) -> None:
    """A zip archive has checksums: nothing wrong is read."""
    content = saved(tmp_path / "x.npz")
    before = decode(content, "x.npz")
    for size in range(0, len(content), 37):
        with pytest.raises(ValueError, match=r"x\.npz: "):
            decode(content[:size], "x.npz")
    for bit, raw in turned(content, positions(len(content), 300)):
        try:
            found = decode(raw, "x.npz")
        except ValueError as error:
            assert str(error).startswith("x.npz: ")  # noqa: PT017
            continue
        np.testing.assert_array_equal(found.density, before.density, err_msg=f"bit {bit}")
        np.testing.assert_array_equal(found.lattice, before.lattice, err_msg=f"bit {bit}")


def test_they_are_inputs_where_they_are_named(tmp_path: Path) -> None:
    """By name or glob; a folder is not searched for them, since much else is .npz."""
    saved(tmp_path / "a.npz", density=np.random.default_rng(1).random((8, 8, 8)), unit="chgcar")
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k")
    found = resolve_inputs([tmp_path / "*.npz"])
    assert [entry.task_id for entry in found] == ["a"]
    tokenize(config, found, tmp_path / "rows")
    with pytest.raises(FileNotFoundError, match="no densities in this folder"):
        resolve_inputs([tmp_path])
