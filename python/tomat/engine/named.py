"""Engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomat.engine.processes import ProcessEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.engine.job import Engine


def _ray(ray_address: str | None, _modal_app: str) -> Engine:
    from tomat.engine.ray import RayEngine

    return RayEngine(ray_address)


def _modal(_ray_address: str | None, modal_app: str) -> Engine:
    from tomat.engine.modal import ModalEngine

    return ModalEngine(modal_app)


#: Engines by name; Ray and Modal are imported only when they are asked for.
ENGINES: dict[str, Callable[[str | None, str], Engine]] = {
    "local": lambda *_: ProcessEngine(),
    "ray": _ray,
    "modal": _modal,
}


def engine_of(name: str, ray_address: str | None = None, modal_app: str = "tomat-tokenize") -> Engine:
    """The engine of a name.

    Args:
        name: one of :data:`ENGINES`.
        ray_address: the Ray cluster, ``auto`` or ``host:port``; one of its own where None.
        modal_app: the name under which the Modal functions were deployed.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
        ValueError: the package of the engine is not installed.
    """
    if name not in ENGINES:
        raise KeyError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name](ray_address, modal_app)
