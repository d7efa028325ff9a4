"""Evaluation of whole materials: results, comparisons, and what happens when things go wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import tomat
from evaluations import ENTRIES, SMALL, Scaled, scaled
from predictors import TokenPredictor, TruthPredictor
from runs import LABEL, ROOT, farm, tomat_main
from tomat import metrics
from tomat.evaluate.compare import compare, comparison_table, contender
from tomat.evaluate.measure import COLUMNS
from tomat.evaluate.methods import CodecFloor, Method, PatchMethod, Predicted, PromoleculeMethod
from tomat.evaluate.result import load_result
from tomat.evaluate.run import Evaluation, evaluate
from tomat.evaluate.tables import mean_table
from tomat.evaluate.volumes import load_pictures
from tomat.material import Entry
from tomat.prediction.predictor import PatchPrediction, PatchRequest
from tomat.promolecule import Promolecule

CODEC = tomat.load_codec("lmq-16k")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The promolecule over the test split, through the command line."""
    out = tmp_path_factory.mktemp("results") / "baseline"
    done = tomat_main("eval", "promolecule", ROOT, "--split", "test", "-o", out, "--codec", "lmq-16k")
    assert done.code == 0, done.err
    assert "promolecule" in done.out
    assert "codec floor" in done.out
    return out


# --- one result ---------------------------------------------------------------------------------------------


def test_a_result_says_what_metrics_say(baseline: Path) -> None:
    result = load_result(baseline)
    assert len(result.rows) == 8
    for row in result.rows:
        material = tomat.read(row["path"])
        if row["mode"] == "promolecule":
            predicted = Promolecule.load("qe-sg15").predict(material, fallback="slater")
        else:
            predicted = CODEC.roundtrip(material.density)
        assert row["nmae"] == pytest.approx(metrics.nmae(predicted, material.density), rel=1e-6)
        assert row["nemd"] == row["nmae"]
        assert row["n_electrons"] == pytest.approx(material.n_electrons)
        assert sum(row["distance_error"]) / sum(row["distance_density"]) == pytest.approx(row["nmae"])
        assert sum(row["distance_voxels"]) == row["n_voxels"] == material.density.size
    mean = np.mean([row["nmae"] for row in result.rows if row["mode"] == "promolecule"])
    assert result.aggregates["promolecule"]["metrics"]["nmae"]["mean"]["value"] == pytest.approx(mean)
    assert result.errors == []


def test_a_result_holds_what_is_needed_to_do_it_again(baseline: Path) -> None:
    identity = json.loads((baseline / "result.json").read_text())["identity"]
    assert identity["methods"]["codec_floor"]["codec_hash"] == CODEC.hash
    assert identity["methods"]["promolecule"]["promolecule"] == Promolecule.load("qe-sg15").hash
    assert identity["tomat"] == tomat.__version__
    assert identity["versions"]["numpy"] == np.__version__
    assert identity["command"][:3] == ["tomat", "eval", "promolecule"]
    assert len(identity["data"]["materials"]) == 4
    assert identity["data"]["split"] == "test"
    table = pq.read_table(baseline / "materials.parquet")
    assert table.column_names == list(COLUMNS)
    assert len(set(table["data_hash"].to_pylist())) == 4


def test_the_same_command_measures_nothing_again(tmp_path: Path) -> None:
    method = Scaled(dict.fromkeys(SMALL, 0.1))
    plan = Evaluation([method], ENTRIES, "chgcar", {})
    first = evaluate(plan, tmp_path / "r")
    assert method.calls == 5
    again = evaluate(plan, tmp_path / "r")
    assert method.calls == 5
    assert again.rows == first.rows
    assert again.aggregates == first.aggregates


class StoppedError(Exception):
    """What ends an evaluation in the middle."""


def test_a_stopped_evaluation_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    errors = {name: 0.02 * (1 + i) for i, name in enumerate(SMALL)}
    whole = evaluate(Evaluation([Scaled(errors)], ENTRIES, "chgcar", {}, pictures=1), tmp_path / "whole")

    class Breaking(Scaled):
        def predict(self, material: tomat.Material) -> Predicted:
            if self.calls == 3:
                raise StoppedError
            return super().predict(material)

    plan = Evaluation([Breaking(errors)], ENTRIES, "chgcar", {}, pictures=1)
    with pytest.raises(StoppedError):
        evaluate(plan, tmp_path / "r")
    with pytest.raises(FileNotFoundError, match="not finished"):
        load_result(tmp_path / "r")
    method = Scaled(errors)
    got = evaluate(replace(plan, methods=[method]), tmp_path / "r")
    assert method.calls == 2
    assert got.aggregates == whole.aggregates
    names = [sorted(p.name for p in (tmp_path / x / "volumes").iterdir()) for x in ("r", "whole")]
    assert names[0] == names[1]
    shown = [picture.about["task_id"] for picture in load_pictures(tmp_path / "r")]
    assert shown == [SMALL[-1], SMALL[0]]


def test_another_evaluation_is_not_overwritten(tmp_path: Path) -> None:
    scaled(tmp_path / "r", dict.fromkeys(SMALL, 0.1))
    with pytest.raises(ValueError, match="another evaluation; different: methods"):
        scaled(tmp_path / "r", dict.fromkeys(SMALL, 0.2))
    plan = Evaluation([Scaled(dict.fromkeys(SMALL, 0.2))], ENTRIES, "chgcar", {}, "r", pictures=0)
    result = evaluate(plan, tmp_path / "r", overwrite=True)
    assert result.aggregates["one_pass"]["metrics"]["nmae"]["mean"]["value"] == pytest.approx(0.2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds files"):
        scaled(tmp_path / "other", dict.fromkeys(SMALL, 0.1))


def test_failures_are_counted_named_and_tried_again(tmp_path: Path) -> None:
    root = farm(tmp_path / "data", ["m-1", "m-2", "m-3"])
    shutil.rmtree(tmp_path / "data" / "label" / "m-2.zarr", ignore_errors=True)
    (tmp_path / "data" / "label" / "m-2.zarr").unlink(missing_ok=True)
    done = tomat_main("eval", "promolecule", root, "-o", tmp_path / "r", "-q")
    assert done.code == 1
    assert "failed: m-2:" in done.err
    assert "1 materials failed" in done.err
    result = load_result(tmp_path / "r")
    assert [error["task_id"] for error in result.errors] == ["m-2"]
    # The table says of how many.
    assert mean_table([result]).rows[0][1] == "2 of 3"
    (tmp_path / "data" / "label" / "m-2.zarr").symlink_to(LABEL / "qe-0211.zarr")
    again = tomat_main("eval", "promolecule", root, "-o", tmp_path / "r", "-q")
    assert again.code == 0, again.err
    assert load_result(tmp_path / "r").aggregates["promolecule"]["n"] == 3


def test_a_prediction_that_is_none_is_a_failure(tmp_path: Path) -> None:
    class Bad(Scaled):
        def predict(self, material: tomat.Material) -> Predicted:
            good = super().predict(material)
            if material.task_id == SMALL[0]:
                good.density[0, 0, 0] = np.nan
            if material.task_id == SMALL[1]:
                return replace(good, density=good.density[:-1])
            return good

    plan = Evaluation([Bad(dict.fromkeys(SMALL, 0.1))], ENTRIES, "chgcar", {}, pictures=0)
    result = evaluate(plan, tmp_path / "r")
    assert {error["task_id"]: error["mode"] for error in result.errors} == dict.fromkeys(
        SMALL[:2], "one_pass"
    )
    assert "NaN" in result.errors[0]["error"]
    assert "shape" in result.errors[1]["error"]


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    entries = [Entry("gone", str(tmp_path / "gone.zarr"))]
    with pytest.raises(ValueError, match=r"none of 1 materials could be measured; the first: gone"):
        evaluate(Evaluation([Scaled({})], entries, "chgcar", {}), tmp_path / "r")


@pytest.mark.parametrize("name", ["materials.parquet", "result.json"])
def test_damaged_results_are_refused(tmp_path: Path, name: str) -> None:
    scaled(tmp_path / "r", dict.fromkeys(SMALL, 0.1))
    place = tmp_path / "r" / name
    place.write_bytes(place.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"result.json|damaged"):
        load_result(tmp_path / "r")


# --- patch predictors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 3])
def test_a_patch_predictor_covers_every_voxel_once(overlap: int) -> None:
    for name in ("qe-0211", "vasp-mp-2300242"):
        material = tomat.read(LABEL / f"{name}.zarr")
        got = PatchMethod(TruthPredictor(1.0), overlap).predict(material)
        np.testing.assert_allclose(got.density, material.density, rtol=2e-6)
        assert got.place is not None
        assert got.patch_shape == (8, 8, 8)
        assert got.place.min() >= 0
        assert got.place.max() < 512


def test_expected_errors_make_the_nemd(tmp_path: Path) -> None:
    plan = Evaluation([PatchMethod(TruthPredictor(1.1, expected=0.05))], ENTRIES[:2], "chgcar", {})
    result = evaluate(plan, tmp_path / "r")
    for row in result.rows:
        assert row["nmae"] == pytest.approx(0.1, rel=1e-4)
        assert row["nemd"] == pytest.approx(0.15, rel=1e-4)
        assert (row["inside_50"], row["inside_90"]) == (
            0.0,
            1.0,
        )  # 80 % of the distribution lie below the truth
        # One factor everywhere is mended by the right number of electrons.
        assert row["nmae_scaled"] == pytest.approx(0, abs=1e-6)
        for what in ("depth", "order"):
            assert sum(row[f"{what}_voxels"]) == row["n_voxels"]
            assert sum(row[f"{what}_error"]) / sum(row[f"{what}_density"]) == pytest.approx(row["nmae"])


def test_truth_is_handed_over_to_diagnostics_alone() -> None:
    seen: list[bool] = []

    class Looking(TokenPredictor):
        def predict(self, requests: Any) -> list[PatchPrediction]:
            seen.extend(request.truth is not None for request in requests)
            return super().predict(requests)

    material = tomat.read(ENTRIES[0].path)
    PatchMethod(Looking()).predict(material)
    assert not any(seen)
    seen.clear()
    PatchMethod(Looking(mode="teacher_forced")).predict(material)
    assert all(seen)


def test_batches_are_filled_over_the_crystals_of_an_evaluation(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(TokenPredictor):
        def predict(self, requests: Any) -> list[PatchPrediction]:
            sizes.append(len(requests))
            return super().predict(requests)

    together = evaluate(
        Evaluation([PatchMethod(Counting(batch_size=11))], ENTRIES, "chgcar", {}), tmp_path / "a"
    )
    assert sum(sizes) == sum(row["n_patches"] for row in together.rows)
    assert all(size == 11 for size in sizes[:-1])
    for entry, row in zip(ENTRIES, together.rows, strict=True):
        alone = PatchMethod(TokenPredictor()).predict(tomat.read(entry.path))
        true = tomat.read(entry.path).density
        assert row["nmae"] == metrics.nmae(alone.density, true)


def test_what_a_predictor_raises_fails_its_material_alone(tmp_path: Path) -> None:
    class Exhausted(TokenPredictor):
        def predict(self, requests: Any) -> list[PatchPrediction]:
            if any(request.crystal.name == SMALL[1] for request in requests):
                raise RuntimeError("RESOURCE_EXHAUSTED")
            return super().predict(requests)

    plan = Evaluation([PatchMethod(Exhausted(batch_size=500))], ENTRIES, "chgcar", {}, pictures=0)
    result = evaluate(plan, tmp_path / "r")
    assert [error["task_id"] for error in result.errors] == [SMALL[1]]
    assert "RuntimeError: RESOURCE_EXHAUSTED" in result.errors[0]["error"]
    assert len(result.rows) == len(ENTRIES) - 1


def test_position_bins_see_where_an_error_sits(tmp_path: Path) -> None:
    class BadFaces(TruthPredictor):
        def _one(self, request: PatchRequest) -> PatchPrediction:
            made = super()._one(request)
            density: NDArray[np.float32] = made.density.copy()
            density[1:-1, 1:-1, 1:-1] /= np.float32(self.factor)
            return replace(made, density=density)

    result = evaluate(
        Evaluation([PatchMethod(BadFaces(2.0, mode="one_pass"))], ENTRIES, "chgcar", {}), tmp_path / "r"
    )
    by_depth = result.aggregates["one_pass"]["by_depth"]
    assert by_depth[0]["from"] == 0
    assert by_depth[0]["nmae"]["value"] == pytest.approx(1.0, rel=1e-4)
    assert all(group["nmae"]["value"] < 1e-5 for group in by_depth[1:])
    mean = result.aggregates["one_pass"]["metrics"]["nmae"]["mean"]["value"]
    assert by_depth[0]["contribution"] == pytest.approx(mean, rel=1e-4)


def test_teacher_forcing_stays_under_the_line(tmp_path: Path) -> None:
    methods: list[Method] = [
        PatchMethod(TruthPredictor(1.01)),
        PatchMethod(TruthPredictor(1.2, mode="one_pass")),
        CodecFloor(CODEC, "chgcar"),
        PromoleculeMethod(Promolecule.analytic("slater")),
    ]
    result = evaluate(Evaluation(methods, ENTRIES, "chgcar", {}), tmp_path / "r")
    table = mean_table([result])
    assert [row[0] for row in table.rows] == ["one pass", "promolecule", "codec floor"]
    assert [row[0] for row in table.below] == ["teacher forced (sees true neighbours)"]
    assert "diagnostics" in table.note
    assert load_pictures(tmp_path / "r")[0].about["mode"] == "one_pass"


def test_modes_are_given_once(tmp_path: Path) -> None:
    method = Scaled({})
    for methods in ([], [method, method]):
        with pytest.raises(ValueError, match="each once"):
            evaluate(Evaluation(methods, ENTRIES, "chgcar", {}), tmp_path / "r")
    for arguments in (("--mode", "one_pass"), ("--mode", "clairvoyant")):
        done = tomat_main("eval", "promolecule", ROOT, "-o", tmp_path / "q", *arguments)
        assert done.code == 1
        assert "mode" in done.err


def test_units(tmp_path: Path) -> None:
    """A codec of electrons per cubic angstrom: the promolecule's numbers are the same, the floor is its own."""
    done = tomat_main(
        "eval",
        "promolecule",
        ROOT,
        "--split",
        "test",
        "--codec",
        "l1-16k-e_per_A3",
        "-o",
        tmp_path / "a",
        "-q",
    )
    assert done.code == 0, done.err
    codec = ("--codec", "lmq-16k")
    other = tomat_main("eval", "promolecule", ROOT, "--split", "test", *codec, "-o", tmp_path / "b", "-q")
    assert other.code == 0
    rows = [load_result(tmp_path / x).of_mode("promolecule") for x in "ab"]
    for name in rows[0]:
        assert rows[0][name]["nmae"] == pytest.approx(rows[1][name]["nmae"], rel=1e-5)
        assert rows[0][name]["electron_error"] == pytest.approx(rows[1][name]["electron_error"], abs=1e-4)
        assert sum(rows[0][name]["distance_density"]) == pytest.approx(
            sum(rows[1][name]["distance_density"]), rel=1e-5
        )
    refused = tomat_main("compare", tmp_path / "a", tmp_path / "b")
    assert refused.code == 1
    assert "different units" in refused.err
    assert tomat_main("compare", tmp_path / "a", tmp_path / "b", "--common").code == 0


# --- comparisons and the study ------------------------------------------------------------------------------


def test_comparisons_are_paired(tmp_path: Path) -> None:
    base = {name: 0.05 * (1 + i) for i, name in enumerate(SMALL)}
    better = {name: x - 0.01 for name, x in base.items()}
    scaled(tmp_path / "a", base)
    scaled(tmp_path / "b", better)
    got = compare([contender(f"one={tmp_path / 'a'}"), contender(str(tmp_path / "b"))])
    line = got["contenders"][1]
    # The materials vary by much, the difference not at all.
    for key in ("value", "low", "high"):
        assert line["difference"][key] == pytest.approx(-0.01, rel=1e-4)
    assert line["wins"]["value"] == 1.0
    assert got["contenders"][0]["name"] == "one"
    done = tomat_main("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert done.json["contenders"][1]["difference"] == line["difference"]


def test_comparisons_show_what_each_model_began_with(tmp_path: Path) -> None:
    flat = {name: dict.fromkeys(SMALL, value) for name, value in (("a", 0.04), ("b", 0.03), ("start", 0.05))}
    scaled(tmp_path / "a", flat["a"], flat["start"])
    scaled(tmp_path / "b", flat["b"], flat["start"])
    scaled(tmp_path / "none", flat["b"])
    got = compare([contender(str(tmp_path / name)) for name in ("a", "b", "none")])
    a, b, none = got["contenders"]
    assert none["start"] is None
    for line in (a, b):
        assert line["start"]["mean"]["value"] == pytest.approx(0.05, rel=1e-5)
        assert line["start"]["difference"]["value"] == pytest.approx(0.01, rel=1e-4)
    table = comparison_table(got)
    names = [row[0] for row in table.rows]
    assert names == ["a", "a, start (step 0)", "b", "b, start (step 0)", "none"]
    assert table.rows[3][1].startswith("5.00")
    # Chosen by name, a start is a contender like any other, and has no start of its own.
    other = compare([contender(f"{tmp_path / 'a'}"), contender(f"{tmp_path / 'a'}@start")])
    assert other["contenders"][1]["start"] is None
    assert other["contenders"][1]["mean"] == a["start"]["mean"]


def test_the_start_is_a_baseline_and_no_headline(tmp_path: Path) -> None:
    one = scaled(tmp_path / "one", dict.fromkeys(SMALL, 0.04), dict.fromkeys(SMALL, 0.05))
    other = scaled(tmp_path / "other", dict.fromkeys(SMALL, 0.03), dict.fromkeys(SMALL, 0.05))
    assert [row[0] for row in mean_table([one]).rows] == ["one pass", "start (step 0)"]
    # Two models that began as one are shown with it once.
    rows = [row[0] for row in mean_table([one, other]).rows]
    assert rows == ["one, one pass", "start (step 0)", "other, one pass"]
    assert contender(str(tmp_path / "one")).mode == "one_pass"


def test_ties_are_half_a_win(tmp_path: Path) -> None:
    scaled(tmp_path / "a", dict.fromkeys(SMALL, 0.1))
    got = compare([contender(str(tmp_path / "a")), contender(str(tmp_path / "a"))])
    assert got["contenders"][1]["wins"]["value"] == 0.5
    assert got["contenders"][1]["difference"]["value"] == 0.0


def test_seeds_are_averaged_in_each_material(tmp_path: Path) -> None:
    scaled(tmp_path / "a", dict.fromkeys(SMALL, 0.1))
    for i in range(3):
        scaled(tmp_path / f"s{i}", dict.fromkeys(SMALL, 0.06 + 0.02 * i))
    seeds = ",".join(str(tmp_path / f"s{i}") for i in range(3))
    got = compare([contender(str(tmp_path / "a")), contender(f"seeds={seeds}")])["contenders"][1]
    assert got["mean"]["value"] == pytest.approx(0.08, rel=1e-4)
    assert got["seeds"]["n"] == 3
    assert got["seeds"]["sd"] == pytest.approx(0.02, rel=1e-3)


def test_other_materials_are_refused_unless_asked(tmp_path: Path) -> None:
    scaled(tmp_path / "a", dict.fromkeys(SMALL, 0.1))
    scaled(tmp_path / "b", dict.fromkeys(SMALL[1:], 0.2))
    both = [contender(str(tmp_path / x)) for x in "ab"]
    with pytest.raises(ValueError, match=rf"1 missing \({SMALL[0]}\)"):
        compare(both)
    got = compare(both, common=True)
    assert got["n"] == 4
    assert got["left_out"] == [SMALL[0]]


def test_other_densities_of_one_name_are_refused(tmp_path: Path) -> None:
    scaled(tmp_path / "a", {"qe-0211": 0.1})
    entry = Entry("qe-0211", str(LABEL / "qe-0003.zarr"))
    evaluate(Evaluation([Scaled({"qe-0211": 0.1})], [entry], "chgcar", {}), tmp_path / "b")
    with pytest.raises(ValueError, match="different true densities"):
        compare([contender(str(tmp_path / x)) for x in "ab"], common=True)


def test_contenders_that_are_none(tmp_path: Path) -> None:
    result = scaled(tmp_path / "a", dict.fromkeys(SMALL, 0.1))
    with pytest.raises(ValueError, match="at least two"):
        compare([contender(str(result.path))])
    with pytest.raises(ValueError, match="has no mode k_pass"):
        compare([contender(f"{result.path}@k_pass")] * 2)
    with pytest.raises(ValueError, match="not every row has a number"):
        compare([contender(str(result.path))] * 2, metric="beauty")
    with pytest.raises(FileNotFoundError):
        contender(str(tmp_path / "none"))


def test_the_hartree_error_stands_next_to_the_nmae(tmp_path: Path) -> None:
    """In rows, tables and comparisons, for the model and its start."""
    result = scaled(tmp_path / "r", dict.fromkeys(SMALL, 0.1), start=dict.fromkeys(SMALL, 0.2))
    for row in result.rows:
        material = tomat.read(row["path"])
        factor = 0.1 if row["mode"] == "one_pass" else 0.2
        predicted = material.density.astype(np.float64) * (1 + factor)
        hartree = metrics.hartree_error(predicted, material.density, material.lattice)
        assert row["hartree_error"] == pytest.approx(hartree)
        assert row["gradient_error"] == pytest.approx(factor)
        # Every atom has its share too much.
        assert row["charge_error"] == pytest.approx(factor * row["n_electrons"] / row["n_atoms"], rel=1e-6)
    table = mean_table([result])
    column = table.head.index("Hartree error, meV")
    assert table.head[column - 1] == "mean NMAE, %"
    own, start = (float(line[column].split()[0].replace(",", "")) for line in table.rows)
    assert own == pytest.approx(np.mean([r["hartree_error"] for r in result.rows[::2]]), rel=5e-3)
    assert start == pytest.approx(2 * own, rel=1e-2)
    both = [contender(f"{tmp_path / 'r'}@{mode}") for mode in ("one_pass", "start")]
    compared = comparison_table(compare(both, metric="hartree_error"))
    assert compared.head[1:5] == ("mean, meV", "SD over seeds", "difference, meV", "per electron, meV")
    assert float(compared.rows[1][3].split()[0].replace(",", "")) == pytest.approx(own, rel=1e-2)


def test_a_result_of_an_earlier_version_lacks_what_was_added_since(tmp_path: Path) -> None:
    """Its table shows gaps, also beside a new result; parts of that version go into a new result."""
    new = ("hartree_error", "coulomb_energy", "coulomb_energy_per_electron", "gradient_error", "charge_error")
    errors = dict.fromkeys(SMALL, 0.1)
    scaled(tmp_path / "old", errors)
    for part in (tmp_path / "old" / "parts").iterdir():
        content = json.loads(part.read_text())
        for row in content["rows"]:
            for name in new:
                del row[name]
        part.write_text(json.dumps(content))
    old = scaled(tmp_path / "old", errors)
    assert old.aggregates["one_pass"]["metrics"].keys().isdisjoint(new)
    table = pq.read_table(tmp_path / "old" / "materials.parquet").drop_columns(list(new))
    pq.write_table(table, tmp_path / "old" / "materials.parquet")
    content = json.loads((tmp_path / "old" / "result.json").read_text())
    content["parquet_sha256"] = hashlib.sha256(
        (tmp_path / "old" / "materials.parquet").read_bytes()
    ).hexdigest()
    (tmp_path / "old" / "result.json").write_text(json.dumps(content))
    read = load_result(tmp_path / "old")
    assert not set(new) & set(read.rows[0])
    beside = mean_table([read, scaled(tmp_path / "now", errors)])
    column = beside.head.index("Hartree error, meV")
    assert beside.rows[0][column] == "-"
    assert float(beside.rows[1][column].split()[0].replace(",", "")) > 0
    done = tomat_main("report", tmp_path / "old", "-o", tmp_path / "report.html")
    assert done.code == 0, done.err
    assert "Mean NMAE over materials" in (tmp_path / "report.html").read_text()
    both = [contender(str(tmp_path / name)) for name in ("old", "now")]
    assert compare(both)["n"] == len(SMALL)
    with pytest.raises(ValueError, match="not every row has a number 'hartree_error'; try nmae"):
        compare(both, metric="hartree_error")
