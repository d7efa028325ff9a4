"""Sizes of models: presets, overrides, parameters and FLOPs."""

from __future__ import annotations

import dataclasses

import pytest

from tomat.lm.model.flops import hours_of, peak_and_memory, step_flops
from tomat.lm.model.memory import step_memory
from tomat.lm.model.presets import PRESETS, ModelConfig, ModelShape, parameter_count
from tomat.lm.vocabulary import ModelVocabulary
from tomat.tokenizer import PatchTokenizer


@pytest.mark.parametrize(
    ("preset", "total"),
    [("tiny", 1_278_336), ("30M", 34_742_272), ("200M", 220_490_240), ("1B", 1_065_966_592)],
)
def test_parameters_of_the_presets_with_16k_bins(preset: str, total: int) -> None:
    vocabulary = ModelVocabulary(PatchTokenizer("v3", "l1-16k"))
    assert vocabulary.padded_size == 18_688
    assert parameter_count(PRESETS[preset], vocabulary.padded_size).total == total


def test_presets_are_those_of_the_field() -> None:
    numbers = {
        name: (shape.hidden_dim, shape.num_layers, shape.num_heads, shape.intermediate_dim, shape.head_dim)
        for name, shape in PRESETS.items()
        if shape.seq_len == 8192
    }
    assert numbers == {
        "30M": (512, 6, 4, 2048, 128),
        "200M": (1024, 12, 16, 4096, 64),
        "1B": (2048, 20, 16, 5632, 128),
    }
    assert all(shape.num_kv_heads == shape.num_heads for shape in PRESETS.values())


def test_what_follows_from_an_override() -> None:
    assert ModelConfig(hidden_dim=32).shape().head_dim == 8
    narrow = ModelConfig(num_heads=2).shape()
    assert (narrow.num_kv_heads, narrow.head_dim) == (2, 32)
    grouped = ModelConfig(num_heads=8, num_kv_heads=2, head_dim=64).shape()
    assert (grouped.num_kv_heads, grouped.head_dim) == (2, 64)
    assert ModelConfig(seq_len=128).shape().seq_len == 128


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(preset="2B"), "model.preset = '2B'"),
        (ModelConfig(attention="fast"), "model.attention = 'fast'"),
        (ModelConfig(gradient_checkpointing="some"), "model.gradient_checkpointing = 'some'"),
        (ModelConfig(hidden_dim=30), "not a multiple of num_heads = 4"),
        (ModelConfig(num_kv_heads=3), "multiple of num_kv_heads = 3"),
        (ModelConfig(num_heads=0), "num_heads = 0"),
        (ModelConfig(num_layers=0), "num_layers = 0"),
        (ModelConfig(head_dim=7), "head_dim = 7 must be even"),
    ],
)
def test_numbers_that_make_no_model_are_refused(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.shape()


def _matmul_flops_of_a_step(shape: ModelShape, rows: int, ids: int, *, causal: bool) -> float:
    """Counted token by token and product by product, as the model does them."""
    total = 0.0
    for _row in range(rows):
        for position in range(shape.seq_len):
            keys = position + 1 if causal else shape.seq_len
            for _layer in range(shape.num_layers):
                for inner, outer in (
                    (shape.hidden_dim, shape.attention_dim),
                    (shape.hidden_dim, shape.kv_dim),
                    (shape.hidden_dim, shape.kv_dim),
                    (shape.attention_dim, shape.hidden_dim),
                    (shape.hidden_dim, shape.intermediate_dim),
                    (shape.hidden_dim, shape.intermediate_dim),
                    (shape.intermediate_dim, shape.hidden_dim),
                ):
                    total += 2 * inner * outer
                total += shape.num_heads * keys * (2 * shape.head_dim + 2 * shape.head_dim)
            total += 2 * shape.hidden_dim * ids
    return total


@pytest.mark.parametrize("causal", [True, False])
def test_flops_count_every_product(causal: bool) -> None:
    shape = ModelConfig(num_heads=4, num_kv_heads=2, head_dim=10, seq_len=12).shape()
    flops = step_flops(shape, 3, 50, causal=causal)
    forward = _matmul_flops_of_a_step(shape, 3, 50, causal=causal)
    assert flops.forward == pytest.approx(forward, rel=1e-12)
    assert flops.model == 3 * flops.forward
    assert flops.recomputed == flops.head  # tiny keeps its activations, the loss goes by blocks
    full = step_flops(dataclasses.replace(shape, gradient_checkpointing="full"), 3, 50, causal=causal)
    assert full.model == flops.model
    assert full.recomputed == full.forward


def test_mfu_is_the_share_of_the_peak() -> None:
    flops = step_flops(PRESETS["200M"], 128, 16_384, causal=True)
    # 6 FLOPs a parameter and token outside the embedding, and attention on top.
    dense = 6 * parameter_count(PRESETS["200M"], 0).layers * flops.tokens
    assert 3 * flops.layers == pytest.approx(dense, rel=1e-3)
    hours = hours_of(flops.model, 0.45, "NVIDIA H200")
    assert hours is not None
    assert flops.model / (3600 * hours * 989e12) == pytest.approx(0.45)
    assert hours_of(flops.model, 0.45, "cpu") is None
    assert peak_and_memory("cpu") == (None, None)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v6 lite", 918e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Quadro K2000", None),
    ],
)
def test_peak_of_a_device(kind: str, peak: float | None) -> None:
    assert peak_and_memory(kind)[0] == peak


#: Peak GiB a chip of v6e as the compiler counts it, of the table in docs/tpu.md: preset, chips, rows at a time,
#: micro-batches, checkpointing.
COMPILED = [
    ("30M", 8, 16, False, "full", 4.28),
    ("200M", 8, 4, True, "full", 3.21),
    ("1B", 8, 4, True, "full", 7.66),
    ("200M", 8, 16, False, "full", 11.06),
    ("1B", 8, 16, False, "full", 22.30),
    ("1B", 16, 4, True, "full", 6.40),
    ("30M", 8, 1, False, "off", 3.14),
    ("30M", 8, 4, True, "off", 12.5),
    ("200M", 8, 1, False, "off", 16.35),
]


@pytest.mark.parametrize(("preset", "chips", "rows", "micro", "checkpointing", "peak"), COMPILED)
def test_the_estimate_of_memory_is_near_the_compilers(
    preset: str,
    chips: int,
    rows: int,
    micro: bool,
    checkpointing: str,
    peak: float,
) -> None:
    shape = ModelConfig(preset=preset, gradient_checkpointing=checkpointing).shape()
    memory = step_memory(
        shape, 18_688, rows_at_a_time=rows, devices=chips, micro_batches=micro, head_ids=16_384
    )
    assert memory.total / 2**30 == pytest.approx(peak, rel=0.2)


def test_memory_by_what_it_is_for() -> None:
    shape = PRESETS["200M"]
    one = step_memory(shape, 18_688, rows_at_a_time=2)
    assert one.parameters == 4 * 220_490_240
    assert one.optimizer == 2 * one.parameters
    assert one.gathered == 0
    assert one.kept == 12 * 2 * 1024 * 2 * 8192
    many = step_memory(shape, 18_688, rows_at_a_time=2, devices=8, average=True, optimizer="muon")
    assert many.parameters + many.optimizer + many.average == 3 * one.parameters / 8
    assert many.kept == one.kept
    keeps = step_memory(dataclasses.replace(shape, gradient_checkpointing="off"), 18_688, rows_at_a_time=2)
    assert keeps.kept > 10 * one.kept
    assert keeps.layer == 0
    assert step_memory(shape, 18_688, rows_at_a_time=2, block_size=0).logits == 8 * 2 * 8192 * 18_688
    names = [name for name, _ in one.rows()]
    assert names[-1] == "total"
    assert dict(one.rows())["total"] == pytest.approx(sum(size for _, size in one.rows()[:-1]))
    with pytest.raises(KeyError, match="unknown optimizer 'sgd'"):
        step_memory(shape, 18_688, rows_at_a_time=2, optimizer="sgd")


def test_memory_of_a_device() -> None:
    assert peak_and_memory("TPU v6 lite")[1] == 31.25 * 2**30
    assert peak_and_memory("NVIDIA A100-SXM4-40GB")[1] == 39 * 2**30
