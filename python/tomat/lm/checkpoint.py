"""Opens what training left: a run, one of its checkpoints, or an export."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import draccus
import equinox as eqx
import jax
import numpy as np
from levanter.checkpoint import discover_latest_checkpoint, load_checkpoint
from levanter.utils.tree_utils import inference_mode

from tomat._remote import place as place_of
from tomat.lm.model import build
from tomat.lm.note import NOTE, read_note, tokenizer_from
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.presets import ModelConfig
from tomat.lm.vocabulary import ModelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levanter.models.qwen import Qwen3LMHeadModel

    from tomat.lm.model import DensityLMConfig

__all__ = ["Trained", "latest_checkpoint", "open_checkpoint", "open_note"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model with what its reader must know.

    Attributes:
        path: the checkpoint folder it came from.
        step: steps it was trained for.
        model: in inference mode, float32, whole on every device of this process.
        config: of the model.
        vocabulary: the ids it reads and answers with.
        objective: what it was trained for.
        note: the whole ``tomat.json``.
    """

    path: str
    step: int
    model: Qwen3LMHeadModel
    config: DensityLMConfig
    vocabulary: ModelVocabulary
    objective: ObjectiveConfig
    note: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights: equal models predict equal densities."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(eqx.filter(self.model, eqx.is_inexact_array)):
            digest.update(np.ascontiguousarray(leaf, dtype=np.float32).tobytes())
        return digest.hexdigest()


def open_checkpoint(path: str, *, averaged: bool = True) -> Trained:
    """The model of a run (its latest complete checkpoint), of one checkpoint, or of an export.

    Args:
        path: folder or URL.
        averaged: take the averaged weights where the run kept any.

    Raises:
        FileNotFoundError: no checkpoint there, or none that is complete.
        ValueError: a note that is damaged, of a later version, or names another codec.
    """
    root = path.rstrip("/")
    if place_of(f"{root}/config.json").exists():
        return _open_export(root)
    place, note, vocabulary = open_note(root)
    objective = draccus.decode(ObjectiveConfig, note["objective"])
    config = draccus.decode(ModelConfig, note["model"]).levanter(
        vocabulary, bidirectional=not objective.causal, sequences_per_row=1
    )
    model = inference_mode(_load(place, config, vocabulary, averaged=averaged), True)
    return Trained(place, int(note["step"]) + 1, model, config, vocabulary, objective, note)


def _open_export(place: str) -> Trained:
    from tomat.lm.export import load_exported

    exported = load_exported(place)
    about = exported.metadata
    objective = draccus.decode(ObjectiveConfig, about["objective"])
    note = about.get("note") or {"name": place.rsplit("/", 1)[-1], "objective": about["objective"]}
    model = inference_mode(exported.model, True)
    step = int(note.get("step", -1)) + 1
    return Trained(place, step, model, exported.model.config, exported.vocabulary, objective, note)


def open_note(path: str) -> tuple[str, dict[str, Any], ModelVocabulary]:
    """Folder of the weights, note and vocabulary of what lies at ``path``; no weights are read.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_checkpoint`.
    """
    root = path.rstrip("/")
    place = root if place_of(f"{root}/metadata.json").exists() else latest_checkpoint(root)
    note = read_note(place)
    run = place.rsplit("/", 2)[0] if "/" in place else "."
    tokenizer = tokenizer_from(note, [place, run, root])
    return place, note, ModelVocabulary(tokenizer)


def latest_checkpoint(run: str) -> str:
    """Folder of the latest complete checkpoint of a run.

    Raises:
        FileNotFoundError: there is no run, or none is complete yet.
    """
    if not place_of(f"{run}/{NOTE}").exists():
        raise FileNotFoundError(f"{run}: no run, checkpoint or export there (no {NOTE})")
    found = discover_latest_checkpoint(f"{run}/checkpoints")
    if found is None:
        raise FileNotFoundError(f"{run}: no complete checkpoint yet in {run}/checkpoints")
    # The run as it was given, relative or a URL: what was found may be spelled otherwise.
    return f"{run}/checkpoints/{str(found).rstrip('/').rsplit('/', 1)[-1]}"


def _load(
    place: str, config: DensityLMConfig, vocabulary: ModelVocabulary, *, averaged: bool
) -> Qwen3LMHeadModel:
    shape = eqx.filter_eval_shape(build, config, vocabulary, jax.random.PRNGKey(0))
    subpath = "model"
    if averaged and place_of(f"{place}/model_averaging").exists():
        subpath = "model_averaging/model"
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
    with _less_said("levanter.tensorstore_serialization"):
        return load_checkpoint(shape, place, subpath=subpath, mesh=mesh, axis_mapping={})


@contextlib.contextmanager
def _less_said(name: str) -> Iterator[None]:
    """Errors alone of a logger meanwhile: this one warns of every field of a model that is empty by design."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
