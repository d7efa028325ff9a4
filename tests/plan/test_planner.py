"""The plan: expectations against what patches do, the numbers of the field, and what it says of odd materials."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.main import get_command

import oracle
import tomat
from places import DATA, REPOSITORY
from runs import ROOT, SMALL, sound, tomat_main
from tomat.cli import app
from tomat.dataset.config import TokenizeConfig
from tomat.plan import budget_effect, expected_coverage, expected_histogram, measure, plan
from tomat.sampling import Electrons, Sampler, Tiling, Uniform, tiles

GRIDS = st.tuples(*[st.integers(1, 9)] * 3)
PATCHES = st.tuples(*[st.integers(1, 12)] * 3)


# --- expectations -------------------------------------------------------------------------------------------


def _mean_histogram(
    sampler: Uniform | Tiling, grid: oracle.Shape, patch: oracle.Shape, n: int, draws: int
) -> tuple[oracle.Floats, oracle.Floats]:
    """Mean and standard error of the histogram over many seeds."""
    found = np.zeros((draws, 400))
    for seed in range(draws):
        offsets = sampler.offsets(grid, patch, None, n, seed=seed, task_id="x")
        counts = tomat.coverage_histogram(grid, patch, offsets)
        found[seed, : len(counts)] = counts
    return found.mean(axis=0), found.std(axis=0) / np.sqrt(draws)


@pytest.mark.parametrize("sampler", [Uniform(), Uniform(False), Tiling()], ids=repr)
@pytest.mark.parametrize(
    ("grid", "patch", "n"),
    [
        ((6, 7, 5), (3, 3, 3), 5),
        ((6, 7, 5), (3, 3, 3), 9),
        ((6, 6, 9), (3, 3, 3), 13),
        ((4, 8, 8), (4, 3, 5), 20),
        ((3, 2, 8), (4, 5, 3), 4),
        ((5, 5, 5), (2, 2, 2), 0),
        ((3, 2, 4), (4, 5, 3), 40),
    ],
)
def test_histograms_are_what_patches_give_on_average(
    sampler: Uniform | Tiling, grid: oracle.Shape, patch: oracle.Shape, n: int
) -> None:
    expected = expected_histogram(grid, patch, n, sampler)
    assert expected is not None
    mean, error = _mean_histogram(sampler, grid, patch, n, 1500)
    expected = np.pad(expected, (0, 400 - len(expected)))
    assert (np.abs(mean - expected) <= 5 * error + 0.02).all()


@settings(max_examples=60)
@given(GRIDS, PATCHES, st.integers(0, 40), st.sampled_from([Uniform(), Uniform(False), Tiling()]))
def test_histograms_add_up(
    grid: oracle.Shape, patch: oracle.Shape, n: int, sampler: Uniform | Tiling
) -> None:
    h = expected_histogram(grid, patch, n, sampler)
    assert h is not None
    voxels = np.prod(grid)
    assert h.min() >= 0
    assert h.sum() == pytest.approx(voxels)
    assert h @ np.arange(len(h)) == pytest.approx(n * np.prod(patch))
    coverage = expected_coverage(grid, patch, n, sampler)
    is_short = any(p > g for p, g in zip(patch, grid, strict=True))
    assert coverage == pytest.approx(1 - h[0] / voxels, abs=1e-9)
    if isinstance(sampler, Tiling):
        disjoint, whole = tiles(grid, patch)
        assert (coverage == pytest.approx(1)) == (n >= whole)
        if n <= disjoint and not is_short:
            assert coverage == pytest.approx(n * np.prod(patch) / voxels)


@settings(max_examples=30)
@given(st.tuples(*[st.integers(4, 8)] * 3), st.integers(1, 20), st.integers(0, 99))
def test_electrons_cover_less_than_the_bound(grid: oracle.Shape, n: int, seed: int) -> None:
    """Exactly: the probability that a voxel is covered, from the weights of all origins."""
    rng = np.random.default_rng(seed)
    rho, p = rng.lognormal(0, 2, grid), 3
    held = sum(np.roll(rho, (-i, -j, -k), (0, 1, 2)) for i in range(p) for j in range(p) for k in range(p))
    weight = np.asarray(held) / np.sum(held)
    covering = sum(
        np.roll(weight, (i, j, k), (0, 1, 2)) for i in range(p) for j in range(p) for k in range(p)
    )
    truth = float(np.mean(1 - (1 - np.minimum(covering, 1)) ** n))
    bound = expected_coverage(grid, (p, p, p), n, Electrons())
    assert bound is not None
    assert truth <= bound + 1e-12
    assert expected_histogram(grid, (p, p, p), n, Electrons()) is None
    assert expected_coverage(grid, (p, p, p), n, Electrons(False)) is None


# --- the field's numbers ------------------------------------------------------------------------------------


#: Ids, grids and atoms of the 77,466 materials.
SIZES = DATA / "mp-sizes.csv.xz"


def _page() -> tuple[list[list[str]], dict[str, list[str]]]:
    """The commands of docs/datasets.md, and its table: columns v1, v2, v2-lat, v3 by the first cell."""
    text = (REPOSITORY / "docs" / "datasets.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return commands, {line[0]: line[1:] for line in lines if len(line) == 5}


def test_the_commands_of_the_datasets_page_are_commands() -> None:
    """Each parses as it is; nothing is run."""
    commands, _ = _page()
    assert len(commands) == 10
    for program, *words in commands:
        if program == "tomat-tokenize":
            words = ["tokenize", *words]
        whole: Any = get_command(app)
        name, inner, rest = whole.resolve_command(whole.make_context("tomat", [*words]), words)
        assert inner.make_context(name, rest).params
        with pytest.raises(Exception, match="No such option"):
            inner.make_context(name, [*rest, "--no-such-option"])


def test_coverage_of_the_materials_project_training_set() -> None:
    """Uniform at P = 19, M = 64 covers 35 % of the mean material, at P = 14, M = 32 between 9.5 and 9.6 %.

    The file is taken as it is, and docs/datasets.md says what the plan says.
    """
    commands, table = _page()
    (command,) = (
        words for words in commands if "v3" in words and "plan" in words and "--workers" not in words
    )
    v3 = tomat_main("plan", SIZES, *command[3:], "--json").json
    assert v3["fallback"]["shapes"]["18 x 19 x 19"]["first"][0] == "mp-1850706"
    coverage, cost = v3["coverage"], v3["cost"]
    said = {
        "rows": f"{v3['rows']:,}",
        "tokens, padding included": f"{v3['tokens'] / 1e9:.1f} billion",
        "of them padding": f"{v3['padding']:.1%}".replace("%", " %"),
        "fallback shape 18 x 19 x 19": f"{v3['fallback']['count']} materials",
        "coverage of the mean material": f"{coverage['mean_material']:.2%}".replace("%", " %"),
        "coverage, median (p10 to p90)": f"{100 * coverage['p50']:.1f} % ({100 * coverage['p10']:.1f} to "
        f"{100 * coverage['p90']:.1f})",
        "coverage of all voxels": f"{coverage['of_all_voxels']:.2%}".replace("%", " %"),
        "bytes on disk": f"{cost['bytes'] / 1e9:.1f} GB",
        "shards": f"{cost['shards']:,}",
        "CPU hours, 1 worker": f"{cost['hours_of_a_worker']:.2f}",
        "each of 16 workers": f"{cost['hours_of_a_worker'] / 16 * 60:.1f} min",
        "each of 100 workers": f"{cost['hours_of_a_worker'] / 100 * 3600:.0f} s",
    }
    assert said == {name: table[name][3] for name in said}
    assert table["rows"][:3] == [f"{77466 * 32:,}"] * 3
    assert v3["materials"] == {"listed": 77466, "written": 77466, "left_out": {}}
    assert v3["rows"] == 77466 * 64
    assert v3["voxels"] == 134_961_687_232
    assert v3["fallback"]["count"] == 18
    assert list(v3["fallback"]["shapes"]) == ["18 x 19 x 19"]
    assert v3["coverage"]["mean_material"] == pytest.approx(0.3507, abs=5e-5)
    assert v3["coverage"]["of_all_voxels"] == pytest.approx(0.2025, abs=5e-5)
    assert v3["cost"]["hours_of_a_worker"] == pytest.approx(77466 * 64 / 3500 / 3600)
    grids = np.loadtxt(SIZES, delimiter=",", skiprows=1, usecols=(1, 2, 3), dtype=int).tolist()
    v2 = [expected_coverage((x, y, z), (14, 14, 14), 32, Uniform()) or 0.0 for x, y, z in grids]
    assert np.mean(v2) == pytest.approx(0.0956, abs=5e-5)
    study = v3["study"]
    assert study["estimated"]
    assert study["budgets"]["equal"] == {
        "min": 64, "p10": 64, "p50": 64, "p90": 64, "max": 64, "mean": 64.0, "max_to_min": 1.0
    }  # fmt: skip
    assert study["budgets"]["electrons"]["mean"] == 64
    assert study["verdict"] == "usable"


# --- plans --------------------------------------------------------------------------------------------------


def _row(name: str, grid: oracle.Shape = (40, 40, 40), n_atoms: int = 4) -> dict[str, object]:
    return {"id": name, "nx": grid[0], "ny": grid[1], "nz": grid[2], "n_atoms": n_atoms}


def test_what_is_left_out_and_why() -> None:
    cell = {"a": 5.0, "b": 5.0, "c": 60.0, "alpha": 90.0, "beta": 90.0, "gamma": 90.0}
    rows = [
        _row("fine"),
        _row("long", (40, 1024, 40)),
        {**_row("flat"), **cell},
        _row("crowded", n_atoms=200),
        _row("tight", n_atoms=132),
    ]
    made = plan(TokenizeConfig(), rows)
    left_out = made.facts["materials"]["left_out"]
    assert {reason: list(entry["first"]) for reason, entry in left_out.items()} == {
        "oversized": ["long"], "bad_lattice": ["flat"], "overflow": ["crowded"]
    }  # fmt: skip
    assert "grid axis y has 1024 points" in left_out["oversized"]["first"]["long"]
    assert made.facts["fallback"] == {
        "count": 1, "shapes": {"18 x 19 x 19": {"count": 1, "first": ["tight"]}}
    }  # fmt: skip
    assert made.facts["rows"] == 128
    assert [m["rows"] for m in made.materials] == [64, 0, 0, 0, 64]
    # v2 has no LATTICE block and a smaller patch.
    assert list(plan(TokenizeConfig(layout="v2"), rows).facts["materials"]["left_out"]) == ["oversized"]


def test_what_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="no materials"):
        plan(TokenizeConfig(), [])
    with pytest.raises(ValueError, match="1 materials have no grid or no number of atoms: b"):
        plan(TokenizeConfig(), [_row("a"), {"id": "b", "nx": 3}])
    config = TokenizeConfig(budget="electrons", catalogue="c.parquet")
    with pytest.raises(ValueError, match="2 materials have no electrons in this catalogue: a, b"):
        plan(config, [_row("a"), _row("b")])


def test_the_plan_is_what_happens(tmp_path: Path) -> None:
    """Rows, tokens, padding and rows a worker of a real run, by electrons."""
    tomat_main("catalogue", "build", ROOT, "-o", tmp_path / "c.parquet")
    options = (*SMALL, "--budget", "electrons", "--n-workers", 2)
    made = tomat_main(
        "plan", tmp_path / "c.parquet", *options, "--rate", 10, "-o", tmp_path / "p.parquet", "--json"
    )
    facts = made.json
    budget = (*options, "--catalogue", tmp_path / "c.parquet", "--quiet")
    for worker in range(2):
        sound(ROOT, *budget, "--out", tmp_path / "rows", "--worker-index", worker)
    info = tomat_main("info", tmp_path / "rows", "--json").json
    assert (facts["rows"], facts["materials"]["written"]) == (info["rows"], info["materials"])
    assert facts["tokens"] == info["rows"] * 256
    assert facts["cost"]["shards"] == info["shards"]
    ids = np.concatenate(
        [
            np.stack(pq.read_table(path)["input_ids"].to_numpy())
            for path in (tmp_path / "rows").rglob("shard-*.parquet")
        ]
    )
    assert facts["padding"] == pytest.approx((ids == 0).mean())
    planned = {row["id"]: row for row in pq.read_table(tmp_path / "p.parquet").to_pylist()}
    assert sum(row["rows"] for row in planned.values()) == info["rows"]
    assert all(0 < row["coverage"] <= 1 for row in planned.values())
    printed = tomat_main("plan", tmp_path / "c.parquet", "--rate", 10, "--split", "train").out
    assert "13 of 13" in printed
    assert "sampling-weight study" in printed
    assert "unknown (give --bytes-a-token)" in printed
    refused = tomat_main("plan", tmp_path / "c.parquet", "--split", "trian", "--rate", 1)
    assert "no materials of split 'trian'; known: test, train, validation" in refused.err


def test_rates_are_measured(tmp_path: Path) -> None:
    """Finite and above zero, whatever the machine: from synthetic densities and from real ones."""
    config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3)
    rate = measure(config, grid=(20, 24, 28), n_atoms=3, n_materials=2)
    assert rate.seconds_a_row > 0
    assert rate.seconds_a_voxel > 0
    assert rate.bytes_a_token is not None
    assert 0 < rate.bytes_a_token < 4
    assert rate.hours(3600, 0, 2) == pytest.approx(rate.seconds_a_row / 2)
    (tmp_path / "m.csv").write_text("id,nx,ny,nz,n_atoms\na,20,20,20,2\nb,24,20,20,2\nc,30,30,30,2\n")
    options = ("--patch-size", 4, "--pad-to", 256, "--patches-per-material", 3, "--json")
    cost = tomat_main("plan", tmp_path / "m.csv", *options).json["cost"]
    assert "synthetic densities of (24, 20, 20)" in cost["source"]
    cost = tomat_main("plan", tmp_path / "m.csv", *options, "--measure-on", ROOT).json["cost"]
    assert cost["source"] == "measured on 8 densities given"
    assert cost["bytes"] > 0


# --- the study ----------------------------------------------------------------------------------------------


def test_verdicts() -> None:
    ids = [f"m{i}" for i in range(100)]
    plenty = np.full(100, 10_000)
    wide = np.geomspace(10, 1000, 100).tolist()
    usable = budget_effect(ids, wide, 64, plenty)
    assert usable["verdict"] == "usable"
    assert usable["budgets"]["electrons"]["max_to_min"] > 50
    assert usable["bottom_decile"] < 0.1 < 2 < usable["top_decile"]
    assert "max:min" in usable["warnings"][0]
    mild = budget_effect(ids, np.geomspace(1, 25, 100).tolist(), 64, plenty)
    assert mild["budgets"]["electrons"]["max_to_min"] <= 30
    assert mild["warnings"] == []
    weak = budget_effect(ids, [100.0 + k % 7 for k in range(100)], 64, plenty)
    assert weak["verdict"] == "weak"
    assert "are not expected to differ" in weak["reasons"][0]
    rounded = budget_effect(ids, np.geomspace(1, 1e5, 100).tolist(), 2, plenty)
    assert rounded["verdict"] == "distorted"
    assert any("raise the mean" in reason for reason in rounded["reasons"])
    repeated = budget_effect(ids, wide, 64, np.full(100, 10))
    assert any("lower the mean" in reason for reason in repeated["reasons"])
    assert weak["total_variation"] < 0.05 < usable["total_variation"] < 1


def test_a_sampler_the_plan_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine:
        needs_density = False

        def offsets(self, *_: object, **__: object) -> NDArray[np.int32]:
            return np.zeros((1, 3), dtype=np.int32)

    assert isinstance(Mine(), Sampler)
    assert expected_coverage((4, 4, 4), (2, 2, 2), 3, Mine()) is None
    assert expected_histogram((4, 4, 4), (2, 2, 2), 3, Mine()) is None
