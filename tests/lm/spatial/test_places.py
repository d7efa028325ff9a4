"""Where tokens are: what each stands for, and the nearest image of each atom."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tiny_field
from tomat.crystal import Crystal
from tomat.lm.spatial.places import PlacedCrystal, patch_indices, places_of, tokens_of
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import LAYOUTS, PatchTokenizer

GRID, SHAPE = (12, 14, 16), (3, 4, 5)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("codec", ["l1-1k-e_per_A3", "two_token_9_12"])
def test_each_token_stands_for_what_its_name_says(layout: str, codec: str) -> None:
    vocabulary = ModelVocabulary(PatchTokenizer(layout, codec, patch_size=3, pad_to=256, unit="e_per_A3"))
    crystal = tiny_field.quartz()
    density = np.arange(np.prod(GRID), dtype=np.float32).reshape(GRID) / 100
    row = vocabulary.tokenizer.encode(
        density, crystal.lattice, crystal.atomic_numbers, crystal.frac_coords, [(1, 2, 3)]
    )[0]
    inside = np.flatnonzero((row >= vocabulary.density.start) & (row < vocabulary.density.stop))
    n = len(crystal.atomic_numbers)
    of = tokens_of(row, vocabulary, slice(int(inside[0]), int(inside[-1]) + 1), (n, 50), (27, 99))
    names = [vocabulary.name(int(token)) for token in row]
    elements = [
        (at, names[at]) for at in range(len(row)) if of.atoms[at] < n and not names[at].startswith("p")
    ]
    assert [name for _, name in elements] == [
        vocabulary.name(int(row[names.index("[ATOMS_START]") + 1 + i])) for i in range(n)
    ]
    assert of.atoms[[at for at, _ in elements]].tolist() == list(range(n))
    # Nine tokens of coordinates an atom, in order.
    coordinates = [int(of.atoms[at]) for at in range(len(row)) if names[at].startswith("p")]
    assert coordinates == np.repeat(np.arange(n), 9).tolist()
    each = len(vocabulary.codec.sizes)
    assert of.voxels[inside].tolist() == np.repeat(np.arange(27), each).tolist()
    rest = np.setdiff1d(np.arange(len(row)), inside)
    assert (of.voxels[rest] == 99).all()
    special = [at for at, name in enumerate(names) if name.startswith("[")]
    assert (of.atoms[special] == 50).all()
    places = places_of(of, np.full((n, 3), 7.0), np.full((27, 3), 8.0))
    assert set(np.unique(places)) == {0.0, 7.0, 8.0}
    assert (places[special] == 0).all()


def test_voxels_lie_around_the_middle_of_their_patch() -> None:
    crystal = tiny_field.quartz()
    placed = PlacedCrystal(crystal, GRID, SHAPE)
    np.testing.assert_allclose(placed.voxels.mean(axis=0), 0, atol=1e-12)
    steps = crystal.lattice / np.array(GRID)[:, None]
    np.testing.assert_allclose(placed.voxels[1] - placed.voxels[0], steps[2])
    np.testing.assert_allclose(
        placed.voxels[-1] - placed.voxels[0], np.array(SHAPE) @ steps - steps.sum(axis=0)
    )
    corner = np.array([11, 13, 15])
    index = np.ravel_multi_index(tuple((corner + patch_indices(SHAPE)).T % np.array(GRID)[:, None]), GRID)
    np.testing.assert_array_equal(placed.indices((11, 13, 15)), index)
    np.testing.assert_allclose(placed.points((11, 13, 15))[0], np.array([11, 13, 15]) / GRID)


@pytest.mark.parametrize("skewed", [False, True])
def test_an_atom_is_at_its_image_nearest_to_the_middle(skewed: bool) -> None:
    crystal = tiny_field.quartz()
    if skewed:
        lattice = np.array([[3.0, 0, 0], [2.8, 1.5, 0], [1.0, 1.2, 9.0]])
        crystal = Crystal.of(lattice, crystal.atomic_numbers, crystal.frac_coords)
    placed = PlacedCrystal(crystal, GRID, SHAPE)
    offset = np.array([7, 3, 11])
    middle = (offset + 0.5 * (np.array(SHAPE) - 1)) / GRID
    found = placed.atoms(offset)
    shifts = np.array(list(itertools.product(range(-6, 7), repeat=3)))
    for place, frac in zip(found, crystal.frac_coords, strict=True):
        images = (frac - middle + shifts) @ crystal.lattice
        distances = np.linalg.norm(images, axis=1)
        np.testing.assert_allclose(np.linalg.norm(place), distances.min(), atol=1e-3)
        assert np.abs(images - place).max(axis=1).min() < 1e-9


def test_rounding_does_not_choose_between_images_that_are_equally_near() -> None:
    """The middle of the patch is where an atom's images are at one distance in all directions."""
    lattice, grid, shape = np.eye(3) * 4.0, (8, 8, 8), (3, 3, 3)
    expected = None
    for step in range(8):
        crystal = Crystal.of(lattice, [3], [[(step / 8) % 1 + 1e-12 * (-1) ** step, step / 8, step / 8]])
        offset = np.array([step + 3] * 3) % 8
        found = PlacedCrystal(crystal, grid, shape).atoms(offset)
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert expected is not None
    np.testing.assert_allclose(np.abs(expected), 2.0, atol=1e-9)
