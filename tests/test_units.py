"""One owner for the unit of a density, and nothing that is read back in another."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from runs import LABEL, make_foreign, meta, rows_of, save_zarr, sound, tomat_main, write_meta
from tomat.dataset.manifest import open_dataset

LOG = (
    "--codec",
    "two_token_9_12",
    "--patch-size",
    4,
    "--pad-to",
    512,
    "--patches-per-material",
    3,
    "--quiet",
)


# --- the tokenizer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "stated", "unit"),
    [
        ("lmq-16k", None, "chgcar"),
        ("lmq-16k", "chgcar", "chgcar"),
        ("l1-1k-e_per_A3", None, "e_per_A3"),
        (None, "e_per_A3", "e_per_A3"),
        ("two_token_9_12", None, "chgcar"),
        ("two_token_9_12", "chgcar", "chgcar"),
        ("two_token_9_12", "e_per_A3", "e_per_A3"),
    ],
)
def test_the_unit_of_a_tokenizer(codec: str | None, stated: str | None, unit: str) -> None:
    tokenizer = tomat.PatchTokenizer("v3", codec, 4, 512, unit=stated)
    assert tokenizer.unit == unit
    assert pickle.loads(pickle.dumps(tokenizer)).unit == unit
    assert f"unit={unit!r}" in repr(tokenizer)
    material = tomat.read(LABEL / "qe-0039.zarr")
    for given in tomat.UNITS:
        rows = tokenizer.encode_material(material.in_unit(given), [[0, 0, 0]])
        truth = material.in_unit(unit).density[:4, :4, :4]
        np.testing.assert_allclose(tokenizer.decode(rows[0]).density, truth, rtol=0.03)


def test_a_unit_that_is_not_the_codecs_is_refused() -> None:
    with pytest.raises(ValueError, match="codec lmq-16k encodes densities in chgcar, not in e_per_A3"):
        tomat.PatchTokenizer("v3", "lmq-16k", unit="e_per_A3")
    with pytest.raises(ValueError, match="leave the unit out"):
        tomat.PatchTokenizer("v3", unit="chgcar")
    with pytest.raises(KeyError, match="bohr"):
        tomat.PatchTokenizer("v1", unit="bohr")
    with pytest.raises(KeyError, match="unknown layout"):
        tomat.PatchTokenizer("v9")


# --- a material ---------------------------------------------------------------------------------------------


def parts(**changed: Any) -> dict[str, Any]:
    whole = {
        "task_id": "it",
        "density": np.ones((2, 3, 4), np.float32),
        "unit": "chgcar",
        "lattice": np.eye(3) * 4.0,
        "atomic_numbers": np.array([14], np.int32),
        "frac_coords": np.zeros((1, 3)),
        "source": {},
    }
    return whole | changed


WRONG = [
    ({"unit": "bohr"}, "unit 'bohr' is not one of chgcar, e_per_A3"),
    ({"unit": None}, "unit None"),
    ({"density": np.array([[[1.0, np.nan]]])}, "NaN or infinite"),
    ({"density": np.array([[[1.0, np.inf]]], np.float32)}, "NaN or infinite"),
    ({"density": np.full((1, 1, 1), 1e300)}, "NaN or infinite"),
    ({"density": np.ones((2, 3))}, r"shape \(2, 3\)"),
    ({"density": np.ones((2, 0, 3))}, r"shape \(2, 0, 3\)"),
    ({"density": np.array([[["a"]]])}, "density has dtype"),
    ({"density": np.ones((1, 1, 1)) * 1j}, "density has dtype"),
    ({"lattice": np.eye(2)}, r"lattice has shape \(2, 2\)"),
    ({"lattice": np.zeros((3, 3))}, "volume"),
    ({"lattice": np.full((3, 3), np.nan)}, "finite"),
    ({"atomic_numbers": np.array([0])}, "elements are 1 to 118"),
    ({"atomic_numbers": np.array([1.5])}, "whole numbers"),
    ({"atomic_numbers": np.array([1, 1])}, "do not fit"),
    ({"frac_coords": np.array([[0.0, np.nan, 0.0]])}, "coordinates hold NaN"),
]


@pytest.mark.parametrize(("changed", "problem"), WRONG)
def test_a_material_that_cannot_be_is_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"it: .*{problem}"):
        tomat.Material.of(**parts(**changed))


def test_a_material_takes_what_arrays_can_be_made_of() -> None:
    made = tomat.Material.of(**parts(density=np.ones((2, 3, 4)).tolist(), atomic_numbers=[14]))
    assert [str(array.dtype) for array in (made.density, made.atomic_numbers)] == ["float32", "int32"]
    kept = parts()
    assert tomat.Material.of(**kept).density is kept["density"]


# --- a dataset ----------------------------------------------------------------------------------------------


def edit(folder: Path, **changed: Any) -> None:
    content = meta(folder) | changed
    write_meta(folder, {key: value for key, value in content.items() if value is not ...})


@pytest.mark.parametrize("layout", ["v1", "v3"])
def test_a_log_codec_is_read_in_the_unit_it_was_written_in(tmp_path: Path, layout: str) -> None:
    source, out = LABEL / "qe-0039.zarr", tmp_path / "out"
    sound(source, "--out", out, *LOG, "--layout", layout, "--unit", "e_per_A3")
    assert meta(out)["unit"] == "e_per_A3"
    assert open_dataset(out).tokenizer.unit == "e_per_A3"
    assert tomat_main("info", out, "--json").json["unit"] == "e_per_A3"
    assert tomat_main("verify", out, "--source", source).code == 0
    # Read as the other unit, every voxel is another one.
    edit(out, unit="chgcar")
    wrong = tomat_main("verify", out, "--source", source)
    assert wrong.code == 1
    assert "qe-0039" in wrong.out
    for broken, words in (({"unit": ...}, "no 'unit' in it"), ({"unit": "bohr"}, "bohr")):
        edit(out, **broken)
        with pytest.raises(ValueError, match=rf"meta\.json: .*{words}"):
            open_dataset(out).tokenizer  # noqa: B018
        assert tomat_main("verify", out).code != 0
        assert tomat_main("info", out).code == 1


def test_a_fitted_codec_refuses_another_unit_in_meta(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sound(LABEL / "qe-0039.zarr", "--out", out, "--patches-per-material", 1, "--quiet")
    assert (meta(out)["unit"], open_dataset(out).tokenizer.unit) == ("e_per_A3", "e_per_A3")
    edit(out, unit="chgcar")
    with pytest.raises(
        ValueError, match=r"meta\.json: codec l1-16k-e_per_A3-1e4 encodes densities in e_per_A3"
    ):
        open_dataset(out).tokenizer  # noqa: B018


def test_a_dataset_of_the_field_states_no_unit_and_is_chgcar(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sound(LABEL / "qe-0039.zarr", "--out", out, *LOG, "--layout", "v1")
    make_foreign(out)
    assert open_dataset(out).tokenizer.unit == "chgcar"


# --- cells of any size --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("repeats", "old_loses"), [((2, 2, 2), 0.02), ((3, 3, 3), 0.1)])
def test_supercells_go_through_tokenize_and_verify(
    tmp_path: Path, repeats: tuple[int, int, int], old_loses: float
) -> None:
    """Rows of a supercell hold what rows of its cell do, to the bin; the old default clipped them."""
    cell = tomat.read(LABEL / "vasp-pmg-Fe3O4.zarr")
    large = cell.supercell(repeats)
    save_zarr(str(tmp_path / "large.zarr"), large)
    out, shape = tmp_path / "out", ("--patch-size", 13, "--patches-per-material", 2, "--quiet")
    sound(tmp_path / "large.zarr", "--out", out, *shape)
    verified = tomat_main("verify", out, "--source", tmp_path / "large.zarr")
    assert verified.code == 0, verified.out
    tokenizer = open_dataset(out).tokenizer
    assert tokenizer.unit == "e_per_A3"
    true = cell.in_unit("e_per_A3").density
    rows = rows_of(out)["large"]
    assert len(rows.ids) == 2
    for row, corner in zip(rows.ids, rows.offsets, strict=True):
        got = tokenizer.decode(row).density
        axes = [(o + np.arange(n)) % of for o, n, of in zip(corner, got.shape, true.shape, strict=True)]
        patch = true[np.ix_(*axes)].astype(np.float64)
        assert np.abs(got - patch).sum() < 2.5e-4 * np.abs(patch).sum()
    # The whole cell: the same floor in any repetition, where rho * V_cell loses its cores.
    floors = {}
    for name in (tokenizer.density_codec.name, "lmq-16k"):
        codec = tomat.load_codec(name)
        values = large.in_unit(codec.unit_for()).density.astype(np.float64)
        floors[name] = np.abs(codec.roundtrip(values) - values).sum() / np.abs(values).sum()
    one = np.abs(tokenizer.density_codec.roundtrip(true) - true).sum() / np.abs(true).sum()
    assert abs(floors[tokenizer.density_codec.name] - one) < 1e-5
    assert floors["lmq-16k"] > old_loses
