"""Rows of crystals: every material once an epoch, and a row that is what its index says."""

import asyncio
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("levanter")
import tiny_field
from tomat.crystal import Crystal
from tomat.lm.data.store import DensityStore
from tomat.lm.field.points import DrawnPoints
from tomat.lm.field.stream import FieldDataset, Packing
from tomat.lm.field.surroundings import Surroundings
from tomat.material import Entry
from tomat.promolecule import UnscaledPromolecule

NAMES = ("qe-0003", "qe-0039", "qe-0211", "qe-0040")


@pytest.fixture(scope="module")
def dataset() -> FieldDataset:
    entries = [Entry(name, str(tiny_field.DATA / "label" / f"{name}.zarr")) for name in NAMES]
    store = DensityStore.of(entries, "e_per_A3")
    promolecule = UnscaledPromolecule.load("qe-sg15")
    points = DrawnPoints.of(store, promolecule, 200)
    return FieldDataset(points, Surroundings(tiny_field.SHAPE, promolecule), np.arange(len(store)), seed=3)


def test_every_epoch_has_every_material_once_and_no_row_too_many_atoms() -> None:
    sites = np.random.default_rng(0).integers(1, 9, 50)
    packing = Packing(sites, (12, 4), seed=1)
    seen: list[int] = []
    index = 0
    while len(seen) < 150:
        row = packing.row(index)
        assert 0 < sites[row].sum() <= 12
        assert len(row) <= 4
        seen += row.tolist()
        index += 1
    epochs = [sorted(seen[i : i + 50]) for i in (0, 50, 100)]
    assert epochs == [list(range(50))] * 3
    assert seen[:50] != seen[50:100]
    np.testing.assert_array_equal(Packing(sites, (12, 4), seed=1).row(index - 1), row)


def test_a_row_depends_on_its_index_alone(dataset: FieldDataset) -> None:
    later = asyncio.run(dataset.get_batch([7, 2]))
    for index, row in zip((7, 2), later, strict=True):
        again = dataset.row(index)
        for name in ("guess", "value", "weight", "crystal", "features"):
            np.testing.assert_array_equal(getattr(again, name).array, getattr(row, name).array)
    assert (later[0].value.array != later[1].value.array).any()


def _shares(crystal: Crystal, points: NDArray[np.float64], guess: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each atom's tapered share (sites, points) of the promolecule, summed over its images within the cutoff."""
    promolecule, cutoff = UnscaledPromolecule.load("qe-sg15"), tiny_field.SHAPE.cutoff
    # Heights of the cell tell how many images reach a point.
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)).astype(int) + 1
    images = np.array(list(itertools.product(*(range(-r, r + 1) for r in reach))))
    shares = np.zeros((len(crystal.atomic_numbers), len(points)))
    for site, (z, place) in enumerate(zip(crystal.atomic_numbers.tolist(), crystal.frac_coords, strict=True)):
        away = (place - points) % 1.0
        d = np.linalg.norm((away[:, None] + images) @ crystal.lattice, axis=-1)
        taper = np.where(d < cutoff, 1.0 - (d / cutoff) ** 8, 0.0) ** 3
        shares[site] = (promolecule.radial(z, d.ravel()).reshape(d.shape) * taper).sum(axis=1) / guess
    return shares


def test_a_row_holds_its_materials(dataset: FieldDataset) -> None:
    row, materials = dataset.row(0), dataset.materials(0)
    assert dataset.row_id(0) == "+".join(NAMES[m] for m in materials)
    crystal = np.asarray(row.crystal.array)
    c = tiny_field.SHAPE.crystals_per_row
    first = 0
    for at, material in enumerate(materials.tolist()):
        n = int((crystal == at).sum())
        of = dataset._points.crystal(material)
        assert n == len(of.atomic_numbers)
        shares = np.asarray(row.voxels[0].array)[first : first + n, :, -1]
        guess, value = np.asarray(row.guess.array)[at], np.asarray(row.value.array)[at]
        drawn = dataset._points
        same = (drawn.guess[material][:, None] == guess) & (drawn.value[material][:, None] == value)
        assert same.any(axis=0).all()
        expected = _shares(of, drawn.places(material, same.argmax(axis=0)), guess)
        # Atoms of one element together: voxels of equal densities can be images of each other.
        for z in np.unique(of.atomic_numbers).tolist():
            its = of.atomic_numbers == z
            np.testing.assert_allclose(
                shares[its].sum(axis=0), expected[its].sum(axis=0), rtol=1e-5, atol=1e-5
            )
        first += n
    assert (crystal[first:] == c).all()
    weight = np.asarray(row.weight.array)
    assert (weight[: len(materials)] > 0).all()
    assert (weight[len(materials) :] == 0).all()
