"""Engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tomat.engine.processes import ProcessEngine

if TYPE_CHECKING:
    from tomat.engine.job import Engine


def engine_of(
    name: Literal["local", "ray", "modal"],
    *,
    ray_address: str | None = None,
    modal_app: str = "tomat-tokenize",
) -> Engine:
    """The engine of a name; Ray and Modal are imported only if needed.

    Raises:
        ValueError: the package of the engine is not installed.
    """
    if name == "ray":
        from tomat.engine.ray import RayEngine

        return RayEngine(ray_address)
    if name == "modal":
        from tomat.engine.modal import ModalEngine

        return ModalEngine(modal_app)
    return ProcessEngine()
