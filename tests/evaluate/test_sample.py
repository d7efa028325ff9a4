"""`tomat eval --sample`: drawn by name, disjoint from training by chemical system, and recorded."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from places import DATA
from runs import LABEL, ROOT, SMALL, sound, tomat_main
from tomat.dataset.inputs import resolve_inputs, splits_of
from tomat.dataset.subset import draw_names, keyed_order
from tomat.evaluate.sample import Sample, Training, system_of, training_of
from tomat.material import Entry, read

SPLITS = splits_of(ROOT)
TRAIN = {name for name, split in SPLITS.items() if split == "train"}


def test_the_system_is_that_of_the_density() -> None:
    for entry in resolve_inputs([ROOT])[::4]:
        numbers = read(entry.path).atomic_numbers
        assert system_of(entry).count("-") == len(set(numbers.tolist())) - 1
    assert system_of(Entry("x", str(LABEL / "qe-0770.zarr"))) == "Mg-O"
    assert system_of(Entry("x", str(DATA / "chgcar" / "vasp-pmg-NiO-SOC.CHGCAR.gz"))) == "Ni-O"
    with pytest.raises(FileNotFoundError):
        system_of(Entry("x", str(LABEL / "none.zarr")))


def test_the_draw_is_that_of_the_names_whatever_the_order() -> None:
    entries = resolve_inputs([ROOT])
    drawn, about = Sample(6, seed=4).draw(entries, None)
    assert [entry.task_id for entry in drawn] == draw_names(list(SPLITS), 6, 4)
    mixed = random.Random(0).sample(entries, len(entries))
    assert Sample(6, seed=4).draw(mixed, None) == (drawn, about)
    more, _ = Sample(6, seed=4).draw([*entries, Entry("zz", str(LABEL / "qe-0039.zarr"))], None)
    assert {entry.task_id for entry in more} - {"zz"} <= {entry.task_id for entry in drawn}
    assert about["training"] is None
    every, about = Sample(99).draw(entries, None)
    assert [entry.task_id for entry in every] == keyed_order(SPLITS)
    assert (about["drawn"], about["n"]) == (20, 99)


def test_strata_by_electrons_read_or_of_a_catalogue(tmp_path: Path) -> None:
    entries = resolve_inputs([ROOT])
    drawn, _ = Sample(10, 1, "electrons").draw(entries, None)
    by_electrons = sorted(entries, key=lambda entry: (read(entry.path).n_electrons, entry.task_id))
    places = sorted(by_electrons.index(entry) // 2 for entry in drawn)
    assert places == list(range(10))
    assert tomat_main("catalogue", "build", ROOT, "-o", tmp_path / "c.parquet").code == 0
    same, _ = Sample(10, 1, "electrons", str(tmp_path / "c.parquet")).draw(entries, None)
    assert same == drawn
    with pytest.raises(ValueError, match="give at least 1"):
        Sample(0)


def test_training_materials_and_their_systems_are_never_drawn() -> None:
    """A polymorph of a training material is no held-out material, whatever the split file says."""
    entries = resolve_inputs([ROOT])
    training = Training({"qe-0039": "Si", "elsewhere": "Ba-O-Ti"}, "a test")
    drawn, about = Sample(99).draw(entries, training)
    names = {entry.task_id for entry in drawn}
    # Si itself and another silicon; BaTiO3, a chemical system of a material that is not here.
    assert set(SPLITS) - names == {"qe-0039", "vasp-mp-2300242", "qe-0848"}
    assert (about["excluded_training"], about["excluded_systems"], about["candidates"]) == (1, 2, 17)
    assert about["training"] == "a test"
    with pytest.raises(ValueError, match="all 1 materials are training data"):
        Sample(1).draw([Entry("qe-0039", str(LABEL / "qe-0039.zarr"))], training)


def _run(folder: Path, **data: object) -> Path:
    """What a run leaves that says what it was trained on."""
    checkpoint = folder / "run" / "checkpoints" / "step-7"
    checkpoint.mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text(json.dumps({"data": data}))  # JSON is YAML
    (folder / "run" / "tomat.json").write_text("{}")
    return checkpoint


def test_a_run_says_what_it_was_trained_on(tmp_path: Path) -> None:
    checkpoint = _run(tmp_path, densities=[str(ROOT)], split="train", prefix=["qe-"], limit=3)
    for place in (checkpoint, checkpoint.parent, checkpoint.parent.parent):
        found = training_of(str(place), [])
        assert found is not None
        assert found.systems == {"qe-0003": "H-S", "qe-0039": "Si", "qe-0211": "Be"}
        assert found.source == "the densities of run"


def test_a_run_on_a_dataset_says_it_too(tmp_path: Path) -> None:
    sound(ROOT, "--split", "validation", "--out", tmp_path / "rows", *SMALL, "--quiet")
    found = training_of(str(_run(tmp_path, path=str(tmp_path / "rows"), densities=[])), [])
    assert found is not None
    assert set(found.systems) == {name for name, split in SPLITS.items() if split == "validation"}
    assert found.systems["qe-0015"] == "H-Ti"


def test_where_a_run_cannot_say_the_split_file_does(tmp_path: Path) -> None:
    gone = _run(tmp_path, densities=["/no/such/place"], split="train")
    found = training_of(str(gone), [str(ROOT)])
    assert found is not None
    assert set(found.systems) == TRAIN
    assert "split train" in found.source
    with pytest.raises(ValueError, match=r"not known which materials .* cannot be opened \(.*/no/such/place"):
        training_of(str(gone), [str(LABEL)])
    with pytest.raises(ValueError, match=r"sg15-pbe: .* there is no config.yaml of a run there"):
        training_of("sg15-pbe", [str(LABEL)])
    assert training_of("promolecule:qe-sg15", [str(ROOT)]) is None


def test_the_command_records_the_draw(tmp_path: Path) -> None:
    options = ("--mode", "one_pass", "--no-start", "--pictures", 0)
    done = tomat_main(
        "eval", "sg15-pbe", ROOT, "--sample", 1, "--sample-seed", 5, *options, "-o", tmp_path / "r"
    )
    assert done.code == 0, done.err
    assert "drew 1 of 7 materials, seed 5; 13 training materials excluded" in done.err
    data = json.loads((tmp_path / "r" / "result.json").read_text())["identity"]["data"]
    held_out = [name for name in SPLITS if name not in TRAIN]
    assert [name for name, _ in data["materials"]] == draw_names(held_out, 1, 5)
    assert data["sample"] | {"training_sha256": ""} == {
        "n": 1, "seed": 5, "stratify": None, "drawn": 1, "candidates": 7, "excluded_training": 13,
        "excluded_systems": 0, "training": "split train of the densities that are evaluated", "training_sha256": "",
    }  # fmt: skip
    # Another seed is another evaluation.
    other = tomat_main(
        "eval", "sg15-pbe", ROOT, "--sample", 1, "--sample-seed", 6, *options, "-o", tmp_path / "r"
    )
    assert (other.code, "another evaluation" in other.err) == (1, True)
    alone = tomat_main("eval", "promolecule", ROOT, "--stratify", "electrons", "-o", tmp_path / "q")
    assert (alone.code, "need --sample" in alone.err) == (2, True)
