"""The training step compiled for TPUs on this machine; needs libtpu (extra ``tpu-aot``)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[1] / "training" / "aot.py"


@pytest.fixture(scope="module")
def aot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("aot", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["aot"] = module
    spec.loader.exec_module(module)
    return module


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tiny_step_compiles_for_four_chips(tmp_path: Path) -> None:
    """The trainer's own step, with splash attention looking both ways and two micro-batches, sharded over v6e-4."""
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install 'tomat[tpu-aot]'")
    out = tmp_path / "aot.json"
    options = ["--preset", "tiny", "--codec", "l1-1k", "--seq-len", "256", "--topology", "v6e:2x2"]
    options += ["--batch", "8", "--micro", "1", "--objective", "bidirectional", "--out", str(out)]
    ran = _run(*options)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (result,) = json.loads(out.read_text()).values()
    assert result["fits"]
    assert result["chips"] == 4
    assert result["splash_kernels"] >= 2  # forward and backward
    state = 4 * 3 * result["parameters"] / 4
    # Parameters and Adam's two, split over the chips; narrow shards are rounded up to the lanes of a register.
    assert state < result["argument_bytes"] < 2 * state
    assert result["argument_bytes"] < result["peak_bytes"] < 2**30
    # What is in the file is not compiled again.
    assert _run(*options).stdout == json.dumps(result, indent=1) + "\n"


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
