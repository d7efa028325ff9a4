"""The layers of a transformer one after the other, with the inputs that they have on rows; NumPy only.

Qwen3's blocks are written out by their definition here, on rows without padding and on weights by their names in
`transformers`, since Levanter's stacked layers have no place to look in, and rows of many lengths would be compiled one
by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    type Floats = NDArray[np.float32]
    type Doubles = NDArray[np.float64]
    #: Takes a weight's name, its Hessian and the damping; puts what becomes of the weight in its place.
    type Code = Callable[..., None]

EMBEDDING = "model.embed_tokens.weight"
#: Damping of the embedding's Hessian: it is also read, where every direction counts.
_OF_EMBEDDING = 1.0
#: Positions whose attention is computed at a time.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Row:
    """A row.

    Attributes:
        tokens: (length,) ids.
        asked: the positions whose outputs are read.
    """

    tokens: NDArray[np.int32]
    asked: slice


@dataclass(frozen=True)
class Blocks:
    """The blocks of a Qwen3.

    Attributes:
        layers, heads, kv_heads, head_size: numbers of its configuration.
        theta: base of the rotary frequencies.
        epsilon: of its norms.
        causal: whether a position sees only those before it.
    """

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    theta: float
    epsilon: float
    causal: bool

    @classmethod
    def of(cls, config: Any, *, causal: bool) -> Blocks:
        """Those of Levanter's configuration."""
        return cls(
            config.num_layers,
            config.num_heads,
            config.num_kv_heads,
            config.actual_head_size,
            float(config.rope.theta),
            float(config.layer_norm_epsilon),
            causal,
        )

    def norm(self, x: Floats, weight: Floats) -> Floats:
        """Root mean square norm of the last axis."""
        scale = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return np.asarray(x / scale * weight)

    def mixed(self, y: Floats, weights: dict[str, Floats], layer: str) -> Floats:
        """What attention hands to its output matrix (length, heads * size), of normed positions (length, hidden)."""
        n, name = len(y), f"{layer}self_attn."
        q, k, v = (_map(y, weights[f"{name}{of}_proj.weight"]).reshape(n, -1, self.head_size) for of in "qkv")
        q, k = (
            self._turned(self.norm(a, weights[f"{name}{of}_norm.weight"])) for a, of in ((q, "q"), (k, "k"))
        )
        k, v = (np.repeat(a, self.heads // self.kv_heads, axis=1) for a in (k, v))
        parts = []
        for first in range(0, n, _BLOCK):
            part = q[first : first + _BLOCK]
            # (heads, positions of the block, positions)
            scores = part.transpose(1, 0, 2) @ k.transpose(1, 2, 0) / np.float32(self.head_size**0.5)
            if self.causal:
                before = np.arange(n) <= first + np.arange(len(part))[:, None]
                scores = np.where(before, scores, np.float32(-np.inf))
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            parts.append((p @ v.transpose(1, 0, 2)).transpose(1, 0, 2))
        return np.concatenate(parts).reshape(n, -1)

    def _turned(self, x: Floats) -> Floats:
        """Rotary positions of (length, heads, size)."""
        frequencies = self.theta ** -(np.arange(0, self.head_size, 2) / self.head_size)
        angle = np.tile(np.arange(len(x))[:, None] * frequencies, 2)[:, None]
        first, second = np.split(x, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
        return np.asarray(x * np.cos(angle).astype(np.float32) + turned * np.sin(angle).astype(np.float32))


def walk(blocks: Blocks, rows: Sequence[Row], weights: dict[str, Floats], code: Code) -> None:
    """Hand all matrices to ``code`` in the order in which they are used, with inputs from those already coded.

    The embedding comes first, with the inputs that it has as the output layer of the model as it is.

    Args:
        blocks: of the model.
        rows: what it reads.
        weights: by name; ``code`` changes them.
        code: see above.
    """
    outputs = zip(last(blocks, rows, weights), rows, strict=True)
    code(EMBEDDING, _hessian(x[row.asked] for x, row in outputs), damping=_OF_EMBEDDING)
    last(blocks, rows, weights, code)


def last(
    blocks: Blocks, rows: Sequence[Row], weights: dict[str, Floats], code: Code | None = None
) -> list[Floats]:
    """What the output layer gets (length, hidden) for each row; ``code`` as in :func:`walk`, for all layers."""

    def coded(xs: Sequence[Floats], *names: str) -> list[Floats]:
        """Weights that have the same inputs, after they are coded."""
        if code is not None:
            hessian = _hessian(xs)
            for name in names:
                code(name, hessian)
        return [weights[name] for name in names]

    xs = [weights[EMBEDDING][row.tokens] for row in rows]
    for index in range(blocks.layers):
        layer = f"model.layers.{index}."
        ys = [blocks.norm(x, weights[f"{layer}input_layernorm.weight"]) for x in xs]
        coded(ys, *(f"{layer}self_attn.{of}_proj.weight" for of in "qkv"))
        ys = [blocks.mixed(y, weights, layer) for y in ys]
        (out,) = coded(ys, f"{layer}self_attn.o_proj.weight")
        xs = [x + _map(y, out) for x, y in zip(xs, ys, strict=True)]
        ys = [blocks.norm(x, weights[f"{layer}post_attention_layernorm.weight"]) for x in xs]
        gate, up = coded(ys, *(f"{layer}mlp.{of}_proj.weight" for of in ("gate", "up")))
        ys = [_silu(_map(y, gate)) * _map(y, up) for y in ys]
        (down,) = coded(ys, f"{layer}mlp.down_proj.weight")
        xs = [x + _map(y, down) for x, y in zip(xs, ys, strict=True)]
    return [blocks.norm(x, weights["model.norm.weight"]) for x in xs]


def _hessian(xs: Any) -> Doubles:
    found: Any = 0.0
    for x in xs:
        exact = x.astype(np.float64)
        found = found + exact.T @ exact
    return np.asarray(found)


def _map(x: Floats, weight: Floats) -> Floats:
    return np.asarray(x @ weight.T)


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) beyond float32: 0
        return np.asarray(x / (1 + np.exp(-x)))
