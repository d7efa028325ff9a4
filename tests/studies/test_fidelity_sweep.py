"""Running the study and what comes out: rows, resumption, summaries, files, the command."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import tomat
import tomat.categories
from tomat import metrics
from tomat.crystal import Crystal
from tomat.dataset.inputs import resolve_inputs
from tomat.material import Entry, Material
from tomat.promolecule import Promolecule
from training.studies.fidelity import promolecules, sweep
from training.studies.fidelity.__main__ import app
from training.studies.fidelity.page import page
from training.studies.fidelity.promolecules import NamedPromolecule
from training.studies.fidelity.report import Line, as_json, by_category, pareto_front, summarise
from training.studies.fidelity.results import write_results
from training.studies.fidelity.sweep import COLUMNS, SweepConfig, measure_material, run_sweep

SMALL = SweepConfig(
    codecs=("l1-16k", "two_token_9_12"),
    transform_codecs=("fp16_1token",),
    fractions=(0.1, 1.0),
    thresholds=(0.1,),
    masses=(0.9,),
    g_max=(8.0,),
    factors=(2.0,),
)
WAYS = 3 + 2 + 1 + 1 + 2 + 2 * 1 + 2 * 1


class Gaussians:
    """One normalised Gaussian an atom, in reciprocal space: the simplest promolecule that is right for any cell."""

    def __init__(self, electrons: dict[int, float], width: float) -> None:
        self.electrons, self.width = electrons, width

    def evaluate(
        self,
        crystal: Crystal,
        grid_shape: tuple[int, int, int],
        unit: str,
    ) -> NDArray[np.float64]:
        reciprocal = 2 * np.pi * np.linalg.inv(crystal.lattice).T
        k = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in grid_shape], indexing="ij"), -1)
        decay = np.exp(-0.5 * self.width**2 * ((k @ reciprocal) ** 2).sum(-1))
        total = np.zeros(grid_shape, dtype=np.complex128)
        for number, position in zip(crystal.atomic_numbers.tolist(), crystal.frac_coords, strict=True):
            total += self.electrons[number] * np.exp(-2j * np.pi * (k @ position))
        values = np.fft.ifftn(total * decay, norm="forward").real
        return values if unit == "chgcar" else values / crystal.volume


@pytest.fixture
def entries(data: Path) -> list[Entry]:
    return resolve_inputs([data / "rho_gga"], limit=3)


def ignoring_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# --- rows ---------------------------------------------------------------------------------------------------


def test_rows_of_a_material(data: Path) -> None:
    material = tomat.read(data / "rho_gga" / "label" / "qe-0770.zarr")
    rows = list(measure_material(material, SMALL.representations()))
    assert len(rows) == WAYS
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert {row["formula"] for row in rows} == {"MgO"}
    assert {row["category"] for row in rows} == {"oxide"}
    assert {row["voxels"] for row in rows} == {32**3}
    keys = [(row["representation"], row["parameter"]) for row in rows]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, rows, strict=True))
    lossy = by_key["direct l1-16k", None]
    codec = tomat.load_codec("l1-16k")
    decoded = codec.decode(codec.encode(material.density.ravel()))
    assert lossy["nmae"] == metrics.nmae(decoded, material.density.ravel())
    assert lossy["tokens"] == lossy["numbers"] == 32**3
    assert by_key["direct two_token_9_12", None]["tokens_per_voxel"] == 2.0
    assert by_key["fourier fraction", 1.0]["nmae"] < 1e-14


def test_difference_from_a_promolecule(data: Path) -> None:
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr")
    gaussians = Gaussians({14: 4.0}, 0.8)
    rows = list(measure_material(material, SMALL.representations(), gaussians))
    assert len(rows) == 2 * WAYS + 1
    by_key = {(row["representation"], row["parameter"]): row for row in rows}
    alone = by_key["promolecule", None]
    reference = gaussians.evaluate(material.crystal, material.grid_shape, "chgcar")
    assert alone["nmae"] == metrics.nmae(reference, material.density)
    assert 0.05 < alone["nmae"] < 0.6
    assert alone["tokens"] == 0
    assert by_key["promolecule + direct", None]["nmae"] < 1e-6
    # The unsigned codec pays for a sign.
    assert by_key["promolecule + direct l1-16k", None]["tokens"] == 2 * 40**3
    # A cutoff of differences starts from the promolecule instead of from nothing.
    assert by_key["promolecule + cutoff fraction", 0.1]["nmae"] < by_key["cutoff fraction", 0.1]["nmae"] / 2
    assert [row["minus_promolecule"] for row in rows] == [False] * WAYS + [True] * (WAYS + 1)


def test_unit_of_the_material_does_not_matter(data: Path) -> None:
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr")
    gaussians = Gaussians({14: 4.0}, 0.8)
    one = list(measure_material(material, SMALL.representations(), gaussians))
    two = list(measure_material(material.in_unit("e_per_A3"), SMALL.representations(), gaussians))
    for a, b in zip(one, two, strict=True):
        assert a["tokens"] == b["tokens"]
        assert b["nmae"] == pytest.approx(a["nmae"], rel=1e-3, abs=1e-6)
        assert b["electron_error"] == pytest.approx(a["electron_error"], rel=1e-2, abs=1e-5)


def test_a_perfect_promolecule_leaves_nothing(data: Path) -> None:
    """Any function of the material will do."""
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr")
    rows = measure_material(material, SMALL.representations(), lambda m: m.density)
    for row in rows:
        if row["minus_promolecule"] and row["codec"] is None:
            assert row["nmae"] == 0.0
    with pytest.raises(ValueError, match=r"shape \(1,\), not \(40, 40, 40\)"):
        list(measure_material(material, [], lambda _: np.ones(1)))


# --- running ------------------------------------------------------------------------------------------------


def test_resumes_where_it_was(entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_sweep(SMALL, entries, tmp_path / "whole")
    assert len(whole) == 3 * WAYS

    read: list[str] = []

    def stopping(path: str) -> Material:
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(path)
        return tomat.read(path)

    def counting(path: str) -> Material:
        read.append(path)
        return tomat.read(path)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "read", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(SMALL, entries, tmp_path / "stopped")
    assert len(list((tmp_path / "stopped" / "parts").iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "read", counting)
        seen: list[str] = []
        again = run_sweep(SMALL, entries, tmp_path / "stopped", watch=seen.append)
        assert ignoring_time(again) == ignoring_time(whole)
        assert seen == [entry.task_id for entry in entries]
        assert run_sweep(SMALL, entries, tmp_path / "stopped") == again
    assert read == [entry.path for entry in entries]


def test_order_and_processes_do_not_matter(entries: list[Entry], tmp_path: Path) -> None:
    one = run_sweep(SMALL, entries, tmp_path / "one")
    two = run_sweep(SMALL, entries, tmp_path / "two", jobs=2)
    assert ignoring_time(one) == ignoring_time(two)
    assert (
        run_sweep(SMALL, entries[::-1], tmp_path / "one")
        == one[2 * WAYS :] + one[WAYS : 2 * WAYS] + one[:WAYS]
    )


@pytest.mark.parametrize("damage", [b"", b'{"task_id": "x"', b"[]", b"\xff\x00", b'{"path": 3}'])
def test_a_damaged_part_is_measured_again(entries: list[Entry], tmp_path: Path, damage: bytes) -> None:
    whole = run_sweep(SMALL, entries[:1], tmp_path)
    (part,) = (tmp_path / "parts").iterdir()
    part.write_bytes(damage)
    assert ignoring_time(run_sweep(SMALL, entries[:1], tmp_path)) == ignoring_time(whole)


def test_a_part_from_another_place_is_measured_again(entries: list[Entry], tmp_path: Path) -> None:
    run_sweep(SMALL, entries[:1], tmp_path / "out")
    other = tmp_path / entries[1].path.rsplit("/", 1)[-1]
    shutil.copytree(entries[1].path, other)
    rows = run_sweep(SMALL, [Entry(entries[0].task_id, str(other))], tmp_path / "out")
    assert rows[0]["formula"] == tomat.categories.reduced_formula(tomat.read(other).atomic_numbers)


def test_another_configuration_stops(entries: list[Entry], tmp_path: Path) -> None:
    run_sweep(SMALL, entries[:1], tmp_path)
    other = SweepConfig(**{**SMALL.__dict__, "g_max": (9.0,)})
    with pytest.raises(ValueError, match=r"another configuration; different: g_max\. Give another"):
        run_sweep(other, entries[:1], tmp_path)
    with pytest.raises(ValueError, match=r"different: promolecule\."):
        run_sweep(
            SMALL,
            entries[:1],
            tmp_path,
            promolecule=Gaussians({1: 1.0, 16: 6.0}, 0.5),
            promolecule_name="gaussians",
        )
    rows = run_sweep(other, entries[:1], tmp_path, overwrite=True)
    assert {row["parameter"] for row in rows if row["family"] == "fourier"} == {9.0}
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json: damaged"):
        run_sweep(other, entries[:1], tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_stay(entries: list[Entry], tmp_path: Path, overwrite: bool) -> None:
    mine = tmp_path / "parts" / "mine.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    with pytest.raises(ValueError, match=r"parts holds files, but there is no .*sweep\.json"):
        run_sweep(SMALL, entries[:1], tmp_path, overwrite=overwrite)
    assert mine.read_text() == "{}"
    with pytest.raises(ValueError, match="not a directory; give another place"):
        run_sweep(SMALL, entries[:1], mine)


def test_a_codec_with_other_numbers_is_another_configuration(entries: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    tomat.LloydMaxCodec([1.0], [0.5, 1.5], 2.0).save(path)
    config = SweepConfig(**{**SMALL.__dict__, "codecs": (str(path),)})
    run_sweep(config, entries[:1], tmp_path / "out")
    tomat.LloydMaxCodec([1.0], [0.5, 1.6], 2.0).save(path)
    with pytest.raises(ValueError, match="different: codec_hashes"):
        run_sweep(config, entries[:1], tmp_path / "out")


def test_task_ids_that_are_no_file_names(entries: list[Entry], tmp_path: Path) -> None:
    ids = ["a/../../b", "a" * 300, "a" * 301, "\N{GREEK SMALL LETTER RHO} \n", ".."]
    renamed = [Entry(name, entries[0].path) for name in ids]
    config = SweepConfig(**{**SMALL.__dict__, "fractions": (1.0,)})
    run_sweep(config, renamed, tmp_path / "out")
    assert len(list((tmp_path / "out" / "parts").iterdir())) == len(ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fractions", (0.0,), "fractions: 0.0 is not above 0 and at most 1"),
        ("fractions", (1.1,), "fractions: 1.1"),
        ("thresholds", (-1.0,), "thresholds: -1.0"),
        ("masses", (float("nan"),), "masses: nan"),
        ("g_max", (0.0,), "g_max: 0.0"),
        ("factors", (0.5,), "factors: 0.5 is not a finite number of at least 1"),
        ("unit", "au", "unit 'au' is not one of chgcar, e_per_A3"),
    ],
)
def test_configurations_that_make_no_sense(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SweepConfig(**{**SMALL.__dict__, field: value})


def test_codecs_that_are_not_there(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="unknown codec 'nope'"):
        run_sweep(SweepConfig(codecs=("nope",)), entries, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="two codecs have the name 'direct l1-16k'"):
        SweepConfig(codecs=("l1-16k", "l1-16k")).representations()
    assert set(SweepConfig().codecs) >= {"l1-16k", "two_token_9_12", "tomol_3byte", "fp16_1token"}


# --- report -------------------------------------------------------------------------------------------------


def row(material: str, kind: str, name: str, tokens: int, nmae: float, **more: Any) -> dict[str, Any]:
    made = dict.fromkeys(COLUMNS) | dict.fromkeys(metrics.Metrics._fields, 0.0)
    facts = {
        "task_id": material,
        "formula": "X",
        "category": kind,
        "representation": name,
        "family": "direct",
    }
    counts = {"voxels": 100, "numbers": tokens, "tokens": tokens, "tokens_per_voxel": tokens / 100}
    rest = {"codec": "c", "minus_promolecule": False, "nmae": nmae, "seconds": 1.0}
    return {**made, **facts, **counts, **rest, **more}


ROWS = [
    row("a", "oxide", "direct x", 100, 0.1),
    row("b", "oxide", "direct x", 300, 0.3),
    row("c", "halide", "direct x", 200, 0.5),
    row("a", "oxide", "direct y", 10, 0.9),
    row("b", "oxide", "direct y", 10, 0.9),
    row("c", "halide", "direct y", 10, 0.9),
    row("a", "oxide", "direct z", 300, 0.35),
    row("b", "oxide", "direct z", 300, 0.35),
    row("c", "halide", "direct z", 300, 0.35),
    row("a", "oxide", "direct", 1, 0.0, codec=None),
    row("b", "oxide", "direct", 1, 0.0, codec=None),
    row("c", "halide", "direct", 1, 0.0, codec=None),
]


def test_summary_by_hand() -> None:
    lines = {(x.category, x.representation): x for x in summarise(ROWS)}
    assert len(lines) == 4 * 3
    x = lines["all", "direct x"]
    assert (x.n, x.tokens_per_voxel, x.numbers_per_voxel) == (3, 2.0, 2.0)
    assert x.nmae == pytest.approx(0.3)
    assert (x.nmae_median, x.nmae_max) == (0.3, 0.5)
    oxide = lines["oxide", "direct x"]
    assert oxide.n == 2
    assert oxide.nmae == pytest.approx(0.2)


def test_pareto_front_by_hand() -> None:
    """z has more tokens and a larger error than x; floats are no tokens."""
    whole = [x for x in summarise(ROWS) if x.category == "all"]
    assert [x.representation for x in pareto_front(whole)] == ["direct y", "direct x"]
    assert [(x.representation, sorted(y)) for x, y in by_category(summarise(ROWS))] == [
        ("direct y", ["all", "halide", "oxide"]),
        ("direct x", ["all", "halide", "oxide"]),
    ]


@pytest.mark.parametrize("promolecule", [None, Gaussians({1: 1.0, 16: 6.0, 22: 12.0, 14: 4.0}, 0.5)])
def test_files(entries: list[Entry], tmp_path: Path, promolecule: Gaussians | None) -> None:
    name = None if promolecule is None else "gaussians"
    rows = run_sweep(SMALL, entries, tmp_path, promolecule=promolecule, promolecule_name=name)
    paths = write_results(rows, tmp_path)
    assert [path.name for path in paths] == ["sweep.parquet", "sweep.csv", "pareto.png", "sweep.html"]
    table = pl.read_parquet(paths[0])
    assert table.columns == list(COLUMNS)
    assert table.to_dicts() == rows
    assert (
        pl.read_csv(paths[1], infer_schema_length=None)
        .select("tokens", "nmae")
        .equals(table.select("tokens", "nmae"))
    )
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    text = paths[3].read_text()
    # Nothing is fetched: links of the page are to its own sections, and every script is in it.
    outside = re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"src\s*=|href\s*=(?!\"(#|data:))|url\(|@import", outside)
    assert not re.search(r"<script[^>]*\ssrc", text)
    assert "prefers-color-scheme" in text
    assert ("promolecule + direct" in outside) == (promolecule is not None)
    assert outside.count("<tr") == 2 + len({(r["representation"], r["parameter"]) for r in rows}) + len(
        pareto_front([x for x in summarise(rows) if x.category == "all"])
    )


def test_names_are_text_on_the_page() -> None:
    text = page([*summarise([row("a", "oxide", "direct <b>&", 1, 0.5)])])
    assert "direct <b>&" not in re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL)
    assert "direct &lt;b&gt;&amp;" in text


def test_lines_are_json() -> None:
    rows = [row("a", "oxide", "direct", 1, float("inf"))]
    assert json.loads(json.dumps(as_json(rows), allow_nan=False))[0]["nmae"] is None
    assert isinstance(summarise(rows)[0], Line)


# --- command ------------------------------------------------------------------------------------------------

OPTIONS = "--codec l1-16k --transform-codec fp16_1token --fraction 0.1 --g-max 8 --factor 2".split()


def test_command(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    arguments = [str(data / "rho_gga"), "--limit", "2", "-o", str(out), *OPTIONS]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "All 2 materials" in result.output
    assert "direct l1-16k" in result.output
    assert (out / "sweep.html").exists()
    quiet = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")
    printed = CliRunner().invoke(app, [*arguments, "--json", "--no-plots"])
    facts = json.loads(printed.stdout)
    assert [Path(path).name for path in facts["files"]] == ["sweep.parquet", "sweep.csv"]
    assert {line["category"] for line in facts["summary"]} == {"all", "chalcogenide", "other"}


class StandIn:
    """In the place of the promolecule: what the command needs of it."""

    def __init__(self, name: str) -> None:
        self.hash = f"hash of {name}"

    @classmethod
    def load(cls, name: str) -> StandIn:
        return cls(name)

    def evaluate(
        self, crystal: Crystal, grid_shape: tuple[int, int, int], unit: str, *, fallback: str | None
    ) -> NDArray[np.float64]:
        assert fallback == "slater"
        values: NDArray[np.float64] = np.full(grid_shape, 2.0)
        return values


def test_command_with_a_promolecule(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promolecules, "Promolecule", StandIn)
    arguments = [
        str(data / "rho_gga"),
        "--limit",
        "1",
        "-o",
        str(tmp_path),
        "--no-plots",
        "--json",
        *OPTIONS,
    ]
    more = ["--promolecule", "test-only.npz", "--fallback", "slater"]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    lines = {line["representation"]: line for line in json.loads(result.stdout)["summary"]}
    density = tomat.read(resolve_inputs([data / "rho_gga"], limit=1)[0].path).density
    assert lines["promolecule"]["nmae"] == pytest.approx(metrics.nmae(np.full(density.shape, 2.0), density))
    assert "promolecule + fourier fp16_1token" in lines
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["promolecule"] == "hash of test-only.npz, fallback slater"


def test_command_with_the_fitted_promolecule(data: Path, tmp_path: Path) -> None:
    """By name, in other processes too; its rows are those of the promolecule itself."""
    labels = data / "rho_gga" / "label"
    ids = ("qe-0848", "qe-0913")
    inputs = [str(labels / f"{task_id}.zarr") for task_id in ids]
    more = ["--promolecule", "qe-sg15", "--jobs", "2", "--no-plots", "-q", *OPTIONS]
    result = CliRunner().invoke(app, [*inputs, "-o", str(tmp_path), *more])
    assert result.exit_code == 0, result.output
    table = pl.read_parquet(tmp_path / "sweep.parquet")
    fitted = Promolecule.load("qe-sg15")
    for path, task_id in zip(inputs, ids, strict=True):
        material = tomat.read(path)
        rows = table.filter(pl.col("task_id") == task_id)
        errors = dict(rows.select("representation", "nmae").iter_rows())
        alone = metrics.nmae(fitted.predict(material), material.density.astype(np.float64))
        assert errors["promolecule"] == alone
        assert 0 < alone < 0.15
        assert errors["promolecule + direct"] < 1e-6
    assert fitted.hash in json.loads((tmp_path / "sweep.json").read_text())["promolecule"]


def test_a_promolecule_that_lacks_an_element(data: Path) -> None:
    """The message names the material: a study has many."""
    material = tomat.read(data / "rho_gga" / "label" / "qe-0039.zarr").renamed("argon")
    argon = replace(
        material, crystal=replace(material.crystal, atomic_numbers=np.full_like(material.atomic_numbers, 18))
    )
    with pytest.raises(ValueError, match=r"argon: the promolecule has no radial function for Ar; .*fallback"):
        list(measure_material(argon, [], NamedPromolecule("qe-sg15")))
    (row,) = measure_material(argon, [], NamedPromolecule("qe-sg15", "slater"))
    assert row["representation"] == "promolecule"
    slater = Promolecule.analytic("slater").predict(argon)
    assert row["nmae"] == metrics.nmae(slater, argon.density.astype(np.float64))


def test_command_stops_on_another_configuration(data: Path, tmp_path: Path) -> None:
    arguments = [
        str(data / "rho_gga"),
        "--limit",
        "1",
        "-o",
        str(tmp_path),
        "--no-plots",
        "-q",
        *OPTIONS,
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = CliRunner().invoke(app, [*arguments, "--mass", "0.5"])
    assert isinstance(result.exception, ValueError)
    assert "different: masses" in str(result.exception)
    assert CliRunner().invoke(app, [*arguments, "--mass", "0.5", "--overwrite"]).exit_code == 0
