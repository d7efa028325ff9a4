"""The losses against a slow float64 oracle, their gradients, and the callable a trainer is given."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import loss_oracle as oracle
import loss_rows
import tomat
from loss_rows import Rows
from tomat.codec import Codec, LloydMaxCodec, LogCodec
from tomat.lm.loss import TERMS, Bins, DensityLoss, LossConfig, functions
from tomat.lm.vocabulary import ModelVocabulary

SIGMA = 1.5
type Floats = NDArray[np.float64]


@functools.cache
def codec_and_bins(name: str) -> tuple[Codec, Bins]:
    """A codec by name; ``signed`` and ``log`` are small ones of the other kinds."""
    codec: Codec
    if name == "signed":
        codec = LloydMaxCodec(
            [-0.5, -0.1, 0.0, 0.2, 3.0], [-1.0, -0.2, -0.05, 0.1, 1.0, 4.0], 5.0, clip_min=-1.5
        )
    elif name == "log":
        codec = LogCodec(-3.0, 2.0, (5,))
    elif name == "two bins":
        codec = LloydMaxCodec([1.0], [0.0, 2.0], 3.0)
    else:
        codec = tomat.load_codec(name)
    return codec, Bins.of(codec)


CODECS = ("l1-1k", "l1-1k-e_per_A3", "signed", "log", "two bins")


@st.composite
def positions(draw: st.DrawFn) -> tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """A codec's name, and logits [m, n], values [m] and bins [m] of a few positions."""
    name = draw(st.sampled_from(CODECS))
    codec, bins = codec_and_bins(name)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 3.0, 30.0]))
    logits = (rng.standard_normal((4, len(bins.points))) * scale).astype(np.float32)
    span = float(bins.edges[-1] - bins.edges[0])
    value = rng.choice(
        [
            *rng.uniform(bins.edges[0], bins.edges[-1], 3),
            *rng.choice(bins.points, 2),
            *rng.choice(bins.edges, 2),
            *(bins.edges[0] - 0.1 * span, bins.edges[-1] + 0.1 * span, 0.0),
        ],
        4,
    ).astype(np.float32)
    components = codec.encode(value)[:, 0]
    rank = bins.rank if bins.rank is not None else np.arange(len(bins.points), dtype=np.int32)
    return name, logits, value, rank[components]


def of_jax(name: str, logits: Any, bins: Bins, value: Any, target: Any) -> jax.Array:
    return TERMS[name].of(logits, target, value, bins, LossConfig(sigma=SIGMA))


# --- the functions ------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(positions())
def test_each_is_its_oracle(drawn: tuple[str, Any, Any, Any]) -> None:
    name, logits, value, target = drawn
    codec, bins = codec_and_bins(name)
    scale = float(np.abs(bins.edges).max())
    for term in TERMS:
        got = of_jax(term, jnp.asarray(logits), bins, jnp.asarray(value), jnp.asarray(target))
        in_nats = term in ("cross_entropy", "kl_gaussian")
        for i in range(len(value)):
            want = oracle.term(
                term, logits[i].astype(np.float64), int(target[i]), float(value[i]), codec, SIGMA
            )
            # Nats of float32 logits up to 100; the centre of a Gaussian is a quotient of float32 differences.
            tolerance = 2e-3 if term == "kl_gaussian" else 1e-4 if in_nats else 3e-6 * scale
            assert float(got[i]) == pytest.approx(want, rel=2e-4, abs=tolerance), (term, i)
    z = functions.log_normaliser(jnp.asarray(logits))
    for i in range(len(value)):
        assert float(z[i]) == pytest.approx(oracle.log_normaliser(logits[i].astype(np.float64)), rel=1e-5)


@settings(max_examples=25)
@given(positions())
def test_estimates_are_their_oracle(drawn: tuple[str, Any, Any, Any]) -> None:
    name, logits, _, _ = drawn
    _, bins = codec_and_bins(name)
    points = bins.points.tolist()
    scale = float(np.abs(bins.points).max())
    for i, row in enumerate(logits.astype(np.float64)):
        z, c = jnp.asarray(logits[i]), jnp.asarray(bins.points)
        assert float(functions.mean(z, c)) == pytest.approx(oracle.mean(row, points), abs=3e-6 * scale)
        assert float(functions.mode(z, c)) == oracle.mode(row, points)
        # Where F passes 1/2 within the rounding of float32, either neighbour is the median.
        near = {float(functions.median(z, c))}
        total = np.cumsum(oracle.probabilities(row))
        allowed = {
            points[min(int((total < level).sum()), len(points) - 1)] for level in (0.5 - 1e-5, 0.5 + 1e-5)
        }
        low, high = min(allowed), max(allowed)
        assert all(low <= m <= high for m in near)


def test_pit_counts_what_is_below_and_half_of_the_own_bin() -> None:
    points = jnp.asarray([0.0, 1.0, 3.0])
    logits = jnp.log(jnp.asarray([0.5, 0.3, 0.2]))
    for value, expected in ((-1.0, 0.25), (0.4, 0.25), (0.6, 0.65), (1.9, 0.65), (2.1, 0.9), (9.0, 0.9)):
        assert float(functions.pit(logits, jnp.float32(value), points)) == pytest.approx(expected)


@pytest.mark.parametrize("name", [*CODECS, "fp16_1token", "l1-16k"])
def test_bins_hold_what_encodes_into_them(name: str) -> None:
    codec, bins = codec_and_bins(name)
    n = codec.sizes[0]
    order = bins.order if bins.order is not None else np.arange(n, dtype=np.int32)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_allclose(bins.points, codec.decode(order[:, None]), rtol=1e-7)
    assert (np.diff(bins.points) >= 0).all()
    wide = np.flatnonzero(np.diff(bins.edges) > 1e-6 * np.abs(bins.edges[1:]))
    middle = (bins.edges[:-1].astype(np.float64) + bins.edges[1:])[wide] / 2
    inside = np.isfinite(middle) & (middle > getattr(codec, "clip_min", -np.inf))
    np.testing.assert_array_equal(codec.encode(middle[inside])[:, 0], order[wide[inside]])


@pytest.mark.parametrize("name", CODECS)
def test_fractional_bin_is_monotone_and_stays_with_its_token(name: str) -> None:
    codec, bins = codec_and_bins(name)
    values = np.linspace(bins.edges[0] - 1, bins.edges[-1] + 1, 20_001).astype(np.float32)
    values = np.sort(np.concatenate([values, bins.edges, bins.points]))
    components = codec.encode(values)[:, 0]
    place = components if bins.rank is None else bins.rank[components]
    at = np.asarray(
        functions.fractional_bin(jnp.asarray(values), jnp.asarray(place), jnp.asarray(bins.edges))
    )
    assert (np.diff(at) >= 0).all()
    assert (np.abs(at - place) <= 0.5).all()
    assert at[0] == 0.0
    assert at[-1] == len(bins.points) - 1


def test_kl_is_zero_at_its_target_and_cross_entropy_without_width() -> None:
    i = np.arange(1024)
    logits = jnp.asarray(-0.5 * ((i - 333.3) / SIGMA) ** 2, jnp.float32)
    assert float(functions.kl_gaussian(logits, jnp.float32(333.3), SIGMA)) == pytest.approx(0.0, abs=1e-5)
    assert float(functions.kl_gaussian(logits, jnp.float32(334.3), SIGMA)) > 0.1
    free = jnp.asarray(np.random.default_rng(0).standard_normal(1024), jnp.float32)
    sharp = functions.kl_gaussian(free, jnp.float32(100.2), 0.02)
    assert float(sharp) == pytest.approx(float(functions.cross_entropy(free, jnp.int32(100))), rel=1e-6)


def test_crps_by_expectations() -> None:
    """E|X - v| - E|X - X'| / 2, the other way to write it."""
    _, bins = codec_and_bins("l1-1k")
    c = bins.points.astype(np.float64)
    rng = np.random.default_rng(1)
    for value in (-3.0, 0.0, 1.7, 250.0, 5000.0):
        logits = rng.standard_normal(1024) * 4
        p = oracle.probabilities(logits)
        want = p @ np.abs(c - value) - 0.5 * p @ np.abs(c[:, None] - c) @ p
        got = functions.crps(jnp.asarray(logits, jnp.float32), jnp.float32(value), jnp.asarray(bins.points))
        assert float(got) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("name", ["l1-1k", "signed", "log"])
def test_gradients_are_finite_differences_of_the_oracle(term: str, name: str) -> None:
    codec, bins = codec_and_bins(name)
    rng = np.random.default_rng(7)
    n = len(bins.points)
    logits = (2 * rng.standard_normal(n)).astype(np.float32)
    value = np.float32(bins.edges[n // 2] * 0.3 + bins.edges[n // 2 + 1] * 0.7)
    component = codec.encode(np.array([value]))[0, 0]
    target = int(component if bins.rank is None else bins.rank[component])
    got = jax.grad(lambda z: of_jax(term, z, bins, jnp.asarray(value), jnp.asarray(target)))(
        jnp.asarray(logits)
    )
    step = 1e-4
    for i in {target, 0, n - 1, *rng.integers(0, n, 6).tolist()}:
        ends = []
        for sign in (1, -1):
            moved = logits.astype(np.float64)
            moved[i] += sign * step
            ends.append(oracle.term(term, moved, target, float(value), codec, SIGMA))
        want = (ends[0] - ends[1]) / (2 * step)
        assert float(got[i]) == pytest.approx(want, rel=2e-3, abs=2e-6 * float(np.abs(bins.points).max())), i


def test_emd_alone_is_dead_once_concentrated_on_a_wrong_bin() -> None:
    """As p concentrates on a wrong bin the error stays, and d EMD / d z = p (|c - v| - EMD) goes to 0.

    Cross-entropy and KL keep a gradient of p - q, whatever p. CRPS, being an integral over the same p without a
    logarithm, dies as EMD does: it is proper, but no cure. The error of the expected value dies too.
    """
    _, bins = codec_and_bins("l1-1k")
    wrong, target = 700, 300
    value = jnp.float32(bins.points[target])
    error = float(bins.points[wrong] - bins.points[target])
    norms: dict[str, list[float]] = {term: [] for term in TERMS}
    for margin in (0.0, 10.0, 20.0, 30.0):
        z = jnp.zeros(1024).at[wrong].set(margin)
        for term in TERMS:
            loss, slope = jax.value_and_grad(
                lambda z, term=term: of_jax(term, z, bins, value, jnp.int32(target))
            )(z)
            assert (
                margin < 20
                or term in ("cross_entropy", "kl_gaussian")
                or float(loss) == pytest.approx(error, rel=1e-3)
            )
            scale = 1.0 if term in ("cross_entropy", "kl_gaussian") else error
            norms[term].append(float(jnp.linalg.norm(slope)) / scale)
    for term in ("emd", "crps", "expected_value_error"):
        assert norms[term][1] > 1e-3
        assert norms[term][2] < 1e-4, (term, norms)
        assert norms[term][3] < 1e-8, (term, norms)
    for term in ("cross_entropy", "kl_gaussian"):
        assert min(norms[term]) > 0.3, (term, norms)


# --- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"terms": {"mse": 1.0}}, "unknown loss mse; known: cross_entropy"),
        ({"terms": {}}, "at least one"),
        ({"terms": {"emd": 0.0}}, "weight above 0"),
        ({"sigma": 0.0}, "for zero width use cross_entropy"),
        ({"z_loss": -1.0}, "z_loss = -1.0 must not be negative"),
        ({"scope": "all"}, "scope = 'all' is not one of density, vocabulary"),
        ({"normalise": "rows"}, "normalise = 'rows' is not one of positions"),
        ({"positions_per_row": 0}, "at least 1"),
        ({"block_size": -1}, "block_size = -1"),
    ],
)
def test_configurations_that_cannot_be_meant(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings_)


def test_losses_of_values_need_one_token_a_voxel() -> None:
    vocabulary = loss_rows.vocabulary("two_token_9_12", "v1")
    for term in list(TERMS)[1:]:
        with pytest.raises(
            ValueError, match=f"loss {term} needs a codec with one token a voxel: .*has 2.*l1-16k"
        ):
            DensityLoss(LossConfig({"cross_entropy": 1.0, term: 1.0}), vocabulary)
    with pytest.raises(ValueError, match="none of them alone is a value"):
        Bins.of(vocabulary.codec)
    with pytest.raises(ValueError, match="do not ascend"):
        Bins.of(LloydMaxCodec([1.0, 2.0], [0.0, 2.0, 1.0], 3.0))


# --- the trainer's loss -------------------------------------------------------------------------------------

ALL = {"cross_entropy": 0.4, "kl_gaussian": 0.6, "crps": 0.02, "emd": 0.01, "expected_value_error": 0.03}
#: (codec, layout, objective, terms, scope)
CASES = {
    "mixture": ("l1-1k", "v3", "masked", ALL, "density"),
    "mixture, everything asked": ("l1-1k", "v3", "next_token", ALL, "vocabulary"),
    "guess": ("l1-1k", "v3", "guess", {"crps": 1.0}, "density"),
    "two tokens": ("two_token_9_12", "v1", "next_token", {"cross_entropy": 1.0}, "density"),
    "two tokens, everything asked": (
        "two_token_9_12",
        "v1",
        "next_token",
        {"cross_entropy": 1.0},
        "vocabulary",
    ),
    "descending half": ("log", "v3", "half", ALL, "vocabulary"),
}


@functools.cache
def case(name: str) -> tuple[ModelVocabulary, Rows, Any, Any, LossConfig]:
    """Vocabulary, rows, model, example with unequal weights, configuration."""
    codec, layout, objective, terms, scope = CASES[name]
    if codec == "log":
        vocabulary = ModelVocabulary(
            tomat.PatchTokenizer(layout, codec_and_bins("log")[0], 4, loss_rows.LENGTH)
        )
    else:
        vocabulary = loss_rows.vocabulary(codec, layout)
    rows = loss_rows.rows(vocabulary)
    weights = np.array([1.0, 0.25, 2.0, 0.5])
    example = loss_rows.example(rows, objective, preamble=0.5, weights=weights)
    config = LossConfig(terms, SIGMA, 1e-3, scope, block_size=100)
    return vocabulary, rows, loss_rows.model(vocabulary), example, config


def wanted(name: str, logits: Floats | None = None) -> Floats:
    """loss_weight * loss of every position, by the oracle from full logits."""
    vocabulary, _, model, example, config = case(name)
    codec, part, mask = vocabulary.codec, vocabulary.density, vocabulary.mask
    logits = loss_rows.logits(model, example) if logits is None else logits
    out = np.zeros(logits.shape[:2])
    for at in itertools.product(*map(range, out.shape)):
        z, target = logits[at], int(example.targets.array[at])
        weight, value = float(example.loss_weight.array[at]), float(example.values.array[at])
        if weight == 0.0:
            continue
        every = oracle.log_normaliser(z[:mask])
        if not part.start <= target < part.stop:
            if config.scope == "vocabulary":
                out[at] = weight * (oracle.cross_entropy(z[:mask], target) + config.z_loss * every**2)
            continue
        starts = part.start + np.cumsum([0, *codec.sizes])
        k = int(np.searchsorted(starts, target, side="right")) - 1
        slice_ = z[starts[k] : starts[k + 1]]
        place = target - int(starts[k])
        if len(codec.sizes) == 1:
            assert isinstance(codec, LogCodec | LloydMaxCodec)
            ascending = np.argsort([oracle.bin_of_component(codec, c) for c in range(len(slice_))])
            slice_, place = slice_[ascending], oracle.bin_of_component(codec, place)
        gate = every - oracle.log_normaliser(slice_) if config.scope == "vocabulary" else 0.0
        total = config.z_loss * (oracle.log_normaliser(slice_) + gate) ** 2
        for term, share in config.terms.items():
            total += share * oracle.term(term, slice_, place, value, codec, SIGMA)
            total += share * gate * (term in ("cross_entropy", "kl_gaussian"))
        out[at] = weight * total
    return out


@functools.cache
def by_tomat(name: str) -> dict[str, Any]:
    """Losses and gradients, blockwise and full, jitted together: one compilation a case."""
    vocabulary, _, model, example, config = case(name)
    blockwise = DensityLoss(config, vocabulary)
    full = DensityLoss(LossConfig(config.terms, SIGMA, 1e-3, config.scope, block_size=0), vocabulary)

    @eqx.filter_jit
    def everything(model: Any, example: Any) -> dict[str, Any]:
        def scalar(m: Any, loss: DensityLoss) -> tuple[jax.Array, Any]:
            value, metrics = loss(m, example)
            return jnp.asarray(value.scalar()), metrics

        def total(m: Any) -> jax.Array:
            return jnp.sum(blockwise(m, example, reduction=None)[0].array)

        positions, of_positions = blockwise(model, example, reduction=None)
        (mean, metrics), gradient = eqx.filter_value_and_grad(scalar, has_aux=True)(model, blockwise)
        (whole, _), whole_gradient = eqx.filter_value_and_grad(scalar, has_aux=True)(model, full)
        return {
            "positions": positions.array,
            "metrics of positions": of_positions,
            "sum": blockwise(model, example, reduction=hax.sum)[0].array,
            "rows": blockwise(model, example, reduction_axis="position")[0].array,
            "mean": (mean, gradient),
            "full": (whole, whole_gradient),
            "total": eqx.filter_value_and_grad(total)(model),
            "metrics": metrics,
        }

    found: dict[str, Any] = everything(model, example)
    return found


@pytest.mark.parametrize("name", CASES)
def test_loss_is_its_oracle(name: str) -> None:
    want, got = wanted(name), by_tomat(name)
    np.testing.assert_allclose(got["positions"], want, rtol=5e-4, atol=2e-3)
    counted = want != 0
    assert float(got["sum"]) == pytest.approx(want.sum(), rel=1e-4)
    assert float(got["mean"][0]) == pytest.approx(want.sum() / counted.sum(), rel=1e-4)
    np.testing.assert_allclose(got["rows"], want.sum(axis=1) / counted.sum(axis=1), rtol=1e-4)
    vocabulary, rows, _, example, config = case(name)
    targets = np.asarray(example.targets.array)
    density = (targets >= vocabulary.density.start) & (np.asarray(example.loss_weight.array) > 0)
    assert float(got["metrics"]["density_positions"].value()) == density.sum()
    assert density.sum() == rows.density.sum() // (2 if CASES[name][2] == "half" else 1)
    assert ("other_cross_entropy" in got["metrics"]) == (config.scope == "vocabulary")
    assert got["metrics of positions"].keys() == got["metrics"].keys()
    for metric, found in got["metrics"].items():
        assert float(got["metrics of positions"][metric].value()) == pytest.approx(
            float(found.value()), rel=1e-5
        )
    weighted = sum(share * float(got["metrics"][term].value()) for term, share in config.terms.items())
    weighted += config.z_loss * float(got["metrics"]["z"].value())
    if config.scope == "density":
        assert weighted == pytest.approx(float(got["mean"][0]), rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_blockwise_is_full_and_gradients_agree(name: str) -> None:
    got = by_tomat(name)
    n = float(got["total"][0]) / float(got["mean"][0])
    assert float(got["mean"][0]) == pytest.approx(float(got["full"][0]), rel=1e-5)
    for a, b, c in zip(*(jax.tree.leaves(got[k][1]) for k in ("mean", "full", "total")), strict=True):
        size = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5 * size)
        # The other way to the gradient, which makes the logits again in the backward pass.
        np.testing.assert_allclose(a, c / n, rtol=1e-3, atol=2e-5 * size)


def test_gradient_of_the_head_is_that_of_the_oracle() -> None:
    """Finite differences of the float64 loss along directions of the head, through real rows and logits."""
    name = "mixture, everything asked"
    vocabulary, _, model, example, _ = case(name)
    got = by_tomat(name)
    gradient = np.asarray(got["mean"][1].lm_head.weight.rearrange(("vocab", "embed")).array, np.float64)
    # [MASK] and the rows that fill up the embedding get nothing.
    assert (gradient[vocabulary.mask :] == 0).all()
    assert (gradient[: vocabulary.mask] != 0).any(axis=1).mean() > 0.5
    x = model.activations(example.tokens, example.attn_mask, pos_ids=example.pos_ids)
    x = np.asarray(x.rearrange(("batch", "position", "embed")).array, np.float64)
    head = np.asarray(model.lm_head.weight.rearrange(("vocab", "embed")).array, np.float64)
    direction = np.random.default_rng(3).standard_normal(head.shape) * np.abs(gradient)
    step = 1e-3 / np.abs(direction).max()
    moved = [wanted(name, x @ (head + sign * step * direction).T) for sign in (1, -1)]
    ends = [losses.sum() / (losses != 0).sum() for losses in moved]
    assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3)
