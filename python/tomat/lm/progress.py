"""What a person sees of a run while it trains: a bar on a terminal, a line every so many steps elsewhere."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.tracker.tracker import NoopTracker
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

_LOGGER = logging.getLogger(__name__)
#: Lines of a run, about, if not configured.
_LINES = 25
#: The last metric that the trainer logs of a step.
_END_OF_STEP = "throughput/loading_time"


@dataclass(frozen=True)
class ProgressConfig:
    """How a run is told of while it goes on.

    Attributes:
        every: steps between two lines where no terminal shows a bar, and in ``train.log``; None is 1/25 of the run,
            rounded up to 1, 2 or 5 times a power of ten.
    """

    every: int | None = None

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ValueError: it is below 1.
        """
        if self.every is not None and self.every < 1:
            raise ValueError(f"progress.every = {self.every}: give at least 1")

    def steps(self, total: int) -> int:
        """Steps between two lines of a run of ``total`` steps."""
        if self.every is not None:
            return self.every
        found, power = max(1, -(-total // _LINES)), 1
        while 10 * power < found:
            power *= 10
        return next(part * power for part in (1, 2, 5, 10) if part * power >= found)


@dataclass(frozen=True)
class HeldOut:
    """What an evaluation found on held-out data, in words; see :meth:`Progress.log`.

    Attributes:
        bits: per voxel; None if the evaluation has none.
        unigram: bits per voxel of a model that knows only how frequent the levels are.
        nmae: of the median, as a fraction.
        promolecule: NMAE of the starting density.
    """

    bits: float | None
    unigram: float | None
    nmae: float | None
    promolecule: float | None

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> HeldOut | None:
        """What metrics named ``eval/...`` say; None if they have neither bits nor NMAE."""

        def ending(*endings: str) -> float | None:
            names = (name for end in endings for name in metrics if name.endswith(end))
            return next((float(metrics[name]) for name in names if name.startswith("eval/")), None)

        found = cls(
            ending("/bits_per_voxel"),
            ending("eval/unigram_bits_per_voxel"),
            ending("/nmae_median"),
            ending("eval/promolecule/nmae"),
        )
        return None if found.bits is None and found.nmae is None else found

    def words(self, start: HeldOut | None) -> str:
        """The numbers beside those of the start and of what knows less."""
        parts = []
        beside: dict[str, float | None]
        if self.bits is not None:
            beside = {"start": start.bits if start else None, "unigram": self.unigram}
            parts.append(f"{self.bits:.3f} bits a voxel{_beside(beside, '.3f')}")
        if self.nmae is not None:
            beside = {"start": start.nmae if start else None, "promolecule": self.promolecule}
            parts.append(f"NMAE {100 * self.nmae:.3f} %{_beside(beside, '.3f', ' %', 100)}")
        return ", ".join(parts)


def _beside(numbers: Mapping[str, float | None], form: str, unit: str = "", factor: float = 1) -> str:
    known = [f"{name} {factor * value:{form}}{unit}" for name, value in numbers.items() if value is not None]
    return f" ({', '.join(known)})" if known else ""


class Pace:
    """Seconds a step, evaluations and checkpoints included, and the time left.

    The first step of a process is left out: it is compiled.

    Args:
        total: steps of the run.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None
        self._seconds: float | None = None
        self._done = 0

    def done(self, steps: int, now: float) -> None:
        """Note that ``steps`` steps of the run are done at a time in seconds."""
        self._done = steps
        if self._first is None:
            self._first = (steps, now)
        elif steps > self._first[0]:
            self._seconds = (now - self._first[1]) / (steps - self._first[0])

    @property
    def left(self) -> float | None:
        """Seconds left; None until two steps are done."""
        return None if self._seconds is None else self._seconds * (self._total - self._done)


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2 d 03 h`` from a day on."""
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def short(value: float) -> str:
    """Three digits and a prefix: ``6.41k``."""
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{name}"
    return f"{value:.3g}"


class RunProgress(NoopTracker):
    """A tracker that shows what is logged; all lines also go to the run's log.

    Args:
        console: where to; on a terminal a bar with lines above it, else lines. None: nowhere.
        name: of the run.
        total: steps of the run.
        every: steps between two lines.
        earlier: lines of the run's metrics from before, which have its start.

    Attributes:
        unit: of the throughput, as the task names it.
    """

    name = "progress"

    def __init__(
        self,
        console: Console | None,
        name: str,
        total: int,
        *,
        every: int,
        earlier: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._console, self._run, self._total, self._every = console, name, total, every
        self.unit = "tokens"
        self._pace = Pace(total)
        self._start = next((found for line in earlier if (found := HeldOut.of(line)) is not None), None)
        self._held_out: str | None = None
        self._step: dict[str, float] = {}
        self._bar: _Bar | None = None
        if console is not None and console.is_terminal and not console.is_dumb_terminal:
            self._bar = _Bar(console, name, total)

    def restart(self) -> None:
        """Forget the start of an earlier attempt that left no checkpoint."""
        self._start = None

    def say(self, text: str) -> None:
        """Say what is going on before there are numbers."""
        if self._bar is None:
            self._line(text)
        else:
            _LOGGER.info(text)
            self._bar.show(None, text)

    def log(self, metrics: Mapping[str, Any], *, step: int | None, commit: bool | None = None) -> None:
        """Show an evaluation at once, and a step when all of it is logged."""
        del commit
        if step is None:
            return
        found = HeldOut.of(metrics)
        if found is not None:
            # Step 0 is evaluated before it is done, all others after.
            done = step + 1 if self._step else step
            self._held_out = found.words(self._start)
            self._line(f"held out, step {done:,}: {self._held_out}")
            self._start = self._start or found
        names = ("train/loss", "train/bits_per_voxel", "throughput/tokens_per_second")
        self._step.update({name: float(metrics[name]) for name in names if name in metrics})
        if _END_OF_STEP in metrics and "train/loss" in self._step:
            self._show(step + 1)

    def _show(self, done: int) -> None:
        self._pace.done(done, time.monotonic())
        numbers, self._step = self._step, {}
        words = self._words(numbers)
        line = f"step {done:,} of {self._total:,}: {words}"
        if done % self._every == 0 or done == self._total:
            if self._bar is None:
                self._line(line)
            else:
                _LOGGER.info(line)
        if self._bar is not None:
            lines = [words] if self._held_out is None else [words, f"held out: {self._held_out}"]
            self._bar.show(done, "\n".join(lines))

    def _words(self, numbers: Mapping[str, float]) -> str:
        parts = [f"loss {numbers['train/loss']:.4g}"]
        if "train/bits_per_voxel" in numbers:
            parts.append(f"{numbers['train/bits_per_voxel']:.3f} bits a voxel")
        left = self._pace.left
        if left is not None:  # the first step of a process is compiled, and its time says nothing
            parts.append(f"{short(numbers['throughput/tokens_per_second'])} {self.unit}/s")
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        _LOGGER.info(text)
        if self._console is not None:
            self._console.print(f"{self._run}: {text}", markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


class _Bar:
    """A bar with steps, and below it a line of numbers."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task(name, total=total)
        self._live = Live(console=console, transient=True, refresh_per_second=4)
        self.show(None, "")
        self._live.start()

    def show(self, done: int | None, text: str) -> None:
        if done is not None:
            self._progress.update(self._task, completed=done)
        self._live.update(Group(self._progress, Text(text, overflow="fold")))

    def stop(self) -> None:
        self._live.stop()
