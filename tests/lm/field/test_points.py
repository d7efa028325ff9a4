"""Drawn voxels: weighted, they say the NMAE of the whole density."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.lm.data.store import DensityStore
from tomat.lm.field.points import DrawnPoints, _orbits, draw
from tomat.material import Entry
from tomat.promolecule import UnscaledPromolecule
from tomat.symmetry import unique_voxels

NAMES = ("qe-0040", "qe-0015")


@pytest.fixture(scope="module")
def store() -> DensityStore:
    entries = [Entry(name, str(tiny_field.DATA / "label" / f"{name}.zarr")) for name in NAMES]
    return DensityStore.of(entries, "e_per_A3")


def drawn(store: DensityStore, seed: int = 0, count: int = 4000, *, unique: bool = False) -> DrawnPoints:
    return DrawnPoints.of(store, UnscaledPromolecule.load("qe-sg15"), count, seed=seed, unique=unique)


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


def test_unique_voxels_stand_for_their_orbits(store: DensityStore) -> None:
    pytest.importorskip("moyopy")
    every, unique = drawn(store), drawn(store, unique=True)
    for index in range(len(store)):
        of = store.material(index)
        orbits = unique_voxels(of.crystal, of.grid_shape)
        assert np.isin(unique.index[index], orbits.indices).all()
        # The same in expectation: an error that is equal at equal voxels, summed over the cell.
        error = np.sin(np.arange(len(orbits.indices)))[orbits.inverse].ravel() + 1.2
        whole = (error * np.abs(of.density).ravel()).sum() / np.abs(of.density).sum()
        found = (unique.weight[index] * (error * np.abs(of.density).ravel())[unique.index[index]]).mean()
        assert found == pytest.approx(whole, rel=5e-3)
        # A systematic draw meets more of the distinct voxels than one that lets equal voxels compete.
        assert len(np.unique(unique.index[index])) >= len(
            np.unique(orbits.inverse.ravel()[every.index[index]])
        )


def test_the_expectation_over_unique_voxels_is_the_sum_over_the_cell(store: DensityStore) -> None:
    pytest.importorskip("moyopy")
    of = store.material(0)
    density = of.density.ravel()
    guess = UnscaledPromolecule.load("qe-sg15").density(of.crystal, of.grid_shape).astype(np.float32).ravel()
    orbits = unique_voxels(of.crystal, of.grid_shape)
    assert 4 * len(orbits.indices) < len(density)
    error = np.abs(guess - density).astype(np.float64)
    found = []
    for seed in range(200):
        index, weight = draw(density, guess, 50, np.random.default_rng(seed), orbits)
        found.append((weight * error[index]).mean())
    nmae = error.sum() / np.abs(density, dtype=np.float64).sum()
    assert abs(np.mean(found) - nmae) < 4 * np.std(found) / np.sqrt(len(found)) + 1e-6 * nmae
    assert np.mean(found) == pytest.approx(nmae, rel=0.01)


def test_without_symmetry_all_voxels_are_drawn_from() -> None:
    pytest.importorskip("moyopy")
    crystal = tiny_field.quartz()
    density = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
    orbits = unique_voxels(crystal, density.shape)
    drawn = [
        draw(density.ravel(), density.ravel() ** 2, 100, np.random.default_rng(1), of)
        for of in (orbits, None)
    ]
    for with_orbits, without in zip(*drawn, strict=True):
        np.testing.assert_array_equal(with_orbits, without)


def test_a_density_without_the_symmetry_of_its_atoms_is_drawn_whole(store: DensityStore) -> None:
    pytest.importorskip("moyopy")
    of = store.material(0)
    assert _orbits(of) is not None
    broken = of.density.copy()
    broken[: of.grid_shape[0] // 2] *= 1.01
    assert _orbits(replace(of, density=broken)) is None


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
