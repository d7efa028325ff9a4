"""A trained model as something that predicts patches; needs JAX and Levanter."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np
from levanter.layers.attention import AttentionMask

from tomat.lm.checkpoint import Trained, open_checkpoint
from tomat.lm.data.guess import load_guess
from tomat.lm.data.shuffle import key_of, random_bits
from tomat.lm.estimates import Estimates, Sampling, estimates
from tomat.lm.generate import Fed, generate
from tomat.lm.loss import DensityTargets
from tomat.predict.predictor import PatchPrediction, PatchRequest, TrainingFacts
from tomat.promolecule import Promolecule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.predict.predictor import Mode
    from tomat.tokenizer import PatchTokenizer

__all__ = ["ESTIMATES", "MODES", "DecodingConfig", "ModelPredictor", "open_predictor"]

type Estimate = Literal["median", "mean", "mode", "sample"]
ESTIMATES: tuple[Estimate, ...] = ("median", "mean", "mode", "sample")

#: The modes a model of each objective can predict in; the first is its default.
MODES: dict[str, tuple[Mode, ...]] = {
    "masked": ("one_pass", "k_pass"),
    "guess": ("one_pass", "k_pass"),
    "next_token": ("free_running", "teacher_forced"),
}

#: Short rows come in multiples of this many tokens.
_STEP = 128


@dataclass(frozen=True)
class DecodingConfig:
    """How densities are read off a model.

    Attributes:
        mode: one of :data:`MODES`.
        passes: of ``k_pass``.
        estimate: ``median`` (least absolute error), ``mean`` (least squared error), ``mode``, or ``sample``.
        temperature: of samples; 0 is the most probable token.
        nucleus: of samples: the smallest set of tokens with this probability.
        samples: of ``free_running``: generations a patch; their median is the density, their spread the spread.
        batch_size: patches a forward pass.
        seed: of samples.
    """

    mode: Mode = "one_pass"
    passes: int = 8
    estimate: str = "median"
    temperature: float = 1.0
    nucleus: float = 1.0
    samples: int = 1
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one that cannot be.
        """
        if self.estimate not in ESTIMATES:
            raise ValueError(f"estimate {self.estimate!r} is not one of {', '.join(ESTIMATES)}")
        if min(self.passes, self.samples, self.batch_size) < 1:
            raise ValueError("passes, samples and batch_size must be at least 1")
        if not (self.temperature >= 0 and 0 < self.nucleus <= 1):
            raise ValueError(
                f"temperature = {self.temperature} must be 0 or above, nucleus = {self.nucleus} in (0, 1]"
            )


def open_predictor(
    checkpoint: str,
    *,
    mode: Mode | None = None,
    passes: int = 8,
    temperature: float = 1.0,
    nucleus: float = 1.0,
    samples: int = 1,
    estimate: str = "median",
    batch_size: int = 8,
    seed: int = 0,
) -> ModelPredictor:
    """The predictor of a run, checkpoint or export.

    Args:
        checkpoint: folder or URL; see :func:`tomat.lm.checkpoint.open_checkpoint`.
        mode: the objective's own where None (``one_pass``; ``free_running`` for ``next_token``).
        passes, temperature, nucleus, samples, estimate, batch_size, seed: see :class:`DecodingConfig`.

    Raises:
        FileNotFoundError: no complete checkpoint there.
        ValueError: a mode the model does not have, or numbers that cannot be.
    """
    trained = open_checkpoint(checkpoint)
    known = MODES[trained.objective.kind]
    chosen = mode or known[0]
    if chosen not in known:
        raise ValueError(
            f"{checkpoint}: a model of objective {trained.objective.kind} predicts in mode {' or '.join(known)}, "
            f"not {chosen}"
        )
    return ModelPredictor(
        trained,
        DecodingConfig(chosen, passes, estimate, temperature, nucleus, samples, batch_size, seed),
    )


@dataclass(frozen=True, eq=False)
class _Layout:
    """Rows of one crystal on one grid, and where their density tokens stand.

    Attributes:
        tokens: (length,) ids, density tokens included, without padding.
        first: column of the first density token.
        count: density tokens a row.
    """

    tokens: NDArray[np.int32]
    first: int
    count: int


class ModelPredictor:
    """Predicts patches with a trained model; implements :class:`tomat.predict.predictor.PatchPredictor`."""

    def __init__(self, trained: Trained, decoding: DecodingConfig) -> None:
        """Keep the weights in the precision of the platform: bfloat16 on accelerators, float32 on CPUs."""
        self.trained, self.decoding = trained, decoding
        self.vocabulary = trained.vocabulary
        self._targets = DensityTargets.of(trained.vocabulary)
        self._components = len(self._targets.sizes)
        if self._components > 1 and decoding.estimate in ("median", "mean"):
            raise ValueError(
                f"codec {self.vocabulary.codec.name} writes a voxel as {self._components} tokens, which have no "
                f"{decoding.estimate}; use --estimate mode or sample"
            )
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        self._mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
        self._model = jax.tree.map(
            lambda a: jax.device_put(a.astype(dtype), self._sharding()) if eqx.is_inexact_array(a) else a,
            trained.model,
        )

    def _sharding(self, *axes: str) -> jax.sharding.NamedSharding:
        """Arrays split along their first axes over the devices; whole on each without any."""
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))  # type: ignore[no-untyped-call]

    @property
    def tokenizer(self) -> PatchTokenizer:
        """What writes the preamble and reads the density."""
        return self.vocabulary.tokenizer

    @property
    def mode(self) -> Mode:
        """How predictions come about."""
        return self.decoding.mode

    @property
    def modes(self) -> tuple[Mode, ...]:
        """All modes the model can predict in."""
        return MODES[self.trained.objective.kind]

    @property
    def gives_expected_error(self) -> bool:
        """Whether predictions hold ``expected_error`` where requests hold the truth."""
        return self._components == 1 or self.mode == "free_running"

    @property
    def needs_guess(self) -> bool:
        """Whether requests must hold a starting density."""
        return self.trained.objective.kind == "guess"

    @property
    def batch_size(self) -> int:
        """Patches a forward pass."""
        return self.decoding.batch_size

    @functools.cached_property
    def facts(self) -> TrainingFacts:
        """What the training data said."""
        stored = self.trained.note.get("data_facts", {})
        facts = TrainingFacts.from_json(stored)
        if not self.needs_guess:
            return facts
        name = stored["guess"]
        return replace(facts, promolecule=Promolecule.load(name), guess=load_guess(name))

    def identity(self) -> dict[str, Any]:
        """Checkpoint, step and decoding."""
        note = self.trained.note
        return {
            "predictor": "model",
            "run": note["name"],
            "step": self.trained.step,
            "weights": self.trained.fingerprint,
            "parameters": sum(a.size for a in jax.tree.leaves(eqx.filter(self._model, eqx.is_array))),
            "tokens": self.trained.step
            * note["schedule"]["train_batch_size"]
            * self.trained.config.max_seq_len,
            "codec": note["codec"]["hash"],
            "vocabulary": note["vocabulary"]["hash"],
            "objective": note["objective"],
            "mode": self.decoding.mode,
            **{
                name: getattr(self.decoding, name)
                for name in ("passes", "estimate", "temperature", "nucleus", "samples", "seed")
            },
        }

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order.

        Raises:
            ValueError: a request without the guess or truth it needs, or of another patch shape than its crystal's.
        """
        layouts = self._layouts(requests)
        out: list[PatchPrediction | None] = [None] * len(requests)
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, layout in enumerate(layouts):
            by_shape[self._padded(layout.tokens.size), layout.count].append(index)
        for (length, _), chosen in by_shape.items():
            for start in range(0, len(chosen), self.batch_size):
                part = chosen[start : start + self.batch_size]
                predicted = self._batch([requests[i] for i in part], [layouts[i] for i in part], length)
                for index, prediction in zip(part, predicted, strict=True):
                    out[index] = prediction
        return [prediction for prediction in out if prediction is not None]

    def _padded(self, length: int) -> int:
        """Tokens of the rows that hold ``length``: a few lengths, so that few programs are compiled.

        Attention by blocks wants whole blocks: rows of more than 512 tokens come in multiples of 512, of more than
        1024 in multiples of 1024, or of the block that is configured.
        """
        limit = int(self.trained.config.max_seq_len)
        if length > limit:
            raise ValueError(f"a row of {length} tokens does not fit the model's {limit}")
        step = _STEP if length <= 512 else 512 if length <= 1024 else 1024
        step = max(step, self.trained.config.flash_attention_block_size or 0) if length > 512 else step
        return min(-(-length // step) * step, limit)

    def _layouts(self, requests: Sequence[PatchRequest]) -> list[_Layout]:
        """The row of each request; rows of one crystal on one grid are written together."""
        groups: dict[tuple[int, tuple[int, int, int]], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[id(request.crystal), request.grid_shape].append(index)
        made: dict[int, _Layout] = {}
        for chosen in groups.values():
            first = requests[chosen[0]]
            crystal = first.crystal
            shape = self.tokenizer.shape_for(len(crystal.atomic_numbers))
            wrong = [requests[i].patch_shape for i in chosen if tuple(requests[i].patch_shape) != shape]
            if wrong:
                raise ValueError(
                    f"{crystal.name}: a patch of {wrong[0]} points was asked for, rows hold {shape}"
                )
            rows = self.tokenizer.encode(
                np.zeros(first.grid_shape, np.float32),
                crystal.lattice,
                crystal.atomic_numbers,
                crystal.frac_coords,
                np.array([requests[i].offset for i in chosen]),
            )
            density = self.vocabulary.density
            columns = np.flatnonzero((rows[0] >= density.start) & (rows[0] < density.stop))
            length = self.tokenizer.length(len(crystal.atomic_numbers), shape)
            for row, index in zip(rows, chosen, strict=True):
                made[index] = _Layout(row[:length], int(columns[0]), len(columns))
                self._fill(made[index], requests[index])
        return [made[index] for index in range(len(requests))]

    def _fill(self, layout: _Layout, request: PatchRequest) -> None:
        """Write what stands at the density positions: guess, truth or [MASK]."""
        span = slice(layout.first, layout.first + layout.count)
        kind = self.trained.objective.kind
        if kind == "masked":
            layout.tokens[span] = self.vocabulary.mask
            return
        what = "guess" if kind == "guess" else "truth" if self.mode == "teacher_forced" else None
        if what is None:
            return
        values = getattr(request, what)
        if values is None:
            raise ValueError(f"{request.crystal.name}: the request at {request.offset} holds no {what}")
        layout.tokens[span] = self._ids(np.asarray(values).ravel())

    def _ids(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Density token ids (n * components,) of values (n,)."""
        components = self.vocabulary.codec.encode(values)
        starts = np.cumsum([0, *self._targets.sizes[:-1]])
        ids: NDArray[np.int32] = (components + starts + self._targets.first).astype(np.int32)
        return ids.ravel()

    def _batch(
        self, requests: list[PatchRequest], layouts: list[_Layout], length: int
    ) -> list[PatchPrediction]:
        n = len(requests)
        size = self.batch_size
        tokens = np.full((size, length), self.vocabulary.pad, np.int32)
        segments = np.full((size, length), -1, np.int32)
        first = np.zeros(size, np.int32)
        for row, layout in enumerate(layouts):
            tokens[row, : layout.tokens.size] = layout.tokens
            segments[row, : layout.tokens.size] = 0
            first[row] = layout.first
        keys = np.array([self._key(request) for request in requests] + [0] * (size - n), np.uint64)
        count = layouts[0].count
        truth = None
        if all(request.truth is not None for request in requests):
            truth = np.zeros((size, count // self._components), np.float32)
            for row, request in enumerate(requests):
                truth[row] = np.asarray(request.truth).ravel()
        found = self._decode(_Batch(tokens, segments, first, count, keys, truth))
        shapes = [tuple(request.patch_shape) for request in requests]
        return [
            PatchPrediction(
                density=found.density[i].reshape(shape),
                spread=None if found.spread is None else found.spread[i].reshape(shape),
                expected_error=None if found.error is None else found.error[i].reshape(shape),
            )
            for i, shape in enumerate(shapes)
        ]

    def _key(self, request: PatchRequest) -> int:
        """Decides the samples of a patch, whatever else is in its batch."""
        key: int = key_of(self.decoding.seed, request.crystal.name, *request.offset)
        return key

    def _decode(self, batch: _Batch) -> _Decoded:
        if self.mode == "free_running":
            return self._free_running(batch)
        if self.mode == "k_pass":
            return self._k_pass(batch)
        return self._read(self._forward(batch.tokens, batch, _uniform(batch.keys, batch.count)), batch)

    def _k_pass(self, batch: _Batch) -> _Decoded:
        """Pass by pass, the voxels the model is surest of are written into its input (MaskGIT's cosine schedule).

        A voxel keeps the estimate of the pass it was written in.
        """
        tokens = batch.tokens.copy()
        count, k = batch.count, self._components
        known = np.zeros((len(tokens), count // k), bool)
        kept: _Decoded | None = None
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
            ids = (self._places(found) + self._targets.first).astype(np.int32)
            self._write(tokens, batch, ids, np.repeat(newly, k, axis=1))
            known |= newly
        assert kept is not None
        return kept

    def _write(
        self, tokens: NDArray[np.int32], batch: _Batch, ids: NDArray[np.int32], where: NDArray[np.bool_]
    ) -> None:
        columns = batch.first[:, None] + np.arange(batch.count)
        rows = np.arange(len(tokens))[:, None]
        tokens[rows, columns] = np.where(where, ids, tokens[rows, columns])

    def _free_running(self, batch: _Batch) -> _Decoded:
        sampled = self.decoding.samples > 1 or self.decoding.estimate == "sample"
        fed: Fed = "sample" if sampled else "mode" if self.decoding.estimate == "mode" else "median"
        truth = np.zeros((len(batch.tokens), batch.count), np.float32)
        if batch.truth is not None:
            truth = np.repeat(batch.truth, self._components, axis=1)
        values = np.stack(
            [
                self._generated(batch, _uniform(batch.keys + np.uint64(number), batch.count), truth, fed)
                for number in range(self.decoding.samples)
            ]
        )
        density = np.median(values, axis=0).astype(np.float32)
        spread = values.std(axis=0).astype(np.float32) if len(values) > 1 else None
        error = None
        if batch.truth is not None:
            error = np.abs(values - batch.truth).mean(axis=0).astype(np.float32)
        return _Decoded(density, spread, error)

    def _generated(
        self, batch: _Batch, drawn: NDArray[np.float32], truth: NDArray[np.float32], fed: Fed
    ) -> NDArray[np.float32]:
        """Densities (rows, voxels) of one generation."""
        found = generate(
            self._model,
            *self._placed(batch.tokens, batch.first, drawn, truth),
            targets=self._targets,
            sampling=self._sampling,
            fed=fed,
        )
        if self._components == 1 and self.decoding.samples == 1:
            return np.asarray(getattr(found, self.decoding.estimate), np.float32)
        places = np.asarray(getattr(found, f"{fed}_place"))
        order = None if self._targets.bins is None else self._targets.bins.order
        return self._values(places if order is None else order[places])

    @property
    def _sampling(self) -> Sampling:
        return Sampling(self.decoding.temperature, self.decoding.nucleus)

    def _forward(self, tokens: NDArray[np.int32], batch: _Batch, drawn: NDArray[np.float32]) -> Estimates:
        """One forward pass; estimates as NumPy arrays (rows, count)."""
        truth = np.zeros(drawn.shape, np.float32)
        if batch.truth is not None:
            truth = np.repeat(batch.truth, self._components, axis=1)
        shift = 1 if self.trained.objective.causal else 0
        found = _run(
            self._model,
            *self._placed(tokens, batch.segments, batch.first - shift, drawn, truth),
            count=batch.count,
            causal=self.trained.objective.causal,
            targets=self._targets,
            sampling=self._sampling,
        )
        return Estimates(*(np.asarray(a) for a in found))  # type: ignore[arg-type]  # NumPy from here on

    def _placed(self, *arrays: NDArray[Any]) -> list[jax.Array]:
        """Arrays on the devices, their rows split over them where they divide."""
        divides = self.batch_size % self._mesh.size == 0
        sharding = self._sharding("data") if divides else self._sharding()
        return [jax.device_put(a, sharding) for a in arrays]

    def _places(self, found: Estimates) -> NDArray[Any]:
        """Places among the density ids, by the estimate, (rows, count); a mean takes the bin it falls nearest to."""
        name = "median" if self.decoding.estimate == "mean" else self.decoding.estimate
        places = np.asarray(getattr(found, f"{name}_place"))
        order = None if self._targets.bins is None else self._targets.bins.order
        return places if order is None else order[places]

    def _values(self, places: NDArray[Any]) -> NDArray[np.float32]:
        """Densities (rows, voxels) of places among the density ids (rows, count)."""
        starts = np.cumsum([0, *self._targets.sizes[:-1]])
        components = places.reshape(-1, self._components) - starts
        values = self.vocabulary.codec.decode(components.astype(np.int32))
        return values.reshape(len(places), -1).astype(np.float32)

    def _read(self, found: Estimates, batch: _Batch) -> _Decoded:
        if self._components > 1:
            return _Decoded(self._values(self._places(found)), None, None)
        density = np.asarray(getattr(found, self.decoding.estimate), np.float32)
        error = None if batch.truth is None else np.asarray(found.expected_error, np.float32)
        return _Decoded(density, np.asarray(found.spread, np.float32), error)


def _uniform(keys: NDArray[np.uint64], n: int) -> NDArray[np.float32]:
    """Numbers in [0, 1), (len(keys), n): one row a key."""
    return random_bits(keys, n).astype(np.float32) * np.float32(2.0**-24)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows of one length and one number of density tokens.

    Attributes:
        tokens: (n, length) ids.
        segments: (n, length) 0, and -1 at padding.
        first: (n,) column of the first density token.
        count: density tokens a row.
        keys: (n,) what samples are drawn from.
        truth: (n, voxels) true densities, or None.
    """

    tokens: NDArray[np.int32]
    segments: NDArray[np.int32]
    first: NDArray[np.int32]
    count: int
    keys: NDArray[np.uint64]
    truth: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Arrays (rows, voxels); spread and error may be unknown."""

    density: NDArray[np.float32]
    spread: NDArray[np.float32] | None
    error: NDArray[np.float32] | None

    def where(self, known: NDArray[np.bool_], other: _Decoded) -> _Decoded:
        """This one's values where they are known, the other's elsewhere."""

        def choose(mine: Any, others: Any) -> Any:
            return None if mine is None or others is None else np.where(known, mine, others)

        return _Decoded(
            choose(self.density, other.density),
            choose(self.spread, other.spread),
            choose(self.error, other.error),
        )


@eqx.filter_jit
def _run(
    model: Any,
    tokens: jax.Array,
    segments: jax.Array,
    first: jax.Array,
    drawn: jax.Array,
    truth: jax.Array,
    *,
    count: int,
    causal: bool,
    targets: DensityTargets,
    sampling: Sampling,
) -> Estimates:
    """Estimates (rows, count) of the positions from ``first`` on."""
    batch, pos = hax.Axis("batch", tokens.shape[0]), hax.Axis("position", tokens.shape[1])
    mask = AttentionMask.causal() if causal else AttentionMask()
    x = model.activations(
        hax.named(tokens, (batch, pos)),
        mask.with_segment_ids(hax.named(segments, (batch, pos))),
        pos_ids=hax.named(jnp.broadcast_to(jnp.arange(pos.size), tokens.shape), (batch, pos)),
        key=None,
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
