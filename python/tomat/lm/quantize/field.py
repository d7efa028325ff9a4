"""The layers of a field model one after the other, with the inputs that they have on crystals; needs JAX.

The network is that of :mod:`tomat.lm.field.opened`, whose maps of atoms are watched; the maps at points, which run in
the core, are done again here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from tomat.lm.field.network import of_descriptors, of_guess
from tomat.lm.field.opened import OpenField
from tomat.lm.field.surroundings import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tomat.lm.quantize.inputs import Cell

    type Floats = NDArray[np.float32]
    type Doubles = NDArray[np.float64]
    #: Takes a weight's name and its Hessian, and puts what becomes of the weight in its place.
    type Code = Callable[[str, Doubles], None]


def is_end(name: str) -> bool:
    """Whether a weight reads elements, answers, or multiplies sums with each other: few weights, much depends on."""
    return name.startswith(("embedding.", "head.")) or ".mixing." in name


@dataclass(eq=False)
class _Watch:
    """Adds up the outer products of what one map is given.

    Attributes:
        name: of its weight.
        hessian: the sum.
    """

    name: str = ""
    hessian: Doubles | None = None

    def add(self, name: str, x: Floats) -> None:
        """Take inputs (..., inputs) of a map."""
        if name != self.name:
            return
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        found = rows.T @ rows
        self.hessian = found if self.hessian is None else self.hessian + found

    def of(self, name: str, work: Callable[[], object]) -> Doubles:
        """The sum over what a map is given while some work is done."""
        self.name, self.hessian = name, None
        work()
        assert self.hessian is not None, name
        return self.hessian


@dataclass(frozen=True, eq=False)
class _Watched(OpenField):
    """A model whose maps are watched."""

    watch: _Watch = field(default_factory=_Watch)

    def linear(self, name: str, x: Floats) -> Floats:
        self.watch.add(f"{name}.weight", x)
        return super().linear(name, x)

    def invariants(self, name: str, sums: Floats) -> Floats:
        first = 0
        for l, n in enumerate(self.shape.channels):  # noqa: E741 - the angular momentum
            of_l = sums[:, first : first + (2 * l + 1) * n]
            first += (2 * l + 1) * n
            if l:
                self.watch.add(f"{name}.mixing.{l - 1}", of_l.reshape(-1, n))
        return super().invariants(name, sums)


def walk(model: OpenField, cells: Sequence[Cell], weights: dict[str, Floats], code: Code) -> None:
    """Hand all matrices to ``code`` in the order in which they are used, with inputs from those already coded.

    Args:
        model: the model; its weights are not looked at.
        cells: points of crystals.
        weights: by name; ``code`` changes them.
        code: see above.
    """
    watched = _Watched(
        model.path, model.step, weights, model.codec, model.surroundings, model.note, model.fingerprint
    )
    # The maps of atoms are cheap: all are run again for each.
    for name in atom_layers(model):
        code(name, watched.watch.of(name, lambda: [watched.of_atoms(cell.crystal) for cell in cells]))
    sums = [_sums(watched, cell) for cell in cells]
    for i in range(model.shape.l_max):
        name = f"environment.mixing.{i}"
        code(name, watched.watch.of(name, lambda: [watched.invariants("environment", of) for of, _ in sums]))
    xs = [
        _readout_inputs(watched, learned, fixed, cell)
        for (learned, fixed), cell in zip(sums, cells, strict=True)
    ]
    for i in range(len(model.shape.mlp)):
        name = f"readout.layers.{i}"
        code(f"{name}.weight", _hessian(xs))
        xs = [_silu(watched.linear(name, x)) for x in xs]
    code("head.weight", _hessian(xs))


def outputs(model: OpenField, cell: Cell) -> Floats:
    """What the head gives (points, outputs) at the points of a cell, computed as the layers are walked here."""
    learned, fixed = _sums(model, cell)
    x = _readout_inputs(model, learned, fixed, cell)
    for i in range(len(model.shape.mlp)):
        x = _silu(model.linear(f"readout.layers.{i}", x))
    return model.linear("head", x)


def atom_layers(model: OpenField) -> list[str]:
    """The matrices that work on atoms, in their order."""
    names = ["embedding.layers.0.weight", "embedding.layers.1.weight"]
    for i in range(model.shape.rounds):
        names.append(f"rounds.{i}.environment.weights.weight")
        names += [f"rounds.{i}.environment.mixing.{l}" for l in range(model.shape.l_max)]  # noqa: E741
        names += [f"rounds.{i}.update.layers.0.weight", f"rounds.{i}.update.layers.1.weight"]
    return [*names, "environment.weights.weight"]


def _sums(model: OpenField, cell: Cell) -> tuple[Floats, Floats]:
    """Sums around points: those with learned weights, and those with fixed ones."""
    guess = np.maximum(cell.guess, np.float32(FLOOR))
    found = model.surroundings.contracted(cell.crystal, cell.points, guess, model.of_atoms(cell.crystal))
    first, last = model.shape.channels[0], model.shape.channels[0] + model.shape.fixed
    return np.concatenate([found[:, :first], found[:, last:]], axis=1), found[:, first:last]


def _readout_inputs(model: OpenField, learned: Floats, fixed: Floats, cell: Cell) -> Floats:
    guess = np.maximum(cell.guess, np.float32(FLOOR))
    seen = [model.invariants("environment", learned), np.asarray(of_guess(jnp.asarray(guess)))]
    if model.shape.fixed:
        seen.append(np.asarray(of_descriptors(jnp.asarray(fixed))))
    return np.concatenate(seen, axis=1).astype(np.float32)


def _hessian(xs: Sequence[Floats]) -> Doubles:
    found: Doubles = sum((x.astype(np.float64).T @ x.astype(np.float64) for x in xs), np.zeros(()))
    return found


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) beyond float32: 0
        return np.asarray(x / (1 + np.exp(-x)))
