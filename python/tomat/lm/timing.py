"""How long the steps of a run take on this machine: some of them are timed, where that takes seconds."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
from levanter.tracker.tracker import NoopConfig
from levanter.trainer import Trainer

if TYPE_CHECKING:
    from tomat.lm.config import TrainConfig
    from tomat.lm.task import Task

#: Seconds that a step may take by the rate of matrix products to be timed, and that all timed steps may take.
_AFFORDED, _ENOUGH = 20.0, 60.0
#: Rows and columns of the matrices by which a device is timed.
_SIZE = 1024

type How = Literal["steps", "rows", "products"]
_WORDS: dict[How, str] = {
    "steps": "{timed} steps timed after compilation",
    "rows": "{timed} steps of one row a device timed after compilation, times the rows of the batch",
    "products": "not timed: from the rate of matrix products alone, so at least",
}


@dataclass(frozen=True)
class MachineTime:
    """Time of a run's steps on the devices of this machine, without evaluations and checkpoints.

    Attributes:
        seconds: a step.
        how: ``steps``: whole steps were timed; ``rows``: steps of one row a device, times the rows of a batch;
            ``products``: only matrix products were timed, so this is the least that a step can take.
        timed: number of timed steps.
        steps: of the run.
        devices: number and kind of the devices.
    """

    seconds: float
    how: How
    timed: int
    steps: int
    devices: tuple[int, str]

    @property
    def hours(self) -> float:
        """Of the run."""
        return self.seconds * self.steps / 3600

    def as_json(self) -> dict[str, Any]:
        """The time as JSON."""
        return {**asdict(self), "hours": self.hours}

    def __str__(self) -> str:
        count, kind = self.devices
        least = ">= " if self.how == "products" else ""
        how = _WORDS[self.how].format(timed=self.timed)
        return (
            f"  here: {least}{self.hours:.3g} h, {least}{self.seconds:.3g} s a step on {count} x {kind} ({how}; "
            "evaluations and checkpoints not included)"
        )


def time_here(config: TrainConfig, task: Task, timed: int, memory: float) -> MachineTime | None:
    """Time steps of a run on this machine; nothing is written.

    Whole steps are timed if the rate of matrix products and the free memory let expect that it is a matter of seconds,
    else steps of one row a device, else none.

    Args:
        config: of the run.
        task: its model and data.
        timed: steps to time, after a first one that is compiled.
        memory: estimated bytes of a step.

    Returns:
        The time; None if ``timed`` is 0.
    """
    if timed < 1:
        return None
    devices = jax.devices()
    total, rows = config.trainer.num_train_steps, config.trainer.train_batch_size
    found = (len(devices), devices[0].device_kind)
    rate = _rate_of_products(config.trainer.mp.compute_dtype) * len(devices)
    step = task.flops * rows / rate
    room = _free_memory()
    if step <= _AFFORDED and memory < room:
        seconds, n = _time_steps(config, task, rows, timed)
        return MachineTime(seconds, "steps", n, total, found)
    share = rows / len(devices)
    if step / share <= _AFFORDED and memory / share < room:
        seconds, n = _time_steps(config, task, len(devices), timed)
        return MachineTime(seconds * share, "rows", n, total, found)
    return MachineTime(step, "products", 0, total, found)


def _time_steps(config: TrainConfig, task: Task, rows: int, timed: int) -> tuple[float, int]:
    """Median seconds of a step with its data, and the number of timed steps; the first is left out."""
    whole = rows == config.trainer.train_batch_size
    changes: dict[str, Any] = {
        "train_batch_size": rows,
        "per_device_parallelism": config.trainer.per_device_parallelism if whole else -1,
        "tracker": NoopConfig(),
        "load_checkpoint": False,
        "initialize_from": None,
    }
    trainer_config = replace(config.trainer, **changes)
    optimizer = config.optimizer.build(config.trainer.num_train_steps)
    key = jax.random.PRNGKey(config.trainer.seed)
    with Trainer(trainer_config, optimizer, task.loss, add_default_hooks=False) as trainer:
        state = trainer.initial_state(key, model_init=lambda: task.build(key))
        loader = iter(
            task.examples()
            .loader(
                trainer,
                rows,
                buffered=config.loader.buffered_batches,
                fetched=config.loader.fetched_together,
            )
            .iter_from_step(0)
        )
        seconds: list[float] = []
        for step in range(timed + 1):
            begun = time.monotonic()
            state = trainer.train_step(state, next(loader)).state
            if step:
                seconds.append(time.monotonic() - begun)
            if sum(seconds) > _ENOUGH:
                break
    return statistics.median(seconds), len(seconds)


def _rate_of_products(dtype: Any) -> float:
    """FLOP/s of one device in products of matrices."""
    a = jnp.ones((_SIZE, _SIZE), dtype)
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    best = 0.0
    for _ in range(3):
        begun = time.perf_counter()
        product(a).block_until_ready()
        best = max(best, 2 * _SIZE**3 / (time.perf_counter() - begun))
    return best


def _free_memory() -> float:
    """Bytes that this process can still have, of the device if it says so."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
