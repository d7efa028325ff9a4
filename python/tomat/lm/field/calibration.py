"""Widths of a field model's distributions, brought to the errors that it makes on held-out crystals.

Widths are learned on training crystals, where errors are smaller than on others. One factor makes up for most of it:
the one with the fewest bits per voxel on the validation crystals. Medians hardly change.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.optimize import minimize_scalar

from tomat._seal import check_seal, sealed
from tomat.lm.record import SEAL
from tomat.storage.files import read_json, write_indented
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable

#: File of a run: the factor of its weights after each evaluated number of steps.
FILE = "calibration.json"
#: Range of the factor, and precision of its logarithm.
SMALLEST, LARGEST, PRECISION = 0.25, 64.0, 0.02


def best_factor(bits: Callable[[float], float]) -> float:
    """The factor of the widths with the fewest bits per voxel, by Brent's method on its logarithm."""
    found = minimize_scalar(
        lambda log: bits(math.exp(log)),
        bounds=(math.log(SMALLEST), math.log(LARGEST)),
        method="bounded",
        options={"xatol": PRECISION},
    )
    return math.exp(float(found.x))


def write_factor(run: str, steps: int, factor: float) -> None:
    """Add the factor of the weights after ``steps`` steps to the file of a run, a folder or URL.

    Raises:
        ValueError: the file is damaged.
    """
    write_indented(_file(run), sealed({"widths": {**_factors(run), str(steps): factor}}, SEAL))


def read_factor(run: str, steps: int) -> float:
    """The factor of the weights of a run after ``steps`` steps; 1 if they were not evaluated.

    Raises:
        ValueError: the file is damaged.
    """
    return _factors(run).get(str(steps), 1.0)


def _file(run: str) -> str:
    return f"{run}/{FILE}"


def _factors(run: str) -> dict[str, float]:
    file = place(_file(run))
    if not file.exists():
        return {}
    content = read_json(file)
    check_seal(content, SEAL, file)
    return dict(content["widths"])
