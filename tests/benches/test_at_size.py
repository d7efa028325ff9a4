"""Many materials of the catalogue's sizes, scaled down: the driver of ``benches/at_size.py`` and what it measures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tomat
from places import REPOSITORY
from runs import SMALL, sound, tomat_main, tree
from tomat.dataset import open_dataset

COUNT = 1200
OPTIONS = (*SMALL, "--rows-per-shard", 24, "--threads", 2)
A_SHARD = 8


@pytest.fixture(scope="module")
def driver() -> ModuleType:
    path = REPOSITORY / "benches" / "at_size.py"
    spec = importlib.util.spec_from_file_location("at_size", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["at_size"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(driver: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fourth stratum, axes a sixth as long, atoms few enough for short rows."""
    grids = [(*grid[:3], 1 + grid[3] % 10) for grid in driver.read_grids(scale=1 / 6)[::4]]
    return Path(driver.make_materials(tmp_path_factory.mktemp("at-size") / "materials", COUNT, grids))


def test_the_grids_are_those_of_the_catalogue(driver: ModuleType) -> None:
    """77,466 materials: 135 billion voxels in all, 1.26 million at the median, axes up to 1023."""
    grids = driver.read_grids()
    voxels = sorted(nx * ny * nz for nx, ny, nz, _ in grids)
    assert len(grids) == 128
    assert sum(voxels) / len(voxels) * 77_466 == pytest.approx(135e9, rel=0.01)
    assert voxels[64] == pytest.approx(1.26e6, rel=0.02)
    assert max(max(grid[:3]) for grid in grids) <= 1023
    assert 12 <= sorted(grid[3] for grid in grids)[64] <= 17


def test_the_materials_are_sound(driver: ModuleType, root: Path) -> None:
    paths = sorted((root / "label").iterdir())
    assert len(paths) == COUNT
    assert len({path.resolve() for path in paths}) == 32
    material = tomat.read(paths[0])
    assert material.n_electrons == pytest.approx(10 * len(material.atomic_numbers), rel=1e-4)
    assert (material.density > 0).all()


def test_killed_and_resumed_at_size(driver: ModuleType, root: Path, tmp_path: Path) -> None:
    """Three kills; the same bytes as undisturbed; nothing piles up, neither in memory nor on disk."""
    out = tmp_path / "out"
    n_shards = COUNT // A_SHARD
    segments = driver.drive(root, out, OPTIONS, n_shards, 3)
    figures = driver.summary(segments, out, COUNT, A_SHARD)
    assert figures["kills"] >= 2
    assert figures["rows"] == 3 * COUNT
    # A shard each and a record each, one under way a process, and the files beside them.
    assert figures["most_files"] <= 2 * n_shards + 3 * (figures["kills"] + 1) + 5
    # meta.json, the codec, the coverage, and the crystals.
    assert figures["files_left"] == n_shards + 4
    assert figures["made_twice"] == 0
    assert all(segment.peak_mb < 400 for segment in segments)
    assert segments[-1].shards_before > n_shards // 2
    sound(root, "--out", tmp_path / "calm", *OPTIONS, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")
    assert tomat_main("verify", out).code == 0
    assert open_dataset(out).count("n_materials") == COUNT


def test_memory_does_not_grow_with_the_list(driver: ModuleType, root: Path, tmp_path: Path) -> None:
    """Twelve times the materials, the same memory, but for the list of their names."""
    few = driver.run_segment(root, tmp_path / "few", (*OPTIONS, "--limit", 100), None)
    many = driver.run_segment(root, tmp_path / "many", OPTIONS, None)
    assert few.shards * 12 == pytest.approx(many.shards, rel=0.1)
    assert many.peak_mb < few.peak_mb + 40
    figures = driver.summary([many], tmp_path / "many", COUNT, A_SHARD)
    # A rate of its own: the run is short, and on a quick machine over before two looks at its clock.
    measured = {**figures, "thirds": [{"materials_a_cpu_second": rate} for rate in (40.0, 50.0, 90.0)]}
    line = driver.plan(measured)[0]
    assert line["core_hours"] == pytest.approx(77_466 / 50.0 / 3600)
    with pytest.raises(SystemExit, match="too short to measure"):
        driver.plan({**figures, "thirds": [{"materials_a_cpu_second": 0.0}]})
    assert line["terabytes"] == pytest.approx(figures["bytes"] / COUNT * 77_466 / 1e12)
    assert line["hours"] == pytest.approx(line["core_hours"] / 4)
