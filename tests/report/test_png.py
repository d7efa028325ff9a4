"""PNG for slides: what is drawn, and that it is a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
from typer.testing import CliRunner

from tomat.cli import app


def a_run(folder: Path, name: str, tokens: int) -> Path:
    place = folder / name
    place.mkdir()
    lines = [
        {"step": n, "train/bits_per_voxel": 9.0 - n, "throughput/total_tokens": tokens * (n + 1)}
        for n in range(4)
    ]
    lines[0]["eval/one_pass/bits_per_voxel"] = 8.0
    lines[-1]["eval/one_pass/bits_per_voxel"] = 5.0
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def test_scaling_and_learning_curves_are_pictures(tmp_path: Path) -> None:
    runs = [str(a_run(tmp_path, name, n)) for name, n in (("small", 100), ("large", 1000))]
    out = ["-o", str(tmp_path / "r.html"), "--png", str(tmp_path / "slides")]
    told = CliRunner().invoke(app, ["report", *runs, *out])
    assert told.exit_code == 0, told.output
    names = {path.name for path in (tmp_path / "slides").iterdir()}
    assert names == {"scaling-eval-one-pass-bits-per-voxel.png", "learning-bits-per-voxel.png"}
    for name in names:
        content = (tmp_path / "slides" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20], "big") == 1600  # 8 inches at 200 dots
        assert f"written: {tmp_path / 'slides' / name}" in told.output
