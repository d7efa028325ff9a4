"""The space of training rows: the same for every objective, padded, and turned as the seed says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("levanter")
from tiny_spatial import dataset
from tomat.lm.spatial.example import Surrounded


def test_hidden_tokens_are_where_they_are() -> None:
    shown, hidden = (dataset(kind).arrays([0, 5, 6]) for kind in ("guess", "masked"))
    names = [name for name in shown if name.startswith("space.")]
    assert {"space.places", "space.atoms", "space.voxels", "space.around.guess"} <= set(names)
    for name in names:
        np.testing.assert_array_equal(shown[name], hidden[name], err_msg=name)
    assert (shown["tokens"] != hidden["tokens"]).any()


def test_an_example_does_not_depend_on_its_batch() -> None:
    data = dataset(finite=False, turn=1)
    together = data.arrays([3, 11, 4])
    for at, index in enumerate((3, 11, 4)):
        for name, array in data.arrays([index]).items():
            np.testing.assert_array_equal(array[0], together[name][at], err_msg=name)


def test_what_is_not_there_adds_nothing() -> None:
    data = dataset()
    space = data._space
    assert space is not None
    arrays = data.arrays(range(data.count))
    atoms = arrays["space.around.present"].sum(axis=1).astype(int)
    assert len(set(atoms.tolist())) > 1
    for row, n in enumerate(atoms.tolist()):
        assert (arrays["space.around.features"][row, n:] == 0).all()
        for name in ("atoms", "voxels"):
            for l in range(4):  # noqa: E741
                sums = arrays[f"space.around.{name}.{l}"][row]
                assert (sums[n:] == 0).all()
                points = n if name == "atoms" else 27
                assert (sums[:, points * (2 * l + 1) :] == 0).all()
                assert (sums[:n, : points * (2 * l + 1)] != 0).any() or n == 1
        assert (arrays["space.around.guess"][row] > 0).all()


def test_training_turns_the_frame_and_keeps_distances() -> None:
    still, one, other = (dataset(turn=turn).arrays([2])["space.places"][0] for turn in (None, 1, 2))
    assert np.abs(one - still).max() > 0.1
    assert np.abs(one - other).max() > 0.1
    for turned in (one, other):
        np.testing.assert_allclose(turned @ turned.T, still @ still.T, atol=1e-4)


def test_the_template_has_the_axes_of_the_arrays() -> None:
    data = dataset()
    space = data._space
    assert space is not None
    assert space.room[1] == 27
    work = data.get_batch([0])
    with pytest.raises(StopIteration) as done:
        work.send(None)
    example = done.value.value[0].space
    assert isinstance(example.around, Surrounded)
    assert [axis.name for axis in example.places.axes] == ["position", "along"]
    assert example.around.voxels[2].array.shape == (space.room[0], 27 * 5, 9)
