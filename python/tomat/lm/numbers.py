"""Metrics of a model on rows: bits per voxel and electron, the unigram baseline, NMAE, all with their label.

The sums of a batch are computed on the device (:func:`row_sums`, one entry per row, so that padding rows can be
dropped), accumulated in float64 (:func:`aggregate`) and divided once at the end. docs/losses.md defines the numbers,
:mod:`tomat.metrics` the NMAE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from levanter.models.lm_model import split_activations

from tomat.lm.loss import functions
from tomat.lm.loss.blocks import per_position
from tomat.lm.loss.density import Flat
from tomat.lm.loss.targets import DensityTargets
from tomat.lm.objective.base import LABELS
from tomat.metrics import nmae_of_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tomat.lm.example import DensityExample
    from tomat.lm.vocabulary import ModelVocabulary

    type Arrays = dict[str, jax.Array]
    type Floats = NDArray[np.float64]

#: Point estimates; the first, which minimises the absolute error, is the one to quote.
ESTIMATES = ("median", "mean", "mode")


@dataclass(frozen=True)
class Labelled:
    """A number with its label, one of :data:`LABELS`, which is always printed with it."""

    value: float
    label: str

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise ValueError(f"label {self.label!r} is not one of {', '.join(LABELS)}")

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec or '.6g'}} ({self.label})"

    def __repr__(self) -> str:
        return f"{self}"


@dataclass(frozen=True)
class Numbers:
    """Metrics of a model on rows, under one label.

    Attributes:
        bits_per_voxel: over all tokens of a voxel.
        bits_per_electron: None if the electrons are not known.
        nmae: by estimate, mean over materials; empty if materials are not known or a voxel has several tokens.
        nmae_pooled: by estimate, over all voxels as one density; empty if a voxel has several tokens.
        other_bits_per_token: of targets other than density tokens, over all ids; None without such targets.
        rows: number of rows with predicted voxels.
        voxels: number of predicted voxels.
    """

    bits_per_voxel: Labelled
    bits_per_electron: Labelled | None
    nmae: Mapping[str, Labelled]
    nmae_pooled: Mapping[str, Labelled]
    other_bits_per_token: Labelled | None
    rows: int
    voxels: int

    @property
    def label(self) -> str:
        """The label of the numbers."""
        return self.bits_per_voxel.label

    def as_dict(self) -> dict[str, float]:
        """Numbers by name for logs and JSON; every name starts with the label, as in ``one_pass/nmae_median``."""
        found = {
            "bits_per_voxel": self.bits_per_voxel,
            "bits_per_electron": self.bits_per_electron,
            **{f"nmae_{name}": number for name, number in self.nmae.items()},
            **{f"nmae_pooled_{name}": number for name, number in self.nmae_pooled.items()},
            "other_bits_per_token": self.other_bits_per_token,
        }
        named = {f"{n.label}/{name}": n.value for name, n in found.items() if n is not None}
        return {**named, f"{self.label}/rows": float(self.rows), f"{self.label}/voxels": float(self.voxels)}


def row_sums(
    model: Any,
    example: DensityExample,
    vocabulary: ModelVocabulary,
    *,
    others: bool = False,
    block_size: int = 1024,
) -> Arrays:
    """Sums over the predicted positions of each row, those with ``loss_weight`` above 0.

    Pure and jit-able; ``vocabulary``, ``others`` and ``block_size`` are static. The probability of a density token is
    that of the softmax over the tokens of its component. Under a mesh, call it like a trainer's loss, inside
    ``hax.axis_mapping`` of the compute mapping, so that each device cuts its own blocks.

    Args:
        model: a Levanter language model.
        example: a batch.
        vocabulary: of the model.
        others: also count targets other than density tokens, with the softmax over all ids.
        block_size: positions per device whose logits exist at once; 0 is all.

    Returns:
        Arrays [rows], float32, in the codec's unit: ``abs_value`` (sum of \\|true\\|) and, with one token per voxel,
        ``abs_error_median``, ``abs_error_mean``, ``abs_error_mode``; [rows, k] for k tokens per voxel: ``nats`` and
        ``tokens``; with ``others`` also ``other_nats`` and ``other_tokens``.
    """
    out = example.activations(model)
    flat = Flat.of(model, split_activations(out)[0], example)
    targets = DensityTargets.of(vocabulary)
    head = targets.rows(flat.head, all_ids=others)
    measured = per_position(_measure(targets, others), block_size, flat.spec, flat.x, head, flat.given)[1]
    asked = targets.asked(flat.given["target"])
    weighted = flat.weight > 0
    voxel = weighted & asked.density & (asked.component == 0)
    component = jnp.arange(len(targets.sizes))
    by_component = (weighted & asked.density)[..., None] & (asked.component[..., None] == component)
    sums = {
        "nats": jnp.sum(jnp.where(by_component, measured.pop("nats")[..., None], 0.0), axis=-2),
        "tokens": jnp.sum(by_component.astype(jnp.float32), axis=-2),
        "abs_value": jnp.sum(jnp.where(voxel, jnp.abs(flat.given["value"]), 0.0), axis=-1),
    }
    if others:
        other = weighted & ~asked.density
        sums["other_nats"] = jnp.sum(jnp.where(other, measured.pop("other_nats"), 0.0), axis=-1)
        sums["other_tokens"] = jnp.sum(other.astype(jnp.float32), axis=-1)
    for name, values in measured.items():
        sums[name] = jnp.sum(jnp.where(voxel, values, 0.0), axis=-1)
    return sums


def _measure(
    targets: DensityTargets, others: bool
) -> Callable[[jax.Array, Arrays], tuple[jax.Array, Arrays]]:
    def measure(logits: jax.Array, given: Arrays) -> tuple[jax.Array, Arrays]:
        asked = targets.asked(given["target"])
        z = targets.within_component(logits[..., -targets.n :], asked.component)
        nats = functions.cross_entropy(z, asked.place)
        out = {"nats": nats}
        if others:
            out["other_nats"] = functions.log_normaliser(logits) - functions.pick(
                logits[..., : targets.first], given["target"]
            )
        if targets.bins is not None:
            points = jnp.asarray(targets.bins.points)
            for name in ESTIMATES:
                out[f"abs_error_{name}"] = jnp.abs(getattr(functions, name)(z, points) - given["value"])
        return nats, out

    return measure


def aggregate(
    sums: Iterable[Mapping[str, ArrayLike]],
    label: str,
    *,
    electrons_per_voxel: ArrayLike | None = None,
    materials: Sequence[str] | None = None,
) -> Numbers:
    """Numbers over all rows of some batches, with all tokens weighted equally.

    Args:
        sums: of each batch, from :func:`row_sums`.
        label: one of :data:`LABELS`; every objective has its own.
        electrons_per_voxel: [rows] electrons per voxel of each row's material, in the order of ``sums``; values of rows
            without predicted voxels are ignored.
        materials: [rows] material of each row; needed for ``nmae``, the mean over materials.

    Raises:
        ValueError: no voxel was predicted, or not all components of voxels, or arrays do not fit together.
    """
    columns = _columns(sums)
    tokens, nats = columns["tokens"], columns["nats"]
    n_rows = len(tokens)
    per_component = tokens.sum(axis=0)
    if not (per_component > 0).all():
        raise ValueError(
            f"predicted tokens by component of a voxel: {per_component.astype(int).tolist()}; each is needed to know "
            "the bits of a voxel"
        )
    bits = float((nats.sum(axis=0) / per_component).sum()) / math.log(2.0)
    voxels = float(per_component[0])
    per_electron = None
    if electrons_per_voxel is not None:
        electrons = _fits("electrons_per_voxel", np.asarray(electrons_per_voxel, np.float64), n_rows)
        per_electron = Labelled(
            bits * voxels / float((electrons * tokens[:, 0])[tokens[:, 0] > 0].sum()), label
        )
    other = None
    if columns.get("other_tokens", np.zeros(1)).sum() > 0:
        other_bits = float(columns["other_nats"].sum() / columns["other_tokens"].sum()) / math.log(2.0)
        other = Labelled(other_bits, label)
    pooled, by_material = {}, {}
    for name in ESTIMATES:
        if f"abs_error_{name}" not in columns:
            continue
        error, value = columns[f"abs_error_{name}"], columns["abs_value"]
        pooled[name] = Labelled(nmae_of_sums(float(error.sum()), float(value.sum())), label)
        if materials is not None:
            _fits("materials", np.asarray(materials), n_rows)
            by_material[name] = Labelled(_material_mean(error, value, tokens[:, 0], materials), label)
    asked_rows = int((tokens.sum(axis=1) > 0).sum())
    return Numbers(Labelled(bits, label), per_electron, by_material, pooled, other, asked_rows, round(voxels))


def _columns(sums: Iterable[Mapping[str, ArrayLike]]) -> dict[str, Floats]:
    parts = [{name: np.asarray(array, np.float64) for name, array in part.items()} for part in sums]
    if not parts:
        raise ValueError("there are no rows to aggregate")
    # A batch without a batch axis is one row.
    rows = [{name: a[None] for name, a in p.items()} if p["tokens"].ndim == 1 else p for p in parts]
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def _material_mean(error: Floats, value: Floats, voxels: Floats, materials: Sequence[str]) -> float:
    asked = voxels > 0
    names, of = np.unique(np.asarray(materials)[asked], return_inverse=True)
    sums = zip(*(np.bincount(of, weights=array[asked]).tolist() for array in (error, value)), strict=True)
    return math.fsum(nmae_of_sums(*pair) for pair in sums) / len(names)


def _fits[T: np.generic](name: str, array: NDArray[T], n_rows: int) -> NDArray[T]:
    if array.shape != (n_rows,):
        raise ValueError(f"{name} has shape {array.shape}; there are {n_rows} rows")
    return array


def count_tokens(tokens: ArrayLike, vocabulary: ModelVocabulary) -> NDArray[np.int64]:
    """Counts [density tokens] of all components' tokens in ids of any shape."""
    ids = np.asarray(tokens).ravel()
    part = vocabulary.density
    inside = ids[(ids >= part.start) & (ids < part.stop)] - part.start
    return np.bincount(inside, minlength=part.stop - part.start).astype(np.int64)


def unigram_bits(
    counts: ArrayLike,
    vocabulary: ModelVocabulary,
    *,
    reference: ArrayLike | None = None,
    pseudo_count: float = 0.0,
) -> float:
    """Bits per voxel of the unigram model, which knows only token frequencies: a baseline.

    For each component the mean of -log2 f over the tokens counted, summed over components, where f = (r + pseudo_count)
    / sum(r + pseudo_count) with the counts r of ``reference``.

    Args:
        counts: of the tokens that are scored, from :func:`count_tokens`.
        vocabulary: which counts are which component's.
        reference: counts that give the frequencies, usually of the training data; None is ``counts`` itself, which
            gives the entropy, a lower bound of unigram models.
        pseudo_count: added to every reference count; 1 is Laplace's rule. With 0, tokens not in the reference cost
            infinitely many bits.

    Raises:
        ValueError: counts do not fit the vocabulary, or a component has no tokens.
    """
    n = sum(vocabulary.codec.sizes)
    scored, seen = (np.asarray(a, np.float64) for a in (counts, counts if reference is None else reference))
    for array in (scored, seen):
        if array.shape != (n,):
            raise ValueError(f"counts have shape {array.shape}; the vocabulary has {n} density tokens")
    seen = seen + pseudo_count
    bits, start = 0.0, 0
    for size in vocabulary.codec.sizes:
        c, r = scored[start : start + size], seen[start : start + size]
        if c.sum() == 0 or r.sum() == 0:
            raise ValueError(f"no tokens counted among the {size} that start at density token {start}")
        used = c > 0
        with np.errstate(divide="ignore"):
            bits -= float((c[used] * (np.log2(r[used]) - np.log2(r.sum()))).sum() / c.sum())
        start += size
    return bits
