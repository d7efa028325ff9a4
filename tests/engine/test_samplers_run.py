"""Datasets cut by other samplers and budgets: the same rows by any number of threads and workers, resumed, verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tomat
from runs import (
    IDS,
    LABEL,
    ROOT,
    SMALL,
    end,
    meta,
    rows_of,
    same_rows,
    sound,
    start,
    tokenize,
    tomat_main,
    tree,
    write_meta,
)
from test_samplers import plugin as plugin  # a fixture
from tomat import sampling
from tomat.budget import patches_of

SPECS = [
    "uniform:replacement=false",
    "electrons",
    "electrons:replacement=false",
    "tiling",
    "peak",
    "corner:step=5",
]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("spec", SPECS)
def test_rows_are_those_of_the_sampler(spec: str, tmp_path: Path) -> None:
    """By threads and by workers; a sampler in Python gives the same bytes as well."""
    common = (ROOT, *SMALL, "--sampler", spec, "--limit", 8, "--seed", 3, "--rows-per-shard", 9, "--quiet")
    sound(*common, "--out", tmp_path / "one", "--threads", 1)
    sound(*common, "--out", tmp_path / "three", "--threads", 3)
    assert tree(tmp_path / "one") == tree(tmp_path / "three")
    for worker in (1, 0):
        sound(*common, "--out", tmp_path / "parts", "--worker-index", worker, "--n-workers", 2)
    rows = rows_of(tmp_path / "one")
    same_rows(rows_of(tmp_path / "parts"), rows)
    sampler = sampling.load_sampler(spec).sampler
    for name, got in rows.items():
        rho = tomat.read(LABEL / f"{name}.zarr").density
        expected = sampling.draw(sampler, rho.shape, (4, 4, 4), rho, 3, seed=3, task_id=name)
        np.testing.assert_array_equal(got.offsets, expected, err_msg=name)
    facts = meta(tmp_path / "one")
    assert (facts["sampler"], facts["budget"], facts["patches_per_material"]) == (spec, "equal", 3)
    added = spec in ("peak", "corner:step=5")
    assert facts["identity"].get("sampler_source") == ("tomat-corner 1.2" if added else None)
    report = tomat_main("verify", tmp_path / "one", "--source", ROOT)
    assert report.code == 0, report.out
    assert "note" not in report.out


@pytest.mark.parametrize("unit", ["chgcar", "e_per_A3"])
def test_the_sampler_sees_the_density_in_the_unit_of_the_run(unit: str, tmp_path: Path) -> None:
    """The array that is encoded: what a trainer that reads densities on the fly has as well."""
    out = tmp_path / unit
    common = (ROOT, *SMALL[:-2], "--codec", "fp16_1token", "--sampler", "electrons", "--limit", 6, "--quiet")
    sound(*common, "--unit", unit, "--out", out)
    for name, rows in rows_of(out).items():
        rho = tomat.read(LABEL / f"{name}.zarr").in_unit(unit).density
        drawn = sampling.Electrons().offsets(rho.shape, (4, 4, 4), rho, 3, seed=0, task_id=name)
        np.testing.assert_array_equal(rows.offsets, drawn)
    assert tomat_main("verify", out, "--source", ROOT).code == 0


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("spec", "message"), [("broken", "ZeroDivisionError"), ("outside", "gave an array")])
def test_a_sampler_that_fails_stops_the_run(spec: str, message: str, tmp_path: Path) -> None:
    """Also where damaged materials are skipped: it is no fault of the material."""
    result = tokenize(ROOT, *SMALL, "--sampler", spec, "--on-error", "skip", "--out", tmp_path / "out")
    assert result.code == 1
    assert message in result.err
    assert IDS[0] in result.err


def test_an_unknown_sampler_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = tokenize(ROOT, "--sampler", "tilling", "--out", tmp_path / "out")
    assert (result.code, list(tmp_path.iterdir())) == (1, [])
    assert "unknown sampler 'tilling'; known: uniform, electrons, tiling" in result.err
    result = tokenize(ROOT, "--budget", "fair", "--out", tmp_path / "out")
    assert "unknown budget 'fair'; known: equal, electrons" in result.err


def test_verify_finds_offsets_of_another_sampler(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sound(ROOT, *SMALL, "--sampler", "tiling", "--limit", 3, "--out", out, "--quiet")
    facts = meta(out)
    for claim in ("uniform", "electrons"):
        write_meta(out, {**facts, "sampler": claim})
        found = tomat_main("verify", out, "--source", ROOT)
        assert found.code == 1
        assert "the offsets are not those of seed 0" in found.out
    silent = tomat_main("verify", out)
    assert silent.code == 0
    assert "note: the offsets depend on the densities" in silent.out
    write_meta(out, {**facts, "sampler": "somewhere"})
    unknown = tomat_main("verify", out, "--source", ROOT)
    assert unknown.code == 0
    assert "note: " in unknown.out
    assert "unknown sampler 'somewhere'" in unknown.out


# --- budgets ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def electrons() -> dict[str, float]:
    return {name: tomat.read(LABEL / f"{name}.zarr").n_electrons for name in IDS}


@pytest.fixture
def catalogue(tmp_path: Path, electrons: dict[str, float]) -> Path:
    path = tmp_path / "catalogue.parquet"
    pq.write_table(pa.table({"id": list(electrons), "electrons": list(electrons.values())}), path)
    return path


def _swapped(catalogue: Path) -> Path:
    """Another catalogue of the same materials."""
    table, other = pq.read_table(catalogue), catalogue.with_name("other.parquet")
    electrons = table["electrons"].take(pa.array([*range(1, 20), 0]))
    pq.write_table(table.set_column(1, "electrons", electrons), other)
    return other


def test_rows_by_electrons(tmp_path: Path, catalogue: Path, electrons: dict[str, float]) -> None:
    common = (
        ROOT,
        *SMALL,
        "--budget",
        "electrons",
        "--catalogue",
        catalogue,
        "--rows-per-shard",
        16,
        "--quiet",
    )
    sound(*common, "--out", tmp_path / "one")
    rows = rows_of(tmp_path / "one")
    counts = {name: len(found.ids) for name, found in rows.items()}
    expected = patches_of("electrons", 3, IDS, [electrons[name] for name in IDS])
    assert counts == dict(zip(IDS, expected.tolist(), strict=True))
    assert sum(counts.values()) == 3 * len(IDS)
    assert len(set(counts.values())) > 3, "the budget makes a difference here"
    # A material with more rows has the same first ones.
    sound(ROOT, *SMALL, "--out", tmp_path / "equal", "--quiet")
    for name, equal in rows_of(tmp_path / "equal").items():
        few = min(3, counts[name])
        np.testing.assert_array_equal(rows[name].offsets[:few], equal.offsets[:few])
    for worker in range(3):
        sound(*common, "--out", tmp_path / "parts", "--worker-index", worker, "--n-workers", 3)
    same_rows(rows_of(tmp_path / "parts"), rows)
    mixed = tokenize(
        *common,
        "--catalogue",
        _swapped(catalogue),
        "--out",
        tmp_path / "parts",
        "--worker-index",
        0,
        "--n-workers",
        3,
        "--overwrite",
    )
    assert mixed.code == 1
    assert "budget_hash" in mixed.err
    sound(*common, "--out", tmp_path / "parts", "--worker-index", 0, "--n-workers", 3, "--overwrite")
    for place in ("one", "parts"):
        report = tomat_main("verify", tmp_path / place, "--source", ROOT)
        assert report.code == 0, report.out
    shards = [path.name for path in sorted((tmp_path / "one").glob("shard-*.parquet"))]
    assert len(shards) > 3
    assert all(pq.read_metadata(tmp_path / "one" / name).num_rows <= 16 for name in shards)
    facts = meta(tmp_path / "one")
    assert (facts["budget"], facts["patches_per_material"], facts["total_rows"]) == ("electrons", 3, 60)


def test_engines_share_the_budget_out(tmp_path: Path, catalogue: Path) -> None:
    """Processes and a bucket: the same files as workers one by one."""
    common = (
        ROOT,
        *SMALL,
        "--budget",
        "electrons",
        "--catalogue",
        catalogue,
        "--sampler",
        "tiling",
        "--quiet",
    )
    for worker in range(2):
        sound(*common, "--out", tmp_path / "parts", "--worker-index", worker, "--n-workers", 2)
    sound(*common, "--out", tmp_path / "processes", "--workers", 2)
    assert tree(tmp_path / "processes") == tree(tmp_path / "parts")
    url = "memory://budget-rows"
    sound(*common, "--out", url, "--worker-index", 0, "--n-workers", 2)
    fs = fsspec.filesystem("memory")
    found = {Path(name).name: fs.cat_file(name) for name in fs.find("/budget-rows")}
    local = {path.name: path.read_bytes() for path in (tmp_path / "parts" / "worker-00").iterdir()}
    assert found == local
    assert tomat_main("verify", url, "--allow-partial").code == 0


def test_verify_knows_the_budget(tmp_path: Path, catalogue: Path) -> None:
    out = tmp_path / "out"
    sound(ROOT, *SMALL, "--budget", "electrons", "--catalogue", catalogue, "--out", out, "--quiet")
    stored = json.loads((out / "budget.json").read_text())
    first = IDS[0]
    stored["patches"][first] += 1
    (out / "budget.json").write_text(json.dumps(stored))
    found = tomat_main("verify", out)
    assert found.code == 1
    assert "not the budget the rows were written with" in found.out
    assert (
        f"{first} has {stored['patches'][first] - 1} rows, expected {stored['patches'][first]}" in found.out
    )
    (out / "budget.json").unlink()
    assert "budget.json: cannot be read" in tomat_main("verify", out).out
    # Another run over it leaves nothing of the budget.
    sound(ROOT, *SMALL, "--out", out, "--overwrite", "--quiet")
    assert not (out / "budget.json").exists()


def test_a_run_resumes_its_own_budget_and_sampler(tmp_path: Path, catalogue: Path) -> None:
    """Killed after some shards, resumed to the same bytes; another sampler, budget or catalogue is another run."""
    budget = ("--budget", "electrons", "--catalogue", catalogue, "--sampler", "electrons")
    common = (ROOT, *SMALL, *budget, "--rows-per-shard", 16, "--quiet", "--threads", 1)
    sound(*common, "--out", tmp_path / "whole")
    out = tmp_path / "out"
    stop = (
        "import os\nfrom tomat.dataset import run_directory as r\n"
        "r.RunDirectory.finish = lambda *_: os.kill(os.getpid(), 9)"
    )
    assert end(start(*common, "--out", out, before=stop)).code == -9
    sorted(out.glob("shard-*.parquet"))[2].unlink()
    other = _swapped(catalogue)
    for options, word in (
        (["--sampler", "uniform"], "sampler was 'electrons', is 'uniform'"),
        (["--budget", "equal"], "budget was 'electrons', is 'equal'"),
        (["--catalogue", other], "budget_hash"),
    ):
        refused = tokenize(*common, *options, "--out", out, "--resume")
        assert refused.code == 1
        assert word in refused.err
    sound(*common, "--out", out, "--resume")
    assert tree(out) == tree(tmp_path / "whole")


def test_what_the_budget_needs(tmp_path: Path, catalogue: Path) -> None:
    def refused(*options: object) -> str:
        result = tokenize(ROOT, *SMALL, "--budget", "electrons", "--out", tmp_path / "out", *options)
        assert result.code == 1
        assert not (tmp_path / "out").exists()
        return result.err

    assert "give --catalogue" in refused()
    assert "no such catalogue" in refused("--catalogue", tmp_path / "none.parquet")
    assert "not a catalogue" in refused("--catalogue", LABEL.parent / "mp_filelist.txt")
    assert "raise rows_per_shard" in refused("--catalogue", catalogue, "--rows-per-shard", 5)
    table = pq.read_table(catalogue)
    pq.write_table(table.slice(2), catalogue)
    assert f"2 of 20 materials are not in this catalogue: {IDS[0]}, {IDS[1]}" in refused(
        "--catalogue", catalogue
    )
    values = [None, 0.0, *table["electrons"].to_pylist()[2:]]
    pq.write_table(table.set_column(1, "electrons", pa.array(values)), catalogue)
    assert f"1 materials have no electrons in this catalogue: {IDS[0]}" in refused("--catalogue", catalogue)
    values[0] = -1.0
    pq.write_table(table.set_column(1, "electrons", pa.array(values)), catalogue)
    assert f"2 materials have no electrons: {IDS[0]} (-1), {IDS[1]} (0)" in refused("--catalogue", catalogue)
    shutil.rmtree(catalogue, ignore_errors=True)
