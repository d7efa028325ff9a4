"""The kinds of models that can be trained."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tomat.lm.brick.task import BrickTask
from tomat.lm.dry_run import estimate
from tomat.lm.field.dry_run import estimate_field
from tomat.lm.field.task import FieldTask
from tomat.lm.token_task import TokenTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.config import TrainConfig
    from tomat.lm.dry_run import Estimate
    from tomat.lm.field.dry_run import FieldEstimate
    from tomat.lm.task import Task

#: Opens the task of a configuration, by ``model.kind``.
TASKS: dict[str, Callable[[TrainConfig], Task]] = {
    "transformer": TokenTask.open,
    "field": FieldTask.open,
    "brick": BrickTask.open,
}
#: Estimates a run without training, by ``model.kind``.
ESTIMATES: dict[str, Callable[..., Estimate | FieldEstimate]] = {
    "transformer": estimate,
    "field": estimate_field,
    "brick": functools.partial(estimate_field, opened=BrickTask.open),
}


def open_task(config: TrainConfig) -> Task:
    """The task of a configuration, with its data open.

    Raises:
        OSError, KeyError, ValueError: an unknown kind, or data that cannot be opened or do not fit.
    """
    return TASKS[_kind(config)](config)


def estimate_task(config: TrainConfig, *, mfu: float, timed: int = 0) -> Estimate | FieldEstimate:
    """Sizes, memory, FLOPs and times of a run, without training.

    Args:
        config: of the run.
        mfu: assumed model FLOPs utilisation.
        timed: steps to time on this machine; with 0 nothing is compiled.

    Raises:
        OSError, KeyError, ValueError: as :func:`open_task`, or ``mfu`` is not a fraction.
    """
    return ESTIMATES[_kind(config)](config, mfu=mfu, timed=timed)


def _kind(config: TrainConfig) -> str:
    kind = config.model.kind
    if kind not in TASKS:
        raise ValueError(f"model.kind = {kind!r} is not known; one of {', '.join(TASKS)}")
    return kind
