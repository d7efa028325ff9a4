"""Sketches and fits against slow references: every partition tried, `kmeans1d`, and the definition of a histogram."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kmeans1d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import tomat
from places import REPOSITORY
from tomat.codec import bundled_floor
from tomat.dataset.inputs import resolve_inputs
from tomat.fitting import METHODS, Sketch, fit_codec, merge_sketches, sketch_entries
from tomat.floors import floor, floor_curves
from tomat.material import Entry
from tomat.tail import Tail

TRAINING = REPOSITORY / "training"


def sketch_of(*materials: NDArray[np.float32], unit: str = "chgcar") -> Sketch:
    sketch = Sketch(unit)
    for i, values in enumerate(materials):
        sketch.add(f"m{i}", values, 1.0)
    return sketch


def small_values() -> st.SearchStrategy[NDArray[np.float32]]:
    """A few distinct values that are alone in their cells (they have few mantissa bits), some repeated."""
    eighth = st.integers(0, 4000).map(lambda n: n / 8)
    lists = st.lists(eighth, min_size=2, max_size=11).filter(lambda v: max(v) > 0)
    return lists.map(lambda v: np.array(v, dtype=np.float32))


def best_l1(values: NDArray[np.float64], n: int) -> float:
    """The least sum of absolute errors with n bins: all partitions of the distinct values into runs."""
    distinct = np.unique(values)
    least = np.inf
    for cuts in itertools.combinations(range(1, len(distinct)), min(n, len(distinct)) - 1):
        total = 0.0
        for low, high in itertools.pairwise([0, *cuts, len(distinct)]):
            run = values[(values >= distinct[low]) & (values <= distinct[high - 1])]
            total += float(np.abs(run - np.median(run)).sum())
        least = min(least, total)
    return least


@given(small_values(), st.integers(1, 8))
def test_l1_is_the_least_of_all_partitions(values: NDArray[np.float32], n: int) -> None:
    codec = fit_codec(sketch_of(values), n, method="l1", weight="voxel")
    exact = values.astype(np.float64)
    got = float(np.abs(codec.roundtrip(exact) - exact).sum())
    assert got == pytest.approx(best_l1(exact, n), rel=1e-12, abs=1e-12)
    assert codec.about["nmae_on_sketch"] == pytest.approx(got / exact.sum(), rel=1e-12, abs=1e-15)


@given(small_values(), small_values(), st.integers(1, 6))
def test_material_weights_give_the_least_mean_nmae(
    a: NDArray[np.float32], b: NDArray[np.float32], n: int
) -> None:
    """Voxels repeated in proportion to 1 / sum|rho| make the same problem without weights."""
    codec = fit_codec(sketch_of(a, b), n, method="l1", weight="material")
    exact = [a.astype(np.float64), b.astype(np.float64)]
    times = [int(8 * exact[1].sum()), int(8 * exact[0].sum())]
    repeated = best_l1_weighted(exact, times, n)
    got = sum(t * float(np.abs(codec.roundtrip(v) - v).sum()) for v, t in zip(exact, times, strict=True))
    assert got == pytest.approx(repeated, rel=1e-9, abs=1e-9)


def best_l1_weighted(materials: list[NDArray[np.float64]], times: list[int], n: int) -> float:
    values = np.concatenate(materials)
    weights = np.repeat(np.array(times, dtype=np.float64), [len(v) for v in materials])
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    distinct = np.unique(values)
    cost = {}
    for i, j in itertools.combinations(range(len(distinct) + 1), 2):
        run = (values >= distinct[i]) & (values <= distinct[j - 1])
        cost[i, j] = min(float((weights[run] * np.abs(values[run] - v)).sum()) for v in values[run])
    least = np.full(len(distinct) + 1, np.inf)
    least[0] = 0.0
    for _ in range(min(n, len(distinct))):
        least = np.array(
            [min((least[i] + cost[i, j] for i in range(j)), default=np.inf) for j in range(len(distinct) + 1)]
        )
    return float(least[-1])


@given(small_values(), st.integers(1, 8))
def test_l2_is_kmeans(values: NDArray[np.float32], n: int) -> None:
    codec = fit_codec(sketch_of(values), n, method="l2", weight="voxel")
    exact = values.astype(np.float64)
    k = min(n, len(np.unique(exact)))
    labels, centers = kmeans1d.cluster(exact, k)
    expected = float(((exact - np.array(centers)[labels]) ** 2).sum())
    # Points are float32: their rounding enters the error in second order and by their distance.
    got = float(((exact - codec.roundtrip(exact)) ** 2).sum())
    assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


def heavy_tail(n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.02 * rng.pareto(1.2, n)).astype(np.float32)


@pytest.mark.parametrize("weight", ["voxel", "material"])
def test_no_method_beats_l1_on_its_own_sketch(weight: Any) -> None:
    sketch = sketch_of(heavy_tail(20_000, 1), heavy_tail(3_000, 2) * np.float32(40))
    for n in (16, 200, 1024):
        errors = {m: fit_codec(sketch, n, method=m, weight=weight).about["nmae_on_sketch"] for m in METHODS}
        assert min(errors, key=errors.__getitem__) == "l1"
        assert errors["lloyd"] > 1.5 * errors["l1"] or n == 16
        # Lloyd's means are worse for the absolute error than its medians would be.
        medians = fit_codec(sketch, n, method="lloyd", weight=weight, points="median")
        assert medians.about["nmae_on_sketch"] <= errors["lloyd"]


def test_signed_codecs_keep_negative_values_and_others_clip_them() -> None:
    values = np.concatenate([heavy_tail(5000, 3), -heavy_tail(200, 4)])
    sketch = sketch_of(values)
    plain, signed = (fit_codec(sketch, 256, weight="voxel", signed=s) for s in (False, True))
    assert plain.clip_min == 0.0
    assert signed.clip_min == values.min()
    assert plain.roundtrip(values).min() >= 0.0
    assert signed.about["nmae_on_sketch"] < 0.2 * plain.about["nmae_on_sketch"]
    negative = values[values < 0].astype(np.float64)
    assert np.abs(signed.roundtrip(negative) - negative).sum() < 0.3 * np.abs(negative).sum()


def test_few_values_ties_and_zeros() -> None:
    three = np.array([0.5, 0.5, 2.0, 7.25], dtype=np.float32)
    for method in METHODS:
        codec = fit_codec(sketch_of(three), 16, method=method)
        assert codec.sizes == [16]
        assert codec.roundtrip(three).tolist() == three.tolist()
        assert codec.about["bins_used"] == 3
        zero = fit_codec(sketch_of(np.zeros(8, dtype=np.float32)), 16, method=method)
        assert zero.roundtrip([0.0, -1.0]).tolist() == [0.0, 0.0]
        below = fit_codec(sketch_of(-three), 16, method=method, signed=True)
        assert below.roundtrip(-three).tolist() == (-three).tolist()
        one = fit_codec(sketch_of(three), 1, method=method)
        assert one.sizes == [1]
    with pytest.raises(ValueError, match="empty"):
        fit_codec(Sketch("chgcar"), 16)
    for bins in (0, 2**21):
        with pytest.raises(ValueError, match="bins"):
            fit_codec(sketch_of(three), bins)
    with pytest.raises(KeyError, match="l3"):
        fit_codec(sketch_of(three), 4, method="l3")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="eV"):
        Sketch("eV")


def test_sketches_know_what_is_in_them() -> None:
    values = np.array([-0.5, 0.0, -0.0, 0.25, 3.0, 3.0], dtype=np.float32)
    sketch = sketch_of(values)
    assert (sketch.n_voxels, sketch.n_zero, sketch.n_negative, sketch.n_cells) == (6, 2, 1, 4)
    assert (sketch.ids, sketch.range, sketch.unit) == (["m0"], (-0.5, 3.0), "chgcar")
    assert sketch.sum == pytest.approx(5.75)
    with pytest.raises(ValueError, match="m0"):
        sketch.add("m0", values, 1.0)
    with pytest.raises(ValueError, match="index 1"):
        sketch.add("bad", np.array([1.0, np.nan], dtype=np.float32), 1.0)
    assert sketch.ids == ["m0"]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_parts_add_up_in_any_order(parts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    materials = [(0.1 * rng.standard_cauchy(50)).astype(np.float32) for _ in parts]
    whole = sketch_of(*materials)
    sketches = [Sketch("chgcar") for _ in range(3)]
    for i, part in enumerate(parts):
        sketches[part].add(f"m{i}", rng.permutation(materials[i]), 1.0)
    merged = Sketch("chgcar")
    for i in rng.permutation(3):
        merged.merge(sketches[i])
    assert merged.to_bytes() == whole.to_bytes()
    assert merged.hash == whole.hash
    assert Sketch.from_bytes(whole.to_bytes()).hash == whole.hash


def test_sketch_files(tmp_path: Path) -> None:
    sketch = sketch_of(heavy_tail(500, 5))
    for name in ("a.sketch", "a.sketch.xz"):
        sketch.save(tmp_path / name)
        assert Sketch.load(tmp_path / name).hash == sketch.hash
    data = (tmp_path / "a.sketch").read_bytes()
    for name, content in {"cut": data[:-1], "flip": data[:40] + b"\xff" + data[41:], "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            Sketch.load(tmp_path / name)
    (tmp_path / "cut.xz").write_bytes((tmp_path / "a.sketch.xz").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cut\.xz"):
        Sketch.load(tmp_path / "cut.xz")
    sketch_of(heavy_tail(9, 6), unit="e_per_A3").save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"other.*e_per_A3"):
        merge_sketches([tmp_path / "a.sketch", tmp_path / "other"])
    with pytest.raises(ValueError, match="m0"):
        merge_sketches([tmp_path / "a.sketch", tmp_path / "a.sketch"])


def held_out(data: Path) -> list[Entry]:
    root = str(data / "rho_gga")
    return [e for split in ("validation", "test") for e in resolve_inputs([root], split=split)]


@pytest.mark.parametrize("suffix", ["", "-e_per_A3", "-e_per_A3-1e4"])
def test_shipped_codecs_hold_their_floors(data: Path, suffix: str) -> None:
    """The floors of docs/codecs.md, with a margin for the seven held-out materials of the repository."""
    previous = 1.0
    for size, limit in {"1k": 2.2e-3, "4k": 5.5e-4, "16k": 1.5e-4, "65k": 4.5e-5}.items():
        result = floor(tomat.LloydMaxCodec.load(f"l1-{size}{suffix}"), held_out(data))
        nmae = result.summary()["nmae"]
        assert 0.0 < nmae.mean < limit
        assert nmae.mean < previous / 2
        previous = nmae.mean
        assert nmae.median <= nmae.p99 <= nmae.max < 2 * limit
        assert all(clipped == 0.0 for clipped in result.clipped)  # none of these has a negative voxel


def test_floor_by_the_definition(data: Path) -> None:
    entry = next(e for e in resolve_inputs([str(data / "rho_gga")]) if e.task_id == "vasp-mp-2300242")
    codec = tomat.LloydMaxCodec.load("l1-16k-e_per_A3")
    true = tomat.read(entry.path).in_unit("e_per_A3").density.ravel()
    error = np.abs(codec.decode(codec.encode(true)) - true.astype(np.float64))
    result = floor(codec, [entry], threads=1)
    assert result.unit == "e_per_A3"
    assert result.metrics[0].nmae == pytest.approx(
        error.sum() / np.abs(true.astype(np.float64)).sum(), rel=1e-9
    )
    assert true.min() < 0
    assert result.clipped[0] == pytest.approx(error[true < 0].sum() / error.sum(), rel=1e-9)
    log = floor(tomat.load_codec("two_token_9_12"), [entry], unit="chgcar")
    assert log.tokens == 2
    assert 0 < log.metrics[0].nmae < 0.05


def test_comparison_on_real_densities(data: Path) -> None:
    train = resolve_inputs([str(data / "rho_gga")], split="train")
    sketch = sketch_entries(train, "e_per_A3", threads=2)
    result = floor_curves(sketch, held_out(data), bins=[256, 1024], methods=METHODS)
    assert result.held_out
    assert (result.n_fit, result.n_test) == (13, 7)
    by_name = {curve.method: curve for curve in result.curves}
    assert by_name["lloyd"].mean[1] > 3 * by_name["l1"].mean[1]
    assert by_name["l1"].mean[1] < 0.4 * by_name["l1"].mean[0]
    for i in range(2):
        assert min(curve.on_sketch[i] for curve in result.curves) == by_name["l1"].on_sketch[i]
    codec = fit_codec(sketch, 1024)
    assert by_name["l1"].mean[1] == pytest.approx(
        floor(codec, held_out(data)).summary()["nmae"].mean, rel=1e-9
    )
    lines = result.to_csv().splitlines()
    assert len(lines) == 1 + 10
    assert lines[1].startswith("e_per_A3,material,False,l1,256,")


@pytest.mark.parametrize("name", ["l1-1k", "l1-4k", "l1-2k-e_per_A3", "l1-16k-e_per_A3-1e4"])
def test_shipped_codecs_are_made_again_to_the_byte(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(TRAINING))
    make_codecs = importlib.import_module("make_codecs")
    (shipped,) = (one for one in make_codecs.SHIPPED if one.name == name)
    assert shipped.content() == (make_codecs.CODECS / f"{name}.npz").read_bytes()


def test_the_stated_floors_are_of_the_shipped_codecs() -> None:
    """What `tomat codec list` prints was measured on the codecs that are there."""
    names = set(tomat.bundled_codecs())
    assert all(bundled_floor(tomat.LloydMaxCodec.load(name)) is not None for name in names)
    own = tomat.LloydMaxCodec.load("l1-1k")
    assert own.recon_points_mean is not None
    other = tomat.LloydMaxCodec(own.boundaries, own.recon_points_mean, own.clip_max, unit=own.unit)
    other.name = "l1-1k"
    assert bundled_floor(other) is None


# --- tails --------------------------------------------------------------------------------------------------


def test_a_tail_has_equal_ratios_and_leaves_the_rest_as_it_is() -> None:
    above_zero, below_zero = np.geomspace(0.01, 30.0, 4000), -np.geomspace(0.001, 0.2, 300)
    sketch = sketch_of(above_zero.astype(np.float32), below_zero.astype(np.float32))
    plain = fit_codec(sketch, 200, signed=True)
    codec = fit_codec(sketch, 240, signed=True, tail=Tail(1e4, -10.0, 40))
    assert codec.about["tail"] == {"max": 1e4, "min": -10.0, "from": 30.0, "bins_above": 35, "bins_below": 5}
    assert (codec.clip_min, codec.clip_max, codec.sizes) == (-10.0, 1e4, [240])
    np.testing.assert_array_equal(codec.boundaries[5:204], plain.boundaries)
    inside = np.concatenate([-np.geomspace(1e-3, 0.2, 99), np.geomspace(0.01, 30.0, 999)]).astype(np.float32)
    np.testing.assert_array_equal(codec.roundtrip(inside), plain.roundtrip(inside))
    above = np.append(codec.boundaries[204:].astype(np.float64), 1e4)
    ratio = (1e4 / 30.0) ** (1 / 35)
    np.testing.assert_allclose(above[1:] / above[:-1], ratio, rtol=1e-5)
    far = np.geomspace(30.1, 9999.0, 500)
    assert np.abs(codec.roundtrip(far) / far - 1).max() < np.sqrt(ratio) - 1 + 1e-6
    below = -np.geomspace(0.21, 9.99, 100)
    assert np.abs(codec.roundtrip(below) / below - 1).max() < (10 / 0.2) ** (1 / 10) - 1 + 1e-6
    np.testing.assert_array_equal(codec.encode(codec.recon_points)[:, 0], np.arange(240))


def test_a_tail_takes_over_where_values_are_few() -> None:
    """A few values far out would place bins with gaps of 20 % between them; the tail's are 3 %."""
    sketch = sketch_of(np.append(np.geomspace(0.01, 10.0, 4000), [12.0, 15.0, 19.0, 24.0]).astype(np.float32))
    codec = fit_codec(sketch, 500, tail=Tail(1e4, bins=200))
    assert 9.5 < codec.about["tail"]["from"] < 12.0
    assert codec.about["tail"]["bins_above"] > 200
    values = np.geomspace(1.0, 9999.0, 9999)
    assert np.abs(codec.roundtrip(values) / values - 1).max() < 0.025
    assert (len(codec.boundaries), codec.clip_max) == (499, 1e4)


def test_a_tail_below_zero_without_values_there() -> None:
    sketch = sketch_of(heavy_tail(99, 1))
    codec = fit_codec(sketch, 128, signed=True, tail=Tail(1e6, -8.0, 16))
    assert codec.clip_min == -8.0
    assert codec.roundtrip([-5.0])[0] == pytest.approx(-5.0, rel=1.0)
    assert fit_codec(sketch, 128, signed=True).clip_min == 0.0


@pytest.mark.parametrize(
    ("tail", "options", "problem"),
    [
        (lambda: Tail(0.0), {}, "give max > 0 and min <= 0"),
        (lambda: Tail(float("nan")), {}, "give max > 0 and min <= 0"),
        (lambda: Tail(1e4, 1.0), {}, "give max > 0 and min <= 0"),
        (lambda: Tail(1e4, -1.0, 1), {"signed": True}, "at least one above, and one below"),
        (lambda: Tail(1e4, -1.0), {}, "needs a signed codec"),
        (lambda: Tail(1.0), {}, "longer range"),
        (lambda: Tail(1e9, 0.0, 64), {}, "leaves none of 64"),
    ],
)
def test_a_tail_that_cannot_be(tail: Callable[[], Tail], options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        fit_codec(sketch_of(heavy_tail(99, 1)), 64, tail=tail(), **options)


# --- the default --------------------------------------------------------------------------------------------


def test_the_floor_does_not_know_the_size_of_the_cell(data: Path) -> None:
    """The same crystals in 1 to 27 cells: the default loses the same; rho * V_cell, which grows, is clipped."""
    entries = resolve_inputs([str(data / "rho_gga")], split="test")
    default = tomat.load_codec(tomat.LAYOUTS["v3"].default_codec)
    one, two, three = (floor(default, entries, supercell=n).summary()["nmae"] for n in (1, 2, 3))
    assert one.mean < 1.5e-4
    for larger in (two, three):  # 0.001 points: 1e-5
        assert abs(larger.mean - one.mean) < 1e-5
        assert abs(larger.max - one.max) < 1e-5
    assert floor(tomat.load_codec("lmq-16k"), entries, supercell=2).summary()["nmae"].mean > 1e-2


def test_the_default_clips_nothing_physical() -> None:
    codec = tomat.load_codec("l1-16k-e_per_A3-1e4")
    assert isinstance(codec, tomat.LloydMaxCodec)
    assert (codec.clip_min, codec.clip_max, codec.unit) == (-10.0, 1e4, "e_per_A3")
    values = np.concatenate([-np.geomspace(0.01, 10.0, 999), np.geomspace(0.001, 1e4, 9999)])
    assert (np.abs(codec.roundtrip(values) - values) < 0.035 * np.abs(values) + 0.0035).all()
