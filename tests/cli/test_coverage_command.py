"""Measured coverage against the plan: added up over workers, printed, drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import oracle
import tomat
from runs import IDS, LABEL, ROOT, SMALL, make_foreign, meta, rows_of, sound, tomat_main, write_meta

DENSE = ("--patch-size", 9, "--pad-to", 1024, "--patches-per-material", 30, "--codec", "lmq-16k")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("coverage") / "rows"
    for worker in range(3):
        sound(ROOT, *DENSE, "--out", out, "--worker-index", worker, "--n-workers", 3, "--quiet")
    return out


def test_it_adds_up(rows: Path) -> None:
    facts = tomat_main("coverage", rows, "--json").json
    width = len(facts["histogram"])
    expected = np.zeros(width, dtype=np.int64)
    for name, found in rows_of(rows).items():
        grid = tomat.read(LABEL / f"{name}.zarr").grid_shape
        counts = oracle.coverage_histogram(grid, (9, 9, 9), found.offsets.tolist())
        expected[: len(counts)] += counts
    assert facts["histogram"] == expected.tolist()
    assert (facts["materials"], facts["rows"], facts["notes"]) == (20, 600, [])
    assert facts["measured"]["of_all_voxels"] == pytest.approx(1 - expected[0] / expected.sum())


def test_it_is_what_was_planned(rows: Path) -> None:
    """600 patches of a known sampler: within the spread of such a draw, and far from another sampler's."""
    facts = tomat_main("coverage", rows, "--json").json
    got, planned = np.array(facts["histogram"]), np.array(facts["planned_histogram"])
    assert planned.sum() == pytest.approx(got.sum())
    width = min(len(got), 6)
    np.testing.assert_allclose(got[:width], planned[:width], rtol=0.12)
    assert facts["planned"]["of_all_voxels"] == pytest.approx(facts["measured"]["of_all_voxels"], abs=0.02)
    assert not facts["planned"]["is_upper_bound"]


def test_tilings_cover_exactly_what_was_planned(tmp_path: Path) -> None:
    sound(ROOT, *DENSE, "--sampler", "tiling", "--out", tmp_path / "rows", "--limit", 5, "--quiet")
    facts = tomat_main("coverage", tmp_path / "rows", "--json").json
    disjoint = [name for name in IDS[:5] if _disjoint(name) >= 30]
    assert len(disjoint) < 5, "some materials take more than the tiles that overlap nothing"
    assert facts["planned"]["of_all_voxels"] == pytest.approx(facts["measured"]["of_all_voxels"], abs=0.01)
    printed = tomat_main("coverage", tmp_path / "rows").out
    assert "planned)" in printed
    assert "times covered" in printed


def _disjoint(name: str) -> int:
    return int(np.prod([n // 9 for n in tomat.read(LABEL / f"{name}.zarr").grid_shape]))


def test_electrons_have_a_bound_and_no_histogram(tmp_path: Path) -> None:
    sound(ROOT, *DENSE, "--sampler", "electrons", "--out", tmp_path / "rows", "--limit", 5, "--quiet")
    facts = tomat_main("coverage", tmp_path / "rows", "--json").json
    assert facts["planned_histogram"] is None
    assert facts["planned"]["is_upper_bound"]
    assert facts["measured"]["mean_material"] < facts["planned"]["mean_material"] + 0.02
    assert "at most" in tomat_main("coverage", tmp_path / "rows").out


def test_figures(rows: Path, tmp_path: Path) -> None:
    result = tomat_main("coverage", rows, "--html", tmp_path / "c.html", "--png", tmp_path / "c.png")
    assert result.code == 0, result.err
    page = (tmp_path / "c.html").read_text()
    assert page.count('class="plot"') == 2
    assert "<script src=" not in page.replace('<script src="data:', "")
    assert "planned" in page
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_grids_from_a_catalogue(rows: Path, tmp_path: Path) -> None:
    """Datasets of other writers do not name the grids."""
    out = tmp_path / "rows"
    sound(ROOT, *SMALL, "--out", out, "--quiet")
    with_grids = tomat_main("coverage", out, "--json").json
    stored = json.loads((out / "coverage_histogram.json").read_text())
    del stored["grids"]
    (out / "coverage_histogram.json").write_text(json.dumps(stored))
    assert "is not what meta.json states" in tomat_main("coverage", out).err
    make_foreign(out)
    facts = tomat_main("coverage", out, "--json").json
    assert facts["planned"] is None
    tomat_main("catalogue", "build", ROOT, "-o", tmp_path / "c.parquet")
    assert tomat_main("coverage", out, "--catalogue", tmp_path / "c.parquet", "--json").json == with_grids
    stored["histogram"][0] += 1
    (out / "coverage_histogram.json").write_text(json.dumps(stored))
    wrong = tomat_main("coverage", out)
    assert wrong.code == 1
    assert "is not the sum of those of its materials" in wrong.err


def test_an_unknown_sampler_and_a_missing_worker(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows"
    sound(ROOT, *SMALL, "--limit", 4, "--out", out, "--worker-index", 1, "--n-workers", 2, "--quiet")
    assert "workers are missing" in tomat_main("coverage", out).err
    facts = {**meta(out / "worker-01"), "sampler": "elsewhere"}
    write_meta(out / "worker-01", facts)
    found = tomat_main("coverage", out, "--allow-partial", "--json").json
    assert found["planned"] is None
    assert "unknown sampler 'elsewhere'" in found["notes"][0]
