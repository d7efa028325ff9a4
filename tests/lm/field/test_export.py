"""Exports of field models: the same densities to the bit, from a folder that is complete in itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
from safetensors.numpy import load_file

import tiny_field
import tomat
from runs import tomat_main
from tomat.evaluate.result import load_result
from tomat.lm.decode.kinds import export_kind
from tomat.lm.decode.opening import open_model
from tomat.lm.field.checkpoint import open_field, with_named_weights
from tomat.lm.train import train
from tomat.prediction.options import DecodingConfig

MATERIAL = tiny_field.DATA / "label" / "qe-0040.zarr"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    return Path(train(tiny_field.config(folder, steps=2)).files.root)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "exported"
    done = tomat_main("export", run, out, "--weights", "latest")
    assert done.code == 0, done.err
    assert "tiny after 2 steps" in done.out
    return out


def test_the_export_is_a_folder_complete_in_itself(run: Path, exported: Path, tmp_path: Path) -> None:
    names = {"model.safetensors", "tomat.json", "README.md", "codec.rel.npz", "promolecule.npz"}
    assert {path.name for path in exported.iterdir()} == names
    moved = shutil.copytree(exported, tmp_path / "moved")
    before, after = open_field(str(run), weights="latest"), open_field(str(moved))
    assert (after.step, after.fingerprint) == (before.step, before.fingerprint)
    assert after.codec.hash == before.codec.hash
    assert after.surroundings.promolecule.identity == before.surroundings.promolecule.identity
    assert after.surroundings.shape == before.surroundings.shape
    note = json.loads((moved / "tomat.json").read_text())
    assert note["weights_sha256"] == before.fingerprint
    assert note["data"]["densities_hash"] == before.note["data"]["densities_hash"]
    assert note["data_facts"]["elements"] == before.note["data_facts"]["elements"]
    assert f"`{before.fingerprint}`" in (moved / "README.md").read_text()
    weights = load_file(exported / "model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"float32"}
    assert sum(weight.size for weight in weights.values()) == note["parameters"]


def test_predictions_are_equal_to_the_bit(run: Path, exported: Path, tmp_path: Path) -> None:
    for folder, more in ((run, ["--weights", "latest"]), (exported, [])):
        out = tmp_path / folder.name
        done = tomat_main(
            "predict",
            folder,
            MATERIAL,
            "-o",
            out,
            "--grid",
            "9,10,11",
            "--format",
            "zarr",
            "--allow-unseen",
            *more,
        )
        assert done.code == 0, done.err
    before, after = (tomat.read(next((tmp_path / of.name).glob("*.zarr"))).density for of in (run, exported))
    assert before.shape == (9, 10, 11)
    np.testing.assert_array_equal(after, before)


def test_evaluations_are_equal(run: Path, exported: Path, tmp_path: Path) -> None:
    found = []
    for folder, more in ((run, ["--weights", "latest"]), (exported, [])):
        done = tomat_main("eval", folder, MATERIAL, "--mode", "one_pass", "-o", tmp_path / folder.name, *more)
        assert done.code == 0, done.err
        rows = {row["mode"]: row for row in load_result(tmp_path / folder.name).rows}
        found.append(rows["one_pass"])
    names = ("nmae", "nemd", "chi_square", "electron_error", "hartree_error", "charge_error")
    assert [found[0][name] for name in names] == [found[1][name] for name in names]


def test_an_export_has_no_start(exported: Path) -> None:
    predictor = open_model(exported, DecodingConfig())
    assert predictor.in_mode("one_pass").identity() == predictor.identity()
    with pytest.raises(FileNotFoundError, match="an export has no initial weights"):
        predictor.at_start()


@pytest.mark.parametrize("name", ["model.safetensors", "codec.rel.npz", "promolecule.npz", "tomat.json"])
def test_damage_is_found(name: str, exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[-100] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        open_field(str(copy))


def test_weights_of_another_shape_are_refused() -> None:
    model = tiny_field.random_weights().model
    with pytest.raises(ValueError, match=r"x: weights that are missing.*embedding\.layers\.0\.bias"):
        with_named_weights(model, {}, "x")


def test_other_number_types_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exported as float32, not as bfloat16"):
        export_kind(str(run), tmp_path / "x", dtype="bfloat16")
    assert not (tmp_path / "x").exists()
