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
        gallery: knows the materials that were measured before; a material that ranks among all ranks here, too.
    """

    opener: Callable[[], tuple[Sequence[Method], str]]
    gallery: Gallery

    def open(self) -> Do[Entry, Found]:
        """Open the methods.

        Raises:
            ValueError, OSError: they cannot be opened.
        """
        methods, unit = self.opener()

        def do(items: Iterator[tuple[int, Entry]], tell: Callable[[int, Found], None]) -> None:
            numbers = deque[int]()

            def entries() -> Iterator[Entry]:
                for number, entry in items:
                    numbers.append(number)
                    yield entry

            for _, part, pictures in measured(methods, unit, self.gallery, entries()):
                tell(numbers.popleft(), (part, pictures))

        return do


@dataclass(frozen=True)
class CrewMeasure:
    """A :data:`tomat.evaluate.run.Measure` by the workers of a crew.

    A material whose worker dies each time is one that failed.

    Attributes:
        crew: the workers.
        opener: opens the methods in each worker; it is pickled.
    """

    crew: Crew
    opener: Callable[[], tuple[Sequence[Method], str]]

    def __call__(self, gallery: Gallery, entries: Sequence[Entry]) -> Iterator[Measured]:
        """Yield materials as they are measured.

        Raises:
            ValueError: methods that cannot be opened.
            OSError: workers die before they begin.
        """
        with contextlib.closing(self.crew.each(EvaluationWork(self.opener, gallery), entries)) as results:
            for number, result in results:
                entry = entries[number]
                if isinstance(result, Lost):
                    yield entry, failed_part(entry, str(result)), ()
                else:
                    yield entry, *result
