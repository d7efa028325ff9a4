"""Fitting bins of the difference from a starting density."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tomat
from places import DATA, REPOSITORY
from tomat.codec import bundled_floor, bundled_relative_codecs
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import Sketch
from tomat.fitting_relative import Scale, fit_relative, relative_sketch
from tomat.floors import floor
from tomat.promolecule import UnscaledPromolecule

if TYPE_CHECKING:
    from tomat.codec import RelativeCodec
    from tomat.material import Entry

GUESS = UnscaledPromolecule.load("qe-sg15")


def entries(split: str) -> list[Entry]:
    return list(resolve_inputs([DATA / "rho_gga"], split=split))


@pytest.fixture(scope="module")
def sketch() -> Sketch:
    return relative_sketch(entries("train"), GUESS, Scale())


def nmae(codec: RelativeCodec, entry: Entry) -> float:
    material = entry.read().in_unit("e_per_A3")
    guess = GUESS.density(material.crystal, material.grid_shape)
    back = codec.roundtrip(material.density, guess)
    return float(np.abs(back - material.density).sum() / np.abs(material.density).sum())


def test_the_fit_is_better_than_other_bins(sketch: Sketch) -> None:
    """Under the weights of the NMAE no bins of as many levels are better, but for what moving one to zero costs."""
    scale = Scale()
    codec = fit_relative(sketch, 64, scale)
    seen = entries("train")
    mine = np.mean([nmae(codec, entry) for entry in seen])
    low, high = codec.levels[[0, -1]]
    spread = np.sinh(np.linspace(np.arcsinh(low * 5), np.arcsinh(high * 5), 64)) / 5
    spread[np.argmin(np.abs(spread))] = 0.0
    for moved in (codec.levels * 0.9, codec.levels * 1.1, spread):
        edges = (moved[1:] + moved[:-1]) / 2
        other = tomat.RelativeCodec(
            moved, edges, codec.edges[[0, -1]] * 2, offset=scale.offset, scale_factor=scale.factor
        )
        assert mine < np.mean([nmae(other, entry) for entry in seen])


def test_one_level_is_zero_and_nothing_seen_is_clipped(sketch: Sketch) -> None:
    codec = fit_relative(sketch, 128, Scale(), guess="qe-sg15", name="mine")
    assert np.count_nonzero(codec.levels == 0.0) == 1
    assert (codec.name, codec.guess, codec.sizes) == ("mine", "qe-sg15", [128])
    assert codec.about["n_materials"] == len(entries("train"))
    measured = floor(codec, entries("train"))
    assert max(measured.clipped) < 1e-3
    again = fit_relative(relative_sketch(entries("train"), GUESS, Scale(), threads=1), 128, Scale())
    assert again.hash == codec.hash


def test_floors_fall_with_the_number_of_bins(sketch: Sketch) -> None:
    unseen = [*entries("validation"), *entries("test")]
    means = []
    for bins in (32, 128, 512):
        result = floor(fit_relative(sketch, bins, Scale(), guess="qe-sg15"), unseen)
        assert result.unit == "e_per_A3"
        means.append(result.summary()["nmae"].mean)
    assert means[0] > 2 * means[1] > 4 * means[2]


def test_the_starting_density_of_a_floor(sketch: Sketch) -> None:
    codec = fit_relative(sketch, 32, Scale())
    unseen = entries("test")
    with pytest.raises(ValueError, match="names no starting density"):
        floor(codec, unseen)
    given = floor(codec, unseen, guess=GUESS)
    assert [m.nmae for m in given.metrics] == pytest.approx([nmae(codec, entry) for entry in unseen])
    worse = floor(codec, unseen, guess=UnscaledPromolecule.load("slater"))
    assert worse.summary()["nmae"].mean > 2 * given.summary()["nmae"].mean


def test_impossible_fits_are_refused(sketch: Sketch) -> None:
    with pytest.raises(ValueError, match="at least 3"):
        fit_relative(sketch, 2, Scale())
    above = Sketch("e_per_A3")
    above.add_weighted("one", np.linspace(0.1, 5.0, 500, dtype=np.float32), np.ones(500))
    with pytest.raises(ValueError, match="differences of both signs"):
        fit_relative(above, 16, Scale())
    with pytest.raises(ValueError, match="empty"):
        fit_relative(Sketch("e_per_A3"), 16, Scale())


def test_weighted_values_are_checked() -> None:
    sketch = Sketch("e_per_A3")
    values = np.ones(2, dtype=np.float32)
    for wrong, message in (
        ([1.0], "2 values with 1 weights"),
        ([1.0, -1.0], "at least zero"),
        ([1.0, np.nan], "at least zero"),
        ([1.0, 1e300], "2\\^35"),
    ):
        with pytest.raises(ValueError, match=message):
            sketch.add_weighted("one", values, np.array(wrong))
    with pytest.raises(ValueError, match="not finite"):
        sketch.add_weighted("one", np.array([1.0, np.inf], dtype=np.float32), np.ones(2))
    sketch.add_weighted("one", values, np.ones(2))
    with pytest.raises(ValueError, match="already"):
        sketch.add_weighted("one", values, np.ones(2))


def test_equal_weights_are_those_of_a_material() -> None:
    values = np.random.default_rng(0).lognormal(size=5000).astype(np.float32)
    plain, weighted = Sketch("e_per_A3"), Sketch("e_per_A3")
    plain.add("one", values, 1.0)
    exact = sum(map(float, values))
    weighted.add_weighted("one", values, np.full(5000, 1.0 / exact))
    fits = [tomat.fit_codec(sketch, 50) for sketch in (plain, weighted)]
    np.testing.assert_array_equal(fits[0].boundaries, fits[1].boundaries)


@pytest.mark.parametrize("name", bundled_relative_codecs())
def test_shipped_codecs_are_made_again_to_the_byte(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "training"))
    make_codecs = importlib.import_module("make_codecs")
    (shipped,) = (one for one in make_codecs.SHIPPED_RELATIVE if one.name == name)
    assert shipped.content() == (Path(make_codecs.CODECS) / f"{name}.rel.npz").read_bytes()


def test_the_stated_floors() -> None:
    """Of the shipped codecs, and below what an answer in tokens may cost."""
    for name, most in (("rel-128", 1e-3), ("rel-256", 5e-4), ("rel-1k", 2e-4)):
        stated = bundled_floor(tomat.load_codec(name))
        assert stated is not None
        assert stated <= most
