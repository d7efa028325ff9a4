"""Models in one file, from the command line: predictions close to the float model's, limits of bytes, refusals."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
import tomat
from random_models import random_model
from runs import tomat_main
from tomat.dataset.inputs import resolve_inputs
from tomat.evaluate.result import load_result
from tomat.lm.checkpoint import open_checkpoint
from tomat.lm.decode.opening import divide, open_predictor
from tomat.lm.export import export_model, state_dict
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import levanter_config
from tomat.lm.quantize.export import export_artefact
from tomat.lm.quantize.inputs import Calibration, cells
from tomat.lm.quantize.setting import LADDER, Coder, Setting
from tomat.lm.vocabulary import ModelVocabulary
from tomat.prediction.options import DecodingConfig
from tomat.tokenizer import PatchTokenizer

LABEL = tiny_field.DATA / "label"
MATERIAL = LABEL / "qe-0040.zarr"
#: The model of the package.
FIELD = "sg15-pbe"


def exported(*words: object) -> Any:
    done = tomat_main("export", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "small.tomat"
    told = exported(
        FIELD, out, "--quantize", "int8", "--calibrate", tiny_field.DATA, "--split", "train", "--rows", 6
    )
    assert told["bytes"] == out.stat().st_size
    assert told["rounding"] == "gptq"
    assert len(told["off"]) > 10
    assert max(told["off"].values()) < 0.01
    return out


def density(model: object, folder: Path) -> Any:
    done = tomat_main("predict", model, MATERIAL, "-o", folder, "--format", "zarr")
    assert done.code == 0, done.err
    return tomat.read(next(folder.glob("*.zarr"))).density


def test_eight_bits_predict_as_the_float_model_does(small: Path, tmp_path: Path) -> None:
    before, after = density(FIELD, tmp_path / "float"), density(small, tmp_path / "int8")
    assert np.abs(after - before).any()
    assert np.abs(after - before).sum() < 1e-3 * np.abs(before).sum()


def test_it_is_evaluated_and_described_as_what_it_is(small: Path, tmp_path: Path) -> None:
    done = tomat_main("eval", small, MATERIAL, "-o", tmp_path / "result", "--quiet")
    assert done.code == 0, done.err
    rows = {row["mode"] for row in load_result(tmp_path / "result").rows}
    assert rows == {"one_pass", "promolecule", "codec_floor"}
    info = tomat_main("info", small, "--json")
    facts = json.loads(info.out)
    assert (facts["kind"], facts["weights_layers"], facts["embedding"]) == ("field", "int8", "int8")
    assert facts["calibration"]["rows"] == 6
    assert facts["parameters"] == 374998
    assert sum(np.prod(of["shape"]) for of in facts["tensors"]) == facts["parameters"]
    assert "int8" in tomat_main("info", small).out
    damaged = tmp_path / "damaged.tomat"
    damaged.write_bytes(small.read_bytes()[:-5])
    for command in (
        ("predict", damaged, MATERIAL),
        ("info", damaged),
        ("eval", damaged, MATERIAL, "-o", tmp_path / "x"),
    ):
        done = tomat_main(*command)
        assert done.code == 1
        assert "damaged.tomat: is damaged or cut off; fetch it again" in done.err


def test_a_field_model_needs_no_jax(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomat.lm.decode.kinds", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    predictor = open_predictor(small)
    assert predictor.weights.startswith(f"{small}: weights after 2500 steps")
    with pytest.raises(FileNotFoundError, match="an export has no initial weights"):
        open_predictor(small, DecodingConfig(weights="start"))
    assert divide([str(small), "Si.cif"]) == (str(small), ["Si.cif"])


def test_the_same_command_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tomat"
    exported(
        FIELD, again, "--quantize", "int8", "--calibrate", tiny_field.DATA, "--split", "train", "--rows", 6
    )
    assert again.read_bytes() == small.read_bytes()


def test_the_best_setting_that_fits_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "x.tomat"
    sizes = {}
    for setting in (LADDER[4], LADDER[-1]):
        made = export_artefact(FIELD, out, [setting], rounding="nearest")
        sizes[str(setting)] = made.bytes
        assert made.setting == setting
    assert list(sizes) == ["int6, embedding int8", "int4"]
    for size in sizes.values():
        told = exported(FIELD, out, "--max-bytes", size, "--rounding", "nearest")
        assert told["bytes"] == size == out.stat().st_size
    # With a setting, only those below it are tried.
    told = exported(FIELD, out, "--max-bytes", 10**9, "--quantize", "int6", "--rounding", "nearest")
    assert told["setting"] == {"layers": "int6", "ends": "int8"}
    before = out.read_bytes()
    done = tomat_main("export", FIELD, out, "--max-bytes", sizes["int4"] - 1, "--rounding", "nearest")
    assert done.code == 1
    assert f"(int4) takes {sizes['int4']:,} bytes, more than the {sizes['int4'] - 1:,} allowed" in done.err
    assert out.read_bytes() == before


def test_a_float_artefact_is_the_export(tmp_path: Path) -> None:
    out = tmp_path / "float.tomat"
    told = exported(FIELD, out)
    assert (told["setting"]["layers"], told["rounding"]) == ("float32", None)
    before, after = open_predictor(FIELD), open_predictor(out)
    assert after.identity() == before.identity()
    # An artefact is a model like any other: also to export.
    other = tmp_path / "other.tomat"
    exported(out, other, "--quantize", "int4", "--rounding", "nearest")
    assert other.stat().st_size < out.stat().st_size / 2
    # And back into a folder.
    done = tomat_main("export", out, tmp_path / "folder")
    assert done.code == 0, done.err
    assert open_predictor(tmp_path / "folder").identity() == before.identity()


CONFIG = ModelConfig(
    hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, intermediate_dim=48, seq_len=96
)


@pytest.mark.parametrize("kind", ["masked", "guess", "next_token"])
def test_a_transformer_answers_nearly_as_before(kind: str, tmp_path: Path) -> None:
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-1k-e_per_A3", pad_to=96, patch_size=2))
    config = levanter_config(CONFIG, platform="cpu", bidirectional=kind != "next_token")
    model = random_model(config, vocabulary, seed=3, scale=0.2)
    objective = {"kind": kind}
    note = {"name": "untrained", "objective": objective, "step": 6, "data_facts": {"guess": "qe-sg15"}}
    folder, out = tmp_path / "exported", tmp_path / "small.tomat"
    export_model(model, vocabulary, folder, objective=objective, extra={"note": note})
    told = exported(folder, out, "--quantize", "int6", "--calibrate", MATERIAL, "--rows", 8)
    found = open_checkpoint(str(out))
    assert (found.path, found.step, found.objective.config.kind) == (str(out), 7, kind)
    before, after = state_dict(model), state_dict(found.model)
    embedding = "model.embed_tokens.weight"
    assert {name for name in before if not np.array_equal(before[name], after[name])} == set(before)
    assert np.abs(after[embedding] - before[embedding]).max() < np.abs(before[embedding]).max() / 100
    assert max(told["off"].values()) < 0.05
    assert open_predictor(out, DecodingConfig(batch_size=1)).codec.hash == vocabulary.codec.hash


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    out = tmp_path / "x.tomat"
    cases: list[tuple[tuple[object, ...], str]] = [
        ((FIELD, out, "--quantize", "int6"), "give --calibrate DATA"),
        ((FIELD, tmp_path / "folder", "--quantize", "int6"), "give it a name that ends in .tomat"),
        ((FIELD, out, "--quantize", "int6", "--dtype", "bfloat16"), "exclude each other"),
    ]
    for words, message in cases:
        done = tomat_main("export", *words)
        assert done.code == 1
        assert message in done.err
    assert not out.exists()
    with pytest.raises(ValueError, match="at least one material and one row"):
        Calibration([])
    with pytest.raises(ValueError, match="int9 is not one of float32"):
        Setting("int9", "int8")


def test_rows_are_drawn_by_the_seed(small: Path) -> None:
    entries = resolve_inputs([str(tiny_field.DATA)], split="train")
    facts = open_predictor(small).facts
    one, two, other = (cells(Calibration(entries, 3, seed), facts) for seed in (0, 0, 1))
    assert len(one) == 3
    assert all(np.array_equal(a.points, b.points) for a, b in zip(one, two, strict=True))
    assert [of.crystal.name for of in one] != [of.crystal.name for of in other]


def test_materials_with_unseen_elements_are_left_out() -> None:
    entries = resolve_inputs([str(tiny_field.DATA)], split="train")
    facts = open_predictor(FIELD).facts
    seen = frozenset(entries[0].read().atomic_numbers.tolist())
    some = replace(facts, elements=seen)
    drawn = cells(Calibration(entries, len(entries)), some)
    assert 0 < len(drawn) < len(entries)
    assert {z for of in drawn for z in of.crystal.atomic_numbers.tolist()} <= seen
    with pytest.raises(ValueError, match="every material to calibrate with has elements"):
        cells(Calibration(entries, 3), replace(facts, elements=frozenset([118])))


def test_gptq_leaves_no_matrix_out() -> None:
    coder = Coder(Setting("int4", "int4"), "gptq", 0, lambda _: False, {"w": np.ones((2, 2), np.float32)})
    with pytest.raises(RuntimeError, match="inputs of w were not collected"):
        coder.finish()
