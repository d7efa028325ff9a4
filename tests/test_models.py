"""The models of the package: complete, small, what their cards say, and opened by name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tomat
from places import DATA
from runs import tomat_main
from tomat.lm.decode.opening import divide, is_model, open_predictor
from tomat.models import DEFAULT, bundled, bundled_models
from tomat.prediction.assemble import predict_density
from tomat.prediction.predictor import PromoleculePredictor

LABEL = DATA / "rho_gga" / "label"
#: The test half of the data in the repository.
HELD_OUT = json.loads((DATA / "rho_gga" / "split.json").read_text())["test"]
NAMES = (DATA / "rho_gga" / "mp_filelist.txt").read_text().split()


def test_every_model_is_whole_small_and_says_what_it_is() -> None:
    models = bundled_models()
    assert DEFAULT in {model.name for model in models}
    for model in models:
        assert model.size < 5e6
        predictor = open_predictor(model.name)  # compares all digests
        assert predictor.facts.elements == model.elements
        assert model.dialect in (model.folder / "README.md").read_text()
        assert model.note["command"].startswith("tomat train ")
        assert model.note["data"]["densities_hash"]
        scores = model.scores
        for of in ("mean", "median"):
            mine, start, baseline, floor = (
                scores[mode]["nmae"][of] for mode in ("one_pass", "start", "promolecule", "codec_floor")
            )
            assert 5 * floor < mine < 0.6 * min(start, baseline)


def test_it_beats_the_promolecule_on_crystals_it_has_not_seen() -> None:
    model, promolecule = open_predictor(DEFAULT), open_predictor("promolecule")
    assert isinstance(promolecule, PromoleculePredictor)
    errors = []
    for index in HELD_OUT:
        m = tomat.read(LABEL / f"{NAMES[index]}.zarr")
        if not NAMES[index].startswith("qe"):
            continue
        true = m.in_unit("e_per_A3").density
        found = [
            predict_density(of, m.crystal, m.grid_shape).material.in_unit("e_per_A3").density
            for of in (model, promolecule)
        ]
        errors.append([float(np.abs(one - true).sum() / np.abs(true).sum()) for one in found])
    assert len(errors) >= 2
    mine, theirs = np.mean(errors, axis=0)
    assert mine < 0.7 * theirs
    # The cells keep their electrons.
    assert predict_density(model, m.crystal, (12, 12, 12)).material.n_electrons == pytest.approx(
        m.n_electrons, abs=1e-3
    )


def test_the_command_needs_no_model(tmp_path: Path) -> None:
    path = LABEL / "qe-0039.zarr"
    done = tomat_main("predict", path, "-o", tmp_path / "a", "--format", "zarr", "--spacing", "0.4")
    assert done.code == 0, done.err
    assert f"{DEFAULT} of the package: weights after" in done.err
    named = tomat_main("predict", DEFAULT, path, "-o", tmp_path / "b", "--format", "zarr", "--spacing", "0.4")
    assert named.code == 0, named.err
    first, second = (tomat.read(tmp_path / of / "qe-0039.zarr").density for of in "ab")
    np.testing.assert_array_equal(first, second)
    again = tomat.predict(path, spacing=0.4).material.in_unit("chgcar").density
    np.testing.assert_allclose(again, first, rtol=1e-5)


def test_a_structure_is_enough(tmp_path: Path) -> None:
    """No options at all: a folder in the working directory, on the grid of the training data."""
    shutil.copytree(LABEL / "qe-0039.zarr", tmp_path / "Si.zarr")
    program = [sys.executable, "-m", "tomat", "predict", "Si.zarr"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"Si.zarr", "Si.CHGCAR", "Si.json"} <= {path.name for path in (tmp_path / "predicted").iterdir()}


def test_words_are_told_apart(tmp_path: Path) -> None:
    structures = tmp_path / "structures"
    structures.mkdir()
    shutil.copytree(bundled(DEFAULT).folder, tmp_path / "copy")  # type: ignore[union-attr]
    (tmp_path / "Si.cif").write_text("")
    for text in (DEFAULT, "promolecule", "promolecule:x.npz", str(tmp_path / "copy"), f"{tmp_path}/copy/"):
        assert is_model(text), text
    for path in (tmp_path / "Si.cif", structures, LABEL / "qe-0039.zarr", tmp_path / "missing"):
        assert not is_model(str(path)), path
    one, two = str(tmp_path / "Si.cif"), str(structures)
    assert divide([one]) == (DEFAULT, [one])
    assert divide([one, two]) == (DEFAULT, [one, two])
    assert divide(["promolecule", one]) == ("promolecule", [one])
    # Nothing of this name is there: said of the model, before anything is predicted.
    assert divide(["runs/lost", one]) == ("runs/lost", [one])
    with pytest.raises(ValueError, match="promolecule: is a model; give the structures"):
        divide(["promolecule"])


def test_the_list_and_the_card() -> None:
    listed = tomat_main("models")
    assert listed.code == 0, listed.err
    assert all(len(line) <= 80 for line in listed.out.splitlines())
    assert DEFAULT in listed.out
    assert " Si " in listed.out
    facts = json.loads(tomat_main("models", "--json").out)
    assert [one["name"] for one in facts] == [model.name for model in bundled_models()]
    card = tomat_main("models", DEFAULT).out
    assert "not seen in training" in card
    wrong = tomat_main("models", "sg16")
    assert wrong.code == 1
    assert f"sg16: no such model in the package; there are {DEFAULT}" in wrong.err
