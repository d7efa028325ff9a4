"""One set of options of predictions: checked once, with one default and one help in every command."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from runs import LABEL, tomat_main
from tomat.prediction.options import DecodingConfig


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"mode": "clairvoyant"}, "mode 'clairvoyant' is not one of one_pass, k_pass"),
        ({"estimate": "guess"}, "estimate 'guess' is not one of median"),
        ({"weights": "worst"}, "weights 'worst' is not one of best"),
        ({"passes": 0}, "passes = 0 must be at least 1"),
        ({"samples": -1}, "samples = -1 must be at least 1"),
        ({"batch_size": 0}, "batch_size = 0 must be at least 1"),
        ({"temperature": float("nan")}, "temperature = nan must be at least 0"),
        ({"nucleus": 0.0}, r"nucleus = 0.0 in \(0, 1\]"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        DecodingConfig(**options)


def test_what_means_nothing_in_a_mode_is_no_part_of_what_densities_depend_on() -> None:
    def identity(**options: Any) -> dict[str, Any]:
        return DecodingConfig(**options).identity()

    assert identity(mode="one_pass", passes=3, samples=4) == identity(mode="one_pass")
    assert identity(mode="k_pass", passes=3) != identity(mode="k_pass")
    assert identity(mode="free_running", samples=4) != identity(mode="free_running")
    assert identity(batch_size=3, weights="start") == identity()
    assert DecodingConfig(passes=3, seed=0).given() == {"passes": 3}


@pytest.mark.parametrize(
    ("name", "own"), [("predict", set()), ("eval", {"mode"}), ("probe", {"seed"}), ("export", None)]
)
def test_commands_share_the_options(name: str, own: set[str] | None) -> None:
    import importlib

    command = inspect.signature(importlib.import_module(f"tomat.cli.{name}").command).parameters
    shared = {f.name for f in fields(DecodingConfig)} - own if own is not None else {"weights"}
    for f in fields(DecodingConfig):
        if f.name in shared:
            (option,) = command[f.name].annotation.__metadata__
            assert (command[f.name].default, option.help) == (f.default, f.metadata["help"])
    assert "decoding" not in command


def test_the_command_line_refuses_what_the_options_do(tmp_path: Any) -> None:
    silicon = LABEL / "qe-0039.zarr"
    done = tomat_main("predict", "promolecule", silicon, "-o", tmp_path, "--passes", 0)
    assert (done.code, done.err.strip()) == (1, "error: passes = 0 must be at least 1")
    done = tomat_main("eval", "promolecule", LABEL, "-o", tmp_path / "r", "--samples", 0)
    assert (done.code, done.err.strip()) == (1, "error: samples = 0 must be at least 1")
