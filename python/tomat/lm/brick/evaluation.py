"""Evaluation of a brick model during training, on patches drawn of held-out crystals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from levanter.utils.tree_utils import inference_mode

from tomat.lm.brick.inference import BrickInference
from tomat.lm.brick.tiles import Placed
from tomat.lm.field.evaluation import FieldEvaluation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tomat.codec.relative import RelativeCodec
    from tomat.lm.brick.config import BrickShape
    from tomat.lm.brick.patches import DrawnPatch
    from tomat.lm.field.evaluation import Columns
    from tomat.lm.field.points import DrawnPoints
    from tomat.lm.field.surroundings import Surroundings
    from tomat.lm.kept import KeptWeights


class BrickEvaluation(FieldEvaluation):
    """As the field model's, at the chosen voxels of drawn patches.

    Args:
        shape: of the model.
        drawn: patches of each held-out crystal.
        points: their chosen voxels.
        training: voxels of the training crystals.
        surroundings: what is summed around points.
        codec: of the model.
        kept: keeps the best weights.
        run: folder or URL of the run.
    """

    def __init__(
        self,
        shape: BrickShape,
        drawn: list[list[DrawnPatch]],
        points: DrawnPoints,
        training: DrawnPoints,
        surroundings: Surroundings,
        codec: RelativeCodec,
        *,
        kept: KeptWeights,
        run: str,
    ) -> None:
        """Measure starting density and codec."""
        super().__init__(points, training, surroundings, codec, limit=None, kept=kept, run=run)
        self._shape, self._drawn = shape, drawn

    def seen(self, model: Any) -> tuple[Columns, Callable[[float], Columns]]:
        """As :meth:`tomat.lm.field.evaluation.FieldEvaluation.seen`, of the chosen voxels."""
        run = BrickInference(inference_mode(model, True), self._around, self._codec)
        parts = []
        for material, patches in enumerate(self._drawn):
            crystal = self._points.crystal(material)
            found = run.activations(
                Placed(crystal, self._points.store.grid[material], self._shape),
                run.atoms(crystal),
                np.stack([patch.origin for patch in patches]),
                np.stack([patch.guess for patch in patches]),
                np.stack([patch.chosen for patch in patches]),
            )
            parts.append(found.reshape(self._points.count, -1))
        whole, points = np.stack(parts), self._points
        columns = run.of_activations(
            ("median", "mean", "nats"),
            whole.reshape(-1, whole.shape[-1]),
            points.guess.ravel(),
            points.value.ravel(),
        )
        some, (guess, value) = whole[:, :: self._stride].reshape(-1, whole.shape[-1]), self._some()

        def read(factor: float) -> Columns:
            stretched = replace(run, model=run.model.stretched(factor))
            return stretched.of_activations(("nats", "pit"), some, guess, value)

        return columns, read
