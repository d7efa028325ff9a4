"""Starting densities stand at the density tokens, quantised as the density is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tomat
from data_sets import CASES, PATCHES, SEED
from runs import IDS, LABEL
from tomat.crystal import Crystal
from tomat.lm.data import DataConfig, open_rows
from tomat.promolecule import Promolecule, UnscaledPromolecule
from tomat.starting import StartingDensity

CUT = ["v1", "v2-lat", "v3"]


@pytest.mark.parametrize("name", CUT)
def test_the_promolecule_is_quantised_and_cut_like_the_density(name: str) -> None:
    case = CASES[name]
    rows = open_rows(case.on_the_fly(guess="qe-sg15", limit=5), case.pad_to)
    plain = open_rows(case.on_the_fly(limit=5), case.pad_to)
    tokenizer = rows.tokenizer
    unit = tokenizer.unit
    promolecule = Promolecule.load("qe-sg15")
    low, high = tokenizer.vocabulary.density_range
    for number, name_of in enumerate(IDS[:5]):
        material = tomat.read(LABEL / f"{name_of}.zarr").in_unit(unit)
        start = promolecule.predict(material, n_electrons=None, fallback="slater")
        offsets = rows.source.offsets(0, np.arange(number * PATCHES, (number + 1) * PATCHES))  # type: ignore[attr-defined]
        expected = tokenizer.encode(
            start.astype(np.float32), material.lattice, material.atomic_numbers, material.frac_coords, offsets
        )
        index = np.arange(number * PATCHES, (number + 1) * PATCHES)
        batch = rows.rows(0, index)
        density = (batch.tokens >= low) & (batch.tokens < high)
        np.testing.assert_array_equal(batch.guess, np.where(density, expected, 0))
        np.testing.assert_array_equal(batch.tokens, plain.rows(0, index).tokens)
    assert plain.rows(0, [0]).guess is None


@pytest.mark.parametrize("name", ["v2-lat", "v3"])
def test_rows_of_a_dataset_get_it_from_their_own_preamble(
    name: str, datasets: dict[str, Path], tmp_path: Path
) -> None:
    case = CASES[name]
    promolecule = UnscaledPromolecule.load("qe-sg15")
    config = DataConfig(
        path=str(datasets[name]),
        guess="qe-sg15",
        pack=True,
        seed=SEED,
        cache=str(tmp_path),
        max_guess_nmae=None,
    )
    rows = open_rows(config, case.pad_to)

    # The same function without its shortcut: the whole grid, then a cut.
    class WholeGrid(StartingDensity):
        identity = "another name"

        def per_volume(self, crystal: Crystal, grid_shape: tuple[int, int, int]) -> NDArray[np.float64]:
            return promolecule.per_volume(crystal, grid_shape)

    slow = open_rows(config, case.pad_to, guess=WholeGrid())
    index = np.arange(len(rows))
    fast_batch, slow_batch = rows.rows(0, index), slow.rows(0, index)
    np.testing.assert_array_equal(fast_batch.guess, slow_batch.guess)
    # And near what the unrounded crystal gives.
    exact = open_rows(case.on_the_fly(guess="qe-sg15", pack=True), case.pad_to).rows(0, index)
    assert fast_batch.guess is not None
    assert exact.guess is not None
    table = rows.tokenizer.density_codec.decode(np.arange(rows.tokenizer.density_codec.sizes[0])[:, None])
    low = rows.tokenizer.vocabulary.density_range[0]
    density = exact.guess > 0
    np.testing.assert_array_equal(fast_batch.guess > 0, density)
    near, far = table[fast_batch.guess[density] - low], table[exact.guess[density] - low]
    weight = exact.weight[density]
    assert float((np.abs(near - far) * weight).mean()) < 0.03
    assert float((np.abs(far - exact.values[density]) * weight).mean()) < 0.6


def test_any_function_is_a_starting_density(tmp_path: Path) -> None:
    calls = []

    class Constant(StartingDensity):
        identity = "a quarter"

        def per_volume(self, crystal: Crystal, grid_shape: tuple[int, int, int]) -> NDArray[np.float64]:
            calls.append(grid_shape)
            return np.full(grid_shape, 0.25)

    class Wrong(Constant):
        identity = "wrong"

        def per_volume(self, crystal: Crystal, grid_shape: tuple[int, int, int]) -> NDArray[np.float64]:
            return np.zeros(3)

    case = CASES["v3"]
    config = case.on_the_fly(cache=str(tmp_path), limit=3)
    rows = open_rows(config, 512, guess=Constant())
    material = tomat.read(LABEL / f"{IDS[0]}.zarr")
    token = rows.tokenizer.vocabulary.density_range[0] + int(
        rows.tokenizer.density_codec.encode(np.array([0.25 * material.volume], dtype=np.float32))[0, 0]
    )
    guess = rows.rows(0, [0]).guess
    assert guess is not None
    assert set(np.unique(guess)) == {0, token}
    assert rows.identity()["guess"] == "a quarter"
    assert len(calls) == 3
    open_rows(config, 512, guess=Constant()).rows(0, [0])
    assert len(calls) == 3, "kept beside the densities"
    with pytest.raises(ValueError, match=f"{IDS[0]}: the starting density has shape"):
        open_rows(config, 512, guess=Wrong())


def test_rows_without_a_cell_have_none(datasets: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="writes no cell"):
        open_rows(DataConfig(path=str(datasets["v1"]), guess="slater"), 512)
