"""What becomes of the loss when it is compiled: memory, four devices, TPU, mixed precision, the divisor."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import jmp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import loss_rows
from places import TESTS
from tomat.lm.loss import DensityLoss, LossConfig
from tomat.lm.loss.blocks import per_position, weighted_sum

HERE = TESTS / "lm"
NO_SPLIT = PartitionSpec()  # type: ignore[no-untyped-call]


def squares(logits: jax.Array, given: Any) -> tuple[jax.Array, Any]:
    """A loss that needs all logits at once: cross-entropy and something dense."""
    lse = jax.nn.logsumexp(logits, axis=-1)
    return lse - logits[:, 0] + jnp.mean(jnp.tanh(logits) ** 2, axis=-1) * given, {"lse": lse}


@functools.cache
def temporary(positions: int, ids: int, block: int, *, again: bool = False) -> int:
    """Bytes XLA sets aside, beside arguments and results, for a value and its gradients."""
    x, given = jnp.zeros((4, positions // 4, 32)), jnp.zeros((4, positions // 4))
    head = jnp.zeros((ids, 32))

    def loss(x: jax.Array, head: jax.Array, given: jax.Array) -> jax.Array:
        if again:
            return jnp.sum(per_position(squares, block, NO_SPLIT, x, head, given)[0])
        return weighted_sum(squares, block, NO_SPLIT, x, head, given, given)[0]

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(x, head, given).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return int(analysis.temp_size_in_bytes)


@pytest.mark.parametrize("again", [False, True])
def test_memory_does_not_grow_with_positions_times_ids(again: bool) -> None:
    positions, ids, block = 4096, 4096, 128
    logits = positions * ids * 4
    full = temporary(positions, ids, 0, again=again)
    blockwise = temporary(positions, ids, block, again=again)
    assert full >= logits
    assert blockwise < full / 10
    # Twice the positions add their activations and gradients, not their logits.
    more = temporary(2 * positions, ids, block, again=again) - blockwise
    assert more < logits / 30
    assert temporary(2 * positions, ids, 0, again=again) - full >= logits


def in_subprocess(script: str, devices: int) -> dict[str, Any]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, HERE / script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_four_devices_give_what_one_does() -> None:
    """Batch over four; batch and model over two each; micro-batches that hold unequal numbers of positions."""
    report = in_subprocess("loss_devices.py", 4)
    for name in ("data", "model", "micro-batches"):
        assert report[name]["loss"] == pytest.approx(report["loss"], rel=1e-6), name
        assert report[name]["gradients"] < 1e-5, name
        assert report[name]["metrics"] < 1e-5, name
    assert report["data"]["sums"] < 1e-5
    # The head's gradient is summed over devices after the last block, and logits never are.
    assert report["data"]["sums over devices in a loop"] == 0


def test_lowers_for_tpu_without_calling_back() -> None:
    vocabulary = loss_rows.vocabulary("l1-1k")
    rows, model = loss_rows.rows(vocabulary), loss_rows.model(vocabulary)
    loss = DensityLoss(
        LossConfig({"kl_gaussian": 1.0, "crps": 0.01}, scope="vocabulary", block_size=64), vocabulary
    )
    arrays, rest = eqx.partition(model, eqx.is_array)

    def step(arrays: Any, example: Any) -> Any:
        return jax.value_and_grad(lambda a: jnp.asarray(loss(eqx.combine(a, rest), example)[0].scalar()))(
            arrays
        )

    text = (
        jax.jit(step)
        .trace(arrays, loss_rows.example(rows, "next_token"))
        .lower(lowering_platforms=("tpu",))
        .as_text()
    )
    assert "stablehlo.while" in text
    assert "callback" not in text


def test_mixed_precision_sums_in_float32() -> None:
    """bfloat16 inputs, float32 logits: as exact as the inputs' own rounding allows."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((1, 256, 64)), jnp.bfloat16)
    head = jnp.asarray(rng.standard_normal((512, 64)) / 4, jnp.bfloat16)
    weight = jnp.ones((1, 256), jnp.float32)

    def loss(x: jax.Array, head: jax.Array, block: int) -> jax.Array:
        return weighted_sum(squares, block, NO_SPLIT, x, head, weight, weight / 256)[0]

    value, (dx, dhead) = jax.value_and_grad(loss, argnums=(0, 1))(x, head, 8)
    assert value.dtype == jnp.float32
    assert (dx.dtype, dhead.dtype) == (jnp.bfloat16, jnp.bfloat16)
    exact, (ex, ehead) = jax.value_and_grad(loss, argnums=(0, 1))(
        x.astype(jnp.float32), head.astype(jnp.float32), 0
    )
    assert float(value) == pytest.approx(float(exact), rel=1e-6)
    for got, want in ((dx, ex), (dhead, ehead)):
        error = float(jnp.linalg.norm(got.astype(jnp.float32) - want) / jnp.linalg.norm(want))
        # 2^-9 from rounding the logits' gradient and once the result; sums of 32 blocks in bfloat16 would give 1e-2.
        assert error < 4e-3


def test_trainers_policy_and_parameters_in_float32() -> None:
    vocabulary = loss_rows.vocabulary("l1-1k")
    rows, model = loss_rows.rows(vocabulary), loss_rows.model(vocabulary, scale=1.0)
    policy = jmp.get_policy("p=f32,c=bfloat16")
    loss = DensityLoss(LossConfig(), vocabulary)

    @eqx.filter_jit
    def step(model: Any, example: Any) -> Any:
        def scalar(model: Any) -> jax.Array:
            return jnp.asarray(loss(policy.cast_to_compute(model), example)[0].scalar())

        return eqx.filter_value_and_grad(scalar)(model)

    example = loss_rows.example(rows, "masked")
    value, slope = step(model, example)
    assert {leaf.dtype for leaf in jax.tree.leaves(slope)} == {jnp.dtype("float32")}
    exact = float(loss(model, example)[0].scalar())
    assert float(value) == pytest.approx(exact, rel=2e-2)


# --- divisors -----------------------------------------------------------------------------------------------


def uniform(vocabulary: Any, **settings: Any) -> tuple[DensityLoss, Any]:
    return DensityLoss(LossConfig(block_size=0, **settings), vocabulary), loss_rows.model(
        vocabulary, scale=0.0
    )


def test_weights_of_nmae_make_a_loss_that_is_it() -> None:
    """loss_weight = 1 / mean |rho| and the error of an estimate: the loss of a material is its NMAE."""
    vocabulary = loss_rows.vocabulary("l1-1k")
    rows = loss_rows.rows(vocabulary)
    n = rows.density.sum(axis=1)
    mean = np.abs(rows.values).sum(axis=1) / n
    loss, model = uniform(vocabulary, terms={"expected_value_error": 1.0})
    points = vocabulary.codec.decode(np.arange(1024)[:, None])
    for row in range(len(rows.tokens)):
        one = dataclasses.replace(rows, tokens=rows.tokens[row : row + 1], values=rows.values[row : row + 1])
        example = loss_rows.example(one, "masked", weights=1 / mean[row : row + 1])
        truth = one.values[one.density]
        want = np.abs(points.mean() - truth).sum() / np.abs(truth).sum()
        assert float(loss(model, example)[0].scalar()) == pytest.approx(want, rel=1e-5)
    # Over a batch, the mean over materials, as each has as many voxels.
    example = loss_rows.example(rows, "masked", weights=1 / mean)
    each = [
        np.abs(points.mean() - v[d]).sum() / np.abs(v[d]).sum()
        for v, d in zip(rows.values, rows.density, strict=True)
    ]
    assert float(loss(model, example)[0].scalar()) == pytest.approx(np.mean(each), rel=1e-5)


def test_what_the_sum_is_divided_by() -> None:
    vocabulary = loss_rows.vocabulary("l1-1k")
    rows = loss_rows.rows(vocabulary)
    weights = np.array([1.0, 0.0, 3.0, 0.5])
    example = loss_rows.example(rows, "masked", weights=weights)
    per_token, counts = np.log(1024), rows.density.sum(axis=1)
    total = per_token * (weights * counts).sum()
    divisors = {
        "positions": counts[weights > 0].sum(),
        "weights": (weights * counts).sum(),
        "fixed": 4 * 4**3,
    }
    for name, divisor in divisors.items():
        loss, model = uniform(vocabulary, terms={"cross_entropy": 1.0}, normalise=name)
        assert float(loss(model, example)[0].scalar()) == pytest.approx(total / divisor, rel=1e-5)
        assert float(loss(model, example, reduction=hax.sum)[0].scalar()) == pytest.approx(total, rel=1e-5)
    loss, model = uniform(vocabulary, terms={"cross_entropy": 1.0}, normalise="fixed", positions_per_row=10)
    assert float(loss(model, example)[0].scalar()) == pytest.approx(total / 40, rel=1e-5)
    with pytest.raises(ValueError, match="divides by rows"):
        loss(model, example, reduction_axis="position")
    with pytest.raises(ValueError, match=r"not one of hax\.mean, hax\.sum"):
        loss(model, example, reduction=hax.max)
    # Nothing asked for: no division by zero.
    nothing = loss_rows.example(rows, "masked", weights=np.zeros(4))
    for name in divisors:
        loss, model = uniform(vocabulary, terms={"cross_entropy": 1.0}, normalise=name)
        assert float(loss(model, nothing)[0].scalar()) == 0.0
