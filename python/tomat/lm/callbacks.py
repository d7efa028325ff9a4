"""Hooks that watch a training run: loss spikes and NaN, signals, device memory."""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import levanter.tracker
from jax.experimental import multihost_utils
from levanter.checkpoint import CheckpointRetention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from levanter.callbacks import StepInfo
    from levanter.trainer import Trainer


@dataclass(frozen=True)
class GuardConfig:
    """When training stops by itself.

    Attributes:
        spike_factor: stop if the loss exceeds this many times the median of the last ``window`` ones; None: never.
        window: number of losses in the median.
    """

    spike_factor: float | None = 5.0
    window: int = 50


class TrainingLossError(RuntimeError):
    """The loss is NaN, infinite or spiked; the message names the rows of the batch."""


class StoppedError(RuntimeError):
    """The run was asked to stop and saved its state; the same command resumes it."""


class EndOfStep:
    """Holds an error of a hook until the step is over, so that all metrics of the step are logged."""

    def __init__(self) -> None:
        self._error: TrainingLossError | StoppedError | None = None

    def holds(self) -> bool:
        """Whether the run stops after this step."""
        return self._error is not None

    def held(self, hook: Callable[[StepInfo[Any]], None]) -> Callable[[StepInfo[Any]], None]:
        """Wrap a hook: its error waits for :meth:`raise_held`; it is skipped once one is held."""

        def run(info: StepInfo[Any]) -> None:
            if self._error is None:
                try:
                    hook(info)
                except (TrainingLossError, StoppedError) as error:
                    self._error = error

        return run

    def raise_held(self) -> None:
        """Raise the held error, at the end of a step.

        Raises:
            TrainingLossError, StoppedError: the run stops.
        """
        if self._error is not None:
            raise self._error


class LossGuard:
    """Stops a run whose loss spikes or is not finite.

    Args:
        config: threshold of a spike.
        row_ids: gives the ids of the rows in a step's batch.
        nan, inf: whether to stop at a NaN, or infinite, loss.
    """

    def __init__(
        self,
        config: GuardConfig,
        row_ids: Callable[[int], Sequence[str]],
        *,
        nan: bool = True,
        inf: bool = True,
    ) -> None:
        self._nan, self._inf = nan, inf
        self._factor = config.spike_factor
        self._losses: deque[float] = deque(maxlen=config.window)
        self._row_ids = row_ids

    def __call__(self, info: StepInfo[Any]) -> None:
        """Check the loss of a step.

        Raises:
            TrainingLossError: it spiked or is not finite.
        """
        loss = float(info.loss)
        if (self._nan and math.isnan(loss)) or (self._inf and math.isinf(loss)):
            word = "NaN" if math.isnan(loss) else "Inf"
            raise TrainingLossError(f"step {info.step}: Loss is {word}. {self.rows_of(int(info.step))}")
        if self._factor is not None and len(self._losses) == self._losses.maxlen:
            usual = statistics.median(self._losses)
            if usual > 0 and loss > self._factor * usual:
                raise TrainingLossError(
                    f"step {info.step}: the loss jumped to {loss:.6g}, {loss / usual:.3g} times the median {usual:.6g} "
                    f"of the last {len(self._losses)} steps (guard.spike_factor = {self._factor:g}). "
                    + self.rows_of(int(info.step))
                )
        self._losses.append(loss)

    def rows_of(self, step: int) -> str:
        """The rows of a step's batch, in words."""
        names = list(self._row_ids(step))
        shown = ", ".join(names[:16])
        more = f" and {len(names) - 16} more" if len(names) > 16 else ""
        return f"Rows of the batch: {shown}{more}"


class StopRequest:
    """On SIGTERM or SIGINT finish the step, save, and stop; a second signal ends the process at once.

    With several processes, all stop at the same step, whichever received the signal.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._saving = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals within the context; outside the main thread, where Python cannot, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Several processes: the distributed runtime listens for SIGTERM itself and agrees on a step.
        signals = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._ask) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _frame: Any) -> None:
        if self._asked is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked = number

    def hook(self, trainer: Trainer) -> Callable[[StepInfo[Any]], None]:
        """Once a stop is requested, have the next step saved, and end the run after it."""

        def check(info: StepInfo[Any]) -> None:
            if self._saving:
                raise StoppedError(f"stopped after step {int(info.step)}; its state is saved")
            if self._is_asked(int(info.step)):
                trainer.request_checkpoint(CheckpointRetention.TEMPORARY)
                self._saving = True

        return check

    def _is_asked(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self._asked is not None
        return bool(multihost_utils.reached_preemption_sync_point(step))


def log_memory(info: StepInfo[Any]) -> None:
    """Log the device memory in use and its peak in GiB, if the device reports them."""
    stats = jax.local_devices()[0].memory_stats()
    if not stats:
        return
    names = {"bytes_in_use": "memory/in_use_gib", "peak_bytes_in_use": "memory/peak_gib"}
    found = {names[key]: stats[key] / 2**30 for key in names if key in stats}
    if found:
        levanter.tracker.log(found, step=int(info.step))
