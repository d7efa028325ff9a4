"""The configuration of a training run: one tree of dataclasses that YAML and the command line fill."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import draccus
import jmp
import levanter.config  # noqa: F401 (registers how policies and time spans are written)
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
from tomat.lm.record import RunFiles
from tomat.storage.files import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass
class TrainerConfig(LevanterTrainerConfig):
    """Levanter's trainer, with defaults for this project.

    Parameters in float32 and compute in bfloat16; no accelerator asked for; trackers beside the JSON lines by choice.
    ``id``, ``log_dir`` and the place of checkpoints follow from the run's name and are set by it.
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
        max_rows: rows of the validation data, at most; all where None.
        batch_size: rows a step; that of training where None.
        keep_start: keep the weights the run begins with in ``start/``, for ``tomat eval`` to measure as step 0.
        keep_best: keep the weights of the best evaluation in ``best-N/``, step 0 among them; what prediction takes.
        best_by: the number whose smallest value is the best; ``one_pass/nmae_median`` where None, and bits a voxel
            where there is none of it.
    """

    max_rows: int | None = 512
    batch_size: int | None = None
    keep_start: bool = True
    keep_best: bool = True
    best_by: str | None = None


@dataclass(frozen=True)
class LoaderConfig:
    """How far the loader works ahead.

    Attributes:
        buffered_batches: batches held ready.
        fetched_together: batches asked for in one go.
        threads: that make the rows of a batch.
    """

    buffered_batches: int = 8
    fetched_together: int = 2
    threads: int = 1


@dataclass
class TrainConfig:
    """A training run.

    Attributes:
        name: of the run; the same name in the same place is the same run, and goes on where it stopped.
        data: what is trained on.
        validation: what is evaluated on during training; nothing where None.
        out: folder or bucket that holds runs.
        model: the model, from a preset.
        objective: what the model is asked for.
        loss: how its answer is rated.
        optimizer: Levanter's: ``type: adam`` or ``muon``, learning rate, schedule.
        trainer: Levanter's: steps, batch, precision, devices, trackers, checkpoints.
        evaluation: how much is evaluated.
        loader: how far it works ahead.
        guard: when the run stops by itself.
        allow_change: parts of a resumed run that may differ from what it was started with.
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
    allow_change: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the name and put everything Levanter writes under the run's folder.

        Raises:
            ValueError: a name that is no folder name, or a count below 1.
        """
        if not self.name or any(sign in self.name for sign in "/\\ \t\n:") or self.name in (".", ".."):
            raise ValueError(f"name {self.name!r} must be a folder name without spaces, slashes and colons")
        self._check_numbers()
        self.trainer.id = self.name
        self.trainer.log_dir = self.files.local
        self.trainer.checkpointer.base_path = self.files.checkpoints
        self.trainer.checkpointer.append_run_id_to_base_path = False

    def _check_numbers(self) -> None:
        """Counts that must be counts; below one they are errors far from here, or none.

        Raises:
            ValueError: one that is not; the message names the field.
        """
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
        """Where the run keeps what."""
        out = self.out.rstrip("/") if is_url(self.out) else self.out
        return RunFiles(f"{out}/{self.name}")

    @property
    def trackers(self) -> tuple[TrackerConfig, ...]:
        """The trackers asked for, as a tuple."""
        tracker = self.trainer.tracker
        return tuple(tracker) if isinstance(tracker, tuple | list) else (tracker,)


def load(path: str | Path | None, arguments: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration from YAML; ``arguments`` (``--trainer.num_train_steps 100``) win.

    Raises:
        OSError: it cannot be read.
        ValueError: unknown or missing fields, values of the wrong kind; the message names the field.
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


def encode(config: Any) -> Any:
    """A configuration object as JSON would hold it."""
    return draccus.encode(config)


def describe(config_class: Any, prefix: str = "") -> Iterator[str]:
    """One line a field: ``trainer.num_train_steps: int = 1000``; nested dataclasses in place."""
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
    """What went wrong, from the innermost cause that has words."""
    parts = []
    current: BaseException | None = error
    while current is not None:
        if str(current) and str(current) not in parts:
            parts.append(str(current))
        current = current.__cause__
    return ": ".join(parts) or type(error).__name__
