"""Export models to Hugging Face format and load them again; needs Levanter.

A directory holds weights, configuration, tokenizer, codec and a card. ``from_pretrained`` of `transformers` reads it,
and :func:`load_exported` opens it with everything prediction needs. After writing, the weights are read back and
compared, since a file of truncated weights would load without an error.

Names and shapes are Haliax's. Levanter's ``save_pretrained`` is not used: it needs a tokenizer and a reference
checkpoint from the Hub, splits weights over files, and does not read them back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from haliax.state_dict import (
    flatten_modules_for_export,
    from_torch_compatible_state_dict,
    to_state_dict,
    to_torch_compatible_state_dict,
)
from jax.experimental import multihost_utils
from levanter.models.qwen import Qwen3Config

from tomat._core import __version__
from tomat.dataset.hf_tokenizer import write_tokenizer
from tomat.lm.card import model_card
from tomat.lm.exported import (
    CHECKSUMS,
    WEIGHTS,
    check_files,
    export_folder,
    read_weights,
    write_description,
    write_weights,
)
from tomat.lm.model.qwen import LEVANTER_BACKENDS, DensityLMConfig, attention_for, build
from tomat.lm.record import (
    FORMAT,
    part,
    read_note,
    tokenizer_from,
    tokenizer_note,
    write_codec,
)
from tomat.lm.vocabulary import ModelVocabulary
from tomat.storage.files import read_json, write_indented
from tomat.storage.remote import place as place_of

if TYPE_CHECKING:
    from levanter.models.qwen import Qwen3LMHeadModel
    from numpy.typing import NDArray

    from tomat.storage.remote import Place

__all__ = ["ExportedModel", "export_model", "load_exported", "state_dict", "with_state_dict"]


@dataclass(frozen=True)
class ExportedModel:
    """A model loaded from an exported directory.

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
        """Whether the model uses full attention."""
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
    """Write a model to a new directory, or over an older export.

    Collective over all processes of a run: weights are gathered, and the first process writes.

    Args:
        model: the trained model, sharded in any way.
        vocabulary: its ids.
        directory: a local directory.
        objective: its training objective, as JSON; ``kind`` is ``next_token``, ``masked`` or ``guess``.
        data: its training data, as JSON, such as ``Rows.identity()``.
        extra: further entries of ``tomat.json``, such as step and scores.
        dtype: ``float32`` or ``bfloat16``.

    Raises:
        ValueError: the model does not fit the vocabulary, weights do not fit the configuration, the model has positions
            in space or the field's eyes, or ``directory`` holds something else.
        RuntimeError: the weights read back differ from those written.
        OSError: the directory cannot be written.
    """
    rows = vocabulary.padded_size
    if model.Vocab.size != rows:
        raise ValueError(
            f"the model has {model.Vocab.size} rows, its vocabulary {rows}: they do not belong together"
        )
    if getattr(model.config, "spatial", False):
        raise ValueError(
            "a model with positions in space or the field's eyes cannot be exported: the Qwen3 of transformers has no "
            "such inputs; give the run or checkpoint itself"
        )
    weights = state_dict(model)
    _check_shapes(weights, eqx.filter_eval_shape(build, model.config, vocabulary, jax.random.PRNGKey(0)))
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {dtype!r} is not known; one of float32, bfloat16")
    if jax.process_index() != 0:
        return
    weights = {name: weight.astype(jnp.dtype(dtype)) for name, weight in weights.items()}
    with export_folder(directory) as folder:
        checksums = write_weights(folder / WEIGHTS, weights)
        _write_description(folder, model.config, vocabulary, dtype)
        metadata = {
            "format": FORMAT,
            "tomat": __version__,
            "tokenizer": tokenizer_note(vocabulary.tokenizer),
            "vocabulary_hash": vocabulary.hash,
            "seq_len": model.config.max_seq_len,
            "bidirectional": bool(getattr(model.config, "bidirectional", False)),
            "objective": objective,
            "data": data or {},
            **(extra or {}),
            CHECKSUMS: checksums,
        }
        write_description(folder, metadata, model_card(metadata, model.config, vocabulary))


def load_exported(directory: str | Path) -> ExportedModel:
    """Open an exported directory: the model with its codec and vocabulary.

    Args:
        directory: folder or URL of what :func:`export_model` wrote.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file, the codec, the vocabulary or a weight contradicts ``tomat.json``.
    """
    place = place_of(directory)
    metadata = read_note(str(place))
    check_files(place, metadata)
    vocabulary = ModelVocabulary(tokenizer_from(metadata, [str(place)]))
    weights = read_weights(place, metadata)
    config = _levanter_config(place, part(metadata, "bidirectional", bool, str(place)))
    template = eqx.filter_eval_shape(build, config, vocabulary, jax.random.PRNGKey(0))
    return ExportedModel(with_state_dict(template, weights), vocabulary, metadata)


def state_dict(model: Qwen3LMHeadModel) -> dict[str, NDArray[Any]]:
    """All weights gathered on the host as float32, by their names in `transformers`.

    Collective over all processes.
    """
    here = jax.tree.map(_host, eqx.filter(model, eqx.is_array))
    return {
        name: np.ascontiguousarray(weight, dtype=np.float32)
        for name, weight in to_torch_compatible_state_dict(here).items()
    }


def with_state_dict(model: Qwen3LMHeadModel, weights: dict[str, NDArray[Any]]) -> Qwen3LMHeadModel:
    """``model``, or its shapes, with the weights of :func:`state_dict` as float32.

    Raises:
        ValueError: a weight is missing, unknown, or has another shape.
    """
    _check_shapes(weights, model)
    return from_torch_compatible_state_dict(
        model, {name: jnp.asarray(weight, dtype=jnp.float32) for name, weight in weights.items()}
    )


def _check_shapes(weights: dict[str, NDArray[Any]], model: Qwen3LMHeadModel) -> None:
    """Check that names and shapes of weights are those of a model, or of its shapes."""
    flat = eqx.filter_eval_shape(lambda model: to_state_dict(flatten_modules_for_export(model)), model)
    expected = {name: like.shape for name, like in flat.items() if like is not None}
    if set(weights) != set(expected):
        different = sorted(set(weights) ^ set(expected))
        raise ValueError(f"missing or unknown weights: {', '.join(different[:4])}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ValueError(f"weight {name} has shape {weights[name].shape}, the configuration says {shape}")


def _host(array: Any) -> NDArray[Any]:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _write_description(directory: Path, config: Qwen3Config, vocabulary: ModelVocabulary, dtype: str) -> None:
    specials = vocabulary.tokenizer.vocabulary.specials
    roles = {
        "pad_token_id": vocabulary.pad,
        "bos_token_id": specials["[BOS]"],
        "eos_token_id": specials["[EOS]"],
    }
    written = config.to_hf_config(vocabulary.padded_size).to_dict()
    written |= {"architectures": ["Qwen3ForCausalLM"], "dtype": dtype, **roles}
    write_indented(f"{directory}/config.json", written)
    write_indented(f"{directory}/generation_config.json", {"do_sample": True, "use_cache": True, **roles})
    tokenizer = vocabulary.tokenizer
    extra = [vocabulary.name(token) for token in range(vocabulary.mask, vocabulary.padded_size)]
    write_tokenizer(directory, tokenizer.vocabulary, extra, max_length=tokenizer.pad_to)
    write_codec(vocabulary.codec, str(directory))


def _levanter_config(place: Place, bidirectional: bool) -> DensityLMConfig:
    """The configuration of an export, for prediction with one sequence per row."""
    from transformers import Qwen3Config as HfQwen3Config

    plain = DensityLMConfig.from_hf_config(HfQwen3Config.from_dict(read_json(place / "config.json")))
    backend = attention_for("auto", jax.default_backend(), plain.max_seq_len)
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(Qwen3Config)}
    fields |= {"attn_backend": LEVANTER_BACKENDS[backend], "gradient_checkpointing": False}
    return DensityLMConfig(**fields, attention=backend, bidirectional=bidirectional, sequences_per_row=1)
