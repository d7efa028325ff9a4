"""Run by test_loss_compiled.py with four simulated CPU devices: losses and gradients as on one, printed as JSON."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import haliax as hax
import haliax.partitioning
import jax
import jax.numpy as jnp
import numpy as np
from levanter.grad_accum import microbatched
from levanter.utils.mesh import MeshConfig, create_mesh_from_axis_specs

import loss_rows
from tomat.lm import numbers
from tomat.lm.loss import DensityLoss, LossConfig

MESHES = {"data": {"data": 4, "replica": 1, "model": 1}, "model": {"data": 2, "replica": 1, "model": 2}}


def difference(a: Any, b: Any) -> float:
    """Largest difference of two trees, in units of the largest entry of each leaf."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        float(np.abs(np.asarray(x) - np.asarray(y)).max() / (np.abs(np.asarray(y)).max() + 1e-30))
        for x, y in pairs
    )


def main() -> None:
    assert jax.device_count() == 4
    vocabulary = loss_rows.vocabulary("l1-1k")
    rows = loss_rows.rows(vocabulary)
    model = loss_rows.model(vocabulary)
    example = loss_rows.example(rows, "next_token", preamble=0.5)
    # Rows with unequal numbers of positions, so that the mean of means of micro-batches is another number.
    fewer = np.array(example.loss_weight.array)
    fewer[0, ::2] = 0
    fewer[3, ::3] = 0
    example = eqx.tree_at(lambda e: e.loss_weight, example, hax.named(fewer, example.loss_weight.axes))
    config = LossConfig(
        {"kl_gaussian": 1.0, "crps": 0.01}, scope="vocabulary", normalise="fixed", block_size=48
    )
    loss = DensityLoss(config, vocabulary)

    def scalar(model: Any, example: Any, key: Any = None) -> tuple[jax.Array, Any]:
        value, metrics = loss(model, example)
        return jnp.asarray(value.scalar()), metrics

    gradients = eqx.filter_value_and_grad(scalar, has_aux=True)
    (one, metrics), slope = eqx.filter_jit(gradients)(model, example)
    sums = eqx.filter_jit(lambda m, e: numbers.row_sums(m, e, vocabulary))(model, example)
    report: dict[str, Any] = {"loss": float(one)}
    for name, axes in MESHES.items():
        layout = MeshConfig(axes=axes)
        compute, parameters = layout.resolved_compute_mapping, layout.resolved_param_mapping
        ici, dcn = layout.axis_shapes(4, 1)
        devices = create_mesh_from_axis_specs(ici_axes=ici, dcn_axes=dcn)
        with haliax.partitioning.set_mesh(devices), hax.axis_mapping(compute):
            sharded, placed = hax.shard(example, compute), hax.shard(model, parameters)

            def in_compute[T](work: Callable[..., T], mapping: Any = compute) -> Callable[..., T]:
                """As the trainer's wrapper of a loss: named_jit alone would leave the parameters' mapping there."""

                def run(*arguments: Any) -> T:
                    with hax.axis_mapping(mapping):
                        return work(*arguments)

                return run

            step = hax.named_jit(
                in_compute(gradients), axis_resources=parameters, out_axis_resources=parameters
            )
            (found, its_metrics), its_slope = step(placed, sharded)
            report[name] = {
                "loss": float(found),
                "gradients": difference(its_slope, slope),
                "metrics": difference(values(its_metrics), values(metrics)),
            }
            if name == "data":
                text = step.lower(placed, sharded).compile().as_text()
                report[name]["sums over devices in a loop"] = sums_in_loops(text)
                measure = in_compute(lambda m, e: numbers.row_sums(m, e, vocabulary))
                its_sums = hax.named_jit(measure, axis_resources=parameters)(placed, sharded)
                report[name]["sums"] = difference(its_sums, sums)
            else:
                gradients_of = in_compute(functools.partial(gradients, placed))
                in_parts = microbatched(gradients_of, loss_rows.Batch, 2, parameters, compute)
                (part_loss, part_metrics), part_slope = eqx.filter_jit(in_parts)(sharded)
                report["micro-batches"] = {
                    "loss": float(part_loss),
                    "gradients": difference(part_slope, slope),
                    "metrics": difference(values(part_metrics), values(metrics)),
                }
    print(json.dumps(report))


def values(metrics: Any) -> dict[str, float]:
    return {name: float(metric.value()) for name, metric in metrics.items()}


def sums_in_loops(text: str) -> int:
    """All-reduces of compiled HLO that stand in the body of a loop."""
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    count, name = 0, ""
    for line in text.splitlines():
        head = re.match(r"^%?([\w.\-]+) \(.*\{$", line)
        name = head.group(1) if head else name
        count += name in bodies and " all-reduce" in line
    return count


if __name__ == "__main__":
    main()
