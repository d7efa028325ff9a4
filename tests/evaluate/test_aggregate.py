"""Bootstrap intervals, distances, aggregates: each against a slower or a known answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomat import metrics
from tomat.evaluate.aggregate import Settings, aggregate, deciles, spread
from tomat.evaluate.bootstrap import Interval, Resampler
from tomat.evaluate.distances import nearest_atom
from tomat.evaluate.measure import DISTANCES, METRICS

# --- the new metrics ----------------------------------------------------------------------------------------


def test_nemd_of_a_point_prediction_is_its_nmae() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.uniform(size=(2, 4, 5, 6))
    assert metrics.nemd(np.abs(predicted - true), true) == pytest.approx(metrics.nmae(predicted, true))


def test_nemd_against_samples() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(1, 2, size=(3, 3, 3))
    values = rng.normal(1.5, 0.4, size=(20000, 3, 3, 3))
    expected = np.abs(values - true).mean(axis=0)
    direct = np.mean([np.abs(v - true).sum() for v in values]) / true.sum()
    assert metrics.nemd(expected, true) == pytest.approx(direct)
    # Jensen: never below the NMAE of the mean.
    assert metrics.nemd(expected, true) > metrics.nmae(values.mean(axis=0), true)


def test_nemd_refuses_what_is_no_expected_error() -> None:
    with pytest.raises(ValueError, match="never negative"):
        metrics.nemd([-0.1, 1.0], [1.0, 1.0])


def test_weighted_mean() -> None:
    assert metrics.weighted_mean([1.0, 3.0], [3.0, 1.0]) == 1.5
    assert metrics.weighted_mean([1.0, math.inf], [1.0, 0.0]) == 1.0
    for values, weights in (
        ([1.0], [0.0]),
        ([1.0], [-1.0]),
        ([math.nan], [1.0]),
        ([], []),
        ([1.0], [1.0, 2.0]),
    ):
        with pytest.raises(ValueError, match=r"weights|values"):
            metrics.weighted_mean(values, weights)


# --- the bootstrap ------------------------------------------------------------------------------------------


def _drawn(resampler: Resampler, n: int) -> Any:
    """How often each material was drawn in each resample."""
    return np.concatenate(list(resampler._chunks()))[:, resampler._unit].reshape(-1, n)


@pytest.mark.parametrize("clusters", [None, list("aabbbcdde")])
def test_intervals_are_those_of_resamples_done_one_by_one(clusters: list[str] | None) -> None:
    rng = np.random.default_rng(2)
    values, weights = rng.lognormal(size=9), rng.uniform(0.5, 2, size=9)
    resampler = Resampler(9, clusters, resamples=60, seed=3)
    means, medians = [], []
    for counts in _drawn(resampler, 9).astype(int):
        index = np.repeat(np.arange(9), counts)
        means.append(np.average(values[index], weights=weights[index]))
        medians.append(np.quantile(values[index], 0.4))
    for got, slow in ((resampler.mean(values, weights), means), (resampler.quantile(values, 0.4), medians)):
        assert (got.low, got.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
    assert resampler.mean(values, weights).value == pytest.approx(np.average(values, weights=weights))
    np.testing.assert_allclose(resampler.means(values[:, None], weights)[:, 0], means)


def test_clusters_are_drawn_whole() -> None:
    counts = _drawn(Resampler(5, ["a", "b", "a", "b", "a"], resamples=50), 5)
    assert (counts[:, [0]] == counts[:, [2, 4]]).all()
    assert (counts[:, 1] == counts[:, 3]).all()
    # Two clusters are drawn each time: as many materials as those have.
    assert set(counts.sum(axis=1)) <= {4.0, 5.0, 6.0}


def test_copies_of_one_system_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(4).normal(size=12)
    one = _width(Resampler(12, range(12)).mean(values))
    many = _width(Resampler(120, [i // 10 for i in range(120)]).mean(np.repeat(values, 10)))
    alone = _width(Resampler(120).mean(np.repeat(values, 10)))
    assert many == pytest.approx(one)
    assert alone < 0.5 * many


def _width(of: Interval) -> float:
    return (of.high or math.nan) - (of.low or math.nan)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for trial in range(200):
        got = Resampler(40, resamples=400, seed=trial).mean(rng.normal(7.0, 2.0, size=40))
        inside += (got.low or math.inf) <= 7.0 <= (got.high or -math.inf)
    assert 175 <= inside <= 199


def test_one_unit_has_no_interval() -> None:
    assert Resampler(3, "aaa").mean([1, 2, 3]) == (2.0, None, None)
    assert Resampler(3, "aaa").quantile([1, 2, 3], 0.5) == (2.0, None, None)
    # Nor has a group that lies in one of them.
    assert Resampler(3, "aab").mean([1, 2, 3], [1, 1, 0]) == (1.5, None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "no materials"),
        ({"n": 3, "level": 1.0}, "level"),
        ({"n": 3, "resamples": 1}, "resamples"),
        ({"n": 3, "clusters": ["a"]}, "clusters"),
    ],
)
def test_bad_resamplers(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Resampler(**arguments)


def test_bad_values() -> None:
    resampler = Resampler(2)
    calls: list[Callable[[], object]] = [
        lambda: resampler.mean([1.0, math.inf]),
        lambda: resampler.mean([1.0]),
        lambda: resampler.mean([1.0, 2.0], [0.0, 0.0]),
        lambda: resampler.mean([1.0, 2.0], [-1.0, 1.0]),
        lambda: resampler.quantile([1.0, 2.0], 1.5),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"finite|shape|weight|fraction"):
            call()


# --- distances ----------------------------------------------------------------------------------------------


def _slow_distances(lattice: Any, frac: Any, shape: tuple[int, ...]) -> Any:
    axes = [np.arange(n) / n for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    best = np.full(shape, np.inf)
    for atom, image in itertools.product(frac, itertools.product(range(-4, 5), repeat=3)):
        apart = (points - (atom + np.array(image))) @ lattice
        best = np.minimum(best, np.linalg.norm(apart, axis=-1))
    return best


@given(st.integers(0, 2**32), st.floats(0.3, 6.0))
def test_distances_are_those_to_all_images(seed: int, cutoff: float) -> None:
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(2.0, 5.0, size=3)) + rng.uniform(-0.8, 0.8, size=(3, 3))
    frac = rng.uniform(-1.5, 1.5, size=(int(rng.integers(1, 4)), 3))
    shape = tuple(int(n) for n in rng.integers(1, 7, size=3))
    got = nearest_atom(lattice, frac, shape, cutoff)
    slow = _slow_distances(lattice, frac % 1.0, shape)
    near = slow < cutoff - 1e-4
    np.testing.assert_allclose(got[near], slow[near], atol=1e-4)
    assert np.isinf(got[slow > cutoff + 1e-4]).all()


def test_distances_need_a_cell_and_a_cutoff() -> None:
    with pytest.raises(ValueError, match="zero volume"):
        nearest_atom(np.zeros((3, 3)), [[0, 0, 0]], (2, 2, 2), 1.0)
    with pytest.raises(ValueError, match="cutoff"):
        nearest_atom(np.eye(3), [[0, 0, 0]], (2, 2, 2), 0.0)


# --- aggregates ---------------------------------------------------------------------------------------------


def _row(task_id: str, nmae: float, electrons: float, **more: Any) -> dict[str, Any]:
    bins = len(DISTANCES)
    density = np.linspace(1, 2, bins) * electrons
    shares = np.linspace(1, 3, bins)
    error = shares / shares.sum() * nmae * density.sum()
    row = {
        "task_id": task_id,
        "mode": "one_pass",
        "chemsys": task_id,
        "category": "oxide",
        "n_electrons": electrons,
        "n_voxels": 1000,
        **dict.fromkeys(METRICS, 0.5),
        "nmae": nmae,
        "electron_error": -0.25,
        "electron_error_relative": -0.01,
        "seconds": 1.0,
        "distance_error": error.tolist(),
        "distance_density": density.tolist(),
        "distance_voxels": [10] * bins,
        **{f"{what}_{part}": [] for what in ("depth", "order") for part in ("error", "density", "voxels")},
    }
    return row | more


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(6)
    return [_row(f"m{i:02d}", float(rng.uniform(0.01, 0.2)), float(4 + i)) for i in range(25)]


def test_aggregates(rows: list[dict[str, Any]]) -> None:
    nmae = np.array([row["nmae"] for row in rows])
    electrons = np.array([row["n_electrons"] for row in rows])
    got = aggregate(rows)["one_pass"]
    of = got["metrics"]["nmae"]
    assert of["mean"]["value"] == pytest.approx(nmae.mean())
    assert of["median"]["value"] == pytest.approx(np.median(nmae))
    assert of["p99"]["value"] == pytest.approx(np.percentile(nmae, 99))
    assert of["per_electron"]["value"] == pytest.approx((nmae * electrons).sum() / electrons.sum())
    assert of["mean"]["low"] < of["mean"]["value"] < of["mean"]["high"]
    # Sizes are averaged: too many electrons here and too few there are both errors.
    assert got["metrics"]["electron_error"]["mean"]["value"] == 0.25
    assert got["by_category"][0]["n"] == 25
    assert got["by_depth"] == []


def test_bins_add_up_to_the_headline(rows: list[dict[str, Any]]) -> None:
    got = aggregate(rows)["one_pass"]
    for part, whole in (
        ("contribution", got["metrics"]["nmae"]["mean"]["value"]),
        ("density", 1.0),
        ("voxels", 1.0),
    ):
        assert sum(group[part] for group in got["by_distance"]) == pytest.approx(whole)
    weights = sum(group["nmae"]["value"] * group["density"] for group in got["by_distance"])
    assert weights == pytest.approx(got["metrics"]["nmae"]["mean"]["value"])


def test_deciles(rows: list[dict[str, Any]]) -> None:
    got = aggregate(rows)["one_pass"]["by_decile"]
    assert [group["decile"] for group in got] == list(range(1, 11))
    assert {group["n"] for group in got} == {2, 3}
    assert sum(group["n"] for group in got) == 25
    ends = [(group["electrons_from"], group["electrons_to"]) for group in got]
    assert ends == sorted(ends)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))
    first = [row["nmae"] for row in rows[: got[0]["n"]]]
    assert got[0]["nmae"]["value"] == pytest.approx(np.mean(first))
    assert deciles(np.array([5.0, 1.0, 3.0])).tolist() == [6, 0, 3]


def test_aggregates_do_not_depend_on_the_order(rows: list[dict[str, Any]]) -> None:
    assert aggregate(rows[::-1]) == aggregate(rows)


def test_intervals_by_material_or_system(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["chemsys"] = "A-B" if row["n_electrons"] < 20 else "C"
    by_system, by_material = (aggregate(rows, Settings(by))["one_pass"] for by in ("chemsys", "material"))
    assert by_system["n_chemsys"] == 2
    assert by_system["metrics"]["nmae"]["mean"] != by_material["metrics"]["nmae"]["mean"]
    with pytest.raises(ValueError, match="chemsys"):
        Settings("spacegroup")  # type: ignore[arg-type]


def test_spread_over_seeds() -> None:
    runs = [[_row("a", x, 4.0), _row("b", x + 0.02, 8.0)] for x in (0.01, 0.02, 0.06)]
    got = spread(runs)
    assert got["n"] == 3
    assert got["mean"] == pytest.approx(0.04)
    assert got["sd"] == pytest.approx(np.std([0.02, 0.03, 0.07], ddof=1))
    assert spread(runs[:1])["sd"] is None
    with pytest.raises(ValueError, match="no runs"):
        spread([])
