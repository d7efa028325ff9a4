"""Results with errors that are known beforehand, for tests of what is made of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tomat
from runs import LABEL
from tomat.evaluate.methods import Method, Predicted
from tomat.evaluate.result import Result
from tomat.evaluate.run import Evaluation, evaluate
from tomat.material import Entry

SMALL = ("qe-0211", "qe-0003", "vasp-mp-2300242", "qe-0040", "qe-0048")
ENTRIES = [Entry(name, str(LABEL / f"{name}.zarr")) for name in SMALL]


class Scaled(Method):
    """A method that gives the truth with an error of its own for each material: known NMAE everywhere."""

    mode: Any = "one_pass"

    def __init__(self, errors: dict[str, float], **about: Any) -> None:
        self.errors, self.about, self.calls = errors, about, 0

    def identity(self) -> dict[str, Any]:
        return {"scaled": self.errors, **self.about}

    def predict(self, material: tomat.Material) -> Predicted:
        self.calls += 1
        factor = 1.0 + self.errors[material.task_id]
        return Predicted(material.density.astype(np.float64) * factor, material.unit, 0.5)


class Begun(Scaled):
    """What it began with."""

    mode: Any = "start"


def scaled(
    folder: Path, errors: dict[str, float], start: dict[str, float] | None = None, **about: Any
) -> Result:
    """A result with these NMAEs, and those of its start."""
    entries = [entry for entry in ENTRIES if entry.task_id in errors]
    methods: list[Method] = [Scaled(errors, **about)]
    if start is not None:
        methods.append(Begun(start))
    return evaluate(Evaluation(methods, entries, "chgcar", {}, folder.name, pictures=0), folder)
