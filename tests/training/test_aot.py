"""The training step compiled for TPUs on this machine; needs libtpu (extra ``tpu-aot``)."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from make import run_make
from places import REPOSITORY

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = REPOSITORY / "training" / "aot.py"


@pytest.fixture(scope="module")
def aot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("aot", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["aot"] = module
    spec.loader.exec_module(module)
    return module


def _make_aot(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`make aot` with the interpreter of the tests, which has what the target would install."""
    environment = "tests-environment"
    given = [f"VENV={environment}", f"AOT_OUT={out}", f"BIN={Path(sys.executable).parent}"]
    return run_make(
        SCRIPT.parents[1], "-o", f"{environment}/.aot", "aot", *given, *words, JAX_PLATFORMS="cpu"
    )


def test_make_aot_compiles_a_tiny_step_for_four_chips(tmp_path: Path) -> None:
    """The trainer's own step, with splash attention looking both ways and two micro-batches, sharded over v6e-4."""
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install 'tomat[tpu-aot]'")
    ran = _make_aot(tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    out = tmp_path / "tiny.json"
    (result,) = json.loads(out.read_text()).values()
    assert result["fits"]
    assert result["chips"] == 4
    assert result["splash_kernels"] >= 2  # forward and backward
    state = 4 * 3 * result["parameters"] / 4
    # Parameters and Adam's two, split over the chips; narrow shards are rounded up to the lanes of a register.
    assert state < result["argument_bytes"] < 2 * state
    assert result["argument_bytes"] < result["peak_bytes"] < 2**30
    (row,) = [line for line in ran.stdout.splitlines() if line.startswith("| tiny")]
    assert row.startswith("| tiny | v6e:2x2 | bidirectional | 8 | 1 | full |")
    assert row.endswith("| yes |")
    # What is in the file is not compiled again.
    written = out.stat().st_mtime_ns
    assert _make_aot(tmp_path).stdout.splitlines()[-1] == row
    assert out.stat().st_mtime_ns == written


def test_the_named_table_is_that_of_the_docs(aot: Any) -> None:
    """docs/tpu.md shows one line for each run of `make aot TABLE=1`, in its order."""
    page = (
        (SCRIPT.parents[1] / "docs" / "tpu.md").read_text().split("## Measured")[1].split("## Estimates")[0]
    )
    shown = [line.split(" | ") for line in page.splitlines() if line.startswith(("| 30M", "| 200M", "| 1B"))]
    chips = {"v6e:2x4": 8, "v6e:4x4": 16}
    runs = aot.RUNS["table"]
    assert [[cell.strip("| ") for cell in line[:6]] for line in shown] == [
        [run.preset, run.topology, run.objective, str(run.batch), str(run.micro), run.checkpointing]
        for run in runs
    ]
    assert all(run.batch % (chips[run.topology] * run.micro) == 0 for run in runs)
    assert len({run.key for run in runs}) == len(runs)


def test_a_run_that_does_not_fit_is_a_result_and_one_that_fails_is_not(
    aot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "aot.json"
    runs = aot.RUNS["table"][:2]
    made = {run.key: _result({**dataclasses.asdict(run)}, fits=index == 0) for index, run in enumerate(runs)}
    out.write_text(json.dumps(made))
    aot.compile_all(runs, out)
    assert [line.rsplit("| ", 1)[1] for line in capsys.readouterr().out.splitlines()[2:]] == [
        "yes |",
        "no: 132.52 GiB needed |",
    ]
    out.unlink()
    monkeypatch.setattr(
        aot.subprocess, "run", lambda *_arguments, **_options: subprocess.CompletedProcess([], 1)
    )
    with pytest.raises(SystemExit, match=r"preset=30M.*: not compiled, exit code 1"):
        aot.compile_all(runs, out)


def _result(run: dict[str, Any], *, fits: bool) -> dict[str, Any]:
    error = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 132.52G of 31.25G hbm."
    return {
        "run": run,
        "chips": 8,
        "model_flops": 2e15,
        "peak_bytes": 3 * 2**30 if fits else 0,
        "argument_bytes": 2**29 if fits else 0,
        "fits": fits,
        "error": "" if fits else error,
    }


def test_a_table_of_results(aot: Any) -> None:
    run = {"preset": "200M", "topology": "v6e:2x4", "objective": "causal", "batch": 128, "micro": 4}
    fits = {
        "run": {**run, "checkpointing": "full"},
        "chips": 8,
        "model_flops": 2e15,
        "peak_bytes": 3 * 2**30,
        "argument_bytes": 2**29,
        "fits": True,
        "error": "",
    }
    refused = {**fits, "run": {**run, "micro": -1, "checkpointing": "off"}, "fits": False}
    refused |= {"peak_bytes": 0, "argument_bytes": 0}
    errors = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 132.52G of 31.25G hbm.",
        "the total memory required for HLO temporaries (32.01G) exceeds available HBM (31.24G).",
    )
    lines = aot.markdown([fits, *({**refused, "error": error} for error in errors)]).splitlines()
    assert lines[2] == "| 200M | v6e:2x4 | causal | 128 | 4 | full | 3.0 | 0.50 | 250 | 0.61 | yes |"
    assert lines[3].endswith("| 128 | 16 | off | - | - | 250 | 0.61 | no: 132.52 GiB needed |")
    assert lines[4].endswith("| no: 32.01 GiB needed |")


def test_a_loss_that_is_not_known_is_refused(aot: Any) -> None:
    with pytest.raises(ValueError, match="one of density, levanter"):
        aot.load_loss("mse", None)
