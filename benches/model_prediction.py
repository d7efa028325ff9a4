"""The time of predicting with a model relative to its forward passes, and where the rest goes.

    python benches/model_prediction.py                           # the 30M preset, patches of 19^3, this machine
    python benches/model_prediction.py --preset tiny --patches 64 --batch 8 --patch-size 7 --codec l1-1k-e_per_A3

Weights are random: time does not depend on them. In one run, alternating: the pure forward passes (activations of the
same batches, nothing else), and `ModelPredictor.predict`, which also writes the preambles, computes the distributions
of all voxels and reduces them to densities. Patches are of a real crystal's supercell of 1.15 million voxels; the time
of the whole cell is that of the patches timed here times how many its cover takes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
from levanter.layers.attention import AttentionMask

import tomat
from tomat.lm.checkpoint import Trained
from tomat.lm.decode.predictor import ModelPredictor
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.vocabulary import ModelVocabulary
from tomat.prediction.cover import cover
from tomat.prediction.options import DecodingConfig
from tomat.prediction.predictor import PatchRequest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "data" / "rho_gga" / "label" / "qe-0039.zarr"


def predictor(arguments: argparse.Namespace) -> ModelPredictor:
    """A model with random weights that predicts all voxels at once (objective masked)."""
    seq_len = 8192 if arguments.patch_size > 10 else 512
    tokenizer = tomat.PatchTokenizer("v3", arguments.codec, arguments.patch_size, seq_len)
    vocabulary = ModelVocabulary(tokenizer)
    config = levanter_config(ModelConfig(preset=arguments.preset, seq_len=seq_len), bidirectional=True)
    model = build(config, vocabulary, jax.random.PRNGKey(0))
    note: dict[str, Any] = {"name": arguments.preset, "data_facts": {}}
    trained = Trained("", 0, model, config, vocabulary, ObjectiveConfig("masked", "all").build(), note)
    return ModelPredictor(trained, DecodingConfig("one_pass", batch_size=arguments.batch))


def requests(model: ModelPredictor, n: int) -> tuple[list[PatchRequest], int, int]:
    """Patches of a cell of about a million voxels, the number in its cover, and its voxels."""
    cell = tomat.read(SOURCE).supercell((3, 3, 2))
    crystal = cell.crystal.renamed("cell")
    shape = model.tokenizer.shape_for(len(cell.atomic_numbers))
    offsets = cover(cell.grid_shape, shape).offsets
    made = [PatchRequest(crystal, cell.grid_shape, tuple(o), shape) for o in offsets[:n].tolist()]
    return made, len(offsets), cell.density.size


def forward(model: ModelPredictor, length: int) -> Any:
    """The pure forward pass of one batch, compiled."""
    batch, pos = hax.Axis("batch", model.batch_size), hax.Axis("position", length)

    @eqx.filter_jit
    def run(weights: Any, tokens: jax.Array) -> jax.Array:
        segments = hax.named(jnp.zeros_like(tokens), (batch, pos))
        mask = AttentionMask().with_segment_ids(segments)
        out: jax.Array = weights.activations(hax.named(tokens, (batch, pos)), mask, key=None).array
        return out

    return run


def main() -> None:
    """Print both times, their ratio, the whole cell, and the remaining costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="30M")
    parser.add_argument("--codec", default="l1-16k-e_per_A3-1e4")
    parser.add_argument("--patch-size", type=int, default=19)
    parser.add_argument("--patches", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = predictor(arguments)
    asked, needed, voxels = requests(model, arguments.patches)
    length = model._padded(model.layouts(asked[:1])[0].tokens.size)
    run = forward(model, length)
    tokens = jnp.zeros((model.batch_size, length), jnp.int32)
    batches = -(-len(asked) // model.batch_size)
    pure, whole = [], []
    run(model.decoder.model, tokens).block_until_ready()
    model.predict(asked[: model.batch_size])
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for _ in range(batches):
            run(model.decoder.model, tokens).block_until_ready()
        pure.append(time.perf_counter() - start)
        start = time.perf_counter()
        model.predict(asked)
        whole.append(time.perf_counter() - start)
    each = statistics.median(whole) / len(asked)
    ratios = sorted(w / p for w, p in zip(whole, pure, strict=True))
    facts = {
        "device": jax.devices()[0].device_kind,
        "preset": arguments.preset,
        "patch": arguments.patch_size,
        "row": length,
        "forward_s_per_patch": statistics.median(pure) / len(asked),
        "predict_s_per_patch": each,
        "ratio": [ratios[0], statistics.median(ratios), ratios[-1]],
        "cell_voxels": voxels,
        "cell_patches": needed,
        "cell_s": each * needed,
    }
    if arguments.json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:28s} {np.round(value, 4) if not isinstance(value, str) else value}")
    profile = cProfile.Profile()
    profile.runcall(model.predict, asked)
    pstats.Stats(profile).sort_stats("cumulative").print_stats("tomat", 12)


if __name__ == "__main__":
    main()
