"""The eyes of tokens: nothing at the start, and the same from sums of each atom and from sums over all."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("levanter")
from tiny_spatial import EYES, ROW, data, dataset
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.data.opening import open_rows
from tomat.lm.field.inference import atom_states, split_sums
from tomat.lm.field.surroundings import Surroundings
from tomat.lm.spatial.example import Space, Summed, Surrounded
from tomat.lm.spatial.eyes import Eyes
from tomat.lm.spatial.places import PlacedCrystal
from tomat.lm.spatial.rows import promolecule_of
from tomat.lm.stream import ExampleDataset


@pytest.fixture(scope="module")
def source() -> DensitySource:
    rows = open_rows(data(), ROW)
    assert isinstance(rows.source, DensitySource)
    return rows.source


def batch_of(data: ExampleDataset, indices: list[int]) -> Space:
    """The space of some examples as a batch."""
    work = data.get_batch(indices)
    try:
        work.send(None)
    except StopIteration as done:
        examples = [example.space for example in done.value]
    stacked: Space = jax.tree.map(
        lambda *leaves: hax.stack("batch", leaves),
        *examples,
        is_leaf=lambda leaf: isinstance(leaf, hax.NamedArray),
    )
    return stacked


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes.init(jax.random.PRNGKey(0), EYES, 32)


def test_new_eyes_add_nothing_to_voxels_and_something_to_atoms(eyes: Eyes) -> None:
    space = batch_of(dataset(), [0, 3])
    added = np.asarray(eyes(space))
    of_atom = np.asarray(space.atoms.array) < dataset()._space.room[0]  # type: ignore[union-attr]
    assert added.shape == (2, ROW, 32)
    assert (added[~of_atom] == 0).all()
    assert (np.abs(added[of_atom]).max(axis=-1) > 1e-3).all()


def test_sums_over_all_atoms_show_what_the_sums_of_each_do(eyes: Eyes, source: DensitySource) -> None:
    eyes = eqx.tree_at(
        lambda one: one.of_voxel.weight, eyes, jax.random.normal(jax.random.PRNGKey(1), (20, 32))
    )
    around = Surroundings(EYES, promolecule_of(source))
    for index in (0, 5):
        space = batch_of(dataset(), [index])
        expected = np.asarray(eyes(space))
        material, offset = source.patch(0, index)
        crystal = source.store.material(material).crystal
        n = len(crystal.atomic_numbers)
        states, weights = atom_states(eyes.field, around, crystal)
        placed = PlacedCrystal(crystal, source.store.grid[material], (3, 3, 3))
        guess = source.guess_at(material, placed.indices(offset))
        sums = around.contracted(crystal, placed.points(offset), guess, weights)
        room = space.around.features.array.shape[1]  # type: ignore[union-attr]
        summed = Summed(
            states=hax.named(np.pad(states, ((0, room - n), (0, 0)))[None], ("batch", "site", "state")),
            sums=tuple(
                hax.named(part[None], ("batch", "voxel", "angular", "channel"))
                for part in split_sums(jnp.asarray(sums), EYES.sums)
            ),
            guess=hax.named(guess[None], ("batch", "voxel")),
        )
        found = eyes(Space(space.places, space.atoms, space.voxels, summed))
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-3, atol=2e-4)


def test_noise_is_for_training(eyes: Eyes) -> None:
    space = batch_of(dataset(), [1])
    still, first, second = eyes(space), eyes(space, jax.random.PRNGKey(0)), eyes(space, jax.random.PRNGKey(1))
    assert float(jnp.abs(first - still).max()) > 1e-3
    assert float(jnp.abs(first - second).max()) > 1e-3


def test_rows_must_say_what_is_around(eyes: Eyes) -> None:
    space = dataclasses.replace(batch_of(dataset(), [0]), around=None)
    with pytest.raises(ValueError, match="needs what is around"):
        eyes(space)
    assert isinstance(batch_of(dataset(), [0]).around, Surrounded)
