"""Training: Levanter's trainer with this package's data, losses and metrics."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import draccus
import jax
import levanter.callbacks
import levanter.tracker
import levanter.trainer
from filelock import FileLock, Timeout
from levanter.tracker.tracker import CompositeTracker
from levanter.trainer import Trainer
from levanter.utils.jax_utils import parameter_count

from tomat._core import __version__
from tomat.lm.callbacks import EndOfStep, LossGuard, StopRequest, log_memory
from tomat.lm.checkpoint import check_resumed
from tomat.lm.checkpointer import NotedCheckpointer
from tomat.lm.config import TrainConfig, dump
from tomat.lm.digests import checkpoint_folders
from tomat.lm.kept import KeptWeights
from tomat.lm.logs import hush, run_log
from tomat.lm.metrics_file import WANDB_URL, read_metrics
from tomat.lm.progress import RunProgress
from tomat.lm.record import (
    FORMAT,
    Best,
    Change,
    RunFiles,
    check_same,
    read_note,
    write_codec,
    write_note,
)
from tomat.lm.tasks import open_task
from tomat.lm.tracking import JsonLinesConfig
from tomat.storage.files import write
from tomat.storage.remote import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from levanter.callbacks import StepInfo
    from levanter.data.loader import DataLoader
    from rich.console import Console

    from tomat.codec import Codec
    from tomat.lm.evaluation_hook import EvaluationHook
    from tomat.lm.task import Task


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


def train(config: TrainConfig, console: Console | None = None) -> Outcome:
    """Train, or resume a run of the same name.

    Args:
        config: of the run.
        console: where progress and warnings are shown; None: only in the run's ``train.log``.

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
    hush()
    # First: with several hosts, nothing may touch the devices before they are connected.
    levanter.trainer.initialize(config.trainer)
    first = jax.process_index() == 0
    try:
        with (
            _alone(files),
            run_log(files.local, console),
            _shown(config, console if first else None) as progress,
        ):
            progress.say("opening the data")
            task = open_task(config)
            progress.unit = task.unit
            _log_address()
            note = make_note(config, task)
            changes = _begin(config, written, note, task.codec)
            config.trainer.checkpointer.note = note
            return _run(config, task, changes, note, progress)
    finally:
        levanter.tracker.current_tracker().finish()


@contextlib.contextmanager
def _shown(config: TrainConfig, console: Console | None) -> Iterator[RunProgress]:
    """Within the context, show what is logged."""
    metrics = config.files.local / "metrics.jsonl"
    total = config.trainer.num_train_steps
    progress = RunProgress(
        console,
        config.name,
        total,
        every=config.progress.steps(total),
        earlier=read_metrics(metrics) if metrics.exists() else (),
    )
    others = levanter.tracker.current_tracker()
    with levanter.tracker.current_tracker(CompositeTracker([others, progress])):
        try:
            yield progress
        finally:
            progress.finish()


def _log_address() -> None:
    """Log the run's page at wandb, if it has one, so that reports link to it."""
    import wandb  # Levanter has imported it

    if wandb.run is not None and wandb.run.url:
        levanter.tracker.log_summary({WANDB_URL: wandb.run.url})


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


def make_note(config: TrainConfig, task: Task) -> dict[str, Any]:
    """The note of a run, as JSON; see docs/training.md."""
    trainer = config.trainer
    return {
        "format": FORMAT,
        "tomat_version": __version__,
        "name": config.name,
        **task.note(),
        "row_flops": task.flops,
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


def _begin(config: TrainConfig, written: str, note: dict[str, Any], codec: Codec) -> list[Change]:
    """Check that an existing run of this name is the same run, and write its note."""
    files = config.files
    changes: list[Change] = []
    started = place(files.note)
    if started.exists():
        changes = check_same(read_note(files.root), note, tuple(config.allow_change), files.root)
    if jax.process_index() == 0:
        write_codec(codec, files.root)
        write(files.config, written.encode())
        write_note(files.root, note)
    return changes


def _run(
    config: TrainConfig, task: Task, changes: list[Change], note: dict[str, Any], progress: RunProgress
) -> Outcome:
    examples = task.examples()
    batch_size = config.trainer.train_batch_size
    optimizer = config.optimizer.build(config.trainer.num_train_steps)
    # A run initialised from a checkpoint also starts here, at the checkpoint's step.
    begins = not checkpoint_folders(config.files.checkpoints)
    check_resumed(config)
    # The guard stops at these: Levanter would raise before the step's metrics are logged.
    nan, inf = config.trainer.crash_on_nan, config.trainer.crash_on_inf
    config.trainer.crash_on_nan = config.trainer.crash_on_inf = False
    model_key, training_key = jax.random.split(jax.random.PRNGKey(config.trainer.seed))
    with Trainer(config.trainer, optimizer, task.loss) as trainer:
        state = trainer.initial_state(training_key, model_init=lambda: task.build(model_key))
        first_step = int(state.step)
        levanter.tracker.log_summary({"parameter_count": parameter_count(state.model)})
        kept = KeptWeights(config.files, config.evaluation, note)
        evaluation = task.evaluation(trainer, kept)
        if begins:
            progress.restart()
            kept.begin(state.eval_model, first_step)
            if evaluation is not None and first_step < trainer.num_train_steps:
                progress.say("evaluating the start")
                evaluation.begin(state.eval_model, first_step)
        end = EndOfStep()
        guard = LossGuard(
            config.guard,
            lambda step: [examples.row_id(step * batch_size + i) for i in range(batch_size)],
            nan=nan,
            inf=inf,
        )
        _add_hooks(config, trainer, guard, task, evaluation, end)
        stop = StopRequest()
        trainer.add_hook(end.held(stop.hook(trainer)), every=1)
        loader = examples.loader(
            trainer,
            batch_size,
            buffered=config.loader.buffered_batches,
            fetched=config.loader.fetched_together,
        )
        info = None

        def stalled(steps: int) -> bool:
            return kept.stalled(steps, config.trainer.steps_per_eval)

        if first_step < trainer.num_train_steps and not stalled(first_step):
            progress.say("compiling the first step")
            with stop.listening():
                info = _train(trainer, state, loader, end, stalled)
    return Outcome(
        files=config.files,
        steps=first_step if info is None else int(info.state.step),
        first_step=first_step,
        loss=None if info is None else float(info.loss),
        evaluation=dict(evaluation.last) if evaluation is not None else {},
        best=kept.best,
        changes=changes,
        notices=task.notices,
    )


def _add_hooks(
    config: TrainConfig,
    trainer: Trainer,
    guard: LossGuard,
    task: Task,
    evaluation: EvaluationHook | None,
    end: EndOfStep,
) -> None:
    trainer.add_hook(end.held(guard), every=1)
    # First of all: the state of a step that stops the run is not saved.
    trainer.hooks.hooks.insert(0, trainer.hooks.hooks.pop())
    checkpointer = trainer._checkpointer
    if isinstance(checkpointer, NotedCheckpointer):
        checkpointer.is_held = end.holds
    trainer.add_hook(
        levanter.callbacks.log_performance_stats(task.positions, trainer.config.batch_schedule, task.flops),
        every=1,
    )
    trainer.add_hook(log_memory, every=10)
    if evaluation is not None:
        trainer.add_hook(end.held(evaluation), every=config.trainer.steps_per_eval)


def _train(
    trainer: Trainer,
    state: Any,
    loader: DataLoader[Any],
    end: EndOfStep,
    stalled: Callable[[int], bool],
) -> StepInfo[Any]:
    """Levanter's training loop; an error that stops it is raised after its step is logged.

    It ends early where ``stalled`` says so of the number of steps done.
    """
    step = int(state.step)
    info: StepInfo[Any] | None = None
    for done in trainer.training_steps(state, loader.iter_from_step(step)):
        info = done
        end.raise_held()
        if stalled(int(info.state.step)):
            break
    if info is None:
        raise ValueError("the training data is empty")
    trainer.run_hooks(info, force=True)
    end.raise_held()
    return info
