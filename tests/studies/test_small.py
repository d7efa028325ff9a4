"""The studies at the size of two cores: parts of the data, fits, verdicts, tables and what counts as the same."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tomat.lm.config import load
from training.studies.small import layouts, scaling
from training.studies.small.check import compare
from training.studies.small.fits import fit_power_law
from training.studies.small.lab import CONFIGS, PREFIX, SEEN, SMALL_VOXELS, Lab
from training.studies.small.output import markdown, write_plots

SYSTEMS = 64


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A root of 3 crystals of each of 64 training systems, and some held out, without densities."""
    lines = []
    for at in range(3 * SYSTEMS + 6):
        split = "train" if at < 3 * SYSTEMS else ("validation", "test")[at % 2]
        grid = [20, 20, 20] if at % 3 else [50, 50, 50]
        system = f"X{at // 3}"
        lines.append({"task_id": f"qe-{at:04}", "chemsys": system, "split": split, "grid": grid})
    lines.append({"task_id": "vasp-mp-1", "chemsys": "Si", "split": "train", "grid": [20, 20, 20]})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "materials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Lab(tmp_path / "data", tmp_path / "out", quiet=True)


def test_parts_are_nested_and_hold_whole_chemical_systems(lab: Lab) -> None:
    parts = [set(ids) for ids in lab.parts().values()]
    assert [len(part) for part in parts] == [12, 24, 48, 96, 192]
    system = {line["task_id"]: line["chemsys"] for line in lab.crystals}
    for smaller, larger in itertools.pairwise(parts):
        assert smaller < larger
        assert not {system[name] for name in smaller} & {system[name] for name in larger - smaller}


def test_the_split_file_has_small_held_out_crystals_and_no_other_kind(lab: Lab) -> None:
    splits = json.loads(lab.split_file().read_text())
    assert set(splits["small"]) < set(splits["held-out"]) == {*splits["validation"], *splits["test"]}
    assert not set(splits["held-out"]) & set(splits["train-4"])
    voxels = {line["task_id"]: np.prod(line["grid"]) for line in lab.crystals}
    assert all(voxels[name] <= SMALL_VOXELS for name in (*splits["small"], *splits["seen"]))
    assert len(splits["seen"]) == SEEN
    assert set(splits["seen"]) < set(splits["train"])
    assert set(splits["few"]) <= set(splits["small"])
    assert not any(name.startswith("vasp") for ids in splits.values() for name in ids)
    assert splits["train"] == sorted(splits["train-4"])


def test_a_folder_that_is_no_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"materials\.jsonl: not found; give a rho_gga root"):
        _ = Lab(tmp_path, tmp_path).crystals


def test_a_finished_run_is_taken_again_only_if_it_is_the_same_training(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    def command(self: Lab, *words: str) -> float:
        ran.append(words)
        folder = self.out / "runs" / words[words.index("--name") + 1]
        assert (folder / "begun.json").exists()
        (folder / "metrics.jsonl").write_text('{"step": 0, "train/loss": 1.0}\n')
        return 12.5

    monkeypatch.setattr(Lab, "_run", command)
    lab.split_file()
    one = scaling.training(lab, scaling.FIELD, "mini", 0, {})
    for _ in range(2):
        assert lab.train(one).steps == 0
    assert len(ran) == 1
    assert lab.cpu_seconds(one) == 12.5
    with pytest.raises(
        ValueError, match=r"field-mini-0: was trained with other settings or on other materials"
    ):
        lab.train(replace(one, options={**one.options, "trainer.num_train_steps": 3}))
    # One that was stopped is gone on with only if it is the same, too.
    run = lab.run_of(one)
    (run / "finished.json").unlink()
    with pytest.raises(ValueError, match="with other settings"):
        lab.train(replace(one, options={**one.options, "trainer.num_train_steps": 3}))
    assert len(ran) == 1
    lab.train(one)
    assert len(ran) == 2
    (run / "finished.json").unlink()
    (run / "begun.json").unlink()
    with pytest.raises(ValueError, match="does not say what was begun there"):
        lab.train(one)
    (run / "begun.json").write_text(json.dumps({"digest": lab.digest(one)}))
    # The same words, with other materials behind the name of the split.
    splits = json.loads((lab.out / "split.json").read_text())
    (lab.out / "split.json").write_text(json.dumps(splits | {"train-0": splits["train-4"]}))
    with pytest.raises(ValueError, match="on other materials"):
        lab.train(one)


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    return content


@pytest.mark.parametrize("name", ["masked-small", "next-token-small", "masked-200M", "next-token-200M"])
def test_the_layouts_configurations_differ_in_the_layout_alone(name: str) -> None:
    first, second = (_config(f"layouts/{layout}-{name}.yaml") for layout in layouts.LAYOUTS)
    for part in ("data", "validation"):
        assert (first[part].pop("layout"), second[part].pop("layout")) == layouts.LAYOUTS
    assert (first.pop("name"), second.pop("name")) == tuple(f"{layout}-{name}" for layout in layouts.LAYOUTS)
    assert first == second


def test_the_sampling_weight_configurations_differ_in_the_budget_alone() -> None:
    for name in ("field-{}", "{}"):
        first, second = (_config(f"sampling-weight/{name.format(b)}.yaml") for b in ("equal", "electrons"))
        assert (first["data"].pop("budget"), second["data"].pop("budget")) == ("equal", "electrons")
        assert first.pop("name") != second.pop("name")
        assert first == second
        assert first["validation"]["budget"] == "equal"
    assert _config("sampling-weight/field-equal.yaml")["data"]["prefix"] == [PREFIX]


@pytest.mark.parametrize("family", scaling.FAMILIES.values(), ids=lambda family: family.name)
def test_every_size_of_a_family_is_a_configuration(lab: Lab, family: scaling.Family) -> None:
    shapes = set()
    for size in family.sizes:
        fields = scaling.training(lab, family, size, 0, {}).options
        flags = [part for key, value in fields.items() for part in (f"--{key}", str(value))]
        config = load(str(CONFIGS / family.config), flags)
        assert config.data.split == "train-0"
        shapes.add(str(config.model.field.shape() if config.model.kind == "field" else config.model.shape()))
    assert len(shapes) == len(family.sizes)


def test_a_power_law_is_found_again() -> None:
    x = [20.0, 40.0, 80.0, 160.0, 320.0]
    fit = fit_power_law("", "crystals", x, [0.3 * a**-0.25 for a in x], at=77_466)
    assert fit.exponent["value"] == pytest.approx(-0.25)
    assert fit.factor == pytest.approx(0.3)
    assert fit.predicted is not None
    assert fit.predicted["value"] == pytest.approx(0.3 * 77_466**-0.25)


def _holds(of: dict[str, float | None], truth: float) -> bool:
    low, high = of["low"], of["high"]
    assert low is not None
    assert high is not None
    return low <= truth <= high


def test_intervals_of_a_power_law_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    x = np.array([20.0, 40.0, 80.0, 160.0, 320.0])
    truth, held = 0.3 * 1000**-0.25, []
    for _ in range(400):
        fit = fit_power_law("", "", x, 0.3 * x**-0.25 * np.exp(0.05 * rng.standard_normal(5)), at=1000)
        b, y = fit.exponent, fit.predicted
        assert y is not None
        held.append((_holds(b, -0.25), _holds(y, truth)))
    shares = np.mean(held, axis=0)
    assert ((shares > 0.92) & (shares < 0.98)).all()


def test_resampled_materials_widen_an_interval() -> None:
    rng = np.random.default_rng(0)
    x = np.array([20.0, 40.0, 80.0])
    y = 0.3 * x**-0.25
    drawn = y * np.exp(0.1 * rng.standard_normal((500, 3)))
    exact, wide = fit_power_law("", "", x, y), fit_power_law("", "", x, y, drawn)
    assert exact.exponent["high"] == pytest.approx(exact.exponent["value"])
    half = 1.96 * 0.1 / np.sqrt(((np.log(x) - np.log(x).mean()) ** 2).sum())
    assert wide.exponent["high"] is not None
    assert wide.exponent["value"] is not None
    assert wide.exponent["high"] - wide.exponent["value"] == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize(("x", "y"), [([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0]), ([1.0], [1.0])])
def test_what_no_line_goes_through_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="points: "):
        fit_power_law("points", "", x, y)


def test_the_interval_of_pairs_is_students() -> None:
    got = layouts.paired([0.1, 0.2, 0.3])
    assert got.value == pytest.approx(0.2)
    assert got.high is not None
    assert got.high - 0.2 == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert layouts.paired([0.1]).low is None


def _scaling() -> dict[str, Any]:
    points = [
        {
            "name": f"field-{size}-{part}", "size": size, "crystals": 20 * 2**part, "steps": 10, "flops": 1e12 * at,
            "bits_per_voxel": 6.0, "unigram_bits_per_voxel": 7.0, "patch_nmae": 0.03 * at * 2**-part,
            "start_patch_nmae": 0.04, "cpu_seconds": 60.0, "parameters": 1e5 * at,
            "nmae": {"mean": {"value": 0.03 * at * 2**-part, "low": 0.001, "high": 0.2}},
        }
        for at, size in ((2, "a"), (1, "b"))
        for part in range(3)
    ]  # fmt: skip
    fits = [asdict(replace(fit_power_law("field a", "crystals", [20, 40, 80], [0.06, 0.03, 0.015], at=1000)))]
    content = {"format": "tomat scaling study", "points": points, "lines": {"start": 0.04}, "fits": fits}
    return {**content, "title": "Scaling", "tables": list(map(asdict, scaling.tables(content)))}


def test_a_scaling_study_leaves_tables_and_pictures(tmp_path: Path) -> None:
    content = _scaling()
    text = markdown(content)
    assert "| b | 100,000 | 80 | 1e+12 | 0.750 (0.100 to 20.0) | 6.00 | 60 |" in text
    assert "start 4.00 %" in text
    write_plots(content, tmp_path / "scaling")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "field a: exponent -1.00" in (tmp_path / "scaling.html").read_text()


def test_a_study_run_again_agrees_within_its_intervals() -> None:
    old = _scaling() | {"hypotheses": [{"name": "H", "verdict": "holds"}]}
    assert compare(old, json.loads(json.dumps(old))) == []
    new = json.loads(json.dumps(old))
    new["points"][0]["nmae"]["mean"]["value"] = 0.21
    new["points"][1]["patch_nmae"] *= 1.3
    new["hypotheses"][0]["verdict"] = "fails"
    said = compare(old, new)
    assert len(said) == 3
    assert said[0].startswith("points[0].nmae.mean: 0.21, expected 0.001 to 0.2")
    assert said[1] == "H: fails, expected holds"
    assert said[2].startswith("field-a-1: NMAE of patches")
    old["points"][2]["nmae"]["mean"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    new["points"][2]["nmae"]["mean"]["value"] = 3e-19
    assert len(compare(old, new)) == 3
    new["hypotheses"][0]["verdict"] = "undecided"
    assert len(compare(old, new)) == 2
    missing = {key: value for key, value in old.items() if key not in ("points", "fits")}
    assert len(compare(old, missing)) >= len(old["points"])
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(old, {"format": "other"})
