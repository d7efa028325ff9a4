"""The maps of a field model are walked with the inputs that they have in prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("levanter")
import tiny_field
from tomat.lm.field.opened import OpenField
from tomat.lm.field.surroundings import FLOOR
from tomat.lm.quantize import field
from tomat.lm.quantize.inputs import Cell
from tomat.models import bundled


@pytest.fixture(scope="module")
def model() -> Any:
    inside = bundled("sg15-pbe")
    assert inside is not None
    return OpenField.read(str(inside.folder))


@pytest.fixture(scope="module")
def cell(model: Any) -> Cell:
    crystal = tiny_field.quartz()
    rng = np.random.default_rng(0)
    points = rng.integers(0, 12, (40, 3)) / 12
    guess = model.surroundings.promolecule.density(crystal, (12, 12, 12), "e_per_A3").astype(np.float32)
    index = np.rint(points * 12).astype(int)
    return Cell(crystal, points, np.maximum(guess[tuple(index.T)], FLOOR))


def test_the_maps_at_points_are_those_of_the_core(model: Any, cell: Cell) -> None:
    weights = model.of_atoms(cell.crystal)
    core = model.surroundings.read(model._readout, cell.crystal, cell.points, cell.guess, weights)
    found = field.outputs(model, cell)
    assert np.abs(core).max() > 0.3
    np.testing.assert_allclose(found, core, atol=2e-4)


def test_every_matrix_is_handed_on_once_with_its_hessian(model: Any, cell: Cell) -> None:
    seen: dict[str, Any] = {}
    weights = dict(model.weights)

    def code(name: str, hessian: Any) -> None:
        assert name not in seen
        assert hessian.shape == (weights[name].shape[0],) * 2
        assert np.allclose(hessian, hessian.T)
        assert hessian.trace() > 0
        seen[name] = hessian

    field.walk(model, [cell, cell], weights, code)
    assert set(seen) == {name for name, weight in weights.items() if weight.ndim == 2}
    features = model.surroundings.features[cell.crystal.atomic_numbers]
    first = features[:, : weights["embedding.layers.0.weight"].shape[0]].astype(np.float64)
    np.testing.assert_allclose(seen["embedding.layers.0.weight"], 2 * first.T @ first, rtol=1e-6)
    # The last map's outputs, from its inputs alone: their squares add up to those of the model's outputs.
    outputs = field.outputs(model, cell) - weights["head.bias"]
    squares = np.einsum("io,ij,jo->o", weights["head.weight"], seen["head.weight"], weights["head.weight"])
    np.testing.assert_allclose(squares, 2 * np.square(outputs).sum(axis=0), rtol=1e-4)


def test_inputs_come_from_what_is_already_coded(model: Any, cell: Cell) -> None:
    weights = dict(model.weights)
    seen: dict[str, Any] = {}

    def code(name: str, hessian: Any) -> None:
        seen[name] = hessian
        if name == "environment.weights.weight":
            weights[name] = np.zeros_like(weights[name])
            weights["environment.weights.bias"] = np.zeros_like(weights["environment.weights.bias"])

    field.walk(model, [cell], weights, code)
    assert not seen["environment.mixing.0"].any()
    assert seen["rounds.0.environment.mixing.0"].any()
