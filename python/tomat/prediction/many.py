"""Predict files into a folder by several workers, each of which writes the densities it predicts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tomat.engine.items import Lost
from tomat.prediction.run import Report, RunOptions, RunSummary, Settled, settle_files
from tomat.prediction.structures import name_of

if TYPE_CHECKING:
    from tomat.engine.crew import Crew
    from tomat.engine.items import Do
    from tomat.prediction.predictor import PatchPredictor


@dataclass(frozen=True)
class PredictionWork:
    """The work of one worker: it opens the predictor once; structures come in, records go out.

    Attributes:
        opener: opens the predictor.
        out: the folder, which all workers see.
        suffixes: see :func:`tomat.prediction.outputs.parse_formats`.
        options: of the run.
    """

    opener: Callable[[], PatchPredictor]
    out: Path
    suffixes: tuple[str, ...]
    options: RunOptions

    def open(self) -> Do[str, Settled]:
        """Open the predictor.

        Raises:
            ValueError, OSError: it cannot be opened.
        """
        predictor = self.opener()

        def do(items: Iterator[tuple[int, str]], tell: Callable[[int, Settled], None]) -> None:
            numbers: dict[str, int] = {}

            def paths() -> Iterator[str]:
                for number, path in items:
                    numbers[path] = number
                    yield path

            def settle(one: Settled) -> None:
                tell(numbers.pop(one.path), one)

            settle_files(predictor, paths(), self.out, self.suffixes, self.options, settle)

        return do


def predict_many(
    opener: Callable[[], PatchPredictor],
    structures: Sequence[str],
    out: Path,
    suffixes: tuple[str, ...],
    options: RunOptions,
    crew: Crew,
    report: Report | None = None,
) -> RunSummary:
    """As :func:`tomat.prediction.run.predict_files`, by the workers of ``crew``; the same files and records.

    A structure whose worker dies each time is one that failed.

    Args:
        opener: opens the predictor in each worker; it is pickled.
        structures: see :func:`tomat.prediction.run.expand`.
        out: the folder, which all workers see.
        suffixes: of the files of each prediction.
        options: of the run.
        crew: the workers.
        report: called with each structure that is finished.

    Raises:
        ValueError: inconsistent options, or a predictor that cannot be opened.
        OSError: the folder cannot be written, or workers die before they begin.
    """
    options.check(len(structures))
    if options.like is not None and options.grid is None:
        # Its grid is all that is taken of it; densities do not travel.
        options = replace(options, like=None, grid=options.like.grid_shape)
    started = time.perf_counter()
    settled: dict[int, Settled] = {}
    work = PredictionWork(opener, out.absolute(), suffixes, options)
    with contextlib.closing(crew.each(work, structures)) as results:
        for number, result in results:
            one = Settled(structures[number], error=str(result)) if isinstance(result, Lost) else result
            settled[number] = one
            if report:
                report(len(settled), name_of(one.path), 0.0)
    summary = RunSummary()
    for number in sorted(settled):
        summary.add(settled[number])
    summary.seconds = time.perf_counter() - started
    return summary
