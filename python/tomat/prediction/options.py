"""How densities are read off a model: the options of commands, Python and predictors. No JAX here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

#: How a prediction comes about. ``teacher_forced`` has seen true values of neighbouring voxels: it is a diagnostic.
Mode = Literal["one_pass", "k_pass", "free_running", "teacher_forced"]
#: What of a distribution is the prediction.
Estimate = Literal["median", "mean", "mode", "sample"]
#: Which weights of a run.
Weights = Literal["best", "latest", "start"]

_CHOICES = {"mode": get_args(Mode), "estimate": get_args(Estimate), "weights": get_args(Weights)}
#: The mode alone in which an option means something.
_OF_MODE = {"passes": "k_pass", "samples": "free_running"}


@dataclass(frozen=True)
class DecodingConfig:
    """How densities are read off a model; what each option says is written beside it."""

    mode: Mode | None = field(
        default=None,
        metadata={"help": "How densities come about.  [default: the checkpoint's first]"},
    )
    passes: int = field(default=8, metadata={"help": "Passes of k_pass."})
    estimate: Estimate = field(
        default="median",
        metadata={
            "help": "What of the predicted distribution is the density: median (least absolute error), mean (least "
            "squared error), mode (the most probable), or sample (a draw)."
        },
    )
    temperature: float = field(
        default=1.0, metadata={"help": "Temperature of samples; 0 is the most probable token."}
    )
    nucleus: float = field(
        default=1.0,
        metadata={
            "help": "Samples come from the most probable tokens that hold this share of the probability."
        },
    )
    samples: int = field(
        default=1,
        metadata={
            "help": "Densities that free_running generates for each patch: their median, voxel by voxel, is the "
            "prediction, their standard deviation its spread."
        },
    )
    batch_size: int = field(default=8, metadata={"help": "Patches at a time."})
    seed: int = field(default=0, metadata={"help": "Seed of samples."})
    weights: Weights = field(
        default="best",
        metadata={
            "help": "Of a run: those of its best evaluation (latest where it kept none), the latest, or those it began "
            "with."
        },
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: one that cannot be.
        """
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and (name, value) != ("mode", None):
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        for name in ("passes", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; give at least 1")
        if not (self.temperature >= 0 and 0 < self.nucleus <= 1):
            raise ValueError(
                f"temperature = {self.temperature} must be 0 or above, nucleus = {self.nucleus} in (0, 1]"
            )

    def given(self) -> dict[str, Any]:
        """The options that are not the defaults."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def identity(self) -> dict[str, Any]:
        """What densities depend on; options that mean nothing in the mode stand at their defaults."""
        names = ("mode", "passes", "estimate", "temperature", "nucleus", "samples", "seed")
        idle = {name for name, mode in _OF_MODE.items() if mode != self.mode}
        return {
            f.name: f.default if f.name in idle else getattr(self, f.name)
            for f in fields(self)
            if f.name in names
        }
