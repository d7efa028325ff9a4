"""What the numbers of a model count, recomputed from the decoded rows and from logits that nothing else ever holds."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import numpy as np
import pytest
from numpy.typing import NDArray

import loss_oracle as oracle
import loss_rows
import tomat
from loss_rows import Rows
from tomat import metrics
from tomat.lm import numbers
from tomat.lm.numbers import Labelled
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.objective.base import ONE_PASS, PARTLY_MASKED, TEACHER_FORCED

KINDS = {
    "l1-1k": ("v3", ("next_token", "masked", "half", "guess")),
    "two_token_9_12": ("v1", ("next_token", "masked")),
    "l1-1k-e_per_A3": ("v3", ("masked",)),
}
CASES = [(codec, objective) for codec, (_, objectives) in KINDS.items() for objective in objectives]


@functools.cache
def case(codec: str) -> tuple[Rows, Any]:
    vocabulary = loss_rows.vocabulary(codec, KINDS[codec][0])
    return loss_rows.rows(vocabulary), loss_rows.model(vocabulary)


@functools.cache
def sums_of(codec: str, objective: str) -> dict[str, NDArray[np.float64]]:
    """By ``row_sums``, jitted, in blocks that do not divide the positions."""
    rows, model = case(codec)
    measure = eqx.filter_jit(
        lambda model, example: numbers.row_sums(model, example, rows.vocabulary, others=True, block_size=100)
    )
    found = measure(model, loss_rows.example(rows, objective, preamble=0.5))
    return {name: np.asarray(array, np.float64) for name, array in found.items()}


def words(rows: Rows, ids: NDArray[np.int32]) -> tuple[int, NDArray[np.int32]]:
    """Where the voxels of a row begin, and their components, checked to be what ``PatchTokenizer.decode`` reads."""
    tokenizer, codec = rows.vocabulary.tokenizer, rows.vocabulary.codec
    voxels = tokenizer.decode(ids).density.ravel()
    start = ids.tolist().index(tokenizer.vocabulary.specials["[DENS_START]"]) + 1
    k = len(codec.sizes)
    offsets = rows.vocabulary.density.start + np.cumsum([0, *codec.sizes[:-1]])
    components = ids[start : start + k * voxels.size].reshape(-1, k) - offsets
    np.testing.assert_array_equal(codec.decode(components), voxels)
    return start, components


def expected(codec: str, objective: str) -> dict[str, NDArray[np.float64]]:
    """The same from the voxels that decode from each row, and where the sequence puts them."""
    rows, model = case(codec)
    vocabulary, codec_ = rows.vocabulary, rows.vocabulary.codec
    logits = loss_rows.logits(model, loss_rows.example(rows, objective))
    sizes = codec_.sizes
    out: dict[str, list[Any]] = {name: [] for name in sums_of(codec, objective)}
    for ids, values, z in zip(rows.tokens, rows.values, logits, strict=True):
        start, components = words(rows, ids)
        truth = values[start : start + components.size : len(sizes)]
        # The row holds what the true values encode as, or its numbers are about another density.
        assert (codec_.encode(truth) == components).all()
        row = {name: np.zeros(len(sizes)) if name in ("nats", "tokens") else 0.0 for name in out}
        for voxel, word in enumerate(components.tolist()):
            first = vocabulary.density.start
            for k, component in enumerate(word):
                at = start + voxel * len(sizes) + k
                if objective == "half" and at % 2:
                    continue
                seen_from = at - 1 if objective == "next_token" else at
                part = z[seen_from, first : first + sizes[k]]
                row["nats"][k] += oracle.cross_entropy(part, component)  # type: ignore[index]
                row["tokens"][k] += 1  # type: ignore[index]
                first += sizes[k]
                if k == 0:
                    row["abs_value"] += abs(float(truth[voxel]))
                if len(sizes) == 1:
                    points = [c for c, _, _ in oracle.ranges(codec_)]
                    for name in numbers.ESTIMATES:
                        estimate = getattr(oracle, name)(part, points)
                        row[f"abs_error_{name}"] += abs(estimate - float(truth[voxel]))
        if objective == "next_token":
            others = [*range(1, start), *range(start + components.size, len(np.trim_zeros(ids, "b")))]
            for at in others:
                row["other_nats"] += oracle.cross_entropy(z[at - 1, : vocabulary.mask], int(ids[at]))
                row["other_tokens"] += 1
        for name, value in row.items():
            out[name].append(value)
    return {name: np.array(value) for name, value in out.items()}


@pytest.mark.parametrize(("codec", "objective"), CASES)
def test_sums_are_those_of_the_decoded_rows(codec: str, objective: str) -> None:
    got, want = sums_of(codec, objective), expected(codec, objective)
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=2e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(got["tokens"], want["tokens"])


@pytest.mark.parametrize(("codec", "objective"), CASES)
def test_numbers_are_ratios_of_all_tokens(codec: str, objective: str) -> None:
    rows, _ = case(codec)
    got = sums_of(codec, objective)
    halves = [{name: a[part] for name, a in got.items()} for part in (slice(0, 1), slice(1, None))]
    label = ObjectiveConfig("next_token" if objective == "next_token" else "masked", "all").build().label
    found = numbers.aggregate(
        halves, label, electrons_per_voxel=rows.electrons, materials=["a", "b", "a", "b"]
    )
    voxels = int(got["tokens"][:, 0].sum())
    k = len(rows.vocabulary.codec.sizes)
    assert found.voxels == voxels
    assert found.rows == len(rows.tokens)
    # All k tokens of a voxel are paid for.
    assert found.bits_per_voxel.value == pytest.approx(got["nats"].sum() / math.log(2) / voxels, rel=1e-12)
    assert got["tokens"].sum() == k * voxels
    electrons = (got["tokens"][:, 0] * rows.electrons).sum()
    assert found.bits_per_electron is not None
    assert found.bits_per_electron.value == pytest.approx(
        got["nats"].sum() / math.log(2) / electrons, rel=1e-12
    )
    assert set(found.nmae) == set(found.nmae_pooled) == (set(numbers.ESTIMATES) if k == 1 else set())
    for name in found.nmae:
        error, value = got[f"abs_error_{name}"], got["abs_value"]
        by = [error[i::2].sum() / value[i::2].sum() for i in range(2)]
        assert found.nmae[name].value == pytest.approx(np.mean(by), rel=1e-12)
        assert found.nmae_pooled[name].value == pytest.approx(error.sum() / value.sum(), rel=1e-12)
    assert (found.other_bits_per_token is not None) == (objective == "next_token")


def test_nmae_is_the_one_of_metrics() -> None:
    """One row: the estimates as a density beside the true one."""
    rows, model = case("l1-1k")
    points = [c for c, _, _ in oracle.ranges(rows.vocabulary.codec)]
    part = rows.vocabulary.density
    z = loss_rows.logits(model, loss_rows.example(rows, "masked"))[0][rows.density[0]][:, part]
    sums = {name: array[:1] for name, array in sums_of("l1-1k", "masked").items()}
    found = numbers.aggregate([sums], ONE_PASS, materials=["a"])
    for name in numbers.ESTIMATES:
        predicted = [getattr(oracle, name)(row, points) for row in z]
        want = metrics.nmae(predicted, rows.values[0][rows.density[0]])
        assert found.nmae[name].value == pytest.approx(want, rel=2e-4)
        assert found.nmae_pooled[name].value == found.nmae[name].value


def test_rows_that_fill_a_batch_up_count_nothing() -> None:
    got = sums_of("l1-1k", "masked")
    blank = {name: np.zeros_like(array[:2]) for name, array in got.items()}
    full = numbers.aggregate([got], ONE_PASS, materials=list("abcd"))
    padded = numbers.aggregate([got, blank], ONE_PASS, materials=list("abcdef"))
    assert padded == full
    without = numbers.aggregate([got], ONE_PASS)
    assert without.nmae == {}
    assert without.bits_per_electron is None


def test_one_row_without_a_batch_axis() -> None:
    rows, model = case("l1-1k")
    one = jax.tree.map(
        lambda a: a["batch", 1] if isinstance(a, hax.NamedArray) else a,
        loss_rows.example(rows, "masked"),
        is_leaf=lambda a: isinstance(a, hax.NamedArray),
    )
    sums = numbers.row_sums(model, one, rows.vocabulary)
    batch = sums_of("l1-1k", "masked")
    np.testing.assert_allclose(sums["nats"], batch["nats"][1], rtol=1e-5)
    assert numbers.aggregate([sums], ONE_PASS).voxels == batch["tokens"][1, 0]


# --- labels -------------------------------------------------------------------------------------------------


def test_a_number_says_how_it_was_asked_for() -> None:
    found = numbers.aggregate([sums_of("l1-1k", "next_token")], TEACHER_FORCED, materials=list("abcd"))
    for number in (found.bits_per_voxel, *found.nmae.values(), *found.nmae_pooled.values()):
        for text in (str(number), f"{number:.3f}", f"{number}", repr(number), "{}".format(number)):  # noqa: UP032
            assert TEACHER_FORCED in text
        with pytest.raises(TypeError):
            json.dumps(number)
        with pytest.raises(TypeError):
            float(number)  # type: ignore[arg-type]
    logged = found.as_dict()
    assert all(name.startswith("teacher_forced/") for name in logged)
    assert logged["teacher_forced/nmae_median"] == found.nmae["median"].value
    assert {"teacher_forced/bits_per_voxel", "teacher_forced/other_bits_per_token"} <= logged.keys()
    assert repr(found).count(TEACHER_FORCED) >= 8


def test_labels_of_objectives() -> None:
    for schedule in ("all", "cosine", "uniform"):
        assert ObjectiveConfig("next_token", schedule).build().label == TEACHER_FORCED
    for kind in ("masked", "guess"):
        assert ObjectiveConfig(kind, "all").build().label == ONE_PASS
        assert {ObjectiveConfig(kind, s).build().label for s in ("cosine", "uniform")} == {PARTLY_MASKED}
    with pytest.raises(ValueError, match="'diffusion'; choose one of next_token"):
        ObjectiveConfig("diffusion")
    with pytest.raises(ValueError, match="label 'honest' is not one of teacher_forced"):
        Labelled(1.0, "honest")


def test_what_cannot_be_aggregated() -> None:
    got = sums_of("two_token_9_12", "masked")
    with pytest.raises(ValueError, match="no rows"):
        numbers.aggregate([], ONE_PASS)
    only_first = {**got, "tokens": got["tokens"] * [1, 0]}
    with pytest.raises(ValueError, match=r"by component of a voxel: \[108, 0\]"):
        numbers.aggregate([only_first], ONE_PASS)
    with pytest.raises(ValueError, match=r"electrons_per_voxel has shape \(3,\); there are 4 rows"):
        numbers.aggregate([got], ONE_PASS, electrons_per_voxel=np.ones(3))
    with pytest.raises(ValueError, match=r"materials has shape \(1,\); there are 4 rows"):
        numbers.aggregate([sums_of("l1-1k", "masked")], ONE_PASS, materials=["a"])


# --- the unigram line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["l1-1k", "two_token_9_12"])
def test_unigram_entropy_of_decoded_rows(codec: str) -> None:
    rows, _ = case(codec)
    vocabulary = rows.vocabulary
    counts = numbers.count_tokens(rows.tokens, vocabulary)
    every = np.concatenate([words(rows, ids)[1] for ids in rows.tokens])
    assert counts.sum() == every.size
    want = 0.0
    for component in every.T:
        frequency = np.bincount(component) / len(component)
        want -= sum(f * math.log2(f) for f in frequency.tolist() if f > 0)
    assert numbers.unigram_bits(counts, vocabulary) == pytest.approx(want, rel=1e-12)
    # Gibbs: other frequencies only cost more; a token never seen costs infinitely much without a pseudo-count.
    half = numbers.count_tokens(rows.tokens[:2], vocabulary)
    assert numbers.unigram_bits(counts, vocabulary, reference=half) == math.inf
    smoothed = numbers.unigram_bits(counts, vocabulary, reference=half, pseudo_count=1.0)
    assert want < smoothed < math.inf
    flat = numbers.unigram_bits(counts, vocabulary, reference=np.zeros(len(counts)), pseudo_count=1.0)
    assert flat == pytest.approx(sum(math.log2(size) for size in vocabulary.codec.sizes), rel=1e-12)


def test_counts_that_do_not_fit() -> None:
    vocabulary = case("l1-1k")[0].vocabulary
    with pytest.raises(ValueError, match=r"shape \(7,\); the vocabulary has 1024 density tokens"):
        numbers.unigram_bits(np.ones(7), vocabulary)
    with pytest.raises(ValueError, match="no tokens counted among the 1024"):
        numbers.unigram_bits(np.zeros(1024), vocabulary)


def test_a_uniform_model_pays_the_uniform_price() -> None:
    """Logits of zero: log2 of the size of each component, whatever the objective."""
    for codec in ("l1-1k", "two_token_9_12"):
        rows, _ = case(codec)
        model = loss_rows.model(rows.vocabulary, scale=0.0)
        sums = numbers.row_sums(model, loss_rows.example(rows, "masked"), rows.vocabulary)
        found = numbers.aggregate([sums], ONE_PASS)
        want = sum(math.log2(size) for size in tomat.load_codec(codec).sizes)
        assert found.bits_per_voxel.value == pytest.approx(want, rel=1e-5)
