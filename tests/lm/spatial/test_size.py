"""Parameters and operations of the eyes, as the built model has them."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("levanter")
from tomat.lm.field.config import FIELD_PRESETS
from tomat.lm.field.elements import N_FEATURES
from tomat.lm.field.network import FieldModel
from tomat.lm.model.flops import step_flops
from tomat.lm.model.presets import PRESETS, ModelConfig, parameter_count
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.spatial.eyes import Eyes
from tomat.lm.spatial.size import eyes_flops, eyes_parameters
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer


@pytest.mark.parametrize("preset", list(FIELD_PRESETS))
def test_built_eyes_have_the_parameters_that_are_counted(preset: str) -> None:
    shape = FIELD_PRESETS[preset]
    eyes = eqx.filter_eval_shape(lambda key: Eyes.init(key, shape, 64), jax.random.PRNGKey(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(eyes) if hasattr(leaf, "shape")]
    assert sum(sizes) == eyes_parameters(shape, 64)


@pytest.mark.parametrize("field", [False, True])
def test_a_spatial_model_has_the_parameters_that_are_counted(field: bool) -> None:
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-1k", pad_to=128, patch_size=3))
    config = ModelConfig(positions="cartesian", field=dataclasses.replace(ModelConfig().field, tokens=field))
    model = eqx.filter_eval_shape(build, levanter_config(config), vocabulary, jax.random.PRNGKey(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.ShapeDtypeStruct)]
    counted = parameter_count(config.shape(), vocabulary.padded_size)
    assert sum(sizes) == counted.total
    plain = parameter_count(PRESETS["tiny"], vocabulary.padded_size).total
    assert (
        counted.total - counted.field == plain + 2 * 15 * 4
    )  # Gaussians of distance in each head of two layers
    assert ("field" in str(counted)) == field


def test_the_operations_are_those_of_the_compiled_eyes() -> None:
    shape, voxels, atoms = FIELD_PRESETS["field-tiny"], 200, 12
    eyes = Eyes.init(jax.random.PRNGKey(0), shape, 64)
    functions = shape.functions

    def forward(
        features: jax.Array, near: list[jax.Array], around: list[jax.Array], guess: jax.Array
    ) -> jax.Array:
        members, n = jnp.ones((1, atoms)), jnp.arange(atoms)
        h = eyes.field.states(features, near, members, jnp.zeros(atoms, jnp.int32), n)
        sums = [part[0] for part in eyes.field.environment.sums(h, around, members)]
        return (
            eyes.of_voxel(eyes.field.activations(sums, guess)).sum()
            + eyes.of_atom(eyes.field.environment.learned(h)).sum()
        )

    def sums(points: int) -> list[jax.Array]:
        return [jnp.ones((atoms, points * (2 * l + 1), functions)) for l in range(shape.l_max + 1)]  # noqa: E741

    given = (
        jnp.ones((atoms, N_FEATURES + functions * shape.fixed)),
        sums(atoms),
        sums(voxels),
        jnp.ones(voxels),
    )
    compiled = jax.jit(forward).lower(*given).compile().cost_analysis()
    assert compiled is not None
    np.testing.assert_allclose(eyes_flops(shape, 64, voxels, atoms), compiled["flops"], rtol=0.1)
    assert isinstance(eyes.field, FieldModel)


def test_a_step_counts_the_eyes_and_the_biases() -> None:
    plain = PRESETS["tiny"]
    cartesian = dataclasses.replace(plain, positions="cartesian")
    seeing = dataclasses.replace(cartesian, field=FIELD_PRESETS["field-tiny"])
    first, second, third = (
        step_flops(shape, 2, 100, causal=False, voxels=343, atoms=9) for shape in (plain, cartesian, seeing)
    )
    # One product with 15 Gaussians for each head, layer and pair of tokens, forward and twice backward.
    assert second.model - first.model == 3 * 2.0 * 15 * 4 * 2 * 512**2 * 2
    assert third.model - second.model == 3 * 2 * eyes_flops(FIELD_PRESETS["field-tiny"], 64, 343, 9)
