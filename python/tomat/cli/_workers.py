"""Options of the commands that do one thing to many items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tomat.engine.crew import Crew


def crew_options(
    engine: Annotated[
        str, typer.Option(help="Where workers run: local (processes on this machine) or ray (Ray tasks).")
    ] = "local",
    workers: Annotated[
        int,
        typer.Option(
            help="Workers at a time; they share the processors.  [default: this process alone]", min=1
        ),
    ] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster: auto or host:port.  [default: start one]")
    ] = None,
) -> Crew | None:
    """Several workers, for :func:`tomat.cli._shared.grouped`; None if this process does it all.

    Raises:
        KeyError: an unknown engine.
        ValueError: its package is not installed.
    """
    if engine == "local" and workers == 1:
        return None
    from tomat.engine.crew import Crew
    from tomat.engine.named import engine_of

    return Crew(engine_of(engine, ray_address), workers)
