"""Several workers of an engine, for commands that do one thing to many items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tomat.engine.items import Lost, Work
    from tomat.engine.job import Engine


@dataclass(frozen=True)
class Crew:
    """Workers.

    Attributes:
        engine: where they are.
        workers: how many at a time.
    """

    engine: Engine
    workers: int

    def each[S, R](self, work: Work[S, R], items: Sequence[S]) -> Generator[tuple[int, R | Lost]]:
        """See :meth:`tomat.engine.Engine.each`."""
        return self.engine.each(work, items, self.workers)
