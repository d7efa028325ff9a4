"""The weights a run keeps beside its checkpoints: those it began with, and the best on held-out data."""

from __future__ import annotations

import math
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
    """The number that weights are chosen by where the configuration names none.

    NMAE of the median where every voxel is predicted in one pass. Of what has seen true neighbours NMAE means little:
    there, and where a voxel is several tokens, it is bits a voxel.
    """
    for ending in ("one_pass/nmae_median", "/bits_per_voxel"):
        found = next((name for name in numbers if name.endswith(ending)), None)
        if found is not None:
            return found
    return None


class KeptWeights:
    """Writes ``start/`` and ``best-N/``, and ``best.json``, which says which is best.

    Weights alone, float32, as Levanter's checkpoints hold them, each with its ``tomat.json``.

    Args:
        files: of the run.
        config: what is kept.
        note: of the run.
    """

    def __init__(self, files: RunFiles, config: EvaluationConfig, note: dict[str, Any]) -> None:
        """Take up what an earlier part of the run kept."""
        self._files, self._config, self._note = files, config, note
        self.best = read_best(files.best) if config.keep_best else None
        self._begun: int | None = None

    def begin(self, model: Any, steps: int) -> None:
        """Keep the weights a run begins with; what another beginning of it left is taken away.

        Args:
            model: the weights.
            steps: done before: above 0 where the run is initialised from a checkpoint.
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
        """Keep these weights where their number is smaller than that of all before.

        Args:
            model: the weights that were evaluated.
            steps: they were trained for.
            numbers: by name, of the evaluation.

        Raises:
            ValueError: the configuration names a number that the evaluation does not give.
        """
        if not self._config.keep_best:
            return
        metric = self._config.best_by or default_metric(numbers)
        if metric is None or metric not in numbers:
            known = ", ".join(sorted(name for name in numbers if not name.endswith(("/rows", "/voxels"))))
            raise ValueError(f"evaluation.best_by = {metric!r} is none of the evaluation's numbers: {known}")
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
            write_indented(self._files.best, sealed(self.best.as_json(), SEAL))
        if before is not None and before.folder not in (folder, self._files.START):
            self._remove(f"{self._files.root}/{before.folder}")

    def _save(self, model: Any, folder: str, steps: int, best: dict[str, Any] | None = None) -> None:
        """Weights alone; ``metadata.json`` comes last, and without it nothing is read."""
        where = f"{self._files.root}/{folder}"
        self._remove(where)
        if jax.process_index() == 0:
            # As in checkpoints, ``step`` is the last one that was done.
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
