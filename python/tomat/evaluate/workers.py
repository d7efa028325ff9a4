"""Measure materials by several workers; what they send is as small as what is kept of a material."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tomat.engine.items import Lost
from tomat.evaluate.run import failed_part, measured

if TYPE_CHECKING:
    from tomat.engine.crew import Crew
    from tomat.engine.items import Do
    from tomat.evaluate.methods import Method
    from tomat.evaluate.run import Measured
    from tomat.evaluate.volumes import Gallery, Picture
    from tomat.material import Entry

    type Found = tuple[dict[str, Any], Sequence[Picture | None]]


@dataclass(frozen=True)
class EvaluationWork:
    """The work of one worker: it opens the methods once; materials come in, their parts go out.

    Attributes:
        opener: opens the methods, and says in which unit their numbers are.
        identity: of each method by its mode, as it was when the evaluation began.
        gallery: knows the materials that were measured before; a material that ranks among all ranks here, too.
    """

    opener: Callable[[], tuple[Sequence[Method], str]]
    identity: dict[str, dict[str, Any]]
    gallery: Gallery

    def open(self) -> Do[Entry, Found]:
        """Open the methods.

        Raises:
            ValueError, OSError: they cannot be opened, or they are others by now.
        """
        methods, unit = self.opener()
        if identities(methods) != self.identity:
            raise ValueError(
                "the checkpoint has changed since the evaluation began (does its training go on?); evaluate one of its "
                "checkpoints, or wait"
            )

        def do(items: Iterator[tuple[int, Entry]], tell: Callable[[int, Found], None]) -> None:
            numbers = deque[int]()

            def entries() -> Iterator[Entry]:
                for number, entry in items:
                    numbers.append(number)
                    yield entry

            for _, part, pictures in measured(methods, unit, self.gallery, entries()):
                tell(numbers.popleft(), (part, pictures))

        return do


def identities(methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """The identity of each method by its mode."""
    return {method.mode: method.identity() for method in methods}


@dataclass(frozen=True)
class CrewMeasure:
    """A :data:`tomat.evaluate.run.Measure` by the workers of a crew.

    A material whose worker dies each time is one that failed.

    Attributes:
        crew: the workers.
        opener: opens the methods in each worker; it is pickled.
        identity: see :class:`EvaluationWork`.
    """

    crew: Crew
    opener: Callable[[], tuple[Sequence[Method], str]]
    identity: dict[str, dict[str, Any]]

    def __call__(self, gallery: Gallery, entries: Sequence[Entry]) -> Iterator[Measured]:
        """Yield materials as they are measured.

        Raises:
            ValueError: methods that cannot be opened.
            OSError: workers die before they begin.
        """
        work = EvaluationWork(self.opener, self.identity, gallery)
        with contextlib.closing(self.crew.each(work, entries)) as results:
            for number, result in results:
                entry = entries[number]
                if isinstance(result, Lost):
                    yield entry, failed_part(entry, str(result)), ()
                else:
                    yield entry, *result
