"""The small-artefact study: its table, its baselines, and that float32 is the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("levanter")
from typer.testing import CliRunner

import places
from tomat.dataset.inputs import resolve_inputs
from tomat.lm.decode.opening import open_predictor
from training.studies.small_artefact.__main__ import app
from training.studies.small_artefact.study import Row, draw, markdown, measure, open_measured

DATA = places.DATA / "rho_gga"


def test_the_table_says_what_each_setting_costs() -> None:
    rows = [
        Row("float32", None, 4000, 32.0, [2.0, 3.0], [0.010, 0.020]),
        Row("int4", "gptq", 500, 4.125, [2.5, 3.7], [0.011, 0.023], [0.001, 0.002]),
        Row("promolecule", None, None, None, None, [0.1, 0.3]),
    ]
    lines = markdown(rows).splitlines()
    assert lines[2] == "| float32 |  | 4,000 | 32.00 | 2.500 |  | 1.500 / 1.500 |  |  |"
    assert lines[3] == (
        "| int4 | gptq | 500 | 4.12 | 3.100 | +0.600 ± 0.100 | 1.700 / 1.700 | +0.200 ± 0.100 | 0.150 |"
    )
    assert lines[4] == "| promolecule |  |  |  |  |  | 20.000 / 20.000 | +18.500 ± 9.500 |  |"


def test_a_field_model_is_measured_as_it_predicts() -> None:
    model = open_measured("sg15-pbe")
    (requests,) = draw(resolve_inputs([str(DATA)], split="test", limit=1), model, 2, seed=0)
    bits, (nmae,), _ = measure(model, [requests])
    assert 0 < bits[0] < 8
    predictor = open_predictor("sg15-pbe")
    truth = np.concatenate([np.asarray(of.truth).ravel() for of in requests])
    found = np.concatenate([of.density.ravel() for of in predictor.predict(requests)])
    assert nmae == pytest.approx(np.abs(found - truth).sum() / truth.sum(), rel=1e-3)


def test_the_command_writes_files_and_table(tmp_path: Path) -> None:
    words = [
        "sg15-pbe",
        str(DATA),
        "-o",
        str(tmp_path),
        "--limit",
        "2",
        "--patches",
        "1",
        "--rows",
        "2",
        "--quiet",
    ]
    done = CliRunner().invoke(app, [*words, "--setting", "float32", "--setting", "int2/int8"])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "study.json").read_text())["rows_of_table"]
    assert [(row["name"], row["rounding"]) for row in rows] == [
        ("float32", None),
        ("int2, embedding int8", "gptq"),
        ("int2, embedding int8", "nearest"),
        ("promolecule", None),
        ("codec floor", None),
    ]
    by_name = {(row["name"], row["rounding"]): np.mean(row["nmae"]) for row in rows}
    floor, model = by_name["codec floor", None], by_name["float32", None]
    assert floor < model < by_name["int2, embedding int8", "nearest"]
    assert len(list(tmp_path.glob("*.tomat"))) == 3
    assert "| promolecule |" in (tmp_path / "study.md").read_text()
