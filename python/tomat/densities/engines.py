"""The programs that compute densities, by name. Another one is a module beside ``qe`` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from tomat.densities.base import DensityEngine, EngineOptions
from tomat.densities.qe.engine import QuantumEspresso

ENGINES: dict[str, Callable[[EngineOptions], DensityEngine]] = {"qe": QuantumEspresso}


def open_engine(name: str, options: EngineOptions) -> DensityEngine:
    """The engine of a name.

    Raises:
        ValueError: an unknown name, options that do not fit, or the program is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name](options)
