"""Decode densities from a model: one pass, k passes, free running; needs JAX and Levanter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
from levanter.layers.attention import AttentionMask

from tomat.lm.data.shuffle import random_bits
from tomat.lm.decode.estimates import Estimates, estimates
from tomat.lm.decode.generate import Fed, generate
from tomat.lm.loss import DensityTargets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tomat.lm.checkpoint import Trained
    from tomat.lm.spatial.example import Space
    from tomat.prediction.options import DecodingConfig, Sampling


@dataclass(frozen=True, eq=False)
class OpenRows:
    """Rows to decode, all of one length and one number of density tokens.

    Attributes:
        tokens: (n, length) ids.
        segments: (n, length) 0, and -1 at padding.
        first: (n,) column of the first density token.
        count: density tokens per row.
        keys: (n,) random keys of samples.
        truth: (n, voxels) true densities, or None.
        space: of the rows, for a model to which it matters.
    """

    tokens: NDArray[np.int32]
    segments: NDArray[np.int32]
    first: NDArray[np.int32]
    count: int
    keys: NDArray[np.uint64]
    truth: NDArray[np.float32] | None
    space: Space | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoded arrays (rows, voxels); all but the density may be None."""

    density: NDArray[np.float32]
    spread: NDArray[np.float32] | None
    error: NDArray[np.float32] | None
    pit: NDArray[np.float32] | None

    def where(self, known: NDArray[np.bool_], other: Decoded) -> Decoded:
        """These values where ``known`` holds, those of ``other`` elsewhere."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        chosen: list[Any] = [None if a is None or b is None else np.where(known, a, b) for a, b in pairs]
        return Decoded(*chosen)


class Decoder:
    """Decodes densities from a trained model.

    Args:
        trained: the model; its weights are converted to bfloat16 on accelerators and float32 on CPUs.
        decoding: decoding options.

    Raises:
        ValueError: the estimate is not defined for the codec.
    """

    def __init__(self, trained: Trained, decoding: DecodingConfig) -> None:
        self.decoding = decoding
        self._sampling = decoding.sampling
        self._tokenizer = trained.vocabulary.tokenizer
        self._causal = trained.objective.causal
        self._targets = DensityTargets.of(trained.vocabulary)
        self.components = len(self._targets.sizes)
        if self.components > 1 and decoding.estimate in ("median", "mean"):
            raise ValueError(
                f"codec {trained.vocabulary.codec.name} writes a voxel as {self.components} tokens, which have no "
                f"{decoding.estimate}; use --estimate mode or sample"
            )
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        self._mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
        self.model = jax.tree.map(
            lambda a: jax.device_put(a.astype(dtype), self._sharding()) if eqx.is_inexact_array(a) else a,
            trained.model,
        )

    def _sharding(self, *axes: str) -> jax.sharding.NamedSharding:
        """Sharding of arrays: the first axes split over the devices; without axes, replicated."""
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))  # type: ignore[no-untyped-call]

    def decode(self, batch: OpenRows) -> Decoded:
        """The densities of rows."""
        if self.decoding.mode == "free_running":
            return self._free_running(batch)
        if self.decoding.mode == "k_pass":
            return self._k_pass(batch)
        return self._read(self._forward(batch.tokens, batch, _uniform(batch.keys, batch.count)), batch)

    def _k_pass(self, batch: OpenRows) -> Decoded:
        """Fix the most confident voxels pass by pass (MaskGIT's cosine schedule).

        A voxel keeps the estimate of the pass that fixed it.
        """
        tokens = batch.tokens.copy()
        count, k = batch.count, self.components
        rows, columns = np.arange(len(tokens))[:, None], batch.first[:, None] + np.arange(count)
        known = np.zeros((len(tokens), count // k), bool)
        kept: Decoded | None = None
        passes = min(self.decoding.passes, count // k)
        for number in range(passes):
            drawn = _uniform(batch.keys + np.uint64(number), count)
            found = self._forward(tokens, batch, drawn)
            fresh = self._read(found, batch)
            kept = fresh if kept is None else kept.where(known, fresh)
            left = np.cos(np.pi / 2 * (number + 1) / passes) if number + 1 < passes else 0.0
            target = max(round((1 - left) * known.shape[1]), 1)
            sure = found.confidence.reshape(*known.shape, k).prod(axis=-1)
            order = np.argsort(np.where(known, -np.inf, -sure), axis=1, kind="stable")[:, :target]
            newly = np.zeros_like(known)
            np.put_along_axis(newly, order, True, axis=1)
            newly &= ~known
            tokens[rows, columns] = np.where(
                np.repeat(newly, k, axis=1), self._answered(found), tokens[rows, columns]
            )
            known |= newly
        assert kept is not None
        return kept

    def _free_running(self, batch: OpenRows) -> Decoded:
        sampled = self.decoding.samples > 1 or self.decoding.estimate == "sample"
        fed: Fed = "sample" if sampled else "mode" if self.decoding.estimate == "mode" else "median"
        truth = self._truth(batch)
        drawn = [_uniform(batch.keys + np.uint64(i), batch.count) for i in range(self.decoding.samples)]
        values = np.stack([self._generated(batch, numbers, truth, fed) for numbers in drawn])
        density = np.median(values, axis=0).astype(np.float32)
        spread = values.std(axis=0).astype(np.float32) if len(values) > 1 else None
        error = None
        if batch.truth is not None:
            error = np.abs(values - batch.truth).mean(axis=0).astype(np.float32)
        return Decoded(density, spread, error, None)

    def _generated(
        self, batch: OpenRows, drawn: NDArray[np.float32], truth: NDArray[np.float32], fed: Fed
    ) -> NDArray[np.float32]:
        """Generate densities (rows, voxels) once."""
        found = generate(
            self.model,
            *self._placed(batch.tokens, batch.first, drawn, truth),
            targets=self._targets,
            sampling=self._sampling,
            fed=fed,
        )
        if self.components == 1 and self.decoding.samples == 1:
            return np.asarray(getattr(found, self.decoding.estimate), np.float32)
        return self._values(self._ids(getattr(found, f"{fed}_place")))

    def _forward(self, tokens: NDArray[np.int32], batch: OpenRows, drawn: NDArray[np.float32]) -> Estimates:
        """One forward pass; estimates as NumPy arrays (rows, count)."""
        truth = self._truth(batch)
        shift = 1 if self._causal else 0
        found = _run(
            self.model,
            *self._placed(tokens, batch.segments, batch.first - shift, drawn, truth),
            space=None if batch.space is None else jax.device_put(batch.space, self._rows),
            count=batch.count,
            causal=self._causal,
            targets=self._targets,
            sampling=self._sampling,
        )
        return Estimates(*(np.asarray(a) for a in found))  # type: ignore[arg-type]  # NumPy from here on

    def _truth(self, batch: OpenRows) -> NDArray[np.float32]:
        """True densities at density tokens (rows, count); zeros if not known."""
        if batch.truth is None:
            return np.zeros((len(batch.tokens), batch.count), np.float32)
        return np.repeat(batch.truth, self.components, axis=1)

    def _placed(self, *arrays: NDArray[Any]) -> list[jax.Array]:
        """Put arrays on the devices, their rows split over them if divisible."""
        return [jax.device_put(a, self._rows) for a in arrays]

    @property
    def _rows(self) -> jax.sharding.Sharding:
        """Of arrays whose first axis is that of the rows."""
        divides = self.decoding.batch_size % self._mesh.size == 0
        return self._sharding("data") if divides else self._sharding()

    def _answered(self, found: Estimates) -> NDArray[np.int32]:
        """Token ids (rows, count) of the estimate; for the mean, those of the median."""
        name = "median" if self.decoding.estimate == "mean" else self.decoding.estimate
        return self._ids(getattr(found, f"{name}_place"))

    def _ids(self, places: Any) -> NDArray[np.int32]:
        """Token ids from indices of density tokens in ascending order of value."""
        order = None if self._targets.bins is None else self._targets.bins.order
        found = np.asarray(places)
        ids: NDArray[np.int32] = (found if order is None else order[found]).astype(np.int32)
        return ids + np.int32(self._targets.first)

    def _values(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Densities (rows, voxels) of token ids (rows, count)."""
        return self._tokenizer.density_values(ids).reshape(len(ids), -1).astype(np.float32)

    def _read(self, found: Estimates, batch: OpenRows) -> Decoded:
        if self.components > 1:
            return Decoded(self._values(self._answered(found)), None, None, None)
        density = np.asarray(getattr(found, self.decoding.estimate), np.float32)
        of_truth = (found.expected_error, found.pit)
        error, pit = (None if batch.truth is None else np.asarray(a, np.float32) for a in of_truth)
        return Decoded(density, np.asarray(found.spread, np.float32), error, pit)


def _uniform(keys: NDArray[np.uint64], n: int) -> NDArray[np.float32]:
    """Random numbers in [0, 1), (len(keys), n), one row per key."""
    return random_bits(keys, n).astype(np.float32) * np.float32(2.0**-24)


@eqx.filter_jit
def _run(
    model: Any,
    tokens: jax.Array,
    segments: jax.Array,
    first: jax.Array,
    drawn: jax.Array,
    truth: jax.Array,
    *,
    space: Space | None,
    count: int,
    causal: bool,
    targets: DensityTargets,
    sampling: Sampling,
) -> Estimates:
    """Estimates (rows, count) of the positions from ``first`` on."""
    batch, pos = hax.Axis("batch", tokens.shape[0]), hax.Axis("position", tokens.shape[1])
    mask = AttentionMask.causal() if causal else AttentionMask()
    given = {} if space is None else {"space": space}
    x = model.activations(
        hax.named(tokens, (batch, pos)),
        mask.with_segment_ids(hax.named(segments, (batch, pos))),
        pos_ids=hax.named(jnp.broadcast_to(jnp.arange(pos.size), tokens.shape), (batch, pos)),
        key=None,
        **given,
    )
    embed = x.resolve_axis(model.Embed.name)
    columns = first[:, None] + jnp.arange(count)
    at = jnp.take_along_axis(x.rearrange((batch, pos, embed)).array, columns[..., None], axis=1)
    head = model.get_lm_head().rearrange((model.Vocab.name, embed.name)).array
    component = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32) % len(targets.sizes), columns.shape)
    found = estimates(
        at.reshape(-1, embed.size),
        head,
        drawn.reshape(-1),
        truth.reshape(-1),
        targets,
        sampling=sampling,
        component=component.reshape(-1),
    )
    return Estimates(*(a.reshape(columns.shape) for a in found))
