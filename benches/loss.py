"""Time and memory of the loss and its gradients, by blocks and at once, for every term.

The head and the loss alone, without a model before them: activations of ``--rows`` rows of ``--positions`` positions
in, the gradients by activations and head out. ``softmax`` is what one would write without this: all logits, then
cross-entropy, differentiated by JAX. Memory is what XLA sets aside beside arguments and results. Runs on whatever
device JAX has.

    python benches/loss.py [--rows 1] [--positions 2048] [--hidden 512] [--codec l1-16k-e_per_A3-1e4] [--dtype float32]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import tomat
from tomat.lm.loss import TERMS, DensityLoss, LossConfig
from tomat.lm.loss.blocks import no_split, per_position, weighted_sum
from tomat.lm.vocabulary import ModelVocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

#: Variants of the loss: name, block size, and whether the backward pass recomputes the logits.
WAYS = (
    ("at once", 0, False),
    ("blocks", 1024, False),
    ("blocks, recomputed", 1024, True),
    ("blocks", 256, False),
)


def ours(config: LossConfig, vocabulary: ModelVocabulary, again: bool) -> Callable[..., jax.Array]:
    loss = DensityLoss(config, vocabulary)

    def value(x: jax.Array, head: jax.Array, target: jax.Array, truth: jax.Array) -> jax.Array:
        rows = loss.targets.rows(head, all_ids=config.scope == "vocabulary")
        given = {"target": target, "value": truth}
        weight = jnp.full(target.shape, 1 / target.size, jnp.float32)
        if again:
            losses = per_position(loss.position_losses, config.block_size, no_split(), x, rows, given)[0]
            return jnp.sum(weight * losses)
        return weighted_sum(loss.position_losses, config.block_size, no_split(), x, rows, given, weight)[0]

    return value


def softmax(x: jax.Array, head: jax.Array, target: jax.Array, _truth: jax.Array) -> jax.Array:
    logits = jnp.einsum("bpd,vd->bpv", x, head, preferred_element_type=jnp.float32)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)
    return -jnp.mean(picked)


def wait(results: Any) -> None:
    for array in jax.tree.leaves(results):
        array.block_until_ready()


def measure(value: Callable[..., jax.Array], arguments: tuple[Any, ...], rounds: int) -> tuple[float, float]:
    """Seconds (median) and MiB."""
    compiled = jax.jit(jax.value_and_grad(value, argnums=(0, 1))).lower(*arguments).compile()
    analysis = compiled.memory_analysis()
    wait(compiled(*arguments))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        wait(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times), (analysis.temp_size_in_bytes if analysis else float("nan")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rows", 1), ("positions", 2048), ("hidden", 512), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--codec", default="l1-16k-e_per_A3-1e4")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    vocabulary = ModelVocabulary(tomat.PatchTokenizer("v3", arguments.codec))
    rng = np.random.default_rng(0)
    shape = (arguments.rows, arguments.positions)
    x = jnp.asarray(rng.standard_normal((*shape, arguments.hidden)), arguments.dtype)
    head = jnp.asarray(
        0.02 * rng.standard_normal((vocabulary.padded_size, arguments.hidden)), arguments.dtype
    )
    truth = rng.exponential(5.0, shape).astype(np.float32)
    target = vocabulary.density.start + vocabulary.codec.encode(truth.ravel())[:, 0].reshape(shape)
    given = (x, head, jnp.asarray(target, jnp.int32), jnp.asarray(truth))
    cases: list[tuple[str, Callable[..., jax.Array]]] = [("cross_entropy, all ids, softmax", softmax)]
    for name, block, again in WAYS:
        config = LossConfig({"cross_entropy": 1.0}, scope="vocabulary", block_size=block)
        cases.append(
            (f"cross_entropy, all ids, {name} {block or ''}".strip(), ours(config, vocabulary, again))
        )
    cases += [(f"{term}, density", ours(LossConfig({term: 1.0}), vocabulary, again=False)) for term in TERMS]
    results = {}
    print(
        f"{jax.devices()[0].device_kind}, {arguments.dtype}, {shape[0]} x {shape[1]} positions, "
        f"hidden {arguments.hidden}, {vocabulary.padded_size} ids"
    )
    for name, value in cases:
        seconds, mebibytes = measure(value, given, arguments.rounds)
        results[name] = {"seconds": seconds, "MiB": mebibytes}
        print(f"{name:48s} {1e3 * seconds:9.1f} ms {mebibytes:9.0f} MiB", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
