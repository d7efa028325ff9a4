"""Engines by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tomat.engine.processes import ProcessEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.engine.job import Engine


@dataclass(frozen=True)
class EngineOptions:
    """What some engines want to know.

    Attributes:
        ray_address: the Ray cluster, ``auto`` or ``host:port``; one of its own where None.
        modal_app: the name under which the Modal functions were deployed.
    """

    ray_address: str | None = None
    modal_app: str = "tomat-tokenize"


def _ray(options: EngineOptions) -> Engine:
    from tomat.engine.ray import RayEngine

    return RayEngine(options.ray_address)


def _modal(options: EngineOptions) -> Engine:
    from tomat.engine.modal import ModalEngine

    return ModalEngine(options.modal_app)


#: Engines by name; Ray and Modal are imported only when they are asked for.
ENGINES: dict[str, Callable[[EngineOptions], Engine]] = {
    "local": lambda _options: ProcessEngine(),
    "ray": _ray,
    "modal": _modal,
}


def engine_of(name: str, options: EngineOptions) -> Engine:
    """The engine of a name.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
        ValueError: the package of the engine is not installed.
    """
    if name not in ENGINES:
        raise KeyError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name](options)
