"""Estimate the size, memory and time of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from tomat.clipping import ClippedTotals
from tomat.lm.model.flops import GIB, SHOWN, StepFlops, check_mfu, hours_of, peak_and_memory, time_lines
from tomat.lm.model.memory import OPTIMIZER_SLOTS, StepMemory, step_memory
from tomat.lm.model.presets import ParameterCount, parameter_count
from tomat.lm.timing import MachineTime, time_here
from tomat.lm.token_task import TokenTask, training_flops
from tomat.lm.vocabulary import ModelVocabulary

if TYPE_CHECKING:
    from tomat.lm.config import TrainConfig


@dataclass(frozen=True)
class Estimate:
    """Sizes and times of a run.

    Attributes:
        config: the run.
        vocabulary: ids of its model.
        parameters: of its model.
        flops: of a step.
        memory: of a device.
        rows: counts of an epoch of the data.
        devices: number and kind of this machine's devices.
        mfu: assumed model FLOPs utilisation, 0 to 1.
        here: time on this machine; None if it was not timed.
    """

    config: TrainConfig
    vocabulary: ModelVocabulary
    parameters: ParameterCount
    flops: StepFlops
    memory: StepMemory
    rows: dict[str, Any]
    devices: tuple[int, str]
    mfu: float
    here: MachineTime | None = None

    @property
    def tokens(self) -> int:
        """Total tokens of the run, padding included."""
        return self.flops.tokens * self.config.trainer.num_train_steps

    def hours(self, kind: str) -> float | None:
        """Hours of the run on one device of a kind; None if its peak is not known."""
        return hours_of(self.flops.model * self.config.trainer.num_train_steps, self.mfu, kind)

    def as_json(self) -> dict[str, Any]:
        """The estimate as JSON."""
        count, kind = self.devices
        kinds = [*SHOWN, *([kind] if peak_and_memory(kind)[0] else [])]
        return {
            "run": self.config.files.root,
            "batch": [self.config.trainer.train_batch_size, self.config.model.shape().seq_len],
            "vocabulary": {"size": self.vocabulary.size, "rows": self.vocabulary.padded_size},
            "parameters": self.parameters.total,
            "data": self.rows,
            "epochs": self.config.trainer.num_train_steps
            * self.config.trainer.train_batch_size
            / self.rows["rows"],
            "tokens": self.tokens,
            "flops_per_step": self.flops.model,
            "flops": self.flops.model * self.config.trainer.num_train_steps,
            "memory_gib": dict(self.memory.rows()),
            "devices": {"count": count, "kind": kind},
            "mfu": self.mfu,
            "device_hours": {name: self.hours(name) for name in kinds},
            "here": None if self.here is None else self.here.as_json(),
        }

    def __str__(self) -> str:
        facts = self.as_json()
        shape = self.config.model.shape()
        count, kind = self.devices
        room = peak_and_memory(kind)[1]
        lines = [
            f"run         {facts['run']}, {self.config.trainer.num_train_steps:,} steps",
            f"batch       {facts['batch'][0]} rows of {shape.seq_len:,} tokens",
            f"vocabulary  {self.vocabulary.size:,} ids, {self.vocabulary.padded_size:,} rows of the embedding",
            f"model       {self.config.model.preset}: {self.parameters}",
            f"data        {self.rows['materials']:,} materials, {self.rows['rows']:,} rows per epoch, "
            f"{self.rows['fill']:.0%} of positions filled; {facts['epochs']:.3g} epochs",
            *(f"  left out  {count:,} {reason}" for reason, count in self.rows["left_out"].items()),
            f"  clipped   {ClippedTotals.from_stored(self.rows['clipped'])}",
            f"tokens      {self.tokens:.4g}",
            f"FLOPs       {self.flops.model:.4g} per step, {facts['flops']:.4g} in total; "
            f"{self.flops.hardware / self.flops.model - 1:.0%} more for recomputation",
            f"memory      estimated per device ({count} of {kind} here"
            + (f", {room / GIB:.4g} GiB each):" if room else "):"),
            *(f"  {name:<10}{size:8.2f} GiB" for name, size in self.memory.rows()),
            *time_lines(self.mfu, facts["device_hours"]),
            *([] if self.here is None else [str(self.here)]),
        ]
        return "\n".join(lines)


def estimate(config: TrainConfig, *, mfu: float = 0.4, timed: int = 0) -> Estimate:
    """Estimate a run from its data and configuration; writes only the data cache.

    Args:
        config: of the run.
        mfu: assumed model FLOPs utilisation.
        timed: steps to time on this machine; with 0 nothing is compiled.

    Raises:
        OSError, KeyError, ValueError: the data cannot be opened, or the configuration is invalid.
    """
    check_mfu(mfu)
    task = TokenTask.open(config)
    rows = task.rows
    vocabulary = ModelVocabulary(rows.tokenizer)
    shape = config.model.shape()
    devices = jax.device_count()
    at_a_time = config.trainer.per_device_parallelism
    whole = -(-config.trainer.train_batch_size // devices)
    optimizer = config.optimizer.get_choice_name(type(config.optimizer))
    density = vocabulary.density
    memory = step_memory(
        shape,
        vocabulary.padded_size,
        rows_at_a_time=at_a_time if at_a_time > 0 else whole,
        devices=devices,
        optimizer=optimizer if optimizer in OPTIMIZER_SLOTS else "adam",
        average=config.trainer.model_averaging is not None,
        micro_batches=0 < at_a_time < whole,
        head_ids=None if config.loss.over_all_ids else density.stop - density.start,
        block_size=config.loss.block_size,
    )
    return Estimate(
        config,
        vocabulary,
        parameter_count(shape, vocabulary.padded_size),
        training_flops(config, vocabulary, rows),
        memory,
        rows.counts,
        (devices, jax.devices()[0].device_kind),
        mfu,
        time_here(config, task, timed, memory.total),
    )
