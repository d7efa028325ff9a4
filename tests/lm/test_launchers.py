"""Launchers can be read by their shells, and the Modal app is what it says."""

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parent.parent.parent / "training" / "launch"


@pytest.mark.parametrize("name", ["tpu.sh", "gpu.sh"])
def test_a_shell_reads_it_and_it_says_how_to_use_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)
    told = subprocess.run([str(LAUNCH / name)], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert f"training/launch/{name}" in told.stdout
    assert "set -euo" not in told.stdout


def test_an_unknown_slice_and_a_missing_wheel_are_refused_before_anything_is_called() -> None:
    for arguments, words in (
        (["create", "slice", "zone", "v5e-8"], "unknown type v5e-8: v6e-4, v6e-8 or v6e-16"),
        (["install", "slice", "zone", "none.whl"], "none.whl: no such wheel; make one with: make wheel"),
        (["train", "slice", "zone", "none.yaml"], "none.yaml: no such configuration"),
    ):
        told = subprocess.run(
            [str(LAUNCH / "tpu.sh"), *arguments], capture_output=True, text=True, check=False
        )
        assert told.returncode != 0
        assert words in told.stderr


def test_the_modal_app_trains_in_a_volume_and_is_tried_again() -> None:
    modal = pytest.importorskip("modal")
    spec = spec_from_file_location("modal_train", LAUNCH / "modal_train.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.app, modal.App)
    assert module.app.name == "tomat-train"
    assert isinstance(module.train, modal.Function)
    assert module.main.info.function_name == "main"
