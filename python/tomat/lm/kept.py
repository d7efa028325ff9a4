"""Weights that a run keeps beside its checkpoints: the initial ones, and the best on held-out data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import jax
from jax.experimental import multihost_utils

from tomat._seal import sealed
from tomat.lm.checkpointer import save_state
from tomat.lm.record import SEAL, Best, read_best, write_note
from tomat.storage.files import filesystem, write_indented

if TYPE_CHECKING:
    from tomat.lm.config import EvaluationConfig
    from tomat.lm.record import RunFiles


def default_metric(numbers: dict[str, float]) -> str | None:
    """The default metric for choosing the best weights.

    It is the NMAE of the median if all voxels are predicted in one pass. Otherwise it is bits per voxel: an NMAE with
    true neighbours means little, and codecs with several tokens per voxel have none.
    """
    endings = ("one_pass/nmae_median", "/bits_per_voxel")
    return next((name for ending in endings for name in numbers if name.endswith(ending)), None)


class KeptWeights:
    """Writes ``start/``, ``best-N/`` and ``best.json``, which names the best.

    The folders hold only weights, float32 in the format of Levanter's checkpoints, each with its ``tomat.json``.

    Args:
        files: of the run.
        config: evaluation settings.
        note: of the run.
    """

    def __init__(self, files: RunFiles, config: EvaluationConfig, note: dict[str, Any]) -> None:
        self._files, self._config, self._note = files, config, note
        self.best = read_best(files.best) if config.keep_best else None
        self._begun: int | None = None

    def begin(self, model: Any, steps: int) -> None:
        """Keep the initial weights; delete those of an earlier start of the run.

        Args:
            model: the weights.
            steps: earlier steps, above 0 if the run is initialised from a checkpoint.
        """
        if self.best is not None:
            self._remove(self._files.best)
            if self.best.folder != self._files.START:
                self._remove(f"{self._files.root}/{self.best.folder}")
            self.best = None
        if self._config.keep_start:
            self._save(model, self._files.START, steps)
        self._begun = steps

    def look(self, model: Any, steps: int, numbers: dict[str, float]) -> None:
        """Keep these weights if their metric is smaller than all before.

        Args:
            model: the evaluated weights.
            steps: training steps of the weights.
            numbers: of the evaluation, by name.

        Raises:
            ValueError: the configured metric is not among ``numbers``.
        """
        if not self._config.keep_best:
            return
        metric = self._config.best_by or default_metric(numbers)
        if metric is None or metric not in numbers:
            known = ", ".join(sorted(name for name in numbers if not name.endswith(("/rows", "/voxels"))))
            raise ValueError(
                f"evaluation.best_by = {metric!r} is not a metric of the evaluation; known: {known}"
            )
        value, before = numbers[metric], self.best
        if not math.isfinite(value) or (before is not None and value >= before.value):
            return
        begun = before is None and steps == self._begun
        if begun and self._config.keep_start:
            folder = self._files.START
        else:
            folder = f"best-{steps}"
            self._save(model, folder, steps, {"metric": metric, "value": value})
        start = value if begun else before.start if before is not None else None
        self.best = Best(metric, value, steps, folder, start)
        if jax.process_index() == 0:
            write_indented(self._files.best, sealed(asdict(self.best), SEAL))
        if before is not None and before.folder not in (folder, self._files.START):
            self._remove(f"{self._files.root}/{before.folder}")

    def stalled(self, steps: int, every: int) -> bool:
        """Whether a run evaluated each ``every`` steps ends after ``steps``, for want of better weights."""
        after = self._config.stop_after
        return after is not None and self.best is not None and steps - self.best.steps >= after * every

    def _save(self, model: Any, folder: str, steps: int, best: dict[str, Any] | None = None) -> None:
        """Write weights to a folder; ``metadata.json`` comes last and completes it."""
        where = f"{self._files.root}/{folder}"
        self._remove(where)
        if jax.process_index() == 0:
            # As in checkpoints, ``step`` is the last completed step.
            about = {} if best is None else {"best": best}
            write_note(where, {**self._note, "step": steps - 1, **about})
        save_state({"model": model}, where, steps - 1)
        multihost_utils.sync_global_devices("kept weights are written")

    @staticmethod
    def _remove(path: str) -> None:
        if jax.process_index() == 0:
            fs, inner = filesystem(path)
            if fs.exists(inner):
                fs.rm(inner, recursive=True)
        multihost_utils.sync_global_devices("kept weights are taken away")
