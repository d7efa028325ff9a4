"""Estimate the size, memory and time of training a field model; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
from levanter.utils.jax_utils import parameter_count

from tomat.lm.field.task import FieldTask
from tomat.lm.model.flops import GIB, SHOWN, check_mfu, hours_of, peak_and_memory, time_lines
from tomat.lm.model.memory import OPTIMIZER_SLOTS
from tomat.lm.timing import MachineTime, time_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.lm.config import TrainConfig
    from tomat.lm.field.config import FieldShape

_FLOAT = 4


@dataclass(frozen=True)
class FieldEstimate:
    """Sizes and times of a run.

    Attributes:
        config: the run.
        shape: of its model, or of the eyes of a brick model, and of its rows.
        preset: its size by name.
        parameters: of its model.
        materials: training materials.
        crystals_per_step: mean number of crystals in a step.
        flops: of a step.
        memory: bytes by part: weights with optimizer state, and the sums of a batch.
        kind: of this machine's devices.
        mfu: assumed model FLOPs utilisation, 0 to 1.
        here: time on this machine; None if it was not timed.
    """

    config: TrainConfig
    shape: FieldShape
    preset: str
    parameters: int
    materials: int
    crystals_per_step: float
    flops: float
    memory: dict[str, int]
    kind: str
    mfu: float
    here: MachineTime | None = None

    @property
    def total_flops(self) -> float:
        """Of the run."""
        return self.flops * self.config.trainer.num_train_steps

    def hours(self, kind: str) -> float | None:
        """Hours of the run on one device of a kind; None if its peak is not known."""
        return hours_of(self.total_flops, self.mfu, kind)

    def as_json(self) -> dict[str, Any]:
        """The estimate as JSON."""
        steps, rows = self.config.trainer.num_train_steps, self.config.trainer.train_batch_size
        kinds = dict.fromkeys([*SHOWN, *([self.kind] if peak_and_memory(self.kind)[0] else [])])
        return {
            "run": self.config.files.root,
            "batch": [rows, self.shape.crystals_per_row, self.shape.voxels_per_crystal],
            "parameters": self.parameters,
            "data": {"materials": self.materials, "crystals_per_step": self.crystals_per_step},
            "epochs": steps * self.crystals_per_step / self.materials,
            "flops_per_step": self.flops,
            "flops": self.total_flops,
            "memory_gib": {name: size / GIB for name, size in self.memory.items()},
            "mfu": self.mfu,
            "device_hours": {kind: self.hours(kind) for kind in kinds},
            "here": None if self.here is None else self.here.as_json(),
        }

    def __str__(self) -> str:
        facts = self.as_json()
        rows, crystals, voxels = facts["batch"]
        lines = [
            f"run         {facts['run']}, {self.config.trainer.num_train_steps:,} steps",
            f"batch       {rows} rows of up to {crystals} crystals with {voxels} voxels each",
            f"model       {self.preset}: {self.parameters:,} parameters",
            f"data        {self.materials:,} materials, {self.crystals_per_step:.3g} in a step; "
            f"{facts['epochs']:.3g} epochs",
            f"FLOPs       {self.flops:.4g} per step, {self.total_flops:.4g} in total",
            "memory      estimated:",
            *(f"  {name:<10}{size / GIB:8.3f} GiB" for name, size in self.memory.items()),
            *time_lines(self.mfu, facts["device_hours"]),
            *([] if self.here is None else [str(self.here)]),
        ]
        return "\n".join(lines)


def estimate_field(
    config: TrainConfig,
    *,
    mfu: float = 0.4,
    timed: int = 0,
    opened: Callable[[TrainConfig], FieldTask] = FieldTask.open,
) -> FieldEstimate:
    """Estimate a run from its data and configuration; writes only the data cache.

    Args:
        config: of the run.
        mfu: assumed model FLOPs utilisation.
        timed: steps to time on this machine; with 0 nothing is compiled.
        opened: opens its task.

    Raises:
        OSError, KeyError, ValueError: the data cannot be opened, or the configuration is invalid.
    """
    check_mfu(mfu)
    task = opened(config)
    model = eqx.filter_eval_shape(task.build, jax.random.PRNGKey(0))
    parameters = parameter_count(model)
    rows, shape = config.trainer.train_batch_size, task.shape
    atoms = task.data.store.arrays["atoms"][task.materials].astype(int)
    optimizer = config.optimizer.get_choice_name(type(config.optimizer))
    copies = 2 + OPTIMIZER_SLOTS.get(
        optimizer, OPTIMIZER_SLOTS["adam"]
    )  # weights, gradients, optimizer state
    copies += config.trainer.model_averaging is not None
    functions = shape.functions * (shape.l_max + 1) ** 2
    sums = shape.sites_per_row * (task.points + int(atoms.max())) * functions
    memory = {"weights": copies * parameters * _FLOAT, "sums": rows * sums * _FLOAT}
    return FieldEstimate(
        config,
        shape,
        task.preset,
        parameters,
        len(task.materials),
        rows * min(shape.crystals_per_row, shape.sites_per_row / float(atoms.mean()), len(atoms)),
        task.flops * rows,
        memory,
        jax.devices()[0].device_kind,
        mfu,
        time_here(config, task, timed, sum(memory.values())),
    )
