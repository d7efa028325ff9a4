"""The division of densities into folds by chemical system, and how a fold is written."""

from pathlib import Path

import numpy as np
import pytest

import families
from tomat.categories import chemical_system
from tomat.lm.data.folds import Division, Fold, LeftOut
from tomat.lm.data.store import DensityStore

SYSTEMS = ["Si", "O", "O-Si", "O-Si", "Li-O"]


def _store(folder: Path) -> DensityStore:
    return DensityStore.of(families.write(folder), "e_per_A3")


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_every_system_is_in_one_fold(tmp_path: Path, folds: int) -> None:
    store = _store(tmp_path)
    assert [chemical_system(store.atomic_numbers(i)) for i in range(len(store))] == SYSTEMS
    division = Division.of(store, folds)
    assert sorted(system for fold in division.systems for system in fold) == sorted(set(SYSTEMS))
    places = division.places(store)
    for system, place in zip(SYSTEMS, places.tolist(), strict=True):
        assert system in division.systems[place]
    sizes = np.bincount(places, minlength=folds)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_a_fold_is_what_a_model_is_trained_without(tmp_path: Path) -> None:
    store = _store(tmp_path)
    places = Division.of(store, 3).places(store)
    for k in range(3):
        part = LeftOut.of(store, Fold(k + 1, 3))
        np.testing.assert_array_equal(part.within(store), places == k)
        assert part.division == Division.of(store, 3).hash
        assert LeftOut.from_json(part.to_json()) == part
    assert Division.of(store, 2).hash != Division.of(store, 3).hash


def test_systems_of_other_data_are_in_no_fold(tmp_path: Path) -> None:
    store = _store(tmp_path)
    few = DensityStore.of(families.write(tmp_path)[:2], "e_per_A3")
    assert Division.of(few, 2).places(store).tolist()[2:] == [-1, -1, -1]


def test_there_are_no_more_folds_than_systems(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"5 folds \(data.fold, .*\), but the densities are of 4 chemical systems"
    ):
        Division.of(_store(tmp_path), 5)


def test_a_fold_reads_as_it_is_written() -> None:
    assert str(Fold.parse("2/3")) == "2/3"
    for wrong in ("0/3", "4/3", "1/1", "1", "one", "1/3/3", "-1/3", ""):
        with pytest.raises(ValueError, match=r"data\.fold = .*such as 1/3"):
            Fold.parse(wrong)
