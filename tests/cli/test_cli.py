"""`tomat-tokenize` as a user meets it: options, the YAML file, what is printed, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tomat
from places import DATA
from runs import (
    LABEL,
    ROOT,
    SMALL,
    Result,
    farm,
    meta,
    rows_of,
    run_process,
    sound,
    tokenize,
    tomat_main,
    tree,
)

ONE = LABEL / "qe-0039.zarr"
CHGCAR = DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz"


# --- output -------------------------------------------------------------------------------------------------


def test_the_summary(tmp_path: Path) -> None:
    result = sound(ROOT, "--out", tmp_path / "out", *SMALL)
    for words in ("20 of 20", "60 of 256 tokens, in 1 shards", "v3, patch 4, lmq-16k (chgcar)", "threads"):
        assert words in result.out, result.out
    assert result.err == ""


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    for name, flag in (("a", "--quiet"), ("b", "-q")):
        result = sound(ONE, "--out", tmp_path / name, *SMALL, flag)
        assert (result.out, result.err) == ("", "")
    # What is not in the dataset is said all the same, but not to stdout.
    result = tokenize(ONE, tmp_path / "no.zarr", "--out", tmp_path / "c", *SMALL, "-q", "--on-error", "skip")
    assert (result.code, result.out) == (0, "")
    assert "left out 1 of 2 materials: 1 missing" in result.err
    assert "no: missing: " in result.err


def test_json_is_complete(tmp_path: Path) -> None:
    result = run_process(
        ONE, tmp_path / "no.zarr", "--out", tmp_path / "out", *SMALL, "--json", "--on-error", "skip"
    )
    assert result.code == 0
    summary = result.json
    assert summary.keys() == {
        "directory", "n_materials", "n_listed", "rows", "shards", "bytes", "tokens", "left_out", "left_out_first",
        "n_left_out", "clipped", "n_warned", "warnings", "resumed_shards", "seconds", "stage_seconds",
    }  # fmt: skip
    shard = tmp_path / "out" / "shard-00000.parquet"
    expected = {
        "directory": str(tmp_path / "out"), "n_materials": 1, "n_listed": 2, "rows": 3, "shards": 1, "tokens": 768,
        "bytes": shard.stat().st_size, "left_out": {"missing": 1}, "n_left_out": 1, "resumed_shards": 0,
        "clipped": {"materials": 0, "voxels": 0, "electrons": 0.0, "worst": None}, "n_warned": 0, "warnings": {},
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["left_out_first"].keys() == {"no"}
    assert summary["stage_seconds"].keys() == {"read", "encode", "compress", "write"}


def test_help_has_examples() -> None:
    for result in (tokenize("--help"), tokenize("-h"), tomat_main("tokenize", "--help")):
        assert result.code == 0
        assert "Examples:" in result.out
        assert "  tomat-tokenize CHGCAR --out rows\n" in result.out
        for option in (
            "--layout",
            "--fallback-shape",
            "--worker-index",
            "--on-error",
            "--resume",
            "--config",
        ):
            assert option in result.out
    for command in ("show", "info", "verify"):
        text = tomat_main(command, "--help").out
        assert "Examples:" in text
        assert f"  tomat {command} rows" in text
    assert all(command in tomat_main("--help").out for command in ("tokenize", "show", "info", "verify"))


# --- options that cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "at least one INPUT"),
        ([ONE], 2, "--out"),
        ([ONE, "--out", "OUT", "--resume", "--overwrite"], 2, "exclude each other"),
        ([ONE, "--out", "OUT", "--colour", "red"], 2, "--colour"),
        ([ONE, "--out", "OUT", "--on-error", "ignore"], 2, "ignore"),
        ([ONE, "--out", "OUT", "--unit", "furlong"], 2, "furlong"),
        ([ONE, "--out", "OUT", "--threads", 0], 2, "--threads"),
        ([ONE, "--out", "OUT", "--limit", 0], 2, "--limit"),
        ([ONE, "--out", "OUT", "--seed", "x"], 2, "--seed"),
        ([ONE, "--out", "OUT", "--fallback-shape", "18,19"], 2, "give three numbers, such as 18,19,19"),
        ([ONE, "--out", "OUT", "--fallback-shape", "0,1,1"], 1, "not three numbers above zero"),
        ([ONE, "--out", "OUT", "--layout", "v4"], 1, "unknown layout 'v4'; known: v1, v2, v2-lat, v3"),
        ([ONE, "--out", "OUT", "--codec", "lmq-17k"], 1, "lmq-17k"),
        ([ONE, "--out", "OUT", "--codec", "/nowhere/codec.npz"], 1, "/nowhere/codec.npz: No such file"),
        ([ONE, "--out", "OUT", "--codec", CHGCAR], 1, f"{CHGCAR}: not a codec file"),
        ([ONE, "--out", "OUT", "--patch-size", 0], 1, "patch_size = 0"),
        ([ONE, "--out", "OUT", "--patch-size", 1024], 1, "1024"),
        ([ONE, "--out", "OUT", "--patches-per-material", 0], 1, "patches_per_material = 0"),
        ([ONE, "--out", "OUT", "--pad-to", 0], 1, "pad_to = 0"),
        ([ONE, "--out", "OUT", "--seed", -1], 1, "seed = -1"),
        ([ONE, "--out", "OUT", "--epoch", 2**64], 1, "epoch"),
        ([ONE, "--out", "OUT", "--worker-index", 2, "--n-workers", 2], 1, "workers count from 0"),
        ([ONE, "--out", "OUT", "--n-workers", 0], 1, "n_workers = 0"),
        ([ONE, "--out", "OUT", "--encoding", "rle"], 1, "'rle' is not one of plain, byte_stream_split"),
        ([ONE, "--out", "OUT", "--compression-level", 99], 1, "compression_level = 99"),
        ([ONE, "--out", "OUT", "--rows-per-shard", 1], 1, "raise rows_per_shard"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, arguments: list[object], code: int, words: str) -> None:
    result = tokenize(*(tmp_path / "out" if item == "OUT" else item for item in arguments), columns=400)
    assert result.code == code, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not (tmp_path / "out").exists()


# --- the YAML file ------------------------------------------------------------------------------------------

#: Every option with a value other than its default, as in YAML and as on the command line.
EVERY: dict[str, Any] = {
    "layout": "v2-lat", "codec": "fp16_1token", "patch-size": 3, "patches-per-material": 2, "pad-to": 300,
    "fallback-shape": [[3, 3, 2], "2,2,2"], "unit": "e_per_A3", "seed": 4, "epoch": 5, "rows-per-shard": 4,
    "worker-index": 1, "n-workers": 2, "encoding": "plain", "compression-level": 4, "threads": 2, "limit": 3,
    "on-error": "skip", "split": "train", "quiet": True,
}  # fmt: skip


def configured(folder: Path, options: dict[str, Any], *arguments: object) -> Result:
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(options))
    return tokenize("--config", folder / "run.yaml", *arguments, columns=400)


def test_all_options_in_a_file(tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [0, 1, 2, 3, 4]}))
    everything = {**EVERY, "split-file": str(split), "inputs": [str(ROOT)], "out": str(tmp_path / "file")}
    result = configured(tmp_path, everything)
    assert (result.code, result.out) == (0, ""), result.err
    line: list[object] = [ROOT, "--out", tmp_path / "line", "--split-file", split, "--quiet"]
    for key, value in EVERY.items():
        if key == "fallback-shape":
            line += ["--fallback-shape", "3,3,2", "--fallback-shape", "2x2x2"]
        elif key != "quiet":
            line += [f"--{key}", value]
    sound(*line)
    assert tree(tmp_path / "file") == tree(tmp_path / "line")
    facts = meta(tmp_path / "file" / "worker-01")
    assert (facts["seed"], facts["epoch"], facts["split"], facts["pad_to"]) == (4, 5, "train", 300)
    assert facts["fallback_shapes"] == [[3, 3, 2], [2, 2, 2]]
    # The other flags and spellings.
    again = configured(tmp_path, {**everything, "overwrite": True, "json": True})
    assert again.json["n_materials"] == 1
    same = configured(
        tmp_path, {key.replace("-", "_"): value for key, value in {**everything, "resume": True}.items()}
    )
    assert same.code == 0, same.err


def test_the_command_line_wins(tmp_path: Path) -> None:
    options = {"inputs": str(ROOT), "seed": 4, "patch-size": 4, "pad-to": 256, "patches-per-material": 1,
               "fallback-shape": "3,3,3", "out": str(tmp_path / "file")}  # fmt: skip
    result = configured(
        tmp_path, options, ONE, "--seed", 7, "--out", tmp_path / "line", "--fallback-shape", "2,2,2"
    )
    assert result.code == 0, result.err
    facts = meta(tmp_path / "line")
    assert (facts["seed"], facts["n_materials_listed"], facts["patch_size"]) == (7, 1, 4)
    assert facts["fallback_shapes"] == [[2, 2, 2]]
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("shape", ["3,3,2", "3x3x2", [3, 3, 2], [[3, 3, 2]], ["3,3,2"]])
def test_fallback_shapes_in_a_file(tmp_path: Path, shape: object) -> None:
    result = configured(tmp_path, {"fallback-shape": shape}, ONE, "--out", tmp_path / "out", *SMALL)
    assert result.code == 0, result.err
    assert meta(tmp_path / "out")["fallback_shapes"] == [[3, 3, 2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sead: 3", "unknown option 'sead'; known: budget, catalogue, codec"),
        ("config: other.yaml", "unknown option 'config'"),
        ("- a\n- b", "not a mapping of options"),
        ("a: [", "not YAML"),
        ("", "not a mapping of options"),
        ("seed: many", "--seed"),
        ("fallback-shape: 18", "give three numbers"),
        ("fallback-shape: [[18, 19]]", "give three numbers"),
        ("on-error: ignore", "ignore"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    result = tokenize("--config", tmp_path / "run.yaml", ONE, "--out", tmp_path / "out", *SMALL, columns=400)
    assert result.code == 2, result.err
    assert words in result.err
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    result = tokenize("--config", tmp_path / "no.yaml", ONE, "--out", tmp_path / "out", columns=400)
    assert result.code == 2
    assert "no.yaml" in result.err
    result = tokenize("--config", tmp_path, ONE, "--out", tmp_path / "out", columns=400)
    assert result.code in (1, 2)
    assert str(tmp_path) in result.err


# --- info ---------------------------------------------------------------------------------------------------


def test_info(tmp_path: Path) -> None:
    sound(ROOT, "--split", "train", "--out", tmp_path / "out", *SMALL, "--rows-per-shard", 9, "--quiet")
    facts = tomat_main("info", tmp_path / "out", "--json").json
    expected = {
        "directory": str(tmp_path / "out"), "layout": "v3", "split": "train", "tokens_a_row": 256, "patch_size": 4,
        "patches_per_material": 3, "codec": "lmq-16k", "unit": "chgcar", "vocabulary_size": 18570, "seed": 0,
        "workers": 1, "left_out": {}, "materials": 13, "rows": 39, "shards": 5,
    }  # fmt: skip
    assert {key: facts[key] for key in expected} == expected
    assert facts["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").glob("shard-*.parquet"))
    printed = tomat_main("info", tmp_path / "out")
    assert printed.code == 0
    assert "lmq-16k" in printed.out
    assert "18,570" in printed.out


def test_info_adds_up_workers(tmp_path: Path) -> None:
    root = farm(tmp_path / "root", [f"m-{k}" for k in range(5)])
    (root / "label" / "m-4.zarr").unlink()
    for worker in range(2):
        sound(root, "--out", tmp_path / "out", *SMALL, "--quiet", "--on-error", "skip",
              "--n-workers", 2, "--worker-index", worker)  # fmt: skip
    facts = tomat_main("info", tmp_path / "out", "--json").json
    assert (facts["workers"], facts["materials"], facts["rows"], facts["shards"]) == (2, 4, 12, 2)
    assert facts["left_out"] == {"missing": 1}
    assert len(rows_of(tmp_path / "out")) == 4


def test_info_of_what_is_no_dataset(tmp_path: Path) -> None:
    assert "not a dataset" in tomat_main("info", tmp_path).err
    assert "no such directory" in tomat_main("info", tmp_path / "no").err
    assert (
        tokenize(ONE, tmp_path / "no.zarr", "--out", tmp_path / "half", *SMALL, "--rows-per-shard", 3).code
        == 1
    )
    half = tomat_main("info", tmp_path / "half")
    assert half.code == 1
    assert "--resume" in half.err


def test_a_unit_that_is_not_the_codecs_is_refused(tmp_path: Path) -> None:
    result = run_process(ONE, "--out", tmp_path / "out", "--codec", "lmq-16k", "--unit", "e_per_A3")
    assert result.code == 1
    assert "lmq-16k" in result.err
    assert "e_per_A3" in result.err
    assert not (tmp_path / "out").exists()


def test_version_and_help_import_no_command() -> None:
    """What prints two lines takes the time of two lines."""
    assert tomat_main("--version").out == f"tomat {tomat.__version__}\n"
    assert "tokenize" in tomat_main("-h").out
    program = (
        "import sys\nfrom tomat.cli import app\nsys.argv = ['tomat', '-h']\n"
        "try:\n    app()\nexcept SystemExit:\n    "
        "print(sorted({'pyarrow', 'yaml', 'tomat.engine'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
