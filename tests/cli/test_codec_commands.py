"""``tomat codec``: sketch, merge, fit, floor, compare, list, show."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tomat
from tomat import cli
from tomat.dataset.inputs import resolve_inputs


def call(main: Callable[[], None], *arguments: str | Path) -> int:
    """An entry point as the shell would run it; its exit code."""
    previous, sys.argv = sys.argv, [*map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = previous
    return 0


def run(*arguments: str | Path) -> int:
    """``tomat codec ...``."""
    return call(cli.main, "tomat", "codec", *arguments)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    path = tmp_path_factory.mktemp("sketch") / "train.sketch"
    assert run("sketch", data / "rho_gga", "--split", "train", "-o", path, "--quiet") == 0
    return path


def test_sketches_of_parts_are_the_sketch_of_the_whole(tmp_path: Path, data: Path, train: Path) -> None:
    entries = resolve_inputs([str(data / "rho_gga")], split="train")
    for part, threads in ((0, 1), (1, 2), (2, 5)):
        listed = tmp_path / f"{part}.txt"
        listed.write_text("".join(f"{Path(e.path).resolve()}\n" for e in entries[part::3]))
        out = tmp_path / f"{part}.sketch{'.xz' if part == 1 else ''}"
        assert run("sketch", listed, "-o", out, "--threads", str(threads), "-q") == 0
    parts = [tmp_path / "2.sketch", tmp_path / "0.sketch", tmp_path / "1.sketch.xz"]
    assert run("merge", *parts, "-o", tmp_path / "all.sketch") == 0
    assert (tmp_path / "all.sketch").read_bytes() == train.read_bytes()
    whole = tmp_path / "whole.sketch"
    root = data / "rho_gga"
    assert run("sketch", root, "--split", "train", "-o", whole, "--threads", "7", "-q") == 0
    assert whole.read_bytes() == train.read_bytes()


@pytest.mark.parametrize("method", ["l1", "l2", "companding", "lloyd", "equal-mass"])
def test_fit_writes_a_codec_that_any_reader_takes(tmp_path: Path, train: Path, method: str) -> None:
    for name in ("a.npz", "b.npz"):
        arguments: list[str | Path] = [
            "--bins",
            "512",
            "--method",
            method,
            "--weight",
            "voxel",
            "-o",
            tmp_path / name,
            "-q",
        ]
        assert run("fit", train, *arguments) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        boundaries, points, clip_max = (file[name] for name in ("boundaries", "recon_points", "clip_max"))
        about = json.loads(file["about"].tobytes())
        assert "clip_min" not in file.files
    assert (boundaries.dtype, points.dtype) == (np.float32, np.float32)
    assert (boundaries.shape, points.shape, clip_max.shape) == ((511,), (512,), ())
    assert (about["method"], about["weight"], about["signed"]) == (method, "voxel", False)
    assert about["points"] == ("mean" if method in ("l2", "lloyd") else "median")
    assert (about["n_materials"], about["format_version"], about["tomat"]) == (13, 1, tomat.__version__)
    codec = tomat.LloydMaxCodec.load(tmp_path / "a.npz")
    assert codec.hash == about["hash"]
    values = np.geomspace(1e-6, 2 * float(clip_max), 1000)
    old = points[np.searchsorted(boundaries, np.clip(values, 0, clip_max), side="right")]
    np.testing.assert_array_equal(codec.roundtrip(values), old)


def test_signed(tmp_path: Path, train: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "signed.npz"
    assert run("fit", train, "--bins", "4096", "--signed", "-o", out) == 0
    assert "True" in capsys.readouterr().out
    codec = tomat.LloydMaxCodec.load(out)
    assert codec.clip_min == pytest.approx(-2.6430907)
    with np.load(out, allow_pickle=False) as file:
        assert float(file["clip_min"]) == codec.clip_min
    density = data / "rho_gga" / "label" / "vasp-mp-2300242.zarr"
    floors = {}
    for name in (str(out), "l1-4k"):
        assert run("floor", name, density, "--json") == 0
        floors[name] = json.loads(capsys.readouterr().out)["summary"]["nmae"]["mean"]
    assert floors[str(out)] < 0.6 * floors["l1-4k"]


def test_a_dataset_with_a_signed_codec_verifies(tmp_path: Path, train: Path, data: Path) -> None:
    """Tokenized and read back with negative voxels in it; the manifest carries the codec."""
    from tomat.dataset.verify import verify_dataset

    codec, rows = tmp_path / "signed.npz", tmp_path / "rows"
    assert run("fit", train, "--bins", "2048", "--signed", "-o", codec, "-q") == 0
    density = data / "rho_gga" / "label" / "vasp-mp-2300242.zarr"
    options: list[str | Path] = ["--out", rows, "--codec", codec, "--quiet"]
    assert call(cli.tokenize_main, "tomat-tokenize", density, *options) == 0
    meta = json.loads((rows / "meta.json").read_text())
    assert meta["vocab"]["density_codec"]["clip_min"] == pytest.approx(-2.6430907)
    report = verify_dataset(rows, source=resolve_inputs([density]))
    assert report.is_sound, report.problems
    assert report.voxels_compared > 0


def test_floor_prints_all_metrics(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("floor", "l1-1k", data / "rho_gga", "--split", "test", "--worst", "2") == 0
    text = capsys.readouterr().out
    for word in (
        "nmae",
        "chi square",
        "hellinger",
        "jensen shannon",
        "relative mae",
        "electrons",
        "median",
        "p99",
    ):
        assert word in text
    assert run("floor", "l1-1k", data / "rho_gga", "--split", "test", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_materials"] == len(result["materials"]) == 4
    mean = np.mean([m["nmae"] for m in result["materials"].values()])
    assert result["summary"]["nmae"]["mean"] == pytest.approx(mean)


def test_compare_draws(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments: list[str | Path] = ["--bins", "256", "--bins", "64", "--out", tmp_path / "floors"]
    assert run("compare", data / "rho_gga", *arguments) == 0
    text = capsys.readouterr().out
    assert all(method in text for method in ("l1", "l2", "companding", "lloyd", "equal-mass"))
    assert "did not see" in text
    result = json.loads((tmp_path / "floors.json").read_text())
    assert [curve["bins"] for curve in result["curves"]] == [[64, 256]] * 5
    assert len((tmp_path / "floors.csv").read_text().splitlines()) == 11
    png = (tmp_path / "floors.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 20_000
    html = (tmp_path / "floors.html").read_text()
    assert "Plotly.react" in html
    assert 'src="http' not in html
    assert '<th scope="row">equal-mass</th>' in html


def test_compare_with_a_sketch_and_without_splits(
    data: Path, train: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bins", "64", "--method", "l1", "--method", "lloyd"]
    root = data / "rho_gga"
    assert run("compare", root, "--sketch", train, "--test-split", "test", "--json", *options) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n_fit"], result["n_test"], result["held_out"]) == (13, 4, True)
    assert run("compare", root / "label" / "qe-0003.zarr", *options) == 0
    assert "no true floor" in capsys.readouterr().out.replace("\n", " ")


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["lmq-16k"]["hash"] == rows["l1-16k"]["hash"]
    assert len(rows) == 23
    default = rows["l1-16k-e_per_A3-1e4"]
    assert (default["unit"], default["range"], default["signed"]) == ("e_per_A3", "-10 to 1e+04", True)
    assert 0.9e-4 < default["floor"] < 1.05e-4
    assert rows["two_token_9_12"]["floor"] is None
    assert run("list") == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("l1-16k-e_per_A3-1e4"))
    assert line.split() == ["l1-16k-e_per_A3-1e4", "16,384", "e_per_A3", "l1", "-10", "to", "1e+04", "0.01"]
    assert run("show", "l1-4k-e_per_A3", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["method"], facts["weight"], facts["signed"]) == ("l1", "material", False)
    assert (facts["unit"], facts["n_materials"], facts["bins"]) == ("e_per_A3", 377, "4,096")
    assert run("show", "two_token_9_12") == 0
    assert "512 x 4,096" in capsys.readouterr().out


def test_a_relative_codec_is_fitted_shown_and_measured(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = data / "rho_gga", tmp_path / "mine.rel.npz"
    arguments: list[str | Path] = ["--kind", "relative", "--split", "train", "--bins", "64", "--quiet"]
    assert run("fit", root, *arguments, "--offset", "0.01", "--scale-factor", "0.05", "-o", out) == 0
    assert run("show", out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["method"], facts["bins"], facts["guess"]) == (
        "mine",
        "relative",
        "64",
        "qe-sg15",
    )
    assert (facts["unit"], facts["s(g)"]) == ("e_per_A3", "0.01 + 0.05 sqrt(g)")
    means = []
    for guess in ((), ("--guess", "qe-sg15"), ("--guess", "slater")):
        assert run("floor", out, root, "--split", "test", *guess, "--json") == 0
        means.append(json.loads(capsys.readouterr().out)["summary"]["nmae"]["mean"])
    assert means[0] == means[1] < 0.5 * means[2]
    assert run("fit", root, *arguments, "-o", tmp_path / "mine.npz") != 0
    assert ".rel.npz" in capsys.readouterr().err
    assert run("fit", root, "--bins", "64", "-o", tmp_path / "other.rel.npz") != 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.rel.npz"]


def test_errors_say_what_to_do(
    tmp_path: Path, data: Path, train: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data / "rho_gga"
    (tmp_path / "text.sketch").write_text("no sketch")
    cases: list[tuple[list[str | Path], str]] = [
        (["sketch", tmp_path / "none", "-o", tmp_path / "x"], "none"),
        (["sketch", root, "--split", "dev", "-o", tmp_path / "x"], "dev"),
        (["merge", train, train, "-o", tmp_path / "x"], "give every material once"),
        (["fit", tmp_path / "text.sketch", "--bins", "4", "-o", tmp_path / "x.npz"], "text.sketch"),
        (["fit", tmp_path / "none.sketch", "--bins", "4", "-o", tmp_path / "x.npz"], "none.sketch"),
        (["fit", train, "--bins", "9999999", "-o", tmp_path / "x.npz"], "9999999"),
        (["fit", train, "--bins", "4", "-o", tmp_path / "x.txt"], "npz"),
        (["fit", train, "--bins", "4", "--method", "l3", "-o", tmp_path / "x.npz"], "l3"),
        (["floor", "lmq-17k", root], "lmq-17k"),
        (["show", tmp_path / "text.sketch"], "text.sketch"),
        (["compare", root, "--method", "l3"], "l3"),
        (["compare", root, "--sketch", train, "--unit", "e_per_A3"], "--unit chgcar"),
        (["compare", root / "label", "--test-split", "test"], "rho_gga root"),
    ]
    for arguments, word in cases:
        assert run(*arguments) != 0, arguments
        captured = capsys.readouterr()
        assert word in captured.err.replace("\n", " "), arguments
        assert "Traceback" not in captured.err
        assert not list(tmp_path.glob("x*"))
