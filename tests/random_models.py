"""Models with random weights, made without compiling anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tomat.lm.model.qwen import build

if TYPE_CHECKING:
    from levanter.models.qwen import Qwen3Config

    from tomat.lm.vocabulary import ModelVocabulary


def random_model(config: Qwen3Config, vocabulary: ModelVocabulary, seed: int, scale: float = 0.3) -> Any:
    """The model of ``config``, every weight (those of norms, too) normal around 0 with deviation ``scale``."""
    shapes = eqx.filter_eval_shape(build, config, vocabulary, jax.random.PRNGKey(0))
    leaves, tree = jax.tree.flatten(shapes)
    generator = np.random.default_rng(seed)
    weights = (generator.normal(0.0, scale, leaf.shape).astype(np.float32) for leaf in leaves)
    return jax.tree.unflatten(tree, [jnp.asarray(weight) for weight in weights])
