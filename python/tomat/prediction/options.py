"""Decoding options, shared by commands, the Python API and predictors. No JAX here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_args

#: Prediction modes. ``teacher_forced`` sees the true values of neighbouring voxels: it is a diagnostic.
Mode = Literal["one_pass", "k_pass", "free_running", "teacher_forced"]
#: The statistic of the predicted distribution that becomes the density.
Estimate = Literal["median", "mean", "mode", "sample"]
#: Which weights of a run.
Weights = Literal["best", "latest", "start"]

_CHOICES = {"mode": get_args(Mode), "estimate": get_args(Estimate), "weights": get_args(Weights)}
#: The only mode in which an option has an effect.
_OF_MODE = {"passes": "k_pass", "samples": "free_running"}


class Sampling(NamedTuple):
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits.
        nucleus: draw from the smallest set of tokens with at least this total probability; 1 is all tokens.
    """

    temperature: float = 1.0
    nucleus: float = 1.0


@dataclass(frozen=True)
class DecodingConfig:
    """Decoding options of a model; each field carries its help text.

    Raises:
        ValueError: an unknown word or a number out of range.
    """

    mode: Mode | None = field(
        default=None,
        metadata={"help": "Prediction mode.  [default: the checkpoint's first]"},
    )
    passes: int = field(default=8, metadata={"help": "Number of passes in mode k_pass."})
    estimate: Estimate = field(
        default="median",
        metadata={
            "help": "Statistic of the predicted distribution: median (least absolute error), mean (least squared "
            "error), mode (the most probable value), or sample (a random draw)."
        },
    )
    temperature: float = field(
        default=1.0, metadata={"help": "Sampling temperature; 0 takes the most probable token."}
    )
    nucleus: float = field(
        default=1.0,
        metadata={
            "help": "Nucleus (top-p) sampling: use the most probable tokens with this total probability."
        },
    )
    samples: int = field(
        default=1,
        metadata={
            "help": "Densities to generate per patch in mode free_running: their voxel-wise median is the prediction, "
            "their standard deviation its spread."
        },
    )
    batch_size: int = field(default=8, metadata={"help": "Patches per batch."})
    seed: int = field(default=0, metadata={"help": "Random seed of sampling."})
    weights: Weights = field(
        default="best",
        metadata={
            "help": "Weights of a run: of its best evaluation (the latest if it kept none), its latest, or its initial "
            "weights."
        },
    )

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and (name, value) != ("mode", None):
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        for name in ("passes", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if not (self.temperature >= 0 and 0 < self.nucleus <= 1):
            raise ValueError(
                f"temperature = {self.temperature} must be at least 0, nucleus = {self.nucleus} in (0, 1]"
            )

    @property
    def sampling(self) -> Sampling:
        """How samples are drawn."""
        return Sampling(self.temperature, self.nucleus)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def identity(self) -> dict[str, Any]:
        """The options that densities depend on; those without effect in the mode are set to their defaults."""
        names = ("mode", "passes", "estimate", "temperature", "nucleus", "samples", "seed")
        idle = {name for name, mode in _OF_MODE.items() if mode != self.mode}
        return {
            f.name: f.default if f.name in idle else getattr(self, f.name)
            for f in fields(self)
            if f.name in names
        }
