"""Estimate the device memory of a training step without compiling it; needs no JAX.

Parameters, gradients, optimizer and average are float32 and split over all devices (FSDP); activations are bfloat16 and
scale with the rows a device computes at a time. The estimate is within a fifth of the TPU compiler's figure (see
docs/tpu.md), which ``training/aot.py`` obtains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tomat.lm.model.presets import parameter_count

if TYPE_CHECKING:
    from tomat.lm.model.presets import ModelShape

_GIB = 2**30

#: float32 numbers an optimizer keeps per parameter. Muon keeps one for matrices, and Adam's two for the rest.
OPTIMIZER_SLOTS = {"adam": 2.0, "muon": 1.0}


@dataclass(frozen=True)
class StepMemory:
    """Peak memory of a step on one device, in bytes, by purpose.

    Attributes:
        parameters: float32, this device's share.
        gradients: float32, its share; with micro-batches the sum and the new ones.
        optimizer: float32, its share.
        average: the exponential moving average, its share.
        gathered: weights in bfloat16 in use: the embedding and two layers, gathered from all devices.
        kept: activations kept for the backward pass.
        layer: activations of the recomputed layer, with their gradients.
        logits: of one block of positions, with their gradient.
    """

    parameters: float
    gradients: float
    optimizer: float
    average: float
    gathered: float
    kept: float
    layer: float
    logits: float

    @property
    def total(self) -> float:
        """The total."""
        total: float = sum(vars(self).values())
        return total

    def rows(self) -> list[tuple[str, float]]:
        """Names and GiB, the total last, for a dry run."""
        return [(name, size / _GIB) for name, size in (*vars(self).items(), ("total", self.total))]


def step_memory(
    shape: ModelShape,
    vocabulary_rows: int,
    *,
    rows_at_a_time: int,
    devices: int = 1,
    optimizer: str = "adam",
    average: bool = False,
    micro_batches: bool = False,
    head_ids: int | None = None,
    block_size: int = 2048,
) -> StepMemory:
    """Memory of a step on one device.

    Args:
        shape: the model.
        vocabulary_rows: rows of the embedding.
        rows_at_a_time: rows a device computes at once (of a micro-batch, if there are several).
        devices: number of devices that share the parameters.
        optimizer: a name of :data:`OPTIMIZER_SLOTS`.
        average: whether a moving average of the parameters is kept.
        micro_batches: whether gradients of several micro-batches are summed.
        head_ids: ids in the loss; None is all rows of the embedding.
        block_size: positions whose logits exist at once; 0 is all.

    Raises:
        KeyError: an unknown optimizer.
    """
    if optimizer not in OPTIMIZER_SLOTS:
        raise KeyError(f"unknown optimizer {optimizer!r}; known: {', '.join(OPTIMIZER_SLOTS)}")
    count = parameter_count(shape, vocabulary_rows)
    share = 4.0 * count.total / devices
    tokens = rows_at_a_time * shape.seq_len
    inside = _layer_bytes(shape) * tokens
    carried = 2.0 * shape.hidden_dim * tokens
    layers = shape.num_layers
    kept = {
        "off": layers * _kept_bytes(shape) * tokens,
        "full": layers * carried,
        "nested": 2 * layers**0.5 * carried,
        "offload": 2 * carried,
    }[shape.gradient_checkpointing]
    positions = min(block_size or tokens, tokens)
    gathered = 0.0 if devices == 1 else 2.0 * (count.embedding + 2 * count.layers / layers)
    return StepMemory(
        parameters=share,
        gradients=share * (2 if micro_batches else 1),
        optimizer=share * OPTIMIZER_SLOTS[optimizer],
        average=share if average else 0.0,
        gathered=gathered,
        kept=kept,
        layer=inside if shape.gradient_checkpointing != "off" else 0.0,
        logits=2 * 4.0 * positions * (head_ids or vocabulary_rows),
    )


def _layer_bytes(shape: ModelShape) -> float:
    """Bytes per token that the backward pass of one layer needs within the layer, with flash attention.

    bfloat16: the two normalised inputs, queries, keys and values before and after norm and rotation, attention's
    output, the residual after it, gate, up and their product; float32: the norms' inputs and one number per head.
    """
    half = 2.0 * (
        3 * shape.hidden_dim + 3 * shape.attention_dim + 5 * shape.kv_dim + 3 * shape.intermediate_dim
    )
    single = 4.0 * (2 * shape.hidden_dim + shape.attention_dim + shape.kv_dim + shape.num_heads)
    return half + single


def _kept_bytes(shape: ModelShape) -> float:
    """Bytes per token that a layer keeps without checkpointing, measured with the TPU compiler at one row per chip.

    The factors are bytes per element of the residual stream, of the heads (all types and stages, padded to 128
    elements) and of the feed-forward layer.
    """
    filled = -(-shape.head_dim // 128) * 128 / shape.head_dim
    heads = 27.0 * (shape.attention_dim + shape.kv_dim) * filled
    return 16.0 * shape.hidden_dim + heads + 10.0 * shape.intermediate_dim
