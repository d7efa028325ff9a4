"""The study of evaluation subsets: its spread is the one of sampling theory, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluations import SMALL, scaled
from runs import invoke
from tomat.cli import run
from training.studies.evaluation_subsets.__main__ import app
from training.studies.evaluation_subsets.study import Pool, spread, study


def main() -> None:
    run(app, "study")


def _pool(n: int, values: np.ndarray) -> Pool:
    return Pool(tuple(f"m-{i}" for i in range(n)), values, np.arange(n, dtype=np.float64) + 1)


def test_plain_subsets_spread_as_draws_without_replacement_do() -> None:
    n, size = 300, 60
    pool = _pool(n, np.random.default_rng(0).lognormal(size=n))
    found = spread(pool, size, draws=1000, stratified=False)
    expected = pool.deviation * np.sqrt((1 - size / n) / size)
    assert found["deviation"] == pytest.approx(
        expected, rel=0.08
    )  # the standard error of 1,000 draws is 2.2 %
    assert abs(found["bias"]) < 4 * expected / np.sqrt(1000)
    assert found["unlimited"] == pytest.approx(pool.deviation / np.sqrt(size))
    assert found["high"] - found["low"] == pytest.approx(3.92 * expected, rel=0.15)


def test_strata_help_where_the_error_follows_the_electrons() -> None:
    n = 300
    rng = np.random.default_rng(1)
    follows = _pool(n, np.linspace(0, 1, n) + 0.02 * rng.normal(size=n))
    plain, even = (spread(follows, 50, draws=300, stratified=s) for s in (False, True))
    assert even["deviation"] < 0.3 * plain["deviation"]
    assert even["unlimited"] < 0.3 * plain["unlimited"]
    assert abs(even["bias"]) < 0.01
    # Where it does not, nothing is gained, and nothing lost.
    other = _pool(n, rng.normal(size=n))
    plain, even = (spread(other, 50, draws=300, stratified=s) for s in (False, True))
    assert even["deviation"] == pytest.approx(plain["deviation"], rel=0.25)


def test_sizes_beyond_the_pool_are_left_out_and_seeds_repeat() -> None:
    pool = {"all": _pool(40, np.random.default_rng(2).normal(size=40))}
    first = study(pool, sizes=(10, 40, 200), draws=20)
    assert list(first["pools"]["all"]["sizes"]) == ["10"]
    assert study(pool, sizes=(10, 40, 200), draws=20) == first
    assert study(pool, sizes=(10,), draws=20, seed=1)["pools"] != first["pools"]


def test_the_command(tmp_path: Path) -> None:
    errors = {name: 0.01 * (i + 1) for i, name in enumerate(SMALL)}
    folder = scaled(tmp_path / "r", errors, dict.fromkeys(SMALL, 0.05)).path
    options = ("--size", 2, "--draws", 20, "--minus", "start")
    done = invoke(main, folder, *options, "-o", tmp_path / "s.json")
    assert done.code == 0, done.err
    assert "r: one_pass - start" in done.out
    pools = json.loads((tmp_path / "s.json").read_text())["pools"]
    assert pools["r: one_pass"]["mean"] == pytest.approx(0.03, rel=1e-4)
    assert pools["r: one_pass - start"]["mean"] == pytest.approx(-0.02, rel=1e-3)
    some = invoke(main, folder, *options, "--prefix", "qe-", "--json").json
    assert some["pools"]["r: one_pass"]["materials"] == 4
    told = invoke(main, folder, "--mode", "k_pass")
    assert (told.code, "it has one_pass, start" in told.err) == (1, True)
