"""Floating point operations of a training step, and what share of a device's peak they are; needs no JAX.

Counted are the multiplications and additions of matrix products (2 a parameter and token), attention's two products
over the keys a query may see, and the output layer over the ids the loss looks at. The backward pass costs twice the
forward one. What gradient checkpointing or a blockwise loss computes a second time is work, but not the model's: it
is reported apart, and model FLOPs utilisation (MFU) leaves it out [Chowdhery et al., PaLM, appendix B].

Levanter's counter (``levanter.utils.flop_utils``) is not used: it lets a causal query see every key (24 to 43 %
more FLOPs for the presets), counts softmax operations, takes heads of hidden_dim / num_heads only, and knows no
recomputation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomat.lm.model.presets import ModelShape

#: Dense bfloat16 FLOP/s of one device, by the start of JAX's ``device_kind``; the makers' data sheets, without
#: sparsity. The first that fits counts.
PEAK_FLOPS: dict[str, float] = {
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
}


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one training step over ``tokens`` tokens.

    Attributes:
        tokens: tokens of the step, padding included: rows times their length.
        layers: matrix products of the layers, forward.
        attention: queries with keys, and weights with values, forward.
        head: the output layer, forward.
        recomputed: what is computed a second time: layers under gradient checkpointing, logits of a blockwise loss.
    """

    tokens: int
    layers: float
    attention: float
    head: float
    recomputed: float

    @property
    def forward(self) -> float:
        """One forward pass."""
        return self.layers + self.attention + self.head

    @property
    def model(self) -> float:
        """Forward and backward: what MFU counts."""
        return 3 * self.forward

    @property
    def hardware(self) -> float:
        """With what is computed a second time: what the device really does."""
        return self.model + self.recomputed

    def seconds(self, utilisation: float, peak: float, devices: int = 1) -> float:
        """Time of the step on ``devices`` devices of ``peak`` FLOP/s at an MFU of ``utilisation`` (0 to 1)."""
        return self.model / (utilisation * peak * devices)


def step_flops(
    shape: ModelShape,
    rows: int,
    head_ids: int,
    *,
    causal: bool,
) -> StepFlops:
    """FLOPs of a step.

    Args:
        shape: the model; ``shape.seq_len`` is the length of a row.
        rows: rows of the step (the global batch).
        head_ids: ids the loss looks at: the density slice, or all rows of the embedding.
        causal: half the keys on average, or all of them. Packed rows see fewer; this counts the whole row.
    """
    length = shape.seq_len
    tokens = rows * length
    projections = shape.hidden_dim * (2 * shape.attention_dim + 2 * shape.kv_dim + 3 * shape.intermediate_dim)
    keys = (length + 1) / 2 if causal else float(length)
    layers = 2.0 * projections * shape.num_layers * tokens
    attention = 4.0 * shape.attention_dim * keys * shape.num_layers * tokens
    head = 2.0 * shape.hidden_dim * head_ids * tokens
    again = layers + attention if shape.gradient_checkpointing != "off" else 0.0
    return StepFlops(tokens, layers, attention, head, again + head)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device, by JAX's ``device.device_kind``; None for those not in the table (CPUs)."""
    return next((peak for kind, peak in PEAK_FLOPS.items() if device_kind.startswith(kind)), None)
