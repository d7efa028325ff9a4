"""``tomat predict``: what it writes and prints, mistakes, and runs that go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tomat
from recorder import Recorder
from runs import LABEL, Result, tomat_main, wait_for
from tomat.metrics import nmae
from tomat.promolecule import Promolecule

PROMOLECULE = Promolecule.load("qe-sg15")
SILICON = LABEL / "qe-0039.zarr"


def predict(*arguments: object) -> Result:
    return tomat_main("predict", "promolecule", *arguments)


ZARR = ("--format", "zarr")


def test_the_command_predicts_what_the_promolecule_is(tmp_path: Path) -> None:
    """The error of what is written is that of the promolecule, for every format."""
    names = ["qe-0039", "qe-0934"]
    paths = [LABEL / f"{name}.zarr" for name in names]
    for name, path in zip(names, paths, strict=True):
        out = tmp_path / name
        formats = ("zarr", "chgcar.gz", "cube", "png")
        options = [word for kind in formats for word in ("--format", kind)]
        result = predict(path, "-o", out, "--truth", path, *options, "--json")
        assert result.code == 0, result.err
        (record,) = result.json["predicted"]
        m = tomat.read(path)
        expected = nmae(PROMOLECULE.predict(m), m.density)
        assert record["metrics"]["nmae"] == pytest.approx(expected, rel=1e-6)
        assert record["made_from"]["grid"] == list(m.grid_shape)
        files = [f"{name}{suffix}" for suffix in (".zarr", ".CHGCAR.gz", ".cube", ".png")]
        assert record["files"] == files
        assert sorted(file.name for file in out.iterdir()) == sorted([*files, f"{name}.json"])
        for file in files[:3]:
            predicted = tomat.read(out / file).in_unit("chgcar").density
            assert nmae(predicted, m.density) == pytest.approx(expected, rel=1e-4)
        assert (out / files[3]).read_bytes().startswith(b"\x89PNG")
        assert json.loads((out / f"{name}.json").read_text()) == record


def test_what_is_printed(tmp_path: Path) -> None:
    result = predict(SILICON, "-o", tmp_path, "--normalize", "--format", "chgcar")
    assert result.code == 0, result.err
    for words in (
        "qe-0039: grid 40 x 40 x 40, 27 patches one_pass",
        "8.0000 electrons",
        "seams",
        "1 predicted",
        "note: CHGCAR holds no PAW augmentation occupancies",
        "ICHARG = 1",
    ):
        assert words in result.out, result.out
    again = predict(SILICON, "-o", tmp_path, "--normalize", "--format", "chgcar")
    assert "0 predicted, 1 there already" in again.out
    assert "note" not in again.out
    assert predict(SILICON, "-o", tmp_path, "--normalize", *ZARR, "--quiet").out == ""


def test_electrons_and_valence(tmp_path: Path) -> None:
    given = predict(SILICON, "-o", tmp_path / "a", *ZARR, "--electrons", "28", "--json")
    (record,) = given.json["predicted"]
    assert record["electrons"]["final"] == pytest.approx(28.0)
    assert record["electrons"]["raw"] == pytest.approx(8.0, rel=1e-3)
    zinc = LABEL / "qe-0954.zarr"
    counted = predict(zinc, "-o", tmp_path / "b", *ZARR, "--valence", "slater", "--json")
    (record,) = counted.json["predicted"]
    expected = Promolecule.load("slater").count_electrons(tomat.read(zinc).atomic_numbers)
    assert record["electrons"]["final"] == pytest.approx(expected)
    both = predict(SILICON, zinc, "-o", tmp_path / "c", "--electrons", "28")
    assert both.code == 1
    assert "one number of electrons is given for 2 structures" in both.err


def test_failures_are_counted_and_named_and_the_rest_is_made(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.vasp").write_text("nothing")
    (tmp_path / "in" / "argon.vasp").write_text("Ar\n4.0\n1 0 0\n0 1 0\n0 0 1\nAr\n1\nDirect\n0 0 0\n")
    (tmp_path / "in" / "huge.vasp").write_text("He\n400\n1 0 0\n0 1 0\n0 0 1\nHe\n1\nDirect\n0 0 0\n")
    (tmp_path / "in" / "si.zarr").symlink_to(SILICON)
    result = predict(tmp_path / "in", "-o", tmp_path / "out", *ZARR)
    assert result.code == 1
    for words in (
        "broken.vasp: no crystal could be read",
        "failed: argon: ",
        "no radial function for Ar",
        "failed: huge",
    ):
        assert words in result.err, result.err
    assert "1 predicted, 3 failed" in result.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["si.json", "si.zarr"]
    told = predict(tmp_path / "in", "-o", tmp_path / "out", *ZARR, "--json").json
    assert sorted(failure["name"] for failure in told["failed"]) == ["argon", "broken", "huge"]
    assert told["failed"][0]["path"].startswith(str(tmp_path))
    assert len(told["skipped"]) == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["none.cif", "-o", "{out}"], "none.cif: no such file"),
        ([SILICON, "-o", "{out}", "--grid", "5,5"], "grid"),
        ([SILICON, "-o", "{out}", "--grid", "5,5,5", "--spacing", "1"], "both set the grid"),
        ([SILICON, "-o", "{out}", "--format", "hdf5"], "format 'hdf5'"),
        ([SILICON, "-o", "{out}", "--format", "png.gz"], "format 'png.gz'"),
        ([SILICON, "-o", "{out}", "--radices", "2,x"], "radices"),
        ([SILICON, "-o", "{out}", "--overlap", "19"], "overlap = 19"),
        ([SILICON, "-o", "{out}", "--mode", "k_pass"], "mode = k_pass: a promolecule has no such option"),
        ([SILICON, SILICON, "-o", "{out}"], "both have the name qe-0039"),
        ([SILICON, "-o", "{out}", "--truth", SILICON, "--grid", "5,5,5"], "grid"),
        ([SILICON, "-o", "{out}", "--augmentation", SILICON], ""),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, arguments: list[Any], match: str) -> None:
    result = predict(*[tmp_path / "out" if word == "{out}" else word for word in arguments], *ZARR)
    assert result.code == 1
    assert match in result.err
    assert "Traceback" not in result.err


# --- going on -----------------------------------------------------------------------------------------------


def test_other_options_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(SILICON, "-o", out, *ZARR).code == 0
    first = (out / "qe-0039.json").read_bytes()
    other = predict(SILICON, "-o", out, *ZARR, "--overlap", "3")
    assert other.code == 1
    assert "overlap was 0 and is 3" in other.err
    assert "--overwrite" in other.err
    assert (out / "qe-0039.json").read_bytes() == first
    changed = predict(SILICON, "-o", out, *ZARR, "--overlap", "3", "--overwrite", "--json")
    assert len(changed.json["predicted"]) == 1
    # Options that change no number leave what is there.
    assert (
        len(predict(SILICON, "-o", out, *ZARR, "--overlap", "3", "--overwrite", "--json").json["skipped"])
        == 1
    )
    for file in (out / "qe-0039.zarr").rglob("*"):
        if file.is_file():
            file.unlink()
    (out / "qe-0039.json").write_text("{")
    damaged = predict(SILICON, "-o", out, *ZARR, "--overlap", "3")
    assert "qe-0039.json: damaged" in damaged.err


def test_a_missing_file_is_made_again(tmp_path: Path) -> None:
    both = (*ZARR, "--format", "cube")
    assert predict(SILICON, "-o", tmp_path, *ZARR).code == 0
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["predicted"]) == 1
    (tmp_path / "qe-0039.cube").unlink()
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["predicted"]) == 1
    assert len(predict(SILICON, "-o", tmp_path, *both, "--json").json["skipped"]) == 1


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed between and inside writes: what has a record is whole, and the second run makes the rest."""
    out = tmp_path / "out"
    slow = (
        "import time; from dataclasses import replace; from tomat.formats import FORMATS as F; f = F['chgcar']; "
        "F['chgcar'] = replace(f, encode=lambda *a: (time.sleep(0.1), f.encode(*a))[1])"
    )
    program = f"{slow}\nfrom tomat.cli import main\nmain()"
    arguments = [
        *("predict", "promolecule", str(LABEL), "-o", str(out), "--format", "zarr", "--format", "chgcar"),
        *("--spacing", "0.3"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(out.glob("*.json"))) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    finished = {path.stem: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert 3 <= len(finished) < len(list(LABEL.iterdir()))
    for name in finished:
        assert tomat.read(out / f"{name}.zarr").grid_shape == tomat.read(out / f"{name}.CHGCAR").grid_shape
    result = tomat_main(*arguments, "--json")
    assert result.code == 0, result.err
    assert {record["name"] for record in result.json["skipped"]} == set(finished)
    assert len(result.json["predicted"]) + len(finished) == len(list(LABEL.iterdir()))
    assert {name: (out / f"{name}.json").stat().st_mtime_ns for name in finished} == finished


def test_a_spread_is_written_beside_the_density(tmp_path: Path) -> None:
    from tomat.prediction.run import RunOptions, predict_files

    predictor = Recorder(spread=True)
    summary = predict_files(
        predictor, [str(SILICON)], tmp_path, (".zarr",), RunOptions(grid=(6, 7, 8), normalize=True)
    )
    (record,) = summary.predicted
    assert record["files"] == ["qe-0039.zarr", "qe-0039.spread.zarr"]
    density, spread = (tomat.read(tmp_path / name) for name in record["files"])
    np.testing.assert_allclose(spread.density, density.density / 10, rtol=1e-6)
    assert density.n_electrons == pytest.approx(8.0)
    # Another predictor is another prediction.
    again = predict_files(
        replace(predictor, offset=1.0),
        [str(SILICON)],
        tmp_path,
        (".zarr",),
        RunOptions(grid=(6, 7, 8), normalize=True),
    )
    assert "predicted with other options (predictor was {'recorder': 0.0}" in again.failed[0].error


def test_occupancies_of_another_file(tmp_path: Path, data: Path) -> None:
    lithium = data / "chgcar" / "vasp-pmg-Li-nospin.CHGCAR.gz"
    result = predict(
        lithium, "-o", tmp_path, "--format", "chgcar", "--like", lithium, "--augmentation", lithium
    )
    assert result.code == 0, result.err
    assert "note" not in result.out
    assert tomat.read(tmp_path / "vasp-pmg-Li-nospin.CHGCAR").source["has_augmentation"]
