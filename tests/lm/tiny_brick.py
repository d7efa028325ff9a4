"""Brick models small enough for tests."""

from pathlib import Path

import jax
import jax.numpy as jnp

import tiny_field
from tomat.codec.relative import RelativeCodec
from tomat.lm.brick.checkpoint import TrainedBrick
from tomat.lm.brick.config import BrickShape
from tomat.lm.brick.network import BrickModel
from tomat.lm.brick.predictor import BrickPredictor
from tomat.lm.config import TrainConfig, load
from tomat.lm.field.levels import Levels
from tomat.lm.field.surroundings import Surroundings
from tomat.prediction.options import DecodingConfig
from tomat.promolecule import UnscaledPromolecule

SHAPE = BrickShape(bricks=2, atoms=12, width=24, layers=2, heads=2, hidden=32, activations=16)


def config(folder: Path, *arguments: str, steps: int = 4) -> TrainConfig:
    """A configuration whose runs go to ``folder``/runs; ``arguments`` as on the command line."""
    text = tiny_field.YAML.format(out=folder / "runs", data=tiny_field.DATA, steps=steps)
    brick = (
        "  kind: brick\n  brick: {bricks: 2, atoms: 12, width: 24, layers: 2, heads: 2, hidden: 32,\n"
        "    activations: 16, held_out_patches: 3}\n"
    )
    path = folder / "brick.yaml"
    text = text.replace("  kind: field\n", brick).replace(
        "split: validation}", "split: validation, limit: 2}"
    )
    path.write_text(text)
    return load(path, ("--data.limit", "3", *arguments))


def untrained(shape: BrickShape = SHAPE, *, moved: float = 0.3) -> BrickPredictor:
    """The predictor of random weights; ``moved`` is the size of those that are zero at the start."""
    codec = RelativeCodec.load("rel-128")
    model = BrickModel.init(jax.random.PRNGKey(1), shape, tiny_field.SHAPE, Levels.of(codec))
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.PRNGKey(2), len(leaves))
    leaves = [
        leaf + moved * jax.random.normal(k, leaf.shape) * jnp.asarray(leaf == 0)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    around = Surroundings(tiny_field.SHAPE, UnscaledPromolecule.load("qe-sg15"))
    trained = TrainedBrick(
        "untrained", 0, jax.tree.unflatten(structure, leaves), codec, around, {"name": "untrained"}
    )
    return BrickPredictor(trained, DecodingConfig(estimate="mean" if moved else "median"))
