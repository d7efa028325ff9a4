"""The configuration of a training run: a tree of dataclasses, filled from YAML and the command line."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import draccus
import jmp
import levanter.config  # noqa: F401 (registers how policies and time spans are written)
from draccus.parsers.decoding import decode_dataclass
from levanter.callbacks.watch import WatchConfig
from levanter.optim.config import AdamConfig, OptimizerConfig
from levanter.tracker.tracker import TrackerConfig
from levanter.trainer import TrainerConfig as LevanterTrainerConfig

from tomat._threads import MAX_THREADS
from tomat.lm.callbacks import GuardConfig
from tomat.lm.checkpointer import CheckpointerConfig
from tomat.lm.data.config import DataConfig
from tomat.lm.loss import LossConfig
from tomat.lm.model.presets import ModelConfig
from tomat.lm.objective import ObjectiveConfig
from tomat.lm.progress import ProgressConfig
from tomat.lm.record import RunFiles
from tomat.storage.files import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass
class TrainerConfig(LevanterTrainerConfig):
    """Levanter's trainer configuration, with other defaults.

    Parameters are float32, computation is bfloat16; no accelerator is required; trackers other than the JSON lines are
    optional. ``id``, ``log_dir`` and the checkpoints' path follow from the run's name.
    """

    mp: jmp.Policy = field(default_factory=lambda: jmp.get_policy("p=f32,c=bf16"))
    tracker: TrackerConfig | tuple[TrackerConfig, ...] = ()
    watch: WatchConfig = field(default_factory=lambda: WatchConfig(watch_targets=[]))
    log_jaxprs: bool = False
    log_xla_hlo: bool = False
    require_accelerator: bool | None = False
    train_batch_size: int = 32
    num_train_steps: int = 1000
    steps_per_eval: int = 200
    checkpointer: CheckpointerConfig = field(default_factory=CheckpointerConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation during training.

    Attributes:
        max_rows: largest number of validation rows; None is all.
        batch_size: rows per step; None is that of training.
        keep_start: keep the initial weights in ``start/``, which ``tomat eval`` measures as step 0.
        keep_best: keep the weights of the best evaluation (step 0 included) in ``best-N/``, the default of prediction.
        best_by: metric to minimise; None is ``one_pass/nmae_median``, or bits per voxel if there is no such NMAE.
        stop_after: end the run after so many evaluations in a row without better weights; None never does.
    """

    max_rows: int | None = 512
    batch_size: int | None = None
    keep_start: bool = True
    keep_best: bool = True
    best_by: str | None = None
    stop_after: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: ``stop_after`` is below 1, or no best weights are kept to compare with.
        """
        if self.stop_after is not None and (self.stop_after < 1 or not self.keep_best):
            raise ValueError(
                f"evaluation.stop_after = {self.stop_after}: give at least 1, and leave evaluation.keep_best on"
            )


@dataclass(frozen=True)
class LoaderConfig:
    """Prefetching of the data loader.

    Attributes:
        buffered_batches: batches held ready.
        fetched_together: batches fetched at a time.
        threads: threads that make the rows of a batch.
    """

    buffered_batches: int = 8
    fetched_together: int = 2
    threads: int = 1


@dataclass
class TrainConfig:
    """A training run.

    Attributes:
        name: name of the run; a run of the same name in ``out`` is resumed.
        data: training data.
        validation: data for evaluation during training; None is none.
        out: folder or bucket of all runs.
        model: the model, from a preset.
        objective: the training objective.
        loss: the loss.
        optimizer: Levanter's: ``type: adam`` or ``muon``, learning rate, schedule.
        trainer: Levanter's: steps, batch, precision, devices, trackers, checkpoints.
        evaluation: evaluation during training.
        loader: prefetching of the data loader.
        guard: when training stops by itself.
        progress: how the run is told of while it goes on.
        allow_change: sections of a resumed run that may differ from those it was started with.
    """

    name: str
    data: DataConfig
    validation: DataConfig | None = None
    out: str = "runs"
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    progress: ProgressConfig = field(default_factory=ProgressConfig)
    allow_change: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or any(sign in self.name for sign in "/\\ \t\n:") or self.name in (".", ".."):
            raise ValueError(f"name {self.name!r} must be a folder name without spaces, slashes or colons")
        self._check_numbers()
        # All that Levanter writes lies in the run's folder.
        self.trainer.id = self.name
        self.trainer.log_dir = self.files.local
        self.trainer.checkpointer.base_path = self.files.checkpoints
        self.trainer.checkpointer.append_run_id_to_base_path = False

    def _check_numbers(self) -> None:
        """Check numbers that would otherwise cause obscure errors later."""
        counts: dict[str, int | None] = {
            "trainer.train_batch_size": self.trainer.train_batch_size,
            "trainer.num_train_steps": self.trainer.num_train_steps,
            "trainer.steps_per_eval": self.trainer.steps_per_eval,
            "evaluation.batch_size": self.evaluation.batch_size,
            "evaluation.max_rows": self.evaluation.max_rows,
            "loader.buffered_batches": self.loader.buffered_batches,
            "loader.fetched_together": self.loader.fetched_together,
            "loader.threads": self.loader.threads,
        }
        for name, value in counts.items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} = {value} must be at least 1")
        for name, threads in (("loader.threads", self.loader.threads), ("data.threads", self.data.threads)):
            if threads is not None and not 1 <= threads <= MAX_THREADS:
                raise ValueError(f"{name} = {threads}; give 1 to {MAX_THREADS}, best one a processor")
        if not 0 <= self.trainer.seed < 1 << 32:
            raise ValueError(f"trainer.seed = {self.trainer.seed} must be between 0 and 2**32 - 1")

    @property
    def files(self) -> RunFiles:
        """The files of the run."""
        out = self.out.rstrip("/") if is_url(self.out) else self.out
        return RunFiles(f"{out}/{self.name}")

    @property
    def trackers(self) -> tuple[TrackerConfig, ...]:
        """The configured trackers, as a tuple."""
        tracker = self.trainer.tracker
        return tuple(tracker) if isinstance(tracker, tuple | list) else (tracker,)


def _decoded(kind: type[TrainConfig], raw: Any, path: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a file; ``model.field: true`` is short for ``model.field.tokens: true``."""
    model = raw.get("model") if isinstance(raw, dict) else None
    if isinstance(model, dict) and isinstance(model.get("field"), bool):
        raw = {**raw, "model": {**model, "field": {"tokens": model["field"]}}}
    found: TrainConfig = decode_dataclass(kind, raw, path)
    return found


# A decoder of subclasses also gets what an empty file holds.
draccus.decode.register(TrainConfig, _decoded, include_subclasses=True)


def load(path: str | Path | None, arguments: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration from YAML; ``arguments`` (``--trainer.num_train_steps 100``) take precedence.

    Raises:
        OSError: the file cannot be read.
        ValueError: unknown or missing fields, or values of the wrong type; the message names the field.
    """
    try:
        return draccus.parse(TrainConfig, config_path=path, args=list(arguments), exit_on_error=False)
    except OSError:
        raise
    except Exception as error:  # draccus and YAML raise of every kind, all of them about what the user wrote
        raise ValueError(f"{path or 'command line'}: {_message(error)}") from error


def dump(config: TrainConfig) -> str:
    """The configuration as YAML that :func:`load` reads."""
    return str(draccus.dump(config))


def describe(config_class: Any, prefix: str = "") -> Iterator[str]:
    """One line per field, nested ones included: ``trainer.num_train_steps: int = 1000``."""
    hints = typing.get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        kind = hints[item.name]
        options = [part for part in typing.get_args(kind) if part is not type(None)] or [kind]
        nested = [part for part in options if dataclasses.is_dataclass(part)]
        if nested and not hasattr(nested[0], "get_known_choices"):
            yield from describe(nested[0], f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}: {_kind_name(kind)}{_default(item)}"


def _kind_name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind) if not typing.get_args(kind) else kind).replace("typing.", "")


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is not dataclasses.MISSING:
        return f" = {item.default!r}"
    if item.default_factory is not dataclasses.MISSING:
        return f" = {item.default_factory()!r}"
    return " (required)"


def _message(error: BaseException) -> str:
    """The message of the innermost cause that has one."""
    parts = []
    current: BaseException | None = error
    while current is not None:
        if str(current) and str(current) not in parts:
            parts.append(str(current))
        current = current.__cause__
    return ": ".join(parts) or type(error).__name__
