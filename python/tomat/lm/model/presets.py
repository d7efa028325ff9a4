"""Model sizes: presets, changes to them, and parameter counts; needs no JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tomat.lm.brick.config import GAUSSIANS, BrickConfig
from tomat.lm.field.config import FieldConfig
from tomat.lm.spatial.size import eyes_parameters

if TYPE_CHECKING:
    from tomat.lm.field.config import FieldShape

#: Implementations of attention; ``auto`` is the fastest on the platform (see docs/models.md).
ATTENTION = ("auto", "splash", "cudnn", "xla", "flash", "vanilla")

#: Initialisations of a model.
INITIALISATION = ("ordinal", "random")

#: What is kept of each layer for the backward pass: ``off`` everything, ``full`` only its input, ``offload`` its input
#: on the host, ``nested`` the inputs of every few layers.
GRADIENT_CHECKPOINTING = ("off", "full", "offload", "nested")


#: How a transformer tells positions apart: by their place in the sequence, or in space.
POSITIONS = ("index", "cartesian")
#: Longest row with positions in space, whose distances to each other are all held.
_LONGEST_CARTESIAN = 2048

#: Fields of :class:`ModelConfig` that do not belong to transformers.
_OF_KINDS = ("kind", "brick")


def _known(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"model.{field} = {value!r} is not known; one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The shape of a Qwen3 model.

    Attributes:
        hidden_dim: width of the residual stream.
        num_layers: layers.
        num_heads: query heads.
        num_kv_heads: key and value heads; divides ``num_heads``.
        head_dim: width of a head; even, for the rotary embedding.
        intermediate_dim: width of the gated feed-forward layer.
        seq_len: tokens per row.
        rope_theta: base of the rotary embedding's wavelengths.
        gradient_checkpointing: one of :data:`GRADIENT_CHECKPOINTING`.
        positions: one of :data:`POSITIONS`.
        field: the shape of the field model whose features tokens see, or None.
    """

    hidden_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_dim: int
    seq_len: int
    rope_theta: float = 10_000.0
    gradient_checkpointing: str = "full"
    positions: str = "index"
    field: FieldShape | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value < 1:
                raise ValueError(f"model.{name} = {value} must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_heads = {self.num_heads} must be a multiple of num_kv_heads = {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"model.head_dim = {self.head_dim} must be even: the rotary embedding needs pairs"
            )
        _known("gradient_checkpointing", self.gradient_checkpointing, GRADIENT_CHECKPOINTING)
        _known("positions", self.positions, POSITIONS)
        if self.cartesian and self.head_dim < 6:
            raise ValueError(
                f"model.head_dim = {self.head_dim} must be at least 6 for positions in space: a head turns pairs of "
                "numbers along x, y and z"
            )
        if self.cartesian and self.seq_len > _LONGEST_CARTESIAN:
            raise ValueError(
                f"model.seq_len = {self.seq_len}: positions in space are for rows of up to {_LONGEST_CARTESIAN} "
                "tokens, since the distances between all of them are held; cut smaller patches (data.patch_size)"
            )

    @property
    def cartesian(self) -> bool:
        """Whether positions are places in space."""
        return self.positions == "cartesian"

    @property
    def spatial(self) -> bool:
        """Whether rows must say where their tokens are."""
        return self.cartesian or self.field is not None

    @property
    def attention_dim(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads together; the value heads have the same."""
        return self.num_kv_heads * self.head_dim


def _preset(hidden: int, layers: int, heads: int, intermediate: int, seq_len: int = 8192) -> ModelShape:
    return ModelShape(
        hidden_dim=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_dim=intermediate,
        seq_len=seq_len,
    )


#: Sizes by name. ``tiny`` is for tests and for laptops.
PRESETS: dict[str, ModelShape] = {
    "tiny": dataclasses.replace(_preset(64, 2, 4, 128, seq_len=512), gradient_checkpointing="off"),
    "30M": _preset(512, 6, 4, 2048),
    "200M": _preset(1024, 12, 16, 4096),
    "1B": _preset(2048, 20, 16, 5632),
}


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model by part; the tied embedding is also the output layer.

    Attributes:
        embedding: rows of the vocabulary times the hidden width.
        attention: projections of queries, keys, values and the output, all layers.
        feed_forward: gate, up and down, all layers.
        norms: the scales of all normalisations.
        field: the field model whose features tokens see, with the maps to their embeddings.
    """

    embedding: int
    attention: int
    feed_forward: int
    norms: int
    field: int = 0

    @property
    def total(self) -> int:
        """The total."""
        return self.embedding + self.layers + self.field

    @property
    def layers(self) -> int:
        """All layers."""
        return self.attention + self.feed_forward + self.norms

    def __str__(self) -> str:
        return (
            f"{self.total:,} parameters: embedding {self.embedding:,}, attention {self.attention:,}, "
            f"feed-forward {self.feed_forward:,}, norms {self.norms:,}"
            + (f", field {self.field:,}" if self.field else "")
        )


def parameter_count(shape: ModelShape, vocabulary_rows: int) -> ParameterCount:
    """Parameters of a model of ``shape`` with ``vocabulary_rows`` rows of the (tied) embedding.

    Qwen3 has no biases; a layer has two norms over the hidden width and one each over the width of a head for
    queries and keys, and one more norm follows the last layer. Positions in space add a bias of distance to attention.
    """
    hidden, layers = shape.hidden_dim, shape.num_layers
    bias = GAUSSIANS * shape.num_heads if shape.cartesian else 0
    return ParameterCount(
        embedding=vocabulary_rows * hidden,
        attention=layers * (hidden * (2 * shape.attention_dim + 2 * shape.kv_dim) + bias),
        feed_forward=layers * 3 * hidden * shape.intermediate_dim,
        norms=layers * (2 * hidden + 2 * shape.head_dim) + hidden,
        field=0 if shape.field is None else eyes_parameters(shape.field, hidden),
    )


@dataclass(frozen=True)
class ModelConfig:
    """The ``model`` part of a training configuration: a preset and changes to it.

    Attributes:
        kind: ``transformer``, on rows of tokens, to which all fields but ``brick`` belong; ``field``, at points in
            space; or ``brick``, on bricks of voxels and atoms.
        field: the size of a field model, and of the eyes of a brick model; ``true`` gives the tokens of a transformer
            such eyes.
        brick: the size of a brick model.
        preset: a name of :data:`PRESETS`.
        hidden_dim, num_layers, num_heads, intermediate_dim, seq_len, rope_theta, gradient_checkpointing: as in
            :class:`ModelShape`; None keeps the preset's.
        num_kv_heads: key and value heads; defaults to ``num_heads`` if that is given.
        head_dim: width of a head; defaults to ``hidden_dim / num_heads`` if one of them is given.
        attention: one of :data:`ATTENTION`.
        attention_block: tokens per block of the splash and flash kernels; None is their default.
        initialisation: ``ordinal`` starts with similar embeddings of neighbouring density tokens and layers that add
            nothing; ``random`` is Levanter's. See :func:`tomat.lm.model.qwen.build` and docs/models.md.
        positions: one of :data:`POSITIONS`; ``cartesian`` is in angstrom.
    """

    kind: str = "transformer"
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    brick: BrickConfig = dataclasses.field(default_factory=BrickConfig)
    preset: str = "tiny"
    hidden_dim: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_dim: int | None = None
    seq_len: int | None = None
    rope_theta: float | None = None
    gradient_checkpointing: str | None = None
    attention: str = "auto"
    attention_block: int | None = None
    initialisation: str = "ordinal"
    positions: str = "index"

    def __post_init__(self) -> None:
        if self.kind != "transformer" and (self.positions != "index" or self.field.tokens):
            raise ValueError(
                f"model.positions and model.field.tokens belong to transformers, and model.kind is {self.kind}; a "
                "brick model has model.brick.positions and model.brick.field"
            )

    def shape(self) -> ModelShape:
        """The preset with the changes.

        Raises:
            ValueError: an unknown preset or invalid numbers; the message names the field.
        """
        _known("preset", self.preset, tuple(PRESETS))
        _known("attention", self.attention, ATTENTION)
        _known("initialisation", self.initialisation, INITIALISATION)
        preset = PRESETS[self.preset]
        names = (field.name for field in dataclasses.fields(ModelShape) if field.name != "field")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        changes["field"] = self.field.shape() if self.field.tokens else None
        heads = changes.get("num_heads", preset.num_heads)
        if "num_heads" in changes:
            changes.setdefault("num_kv_heads", heads)
        if heads > 0 and ("num_heads" in changes or "hidden_dim" in changes) and "head_dim" not in changes:
            hidden = changes.get("hidden_dim", preset.hidden_dim)
            if hidden % heads:
                raise ValueError(
                    f"model.hidden_dim = {hidden} is not a multiple of num_heads = {heads}: give head_dim, too"
                )
            changes["head_dim"] = hidden // heads
        return dataclasses.replace(preset, **changes)

    def note(self) -> dict[str, Any]:
        """A transformer's fields as JSON; the kind is not among them.

        Notes of earlier versions do not say that positions are indices and that no token sees a field.
        """
        note = {name: value for name, value in dataclasses.asdict(self).items() if name not in _OF_KINDS}
        if self.positions == "index":
            del note["positions"]
        del note["field"]
        if self.field.tokens:
            note["field"] = {"tokens": True, **self.field.shape().to_json()}
        return note
