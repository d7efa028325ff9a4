"""The kinds of models that can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomat.lm.field.task import FieldTask
from tomat.lm.token_task import TokenTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.config import TrainConfig
    from tomat.lm.task import Task

#: Opens the task of a configuration, by ``model.kind``.
TASKS: dict[str, Callable[[TrainConfig], Task]] = {"transformer": TokenTask.open, "field": FieldTask.open}


def open_task(config: TrainConfig) -> Task:
    """The task of a configuration, with its data open.

    Raises:
        OSError, KeyError, ValueError: an unknown kind, or data that cannot be opened or do not fit.
    """
    kind = config.model.kind
    if kind not in TASKS:
        raise ValueError(f"model.kind = {kind!r} is not known; one of {', '.join(TASKS)}")
    return TASKS[kind](config)
