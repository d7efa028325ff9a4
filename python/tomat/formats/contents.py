"""What a reader in Python finds in a file or folder."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Contents(NamedTuple):
    """What a file or folder holds, in the terms of :class:`tomat.Material`."""

    lattice: NDArray[np.float64]
    atomic_numbers: list[int]
    frac_coords: NDArray[np.float64]
    density: NDArray[np.float32]
    unit: str
    source: dict[str, Any]
