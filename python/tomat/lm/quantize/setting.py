"""How the weights of a model are coded, and the one that codes them one after the other; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from tomat.lm.artefact.rounding import DAMPING, errors, gptq, nearest
from tomat.lm.artefact.tensors import ENCODINGS, Tensor, of_rounded, of_vector, plain, stored_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    type Weights = dict[str, NDArray[np.float32]]

type Rounding = Literal["gptq", "nearest"]


@dataclass(frozen=True)
class Setting:
    """How weights are coded.

    Attributes:
        layers: of the matrices of layers, one of :data:`tomat.lm.artefact.tensors.ENCODINGS`.
        ends: of the embedding and what else is read or answered directly, see ``Quantisable.is_end``.

    Raises:
        ValueError: an unknown encoding.
    """

    layers: str
    ends: str

    def __post_init__(self) -> None:
        for encoding in (self.layers, self.ends):
            if encoding not in ENCODINGS:
                raise ValueError(f"{encoding} is not one of {', '.join(ENCODINGS)}")

    def __str__(self) -> str:
        return self.layers if self.layers == self.ends else f"{self.layers}, embedding {self.ends}"

    @property
    def quantised(self) -> bool:
        """Whether any weight becomes an integer."""
        return self.layers.startswith("int") or self.ends.startswith("int")

    def and_smaller(self, settings: Sequence[Setting]) -> list[Setting]:
        """This one, and of the others those with no weight in a better encoding."""
        place = ENCODINGS.index
        return [
            self,
            *(
                other
                for other in settings
                if other != self
                and place(other.layers) >= place(self.layers)
                and place(other.ends) >= place(self.ends)
            ),
        ]


#: The settings that a limit of bytes is tried with, the best first.
LADDER = (
    Setting("float32", "float32"),
    Setting("bfloat16", "bfloat16"),
    *(Setting(f"int{bits}", "int8") for bits in (8, 7, 6, 5, 4)),
    Setting("int4", "int6"),
    Setting("int4", "int4"),
)


@dataclass(eq=False)
class Coder:
    """Codes the weights of a model.

    Attributes:
        setting: how.
        rounding: to the nearest, or by GPTQ.
        rows: the axis of the outputs in the model's matrices.
        is_end: whether a weight has the encoding ``setting.ends``.
        weights: by name; those already coded as they are read from the artefact. A copy of what it is made with.
        tensors: what has been coded.
        off: root mean square error of a map's outputs relative to the outputs, on the inputs seen.
        done: called after each weight.
    """

    setting: Setting
    rounding: Rounding
    rows: int
    is_end: Callable[[str], bool]
    weights: Weights
    done: Callable[[str], None] = lambda _name: None
    tensors: dict[str, Tensor] = field(default_factory=dict, init=False)
    off: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.weights = dict(self.weights)

    def code(self, name: str, hessian: NDArray[np.float64] | None = None, damping: float = DAMPING) -> None:
        """Code a weight, and put what will be read in its place.

        Args:
            name: of the weight.
            hessian: (inputs, inputs) of its inputs, see :mod:`tomat.lm.artefact.rounding`; not for vectors.
            damping: of the Hessian.
        """
        weight = self.weights[name]
        encoding = encoding_of(name, weight, self.setting, self.is_end)
        if encoding is None:
            tensor = of_vector(name, weight)
        elif encoding.startswith("int"):
            tensor = self._rounded(name, weight, int(encoding.removeprefix("int")), hessian, damping)
        else:
            tensor = plain(name, weight, encoding)
        self.tensors[name] = tensor
        self.weights[name] = tensor.decoded()
        self.done(name)

    def finish(self) -> list[Tensor]:
        """Code what is left, which no inputs are known of, and give all weights.

        Raises:
            RuntimeError: a matrix is left that was to be rounded by GPTQ.
        """
        for name in [name for name in self.weights if name not in self.tensors]:
            encoding = encoding_of(name, self.weights[name], self.setting, self.is_end)
            if encoding is not None and encoding.startswith("int") and self.rounding == "gptq":
                raise RuntimeError(f"the inputs of {name} were not collected")
            self.code(name)
        return list(self.tensors.values())

    def _rounded(
        self, name: str, weight: NDArray[np.float32], bits: int, hessian: Any, damping: float
    ) -> Tensor:
        matrix = weight if self.rows == 0 else np.ascontiguousarray(weight.T)
        if self.rounding == "nearest" or hessian is None:
            found = nearest(matrix, bits)
        else:
            found = gptq(matrix, hessian, bits, damping=damping)
        if hessian is not None:
            exact = matrix.astype(np.float64)
            outputs = float(((exact @ hessian) * exact).sum())
            self.off[name] = float(np.sqrt(errors(exact, found, hessian).sum() / outputs)) if outputs else 0.0
        return of_rounded(name, found, self.rows)


def encoding_of(
    name: str, weight: NDArray[np.float32], setting: Setting, is_end: Callable[[str], bool]
) -> str | None:
    """The encoding of a weight; None for a vector in half precision."""
    if weight.ndim == 2:
        return setting.ends if is_end(name) else setting.layers
    return "float32" if setting.layers == "float32" else None


def packed_bytes(
    weights: Mapping[str, NDArray[np.float32]], setting: Setting, is_end: Callable[[str], bool], rows: int
) -> int:
    """Bytes of coded weights before they are compressed."""
    return sum(
        stored_size(
            encoding_of(name, of, setting, is_end) or "float16", of.shape, rows if of.ndim == 2 else 0
        )
        for name, of in weights.items()
    )
