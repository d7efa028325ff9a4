"""Estimate the size, memory and time of training a field model; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from tomat.lm.field.task import FieldTask
from tomat.lm.model.flops import peak_and_memory
from tomat.lm.model.memory import OPTIMIZER_SLOTS

if TYPE_CHECKING:
    from tomat.lm.config import TrainConfig
    from tomat.lm.field.config import FieldShape

_GIB = 2**30
_FLOAT = 4
#: Devices whose times are shown in addition to this machine's.
_SHOWN = ("TPU v6e", "NVIDIA H200", "NVIDIA A100")


@dataclass(frozen=True)
class FieldEstimate:
    """Sizes and times of a run.

    Attributes:
        config: the run.
        shape: of its model.
        parameters: of its model.
        materials: training materials.
        crystals_per_step: mean number of crystals in a step.
        flops: of a step.
        memory: bytes by part: weights with optimizer state, and the sums of a batch.
        kind: of this machine's devices.
        mfu: assumed model FLOPs utilisation, 0 to 1.
    """

    config: TrainConfig
    shape: FieldShape
    parameters: int
    materials: int
    crystals_per_step: float
    flops: float
    memory: dict[str, int]
    kind: str
    mfu: float

    @property
    def total_flops(self) -> float:
        """Of the run."""
        return self.flops * self.config.trainer.num_train_steps

    def hours(self, kind: str) -> float | None:
        """Hours of the run on one device of a kind; None if its peak is not known."""
        peak = peak_and_memory(kind)[0]
        return peak and self.total_flops / (self.mfu * peak) / 3600

    def as_json(self) -> dict[str, Any]:
        """The estimate as JSON."""
        steps, rows = self.config.trainer.num_train_steps, self.config.trainer.train_batch_size
        kinds = dict.fromkeys([*_SHOWN, self.kind])
        return {
            "run": self.config.files.root,
            "batch": [rows, self.shape.crystals_per_row, self.shape.voxels_per_crystal],
            "parameters": self.parameters,
            "data": {"materials": self.materials, "crystals_per_step": self.crystals_per_step},
            "epochs": steps * self.crystals_per_step / self.materials,
            "flops_per_step": self.flops,
            "flops": self.total_flops,
            "memory_gib": {name: size / _GIB for name, size in self.memory.items()},
            "mfu": self.mfu,
            "device_hours": {kind: self.hours(kind) for kind in kinds},
        }

    def __str__(self) -> str:
        facts = self.as_json()
        rows, crystals, voxels = facts["batch"]
        lines = [
            f"run         {facts['run']}, {self.config.trainer.num_train_steps:,} steps",
            f"batch       {rows} rows of up to {crystals} crystals with {voxels} voxels each",
            f"model       {self.config.model.field.preset}: {self.parameters:,} parameters",
            f"data        {self.materials:,} materials, {self.crystals_per_step:.3g} in a step; "
            f"{facts['epochs']:.3g} epochs",
            f"FLOPs       {self.flops:.4g} per step, {self.total_flops:.4g} in total",
            "memory      estimated:",
            *(f"  {name:<10}{size / _GIB:8.3f} GiB" for name, size in self.memory.items()),
            f"time        at {self.mfu:.0%} of the peak, on one device:",
        ]
        for name, hours in facts["device_hours"].items():
            lines.append(f"  {name:<12} peak not known" if hours is None else f"  {name:<12}{hours:10.3g} h")
        return "\n".join(lines)


def estimate_field(config: TrainConfig, *, mfu: float = 0.4) -> FieldEstimate:
    """Estimate a run from its data and configuration; compiles nothing, writes only the data cache.

    Raises:
        OSError, KeyError, ValueError: the data cannot be opened, or the configuration is invalid.
    """
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu = {mfu} must be above 0 and at most 1")
    task = FieldTask.open(config)
    model = eqx.filter_eval_shape(task.build, jax.random.PRNGKey(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.ShapeDtypeStruct)]
    rows, shape = config.trainer.train_batch_size, task.shape
    atoms = task.data.store.arrays["atoms"][task.materials].astype(int)
    optimizer = config.optimizer.get_choice_name(type(config.optimizer))
    copies = 2 + OPTIMIZER_SLOTS.get(
        optimizer, OPTIMIZER_SLOTS["adam"]
    )  # weights, gradients, optimizer state
    copies += config.trainer.model_averaging is not None
    functions = shape.functions * (shape.l_max + 1) ** 2
    sums = shape.sites_per_row * (shape.voxels_per_crystal + int(atoms.max())) * functions
    return FieldEstimate(
        config,
        shape,
        sum(sizes),
        len(task.materials),
        rows * min(shape.crystals_per_row, shape.sites_per_row / float(atoms.mean()), len(atoms)),
        task.flops * rows,
        {"weights": copies * sum(sizes) * _FLOAT, "sums": rows * sums * _FLOAT},
        jax.devices()[0].device_kind,
        mfu,
    )
