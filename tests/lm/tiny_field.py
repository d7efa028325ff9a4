"""Field models small enough for tests, and crystals to try them on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import places
from tomat.codec.relative import RelativeCodec
from tomat.crystal import Crystal
from tomat.lm.config import TrainConfig, load
from tomat.lm.field.checkpoint import TrainedField, as_open
from tomat.lm.field.config import FieldShape
from tomat.lm.field.export import export_field
from tomat.lm.field.levels import Levels
from tomat.lm.field.network import FieldModel
from tomat.lm.field.predictor import FieldPredictor
from tomat.lm.field.surroundings import Surroundings
from tomat.prediction.options import DecodingConfig
from tomat.promolecule import UnscaledPromolecule

DATA = places.DATA / "rho_gga"

SHAPE = FieldShape(
    radial=8,
    state=12,
    channels=(8, 6, 5, 4),
    embedding=16,
    message=16,
    mlp=(24, 24),
    sites_per_row=12,
    descriptors=True,
)

YAML = """
name: tiny
out: {out}
data: &data
  densities: ["{data}"]
  split: train
  prefix: [qe]
  codec: rel-128
  guess: qe-sg15
validation: {{<<: *data, split: validation}}
model:
  kind: field
  field:
    {{radial: 8, state: 12, channels: [8, 6, 5, 4], embedding: 16, message: 16, mlp: [24, 24], sites_per_row: 12,
      voxels_per_crystal: 16, points_per_material: 400, held_out_points: 100, descriptors: true}}
loss: {{terms: {{crps: 1.0}}}}
optimizer: {{type: adam, learning_rate: 0.005, weight_decay: 0.0, warmup: 0, lr_schedule: constant}}
trainer:
  mp: f32
  num_train_steps: {steps}
  train_batch_size: 2
  steps_per_eval: 4
  model_averaging: {{type: ema, beta: 0.5}}
  checkpointer: {{save_interval: 1h, keep: [{{every: 1000}}]}}
guard: {{spike_factor: null}}
"""


def config(folder: Path, *arguments: str, steps: int = 8) -> TrainConfig:
    """A configuration whose runs go to ``folder``/runs; ``arguments`` as on the command line."""
    path = folder / "field.yaml"
    path.write_text(YAML.format(out=folder / "runs", data=DATA, steps=steps))
    return load(path, arguments)


def random_weights(shape: FieldShape = SHAPE, *, seed: int = 1, moved: float = 0.3) -> TrainedField:
    """A model of random weights; ``moved`` is the size of those that are zero at the start."""
    codec = RelativeCodec.load("rel-128")
    model = FieldModel.init(jax.random.PRNGKey(seed), shape, Levels.of(codec))
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.PRNGKey(seed + 1), len(leaves))
    leaves = [
        leaf + moved * jax.random.normal(k, leaf.shape) * (leaf == 0)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    around = Surroundings(shape, UnscaledPromolecule.load("qe-sg15"))
    note = {"name": "untrained"}
    return TrainedField("untrained", 0, jax.tree.unflatten(structure, leaves), codec, around, note)


def untrained(shape: FieldShape = SHAPE, *, seed: int = 1, moved: float = 0.3) -> FieldPredictor:
    """The predictor of :func:`random_weights`."""
    trained = as_open(random_weights(shape, seed=seed, moved=moved))
    return FieldPredictor(trained, DecodingConfig(estimate="mean"))


def exported(folder: Path, *, seed: int = 1, **more: Any) -> str:
    """The path of an export of :func:`random_weights`; ``more`` is added to its note."""
    trained = random_weights(seed=seed)
    note = {
        "name": "untrained",
        "model": {"kind": "field", "field": SHAPE.to_json()},
        "data_facts": {"guess": "qe-sg15", "elements": [8, 14]},
        **more,
    }
    export_field(replace(trained, note=note), folder)
    return str(folder)


def quartz() -> Crystal:
    """Three species without a symmetry, in a skewed cell."""
    lattice = [[4.1, 0.2, -0.3], [-0.7, 4.9, 0.5], [0.4, -1.1, 5.3]]
    places = [[0.02, 0.11, 0.93], [0.45, 0.37, 0.21], [0.71, 0.63, 0.55], [0.28, 0.81, 0.49]]
    return Crystal.of(lattice, [14, 8, 8, 3], np.array(places), "skewed")
