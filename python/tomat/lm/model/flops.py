"""Floating-point operations of a training step, and the peak of devices; needs no JAX.

The count includes multiplications and additions of matrix products (2 per parameter and token), attention's two
products over visible keys, and the output layer over the ids in the loss. The backward pass costs twice the forward
pass. Recomputation (gradient checkpointing, blockwise losses) is reported separately and excluded from the model FLOPs
utilisation (MFU) [Chowdhery et al., PaLM, appendix B].

Levanter's counter (``levanter.utils.flop_utils``) is not used: it counts all keys for causal attention (24 to 43 % more
FLOPs for the presets) and softmax operations, assumes heads of hidden_dim / num_heads, and has no recomputation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tomat.lm.brick.config import GAUSSIANS
from tomat.lm.spatial.size import eyes_flops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tomat.lm.model.presets import ModelShape

#: Bytes.
GIB = 2**30
#: Devices whose times are shown in addition to this machine's.
SHOWN = ("TPU v6e", "NVIDIA H200", "NVIDIA A100")

#: Dense bfloat16 FLOP/s of one device (from the data sheets, without sparsity), and the bytes a program may use on it,
#: by prefix of JAX's ``device_kind``. The first match counts.
DEVICES: dict[str, tuple[float, float | None]] = {
    "TPU v6 lite": (918e12, 31.25 * GIB),
    "TPU v6e": (918e12, 31.25 * GIB),
    "TPU v5 lite": (197e12, 15.75 * GIB),
    "TPU v5e": (197e12, 15.75 * GIB),
    "TPU v5": (459e12, 95 * GIB),
    "TPU v4": (275e12, 31.25 * GIB),
    "NVIDIA B200": (2250e12, 178 * GIB),
    "NVIDIA GH200": (989e12, None),
    "NVIDIA H200": (989e12, 139 * GIB),
    "NVIDIA H100 PCIe": (756e12, 79 * GIB),
    "NVIDIA H100 NVL": (835e12, 93 * GIB),
    "NVIDIA H100": (989e12, 79 * GIB),
    "NVIDIA A100-SXM4-40GB": (312e12, 39 * GIB),
    "NVIDIA A100-PCIE-40GB": (312e12, 39 * GIB),
    "NVIDIA A100": (312e12, 79 * GIB),
    "NVIDIA L40S": (362e12, 44 * GIB),
    "NVIDIA L4": (121e12, 22 * GIB),
}


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one training step over ``tokens`` tokens.

    Attributes:
        tokens: tokens of the step, padding included: rows times their length.
        layers: matrix products of the layers, forward.
        attention: queries with keys, and weights with values, forward.
        head: the output layer, forward.
        recomputed: recomputation: layers under gradient checkpointing, logits of a blockwise loss.
        field: the field model whose features tokens see, forward.
    """

    tokens: int
    layers: float
    attention: float
    head: float
    recomputed: float
    field: float = 0.0

    @property
    def forward(self) -> float:
        """One forward pass."""
        return self.layers + self.attention + self.head + self.field

    @property
    def model(self) -> float:
        """Forward and backward: what MFU counts."""
        return 3 * self.forward

    @property
    def hardware(self) -> float:
        """Model FLOPs plus recomputation: what the device executes."""
        return self.model + self.recomputed


def step_flops(
    shape: ModelShape, rows: int, head_ids: int, *, causal: bool, voxels: int = 0, atoms: int = 0
) -> StepFlops:
    """FLOPs of a step.

    Args:
        shape: the model; ``shape.seq_len`` is the length of a row.
        rows: rows of the step (the global batch).
        head_ids: ids in the loss: the density tokens, or all rows of the embedding.
        causal: whether a query sees half the keys on average, or all. Packing, which reduces this, is ignored.
        voxels: of a patch, and
        atoms: places for atoms of a row, for a model whose tokens see a field.
    """
    length = shape.seq_len
    tokens = rows * length
    projections = shape.hidden_dim * (2 * shape.attention_dim + 2 * shape.kv_dim + 3 * shape.intermediate_dim)
    keys = (length + 1) / 2 if causal else float(length)
    layers = 2.0 * projections * shape.num_layers * tokens
    bias = 2.0 * GAUSSIANS * shape.num_heads if shape.cartesian else 0.0
    attention = (4.0 * shape.attention_dim + bias) * keys * shape.num_layers * tokens
    field = 0.0 if shape.field is None else rows * eyes_flops(shape.field, shape.hidden_dim, voxels, atoms)
    head = 2.0 * shape.hidden_dim * head_ids * tokens
    again = layers + attention if shape.gradient_checkpointing != "off" else 0.0
    return StepFlops(tokens, layers, attention, head, again + head, field)


def peak_and_memory(kind: str) -> tuple[float | None, float | None]:
    """Dense bfloat16 FLOP/s, and the bytes a program may use, of a device by JAX's ``device_kind``; None if unknown."""
    return next((known for prefix, known in DEVICES.items() if kind.startswith(prefix)), (None, None))


def hours_of(flops: float, mfu: float, kind: str) -> float | None:
    """Hours that one device of a kind takes for ``flops``; None if its peak is not known."""
    peak = peak_and_memory(kind)[0]
    return peak and flops / (mfu * peak) / 3600


def time_lines(mfu: float, hours: Mapping[str, float | None]) -> list[str]:
    """The lines of an estimate with the hours of each kind of device."""
    lines = [f"time        at {mfu:.0%} of the peak, on one device:"]
    for kind, time in hours.items():
        lines.append(f"  {kind:<12} peak not known" if time is None else f"  {kind:<12}{time:10.3g} h")
    return lines


def check_mfu(mfu: float) -> None:
    """Check a model FLOPs utilisation.

    Raises:
        ValueError: it is no fraction.
    """
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu = {mfu} must be above 0 and at most 1")
