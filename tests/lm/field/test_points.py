"""Drawn voxels: weighted, they say the NMAE of the whole density."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.lm.data.store import DensityStore
from tomat.lm.field.points import DrawnPoints, draw
from tomat.material import Entry
from tomat.promolecule import UnscaledPromolecule

NAMES = ("qe-0040", "qe-0015")


@pytest.fixture(scope="module")
def store() -> DensityStore:
    entries = [Entry(name, str(tiny_field.DATA / "label" / f"{name}.zarr")) for name in NAMES]
    return DensityStore.of(entries, "e_per_A3")


def drawn(store: DensityStore, seed: int = 0, count: int = 4000) -> DrawnPoints:
    return DrawnPoints.of(store, UnscaledPromolecule.load("qe-sg15"), count, seed=seed)


def test_weighted_errors_are_the_nmae(store: DensityStore) -> None:
    points = drawn(store)
    for index in range(len(store)):
        of = store.material(index)
        guess = UnscaledPromolecule.load("qe-sg15").density(of.crystal, of.grid_shape)
        for other in (guess, 1.1 * guess, 0.5 * of.density):
            error = np.abs(other - of.density).ravel()
            found = (points.weight[index] * error[points.index[index]]).mean()
            assert found == pytest.approx(error.sum() / np.abs(of.density).sum(), rel=0.03)


def test_values_and_guesses_are_those_of_the_voxels(store: DensityStore) -> None:
    points = drawn(store, count=50)
    material = store.material(1)
    where = np.rint(points.places(1, slice(None)) * material.grid_shape).astype(int)
    np.testing.assert_array_equal(points.value[1], material.density[tuple(where.T)])
    guess = UnscaledPromolecule.load("qe-sg15").density(material.crystal, material.grid_shape)
    np.testing.assert_allclose(points.guess[1], guess[tuple(where.T)], rtol=1e-6)


def test_draws_depend_on_seed_and_names_alone(store: DensityStore, tmp_path: Path) -> None:
    again = DrawnPoints.of(
        DensityStore.of(
            [Entry(name, str(tiny_field.DATA / "label" / f"{name}.zarr")) for name in reversed(NAMES)],
            "e_per_A3",
            cache=tmp_path,
        ),
        UnscaledPromolecule.load("qe-sg15"),
        4000,
        threads=2,
    )
    points = drawn(store)
    np.testing.assert_array_equal(again.index[::-1], points.index)
    assert (drawn(store, seed=1).index != points.index).any()


def test_a_perfect_guess_still_draws_and_an_empty_density_does_not() -> None:
    rng = np.random.default_rng(0)
    density = rng.random(1000).astype(np.float32)
    index, weight = draw(density, density, 300, rng)
    assert len(np.unique(index)) > 200
    assert (weight > 0).all()
    with pytest.raises(ValueError, match="zero everywhere"):
        draw(np.zeros(8, np.float32), np.ones(8, np.float32), 4, rng)
