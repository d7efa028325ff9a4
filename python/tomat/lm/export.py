"""Models out to Hugging Face and in again: weights, configuration, tokenizer, codec and a card; needs Levanter.

The directory is what ``transformers.AutoModelForCausalLM.from_pretrained`` reads, and what :func:`load_exported`
opens with everything prediction needs. Weights are taken from all devices and processes before they are written, the
file is read again, and every weight is compared by shape and content before the directory counts as written: a file
of truncated weights loads without a complaint and predicts nonsense.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import equinox as eqx
import haliax as hax
import jax
import jax.numpy as jnp
import numpy as np

from tomat import __version__
from tomat.dataset.hf_tokenizer import write_tokenizer
from tomat.lm.card import model_card
from tomat.lm.model.qwen import DensityLMConfig, attention_for, build, from_qwen3
from tomat.lm.record import (
    FILES,
    FORMAT,
    NOTE,
    part,
    read_note,
    seal_note,
    tokenizer_from,
    tokenizer_note,
    write_codec,
)
from tomat.lm.vocabulary import ModelVocabulary
from tomat.storage.files import read_json, write_atomically
from tomat.storage.remote import at_hand
from tomat.storage.remote import place as place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from levanter.models.qwen import Qwen3Config, Qwen3LMHeadModel
    from numpy.typing import NDArray

    from tomat.storage.remote import Place

__all__ = ["ExportedModel", "export_model", "load_exported", "state_dict", "with_state_dict"]

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class _Weight:
    """Where a weight of every layer lives, and which axes make its rows and its columns."""

    name: str
    get: Callable[[Any], Any]
    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()


_HEADS = ("kv_head", "q_heads_per_group", "head_size")
_LAYER = (
    _Weight("self_attn.q_proj", lambda layer: layer.self_attn.q_proj.weight, _HEADS, ("embed",)),
    _Weight(
        "self_attn.k_proj", lambda layer: layer.self_attn.k_proj.weight, ("kv_head", "head_size"), ("embed",)
    ),
    _Weight(
        "self_attn.v_proj", lambda layer: layer.self_attn.v_proj.weight, ("kv_head", "head_size"), ("embed",)
    ),
    _Weight(
        "self_attn.o_proj", lambda layer: layer.self_attn.o_proj.weight, ("embed",), ("heads", "head_size")
    ),
    _Weight("self_attn.q_norm", lambda layer: layer.self_attn.q_norm.weight, ("head_size",)),
    _Weight("self_attn.k_norm", lambda layer: layer.self_attn.k_norm.weight, ("head_size",)),
    _Weight("mlp.gate_proj", lambda layer: layer.mlp.gate_proj.weight, ("mlp",), ("embed",)),
    _Weight("mlp.up_proj", lambda layer: layer.mlp.up_proj.weight, ("mlp",), ("embed",)),
    _Weight("mlp.down_proj", lambda layer: layer.mlp.down_proj.weight, ("embed",), ("mlp",)),
    _Weight("input_layernorm", lambda layer: layer.input_layernorm.weight, ("embed",)),
    _Weight("post_attention_layernorm", lambda layer: layer.post_attention_layernorm.weight, ("embed",)),
)
_EMBEDDING = _Weight(
    "model.embed_tokens.weight",
    lambda model: model.embeddings.token_embeddings.weight,
    ("vocab",),
    ("embed",),
)
_NORM = _Weight("model.norm.weight", lambda model: model.transformer.norm.weight, ("embed",))


@dataclass(frozen=True)
class ExportedModel:
    """A model that was read from an exported directory.

    Attributes:
        model: Levanter's model, float32, on the default device.
        vocabulary: ids, codec and layout.
        metadata: the content of ``tomat.json``.
    """

    model: Qwen3LMHeadModel
    vocabulary: ModelVocabulary
    metadata: dict[str, Any]

    @property
    def bidirectional(self) -> bool:
        """Whether it is to be asked with full attention."""
        return bool(self.metadata["bidirectional"])


def export_model(
    model: Qwen3LMHeadModel,
    vocabulary: ModelVocabulary,
    directory: str | Path,
    *,
    objective: dict[str, Any],
    data: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a model to a directory that is not there yet, or holds an older export.

    Every process of a run calls this: weights that lie on several hosts are brought together; the first one writes.

    Args:
        model: the trained model, sharded in any way.
        vocabulary: its ids.
        directory: a local directory.
        objective: what it was trained for, as JSON; ``kind`` says ``next_token``, ``masked`` or ``guess``.
        data: what it was trained on, as JSON; such as ``Rows.identity()``.
        extra: further facts for ``tomat.json``, such as the step and the scores.
        dtype: ``float32`` or ``bfloat16``.

    Raises:
        ValueError: a model that is not of this vocabulary, or weights whose shapes are not the configuration's.
        RuntimeError: what was written does not read back as it was.
        OSError: the directory cannot be written.
    """
    rows = vocabulary.padded_size
    if model.Vocab.size != rows:
        raise ValueError(
            f"the model has {model.Vocab.size} rows, its vocabulary {rows}: they are not of one run"
        )
    weights = state_dict(model)
    _check_shapes(weights, expected_shapes(model.config, rows))
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {dtype!r} is not known; one of float32, bfloat16")
    if jax.process_index() != 0:
        return
    weights = {name: weight.astype(jnp.dtype(dtype)) for name, weight in weights.items()}
    target = Path(directory).resolve()
    if target.exists() and any(target.iterdir()) and not (target / NOTE).exists():
        raise ValueError(f"{target} is there and is no exported model: choose another directory")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    checksums = _write_weights(partial / WEIGHTS, weights)
    _write_description(partial, model.config, vocabulary, dtype)
    metadata = _metadata(model.config, vocabulary, objective, data, extra, checksums)
    metadata[FILES] = {path.name: _file_checksum(path) for path in sorted(partial.iterdir())}
    _write_json(partial / NOTE, seal_note(json.loads(json.dumps(metadata, default=str))))
    write_atomically(partial / "README.md", model_card(metadata, model.config, vocabulary).encode())
    if target.exists():
        shutil.rmtree(target)
    partial.replace(target)


def load_exported(directory: str | Path, attention: str = "auto") -> ExportedModel:
    """Open an exported directory: the model with its codec and vocabulary.

    Args:
        directory: folder or URL of what :func:`export_model` wrote.
        attention: one of :data:`~tomat.lm.model.presets.ATTENTION`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file, codec, vocabulary or a weight is not what ``tomat.json`` says; the message says which.
    """
    place = place_of(directory)
    metadata = read_note(str(place))
    stated = part(metadata, FILES, dict, str(place)) if FILES in metadata else {}
    for name, checksum in stated.items():
        # Of the weights it is said below which one it is.
        if name != WEIGHTS and _file_checksum(place / name) != checksum:
            raise ValueError(f"{place / name}: is not what was exported (SHA-256); fetch it again")
    vocabulary = ModelVocabulary(tokenizer_from(metadata, [str(place)]))
    with at_hand(place / WEIGHTS) as weights_file:
        weights = _read_weights(weights_file, metadata, str(place / WEIGHTS))
    config = _levanter_config(place, attention, part(metadata, "bidirectional", bool, str(place)))
    template = eqx.filter_eval_shape(build, config, vocabulary, jax.random.PRNGKey(0))
    return ExportedModel(with_state_dict(template, weights), vocabulary, metadata)


def state_dict(model: Qwen3LMHeadModel) -> dict[str, NDArray[Any]]:
    """All weights under the names `transformers` gives them, on the host, whole, whatever devices hold them.

    Collective: on several hosts, every process calls it.
    """
    stacked = model.transformer.layers.stacked
    weights = {one.name: _matrix(one.get(model), one, ()) for one in (_EMBEDDING, _NORM)}
    for one in _LAYER:
        layers = _matrix(one.get(stacked), one, ("layer",))
        for index, layer in enumerate(layers):
            weights[f"model.layers.{index}.{one.name}.weight"] = layer
    return weights


def with_state_dict(model: Qwen3LMHeadModel, weights: dict[str, NDArray[Any]]) -> Qwen3LMHeadModel:
    """``model``, or its shapes, with the weights of :func:`state_dict`, as float32.

    Raises:
        ValueError: a weight is missing, is too much, or has another shape.
    """
    _check_shapes(weights, expected_shapes(model.config, model.Vocab.size))
    layers = range(model.config.num_layers)
    for one in (_EMBEDDING, _NORM):
        model = eqx.tree_at(one.get, model, _named(weights[one.name], one.get(model), one, ()))
    stacked = model.transformer.layers.stacked
    for one in _LAYER:
        whole = np.stack([weights[f"model.layers.{index}.{one.name}.weight"] for index in layers])
        stacked = eqx.tree_at(one.get, stacked, _named(whole, one.get(stacked), one, ("layer",)))
    return eqx.tree_at(lambda tree: tree.transformer.layers.stacked, model, stacked)


def expected_shapes(config: Qwen3Config, rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights, from the numbers of the configuration alone."""
    hidden, wide = config.hidden_dim, config.intermediate_dim
    query, keys = config.num_heads * config.actual_head_size, config.num_kv_heads * config.actual_head_size
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, query),
        "self_attn.q_norm": (config.actual_head_size,),
        "self_attn.k_norm": (config.actual_head_size,),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING.name: (rows, hidden), _NORM.name: (hidden,)}
    for index in range(config.num_layers):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


def _check_shapes(weights: dict[str, NDArray[Any]], expected: dict[str, tuple[int, ...]]) -> None:
    if set(weights) != set(expected):
        different = sorted(set(weights) ^ set(expected))
        raise ValueError(f"weights that are missing or too much: {', '.join(different[:4])}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ValueError(f"weight {name} has shape {weights[name].shape}, the configuration says {shape}")


def _host(array: Any) -> NDArray[Any]:
    """An array as a whole on this host."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        from jax.experimental import multihost_utils

        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _matrix(weight: hax.NamedArray, where: _Weight, before: tuple[str, ...]) -> NDArray[Any]:
    """A named weight as rows and columns, with ``before`` in front, in float32."""
    names = [axis.name for axis in weight.axes]
    order = [names.index(name) for name in (*before, *where.rows, *where.columns)]
    array = _host(weight.array).transpose(order)
    ahead = array.shape[: len(before)]
    rows = int(np.prod([weight.axis_size(name) for name in where.rows]))
    columns = [-1] if where.columns else []
    return np.ascontiguousarray(array.reshape(*ahead, rows, *columns), dtype=np.float32)


def _named(
    array: NDArray[Any], like: hax.NamedArray, where: _Weight, before: tuple[str, ...]
) -> hax.NamedArray:
    """Rows and columns as the named weight ``like``."""
    names = (*before, *where.rows, *where.columns)
    sizes = tuple(like.axis_size(name) for name in names)
    order = [names.index(axis.name) for axis in like.axes]
    return hax.named(jnp.asarray(array.reshape(sizes).transpose(order), dtype=jnp.float32), like.axes)


def _checksum(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _read_weights(path: Path, metadata: dict[str, Any], source: str) -> dict[str, NDArray[Any]]:
    """The weights, each that which was exported, in the file that was exported from ``source``."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: damaged: {error}; fetch it again") from error
    for name, checksum in part(metadata, "sha256", dict, source).items():
        if name not in weights or _checksum(weights[name]) != checksum:
            raise ValueError(f"{source}: weight {name} is not the one that was exported; fetch it again")
    stated = part(metadata, FILES, dict, source).get(WEIGHTS) if FILES in metadata else None
    if stated is not None and _file_checksum(path) != stated:
        raise ValueError(f"{source}: is not what was exported (SHA-256); fetch it again")
    return weights


def _file_checksum(path: Place) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def _write_weights(path: Path, weights: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Write the file, read it again, compare; the checksums by name."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file(weights, path, metadata={"format": "pt"})
    checksums = {name: _checksum(weight) for name, weight in weights.items()}
    with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
        if set(file.keys()) != set(weights):
            raise RuntimeError(f"{path}: other weights were read back than were written")
        for name, weight in weights.items():
            read = file.get_tensor(name)
            if read.shape != weight.shape or _checksum(read) != checksums[name]:
                raise RuntimeError(f"{path}: weight {name} did not read back as it was written")
    return checksums


def _write_description(directory: Path, config: Qwen3Config, vocabulary: ModelVocabulary, dtype: str) -> None:
    """Configuration and tokenizer for `transformers`, and the codec."""
    specials = vocabulary.tokenizer.vocabulary.specials
    roles = {
        "pad_token_id": vocabulary.pad,
        "bos_token_id": specials["[BOS]"],
        "eos_token_id": specials["[EOS]"],
    }
    written = config.to_hf_config(vocabulary.padded_size).to_dict()
    written |= {"architectures": ["Qwen3ForCausalLM"], "dtype": dtype, **roles}
    _write_json(directory / "config.json", written)
    _write_json(directory / "generation_config.json", {"do_sample": True, "use_cache": True, **roles})
    tokenizer = vocabulary.tokenizer
    extra = [
        vocabulary.name(token) for token in range(tokenizer.vocabulary.total_size, vocabulary.padded_size)
    ]
    write_tokenizer(directory, tokenizer.vocabulary, extra, max_length=tokenizer.pad_to)
    write_codec(vocabulary.codec, str(directory))


def _metadata(
    config: Qwen3Config,
    vocabulary: ModelVocabulary,
    objective: dict[str, Any],
    data: dict[str, Any] | None,
    extra: dict[str, Any] | None,
    checksums: dict[str, str],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "tomat": __version__,
        "tokenizer": tokenizer_note(vocabulary.tokenizer),
        "vocabulary_hash": vocabulary.hash,
        "seq_len": config.max_seq_len,
        "bidirectional": bool(getattr(config, "bidirectional", False)),
        "objective": objective,
        "data": data or {},
        **(extra or {}),
        "sha256": checksums,
    }


def _levanter_config(place: Place, attention: str, bidirectional: bool) -> DensityLMConfig:
    """Levanter's configuration of ``config.json``."""
    from transformers import Qwen3Config as HfQwen3Config

    plain = DensityLMConfig.from_hf_config(HfQwen3Config.from_dict(read_json(place / "config.json")))
    backend = attention_for(attention, jax.default_backend(), plain.max_seq_len)
    return from_qwen3(plain, attention=backend, bidirectional=bidirectional)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1, default=str) + "\n").encode())
