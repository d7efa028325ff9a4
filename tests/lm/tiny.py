"""Training runs small enough for tests: some thousand parameters on real densities."""

from pathlib import Path

import places
from tomat.lm.config import TrainConfig, load

DATA = places.DATA / "rho_gga"

#: Patches of 3 x 3 x 3 voxels in rows of 128 tokens, four rows a step.
YAML = """
name: tiny
out: {out}
data: &data
  densities: ["{data}"]
  split: train
  limit: 6
  codec: l1-1k-e_per_A3
  patch_size: 3
  patches_per_material: 8
  guess: qe-sg15
validation: {{<<: *data, split: validation, limit: 3, patches_per_material: 2}}
model: {{preset: tiny, hidden_dim: 16, num_layers: 2, num_heads: 2, intermediate_dim: 32, seq_len: 128}}
objective: {{kind: {kind}}}
optimizer: {{type: adam, learning_rate: 0.01, warmup: 0, lr_schedule: constant}}
trainer:
  mp: f32
  num_train_steps: {steps}
  train_batch_size: 4
  steps_per_eval: 4
  checkpointer: {{save_interval: 1h, keep: [{{every: {keep}}}]}}
evaluation: {{max_rows: 6}}
"""


def write_yaml(folder: Path, *, kind: str = "guess", steps: int = 6, keep: int = 1000) -> Path:
    """A configuration file whose runs go to ``folder``/runs."""
    path = folder / f"{kind}.yaml"
    path.write_text(YAML.format(out=folder / "runs", data=DATA, kind=kind, steps=steps, keep=keep))
    return path


def config(
    folder: Path, *arguments: str, kind: str = "guess", steps: int = 6, keep: int = 1000
) -> TrainConfig:
    """A configuration; ``arguments`` as on the command line."""
    return load(write_yaml(folder, kind=kind, steps=steps, keep=keep), arguments)
