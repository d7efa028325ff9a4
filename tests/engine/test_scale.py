"""Cells of more than a hundred atoms and grids of millions of points, by tiling a real density exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import oracle
import tomat
from runs import LABEL, Rows, meta, rows_of, save_zarr, sound, tokenize, tomat_main

LAYOUTS = ["v1", "v2", "v2-lat", "v3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Supercells of real materials as Zarr groups."""
    folder = tmp_path_factory.mktemp("scale")
    for name, (task_id, repeats) in {
        "fe3o4-112": ("vasp-pmg-Fe3O4", (2, 2, 2)),
        "bn-150": ("qev-0003", (5, 5, 3)),
        "millions": ("qe-0934", (3, 3, 4)),
    }.items():
        save_zarr(folder / f"{name}.zarr", tomat.read(LABEL / f"{task_id}.zarr").supercell(repeats))
    return folder


def truth(
    material: tomat.Material, offset: NDArray[np.int32], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    axes = [(np.arange(s) + o) % n for s, o, n in zip(shape, offset, material.grid_shape, strict=True)]
    return material.density[np.ix_(*axes)]


def check_rows(tokenizer: tomat.PatchTokenizer, material: tomat.Material, rows: Rows) -> tuple[int, int, int]:
    """Every row decodes to its patch of the density, and all to one shape."""
    material = material.in_unit(tokenizer.unit)
    shapes = set()
    for ids, offset in zip(rows.ids, rows.offsets, strict=True):
        patch = tokenizer.decode(ids)
        shapes.add(patch.patch_shape)
        expected = truth(material, offset, patch.patch_shape).astype(np.float64)
        components = tokenizer.density_codec.encode(expected.ravel())
        np.testing.assert_array_equal(patch.density.ravel(), tokenizer.density_codec.decode(components))
        assert patch.grid_shape == material.grid_shape
        np.testing.assert_array_equal(patch.atomic_numbers, material.atomic_numbers)
    (shape,) = shapes
    return shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_cell_takes_the_fallback_shape(place: Path, tmp_path: Path, layout: str) -> None:
    """112 and 150 atoms beside a small cell: the first shape of the list that fits is used, material by material."""
    pad_to = 2600 if layout == "v1" else 2000
    small = LABEL / "vasp-pmg-Fe3O4.zarr"
    sound(place / "fe3o4-112.zarr", small, place / "bn-150.zarr", "--out", tmp_path / "out", "--layout", layout,
          "--patch-size", 10, "--fallback-shape", "9,10,10", "--fallback-shape", "9,9,8", "--fallback-shape", "6x7x5",
          "--pad-to", pad_to, "--patches-per-material", 4, "--quiet")  # fmt: skip
    facts = meta(tmp_path / "out")
    assert facts["fallback_shapes"] == [[9, 10, 10], [9, 9, 8], [6, 7, 5]]
    found = rows_of(tmp_path / "out")
    codec = "two_token_9_12" if layout == "v1" else None
    shapes = [(10, 10, 10), (9, 10, 10), (9, 9, 8), (6, 7, 5)]
    tokenizer = tomat.PatchTokenizer(layout, codec, 10, pad_to, shapes[1:])
    fell_back = 0
    for name, rows in found.items():
        path = place / f"{name}.zarr"
        material = tomat.read(path if path.exists() else small)
        n_atoms = len(material.atomic_numbers)
        shape = check_rows(tokenizer, material, rows)
        fits = [s for s in shapes if tokenizer.length(n_atoms, s) <= pad_to]
        assert shape == fits[0]
        fell_back += shape != shapes[0]
    assert facts["n_materials_fallback"] == fell_back >= 2
    verified = tomat_main("verify", tmp_path / "out", "--source", place, "--source", small)
    assert verified.code == 0, verified.out


def test_the_default_fallback(place: Path, tmp_path: Path) -> None:
    """At P = 19 and 8192 tokens a cube has room for 130 atoms: 150 need (18, 19, 19)."""
    sound(
        place / "bn-150.zarr",
        place / "fe3o4-112.zarr",
        "--out",
        tmp_path / "out",
        "--patches-per-material",
        3,
        "-q",
    )
    tokenizer = tomat.PatchTokenizer("v3")
    assert tokenizer.length(131) <= 8192 < tokenizer.length(132)
    found = rows_of(tmp_path / "out")
    for name, shape in (("bn-150", (18, 19, 19)), ("fe3o4-112", (19, 19, 19))):
        assert check_rows(tokenizer, tomat.read(place / f"{name}.zarr"), found[name]) == shape
        names = tokenizer.show(found[name].ids[0])
        assert ("[SHAPE_START]" in names) == (name == "bn-150")
    assert meta(tmp_path / "out")["n_materials_fallback"] == 1


def test_too_many_atoms_for_every_shape(place: Path, tmp_path: Path) -> None:
    result = tokenize(place / "bn-150.zarr", LABEL / "qe-0039.zarr", "--out", tmp_path / "out", "--patch-size", 4,
                      "--fallback-shape", "3,3,3", "--pad-to", 1500, "--patches-per-material", 1)  # fmt: skip
    assert result.code == 3
    assert "bn-150: overflow: 150 atoms" in result.err
    assert meta(tmp_path / "out")["first_materials_overflow"] == ["bn-150"]
    assert list(rows_of(tmp_path / "out")) == ["qe-0039"]


def test_a_grid_of_millions_of_points(place: Path, tmp_path: Path) -> None:
    """81 x 81 x 288 points; the coverage adds up to them."""
    material = tomat.read(place / "millions.zarr")
    assert material.density.size == 1_889_568
    assert material.n_electrons == pytest.approx(
        36 * tomat.read(LABEL / "qe-0934.zarr").n_electrons, rel=1e-6
    )
    out = tmp_path / "out"
    sound(place / "millions.zarr", "--out", out, "--patch-size", 12, "--pad-to", 4096, "--quiet")
    rows = rows_of(out)["millions"]
    assert rows.ids.shape == (64, 4096)
    assert check_rows(tomat.PatchTokenizer("v3", None, 12, 4096), material, rows) == (12, 12, 12)
    stored = json.loads((out / "coverage_histogram.json").read_text())
    histogram = stored["histogram"]
    assert stored["per_material"] == {"millions": histogram}
    assert sum(histogram) == material.density.size
    assert sum(k * n for k, n in enumerate(histogram)) == 64 * 12**3
    expected = oracle.coverage_histogram(material.grid_shape, (12, 12, 12), rows.offsets.tolist())
    assert histogram == expected.tolist()


def test_a_patch_longer_than_the_grid(tmp_path: Path) -> None:
    """18 x 20 x 20 points at P = 41: every axis wraps more than once, and the repeats count."""
    path = LABEL / "vasp-mp-2300242.zarr"
    sound(
        path,
        "--out",
        tmp_path / "out",
        "--patch-size",
        41,
        "--pad-to",
        70000,
        "--patches-per-material",
        2,
        "-q",
    )
    material = tomat.read(path)
    rows = rows_of(tmp_path / "out")["vasp-mp-2300242"]
    assert check_rows(tomat.PatchTokenizer("v3", None, 41, 70000), material, rows) == (41, 41, 41)
    histogram = json.loads((tmp_path / "out" / "coverage_histogram.json").read_text())["histogram"]
    assert sum(k * n for k, n in enumerate(histogram)) == 2 * 41**3
    assert sum(histogram) == 18 * 20 * 20
    assert tomat_main("verify", tmp_path / "out", "--source", path).code == 0
