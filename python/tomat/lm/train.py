"""Training: Levanter's trainer with this package's data, losses and metrics."""

from __future__ import annotations

import base64
import contextlib
import logging
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import draccus
import jax
import levanter.callbacks
import levanter.tracker
import levanter.trainer
import numpy as np
from filelock import FileLock, Timeout
from levanter.trainer import Trainer

from tomat._core import __version__
from tomat.lm.callbacks import EndOfStep, LossGuard, StopRequest, log_memory
from tomat.lm.checkpoint import check_resumed
from tomat.lm.checkpointer import NotedCheckpointer
from tomat.lm.config import TrainConfig, dump
from tomat.lm.data import open_rows
from tomat.lm.data.guess_fit import FIT
from tomat.lm.data.on_the_fly import DensitySource
from tomat.lm.digests import checkpoint_folders
from tomat.lm.evaluation_hook import Evaluation
from tomat.lm.kept import KeptWeights
from tomat.lm.loss import DensityLoss
from tomat.lm.model.flops import StepFlops, step_flops
from tomat.lm.model.qwen import build, levanter_config
from tomat.lm.record import (
    FORMAT,
    Best,
    Change,
    RunFiles,
    check_same,
    kept_promolecule,
    read_note,
    tokenizer_note,
    write_codec,
    write_note,
)
from tomat.lm.stream import ExampleDataset
from tomat.lm.tracking import JsonLinesConfig
from tomat.lm.vocabulary import ModelVocabulary
from tomat.prediction.grid import mean_spacing
from tomat.prediction.predictor import TrainingFacts
from tomat.storage.files import write
from tomat.storage.remote import place
from tomat.valence import Valence, fit_valence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levanter.callbacks import StepInfo
    from levanter.data.loader import DataLoader

    from tomat.lm.data import DataConfig, Rows
    from tomat.promolecule import Promolecule

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a training run.

    Attributes:
        files: its files.
        steps: completed steps, earlier parts of the run included.
        first_step: first step of this part; above 0 for a resumed run.
        loss: of the last step; None if all steps had been done before.
        evaluation: metrics of the last evaluation by name; empty without validation data.
        best: the best evaluation, step 0 included; None if the run keeps none.
        changes: differences from how the run was started, permitted by ``allow_change``.
        notices: messages about its data.
    """

    files: RunFiles
    steps: int
    first_step: int
    loss: float | None
    evaluation: dict[str, float]
    best: Best | None
    changes: list[Change]
    notices: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The outcome as JSON."""
        content = asdict(self)
        return {"run": content.pop("files").root, **content, "changes": [str(c) for c in self.changes]}

    def __str__(self) -> str:
        begun = f" (resumed at step {self.first_step})" if self.first_step else ""
        how = "all of them done before" if self.loss is None else f"loss {self.loss:.4f}"
        lines = [f"{self.files.root}: {self.steps} steps{begun}, {how}"]
        lines += [f"  changed on purpose: {change}" for change in self.changes]
        lines += [f"  {notice}" for notice in self.notices]
        lines += [f"  {name}: {value:.5g}" for name, value in self.evaluation.items()]
        if self.best is not None:
            lines.append(f"  best: {self.best}")
        return "\n".join(lines)


def train(config: TrainConfig) -> Outcome:
    """Train, or resume a run of the same name.

    Raises:
        OSError: data or the run's folder cannot be read or written.
        ValueError: the data do not fit the configuration, or a run of this name was started with other settings.
        TrainingLossError: the loss is not finite or spiked.
        StoppedError: SIGTERM or SIGINT; the state is saved.
    """
    files = config.files
    files.local.mkdir(parents=True, exist_ok=True)
    written = dump(config)  # as it was asked for, before the run's own tracker and notes come in
    config.trainer.tracker = (
        JsonLinesConfig(str(files.local / "metrics.jsonl"), files.metrics),
        *config.trackers,
    )
    # First: with several hosts, nothing may touch the devices before they are connected.
    levanter.trainer.initialize(config.trainer)
    _quieten()
    try:
        with _alone(files):
            rows, validation = open_data(config)
            valence = training_valence(rows)
            notices = _notices(rows, validation, valence)
            note = make_note(config, rows, validation, valence)
            changes = _begin(config, written, note, rows)
            config.trainer.checkpointer.note = note
            return replace(_run(config, rows, validation, changes, note), notices=notices)
    finally:
        levanter.tracker.current_tracker().finish()


@contextlib.contextmanager
def _alone(files: RunFiles) -> Iterator[None]:
    """Lock the run on this machine; the first process holds the lock for all."""
    if jax.process_index() != 0:
        yield
        return
    try:
        held = FileLock(files.local / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise ValueError(
            f"{files.root}: another process is training this run; wait for it, or choose another name"
        ) from error
    with held:
        yield


def _quieten() -> None:
    """Send routine messages of Levanter and JAX to the run's log file only."""
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)
    # Of a CPU no peak is known, and none is asked for.
    logging.getLogger("fray.device_flops").setLevel(logging.ERROR)


def open_data(config: TrainConfig) -> tuple[Rows, Rows | None]:
    """Open training rows, and validation rows with one sequence each, of the same tokenizer.

    Raises:
        OSError, KeyError, ValueError: as :func:`tomat.lm.data.open_rows`, or data written
            otherwise than the training data.
    """
    size = config.model.shape().seq_len
    rows = open_rows(config.data, size, earlier=_earlier(config))
    if config.validation is None:
        return rows, None
    guess = None
    if config.validation.guess == FIT:
        # The promolecule is not fitted to validation data: the model starts from that of training.
        if config.data.guess != FIT:
            raise ValueError(
                "validation.guess: fit uses the promolecule of data.guess: fit; set both or neither"
            )
        guess = rows.source.starting
    try:
        validation = open_rows(replace(config.validation, pack=False), size, guess=guess)
    except ValueError as error:
        raise ValueError(f"validation: {error}") from error
    mine, other = tokenizer_note(rows.tokenizer), tokenizer_note(validation.tokenizer)
    different = [name for name in mine if mine[name] != other[name] and name != "pad_to"]
    if different:
        lines = ", ".join(f"{name} {other[name]!r} instead of {mine[name]!r}" for name in different)
        raise ValueError(f"validation: has {lines}; it must be encoded like the training data")
    return rows, validation


def _earlier(config: TrainConfig) -> Promolecule | None:
    if config.data.guess != FIT or not place(config.files.note).exists():
        return None
    return kept_promolecule(read_note(config.files.root), config.files.root)


def _notices(rows: Rows, validation: Rows | None, valence: Valence) -> list[str]:
    """Messages about the starting density, disputed valence electrons, and left-out or clipped materials."""
    checks = {
        "starting density": rows.source.guess_check,
        "starting density, validation": None if validation is None else validation.source.guess_check,
    }
    told = [f"{name}: {check}" for name, check in checks.items() if check is not None]
    complaints = [f"training data: {line}" for line in valence.complaints()]
    complaints += [f"training data: {line}" for line in rows.losses]
    complaints += [f"validation data: {line}" for line in ([] if validation is None else validation.losses)]
    for line in told:
        _LOGGER.info(line)
    for line in complaints:
        _LOGGER.warning(line)
    return told + complaints


def data_facts(rows: Rows, config: DataConfig, valence: Valence) -> dict[str, Any]:
    """Facts about the training data for predictions, as JSON.

    ``guess``: name of the starting density; ``promolecule``: its content, if it is one; ``elements``: atomic numbers.
    For densities also ``spacing``, ``valence`` and ``disputed``, see
    :class:`tomat.prediction.predictor.TrainingFacts`. The argument ``valence`` is that of :func:`training_valence`.
    """
    source = rows.source
    facts: dict[str, Any] = {"guess": config.guess}
    kept = None if source.starting is None else source.starting.kept()
    if kept is not None:
        facts["promolecule"] = base64.b64encode(kept).decode()
    spacing = None
    if isinstance(source, DensitySource):
        store = source.store
        spacing = mean_spacing(zip(store.lattice, store.grid, strict=True))
    known = TrainingFacts(
        spacing, valence.counts, disputed=valence.disputed, elements=frozenset(source.elements)
    )
    return facts | known.to_json()


def training_valence(rows: Rows) -> Valence:
    """Valence electrons of the elements in the training densities; not known for rows of a dataset."""
    source = rows.source
    if not isinstance(source, DensitySource):
        return Valence()
    # From stored statistics, without reading the densities again.
    store = source.store
    atoms = [store.atomic_numbers(index) for index in range(len(store))]
    return fit_valence(zip(store.task_ids, atoms, store.n_electrons.tolist(), strict=True))


def make_note(config: TrainConfig, rows: Rows, validation: Rows | None, valence: Valence) -> dict[str, Any]:
    """The note of a run, as JSON; see docs/training.md."""
    vocabulary = ModelVocabulary(rows.tokenizer)
    tokenizer, trainer = tokenizer_note(rows.tokenizer), config.trainer
    return {
        "format": FORMAT,
        "tomat_version": __version__,
        "name": config.name,
        "tokenizer": tokenizer,
        "data_facts": data_facts(rows, config.data, valence),
        "guess_check": {
            name: part.source.guess_check.to_json()
            for name, part in (("data", rows), ("validation", validation))
            if part is not None and part.source.guess_check is not None
        },
        # The remaining keys must be the same in a resumed run.
        "data": rows.identity(),
        "validation": None if validation is None else validation.identity(),
        "codec": {"name": tokenizer["codec"], "hash": tokenizer["codec_hash"]},
        "vocabulary": {"hash": vocabulary.hash, "size": vocabulary.size, "rows": vocabulary.padded_size},
        "model": draccus.encode(config.model),
        "objective": draccus.encode(config.objective),
        "loss": draccus.encode(config.loss),
        "schedule": {
            "optimizer": draccus.encode(config.optimizer),
            "num_train_steps": trainer.num_train_steps,
            "train_batch_size": trainer.train_batch_size,
            "seed": trainer.seed,
            "precision": str(draccus.encode(trainer.mp)),
            "model_averaging": draccus.encode(trainer.model_averaging),
        },
    }


def _begin(config: TrainConfig, written: str, note: dict[str, Any], rows: Rows) -> list[Change]:
    """Check that an existing run of this name is the same run, and write its note."""
    files = config.files
    changes: list[Change] = []
    started = place(files.note)
    if started.exists():
        changes = check_same(read_note(files.root), note, tuple(config.allow_change), files.root)
    if jax.process_index() == 0:
        write_codec(rows.tokenizer.density_codec, files.root)
        write(files.config, written.encode())
        write_note(files.root, note)
    return changes


def _run(
    config: TrainConfig, rows: Rows, validation: Rows | None, changes: list[Change], note: dict[str, Any]
) -> Outcome:
    vocabulary = ModelVocabulary(rows.tokenizer)
    model_config = levanter_config(
        config.model,
        bidirectional=not config.objective.build().causal,
        sequences_per_row=int(np.diff(rows.packing.starts).max()),
    )
    dataset = ExampleDataset(
        rows,
        config.objective,
        vocabulary,
        model_config.max_Pos,
        seed=config.trainer.seed,
        threads=config.loader.threads,
    )
    batch_size = config.trainer.train_batch_size
    optimizer = config.optimizer.build(config.trainer.num_train_steps)
    # A run initialised from a checkpoint also starts here, at the checkpoint's step.
    begins = not checkpoint_folders(config.files.checkpoints)
    check_resumed(config)
    # The guard stops at these: Levanter would raise before the step's metrics are logged.
    nan, inf = config.trainer.crash_on_nan, config.trainer.crash_on_inf
    config.trainer.crash_on_nan = config.trainer.crash_on_inf = False
    model_key, training_key = jax.random.split(jax.random.PRNGKey(config.trainer.seed))
    with Trainer(config.trainer, optimizer, DensityLoss(config.loss, vocabulary)) as trainer:
        state = trainer.initial_state(
            training_key, model_init=lambda: build(model_config, vocabulary, model_key)
        )
        first_step = int(state.step)
        kept = KeptWeights(config.files, config.evaluation, note)
        evaluation = None
        if validation is not None:
            evaluation = Evaluation(trainer, config, rows, validation, vocabulary, model_config.max_Pos, kept)
        if begins:
            kept.begin(state.eval_model, first_step)
            if evaluation is not None and first_step < trainer.num_train_steps:
                evaluation.begin(state.eval_model, first_step)
        end = EndOfStep()
        guard = LossGuard(
            config.guard,
            lambda step: [dataset.row_id(step * batch_size + i) for i in range(batch_size)],
            nan=nan,
            inf=inf,
        )
        _add_hooks(config, trainer, guard, training_flops(config, vocabulary), evaluation, end)
        stop = StopRequest()
        trainer.add_hook(end.held(stop.hook(trainer)), every=1)
        loader = dataset.loader(
            trainer,
            batch_size,
            buffered=config.loader.buffered_batches,
            fetched=config.loader.fetched_together,
        )
        info = None
        if first_step < trainer.num_train_steps:
            with stop.listening():
                info = _train(trainer, state, loader, end)
    return Outcome(
        files=config.files,
        steps=first_step if info is None else int(info.state.step),
        first_step=first_step,
        loss=None if info is None else float(info.loss),
        evaluation=dict(evaluation.last) if evaluation is not None else {},
        best=kept.best,
        changes=changes,
    )


def _add_hooks(
    config: TrainConfig,
    trainer: Trainer,
    guard: LossGuard,
    flops: StepFlops,
    evaluation: Evaluation | None,
    end: EndOfStep,
) -> None:
    shape = config.model.shape()
    batch = config.trainer.train_batch_size
    trainer.add_hook(end.held(guard), every=1)
    # First of all: the state of a step that stops the run is not saved.
    trainer.hooks.hooks.insert(0, trainer.hooks.hooks.pop())
    checkpointer = trainer._checkpointer
    if isinstance(checkpointer, NotedCheckpointer):
        checkpointer.is_held = end.holds
    trainer.add_hook(
        levanter.callbacks.log_performance_stats(
            shape.seq_len, trainer.config.batch_schedule, flops.model / batch
        ),
        every=1,
    )
    trainer.add_hook(log_memory, every=10)
    if evaluation is not None:
        trainer.add_hook(end.held(evaluation), every=config.trainer.steps_per_eval)


def training_flops(config: TrainConfig, vocabulary: ModelVocabulary) -> StepFlops:
    """FLOPs of one training step of a configuration."""
    density = vocabulary.density
    ids = vocabulary.size if config.loss.over_all_ids else density.stop - density.start
    return step_flops(
        config.model.shape(),
        config.trainer.train_batch_size,
        ids,
        causal=config.objective.build().causal,
    )


def _train(trainer: Trainer, state: Any, loader: DataLoader[Any], end: EndOfStep) -> StepInfo[Any]:
    """Levanter's training loop; an error that stops it is raised after its step is logged."""
    step = int(state.step)
    info: StepInfo[Any] | None = None
    for done in trainer.training_steps(state, loader.iter_from_step(step)):
        info = done
        end.raise_held()
    if info is None:
        raise ValueError("the training data is empty")
    trainer.run_hooks(info, force=True)
    end.raise_held()
    return info
