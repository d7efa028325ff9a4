"""Open the transformer of a run, checkpoint or export; check the checkpoint that a run resumes from."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import draccus
import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from levanter.checkpoint import load_checkpoint
from levanter.checkpoint_manifest import read_manifest
from levanter.utils.tree_utils import inference_mode

from tomat.lm.artefact.file import as_folder
from tomat.lm.digests import DIGESTS, METADATA, check_folder, checkpoint_folders, is_complete, step_of
from tomat.lm.export import load_exported
from tomat.lm.exported import export_note, is_export
from tomat.lm.model.presets import ModelConfig
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.objective import Objective, ObjectiveConfig
from tomat.lm.record import NOTE, RunFiles, kind_of, part, read_best, read_note, tokenizer_from
from tomat.lm.vocabulary import ModelVocabulary
from tomat.storage.files import read_json
from tomat.storage.remote import place as place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from levanter.models.qwen import Qwen3LMHeadModel

    from tomat.lm.config import TrainConfig
    from tomat.lm.model.qwen import DensityLMConfig


#: The kind of model that :func:`open_checkpoint` opens.
KIND = ModelConfig.kind
#: Where averaged weights lie in a checkpoint.
_AVERAGED = "model_averaging/model"
#: Kinds of weights of a run.
WEIGHTS = ("best", "latest", "start")


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model with what prediction needs to know.

    Attributes:
        path: its checkpoint folder.
        step: number of training steps.
        model: in inference mode, float32, replicated on every device of this process.
        config: of the model.
        vocabulary: its token ids.
        objective: its training objective.
        note: the content of ``tomat.json``.
    """

    path: str
    step: int
    model: Qwen3LMHeadModel
    config: DensityLMConfig
    vocabulary: ModelVocabulary
    objective: Objective
    note: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights; equal fingerprints give equal densities."""
        return weights_hash(self.model)


def weights_hash(model: Any) -> str:
    """SHA-256 over the weights of a model, as float32."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)):
        digest.update(np.ascontiguousarray(leaf, dtype=np.float32).tobytes())
    return digest.hexdigest()


def open_checkpoint(path: str, *, weights: str = "best") -> Trained:
    """Open the model of a run, a checkpoint or an export; averaged weights if the run kept them.

    Args:
        path: folder or URL.
        weights: one of :data:`WEIGHTS`. For a run, ``best`` is its best evaluation (the latest checkpoint if it kept
            none) and ``latest`` its latest complete checkpoint; a checkpoint or an export stands for both. ``start``
            is the run's initial weights, also for one of its checkpoints.

    Raises:
        FileNotFoundError: there is no complete checkpoint, or no initial weights for ``start``.
        ValueError: damaged, missing or extra files, no digests (``tomat seal``), a note of a later version or with
            another codec, or unknown ``weights``.
    """
    root = path.rstrip("/")
    if weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r} is not one of {', '.join(WEIGHTS)}")
    if is_export(root, weights) and kind_of(export_note(root)) == KIND:
        return _open_export(root)
    place, note, vocabulary = open_note(root, weights=weights)
    check_folder(place)
    objective = _decoded(ObjectiveConfig, note, "objective", place).build()
    try:
        config = levanter_config(
            _decoded(ModelConfig, note, "model", place),
            bidirectional=not objective.causal,
            sequences_per_row=1,
        )
    except ValueError as error:
        raise ValueError(f"{NOTE} of {place}: the model cannot be rebuilt from it: {error}") from error
    model = inference_mode(load_weights(place, lambda key: build(config, vocabulary, key)), True)
    return Trained(place, part(note, "step", int, place) + 1, model, config, vocabulary, objective, note)


def _open_export(place: str) -> Trained:
    with as_folder(place) as inside:
        exported = load_exported(inside)
    about = exported.metadata
    objective = _decoded(ObjectiveConfig, about, "objective", place).build()
    note = about.get("note") or {"name": place.rsplit("/", 1)[-1], "objective": about["objective"]}
    model = inference_mode(exported.model, True)
    step = int(note.get("step", -1)) + 1
    return Trained(place, step, model, exported.model.config, exported.vocabulary, objective, note)


def open_note(path: str, *, weights: str = "best") -> tuple[str, dict[str, Any], ModelVocabulary]:
    """The weights' folder, note and vocabulary of a run, checkpoint or export; reads no weights.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_checkpoint`; also a model without tokens.
    """
    root = path.rstrip("/")
    place, note = open_place(root, weights=weights)
    if kind_of(note) != KIND:
        raise ValueError(
            f"{root}: a model of kind {kind_of(note)} has no tokens; this needs one of kind {KIND}"
        )
    return place, note, ModelVocabulary(tokenizer_from(note, [place, run_of(place), root]))


def open_place(path: str, *, weights: str = "best") -> tuple[str, dict[str, Any]]:
    """The weights' folder and note of a run or checkpoint; reads no weights.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_checkpoint`.
    """
    place = _place(path.rstrip("/"), weights)
    metadata = place_of(f"{place}/{METADATA}")
    if type(read_json(metadata).get("step")) is not int:
        raise ValueError(f"{metadata}: no step in it; the checkpoint is damaged or cut off, copy it again")
    return place, read_note(place)


def model_kind(path: str, *, weights: str = "best") -> str:
    """The kind of model of a run, checkpoint or export.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_checkpoint`.
    """
    root = path.rstrip("/")
    return kind_of(export_note(root) if is_export(root, weights) else open_place(root, weights=weights)[1])


def _decoded[T](kind: type[T], note: dict[str, Any], key: str, place: str) -> T:
    """Decode a part of a note that is a configuration."""
    content = part(note, key, dict, place)
    try:
        return cast("T", draccus.decode(kind, content))
    except Exception as error:  # draccus raises of every kind, all of them about what the note holds
        raise ValueError(
            f"{NOTE} of {place}: {key!r} cannot be read: {error}; the file is damaged or of another version"
        ) from error


def _place(root: str, weights: str) -> str:
    single = is_complete(root)
    if weights == "start":
        start = RunFiles(run_of(root) if single else root).start
        if not is_complete(start):
            raise FileNotFoundError(
                f"{start}: the initial weights are not there; a run keeps them if evaluation.keep_start is set"
            )
        return start
    if single:
        return root
    best = read_best(RunFiles(root).best) if weights == "best" else None
    return latest_checkpoint(root) if best is None else f"{root}/{best.folder}"


def run_of(place: str) -> str:
    """The folder of the run, with codec file and note, that a folder of weights belongs to."""
    folder = place.rpartition("/")[0] or "."
    return (folder.rpartition("/")[0] or ".") if folder.rpartition("/")[2] == "checkpoints" else folder


def latest_checkpoint(run: str) -> str:
    """The folder of the latest complete checkpoint of a run.

    Raises:
        FileNotFoundError: there is no run, or it has no complete checkpoint.
    """
    if not place_of(f"{run}/{NOTE}").exists():
        raise FileNotFoundError(f"{run}: no run, checkpoint or export there (no {NOTE})")
    folder = RunFiles(run).checkpoints
    found = checkpoint_folders(folder)
    if not found:
        raise FileNotFoundError(f"{run}: no complete checkpoint yet in {folder}")
    return found[-1]


def load_weights[Model](place: str, build: Callable[[jax.Array], Model]) -> Model:
    """The weights in a folder, float32 and replicated on every device of this process; ``build`` gives their shapes.

    Averaged weights if there are any.
    """
    shape = eqx.filter_eval_shape(build, jax.random.PRNGKey(0))
    # The arrays lie in one key-value store; only the manifest says which there are.
    manifest = read_manifest(place)
    paths = frozenset[str]() if manifest is None else manifest.array_paths
    averaged = any(path.startswith(f"{_AVERAGED}/") for path in paths)
    subpath = _AVERAGED if averaged else "model"
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
    with _less_said("levanter.tensorstore_serialization"):
        model: Model = load_checkpoint(shape, place, subpath=subpath, mesh=mesh, axis_mapping={})
        return model


@contextlib.contextmanager
def _less_said(name: str) -> Iterator[None]:
    """Show only errors of a logger that warns of every model field that is empty by design."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def check_resumed(config: TrainConfig) -> None:
    """Check the checkpoint that the trainer will load, and set it to load just that one.

    It is the one with the largest step in its name. The first process compares every file with its digest, for all.

    Raises:
        OSError: a file cannot be read.
        ValueError: the checkpoint is damaged or has no digests.
    """
    trainer = config.trainer
    folders: list[str] = []
    if trainer.load_checkpoint is not False:
        for root in trainer.checkpoint_search_paths(config.name):
            folders += [root] if is_complete(root) else checkpoint_folders(root)
        folders.sort(key=step_of)
    if folders:
        trainer.load_checkpoint, trainer.load_checkpoint_path = True, folders[-1]
    elif trainer.load_checkpoint is None:
        trainer.load_checkpoint = False
    start = folders[-1] if folders else trainer.initialize_from

    def check() -> None:
        # Levanter reads the marks of all of them, to see which it may delete.
        for folder in folders[:-1]:
            if (place_of(folder) / DIGESTS).exists():
                check_folder(folder, [METADATA])
        if start is not None and is_complete(start):
            check_folder(start)

    _once_for_all(check)


def _once_for_all(check: Callable[[], None]) -> None:
    """Run ``check`` in the first process; if it fails, all processes stop."""
    error: Exception | None = None
    if jax.process_index() == 0:
        try:
            check()
        except (OSError, ValueError) as found:
            error = found
    failed = multihost_utils.broadcast_one_to_all(np.array(error is not None))
    if error is not None:
        raise error
    if bool(failed):
        raise ValueError("the checkpoint to go on from is damaged; the first process says how")
