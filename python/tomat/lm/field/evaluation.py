"""Evaluation of a field model during training, on voxels drawn of held-out crystals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from levanter.utils.tree_utils import inference_mode

from tomat import metrics
from tomat.lm.evaluation_hook import EvaluationHook
from tomat.lm.field.calibration import best_factor, write_factor
from tomat.lm.field.inference import FieldInference
from tomat.lm.field.surroundings import AtomSums

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.lm.field.points import DrawnPoints
    from tomat.lm.field.surroundings import Surroundings
    from tomat.lm.kept import KeptWeights

    type Columns = dict[str, NDArray[np.float32]]

#: Crystals whose sums are in memory at a time; voxels of a crystal by which widths are calibrated.
_AT_A_TIME, _CALIBRATED_ON = 32, 200


class FieldEvaluation(EvaluationHook):
    """A hook of Levanter's trainer: the NMAE on held-out crystals, with that of promolecule and codec beside it.

    All are means over crystals of weighted means over their drawn voxels. Bits are those of the true level, averaged
    over voxels of the grid. The widths of the distributions are calibrated on some of these voxels
    (:mod:`tomat.lm.field.calibration`), and the factor is kept for predictions with these weights.

    Args:
        points: voxels of the held-out crystals.
        training: voxels of the training crystals, whose levels' frequencies are the unigram baseline.
        surroundings: what is summed around them.
        codec: of the model.
        limit: largest number of crystals; None is all.
        kept: keeps the best weights.
        run: folder or URL of the run.
    """

    def __init__(
        self,
        points: DrawnPoints,
        training: DrawnPoints,
        surroundings: Surroundings,
        codec: RelativeCodec,
        *,
        limit: int | None,
        kept: KeptWeights,
        run: str,
    ) -> None:
        """Measure promolecule and codec."""
        super().__init__(kept)
        self._run = run
        self._points, self._around, self._codec = points, surroundings, codec
        self._atoms = AtomSums(lambda _: surroundings, points.crystal)
        self._materials = range(min(len(points), limit or len(points)))
        back = codec.roundtrip(points.value, points.guess)
        self._fixed = {
            "promolecule/nmae": self._nmae(points.guess - points.value),
            "codec_floor/nmae": self._nmae(back - points.value),
            "unigram_bits_per_voxel": self._unigram(training),
        }

    def evaluate(self, model: Any) -> dict[str, float]:
        """Numbers by name; those of the model start with ``one_pass``."""
        points = self._points
        columns, some = self.seen(model)
        shape = (len(self._materials), points.count)
        value = points.value[: shape[0]]
        errors = {name: columns[name].reshape(shape) - value for name in ("median", "mean")}
        nats = columns["nats"].reshape(shape)
        bits = float((_uniform(points)[: shape[0]] * nats).sum(axis=1).mean()) / math.log(2.0)
        return {
            "one_pass/nmae_median": self._nmae(errors["median"]),
            "one_pass/nmae_mean": self._nmae(errors["mean"]),
            "one_pass/bits_per_voxel": bits,
            **self._calibrated(some),
            "one_pass/rows": float(shape[0]),
            "one_pass/voxels": float(shape[0] * shape[1]),
            **self._fixed,
        }

    def seen(self, model: Any) -> tuple[Columns, Callable[[float], Columns]]:
        """What the model says of the points of the crystals, one after another.

        Returns:
            Median and mean in e/A^3 and nats of the true level; and a function that gives nats and ``pit`` of every so
            many points for a factor of the widths.
        """
        run = FieldInference(inference_mode(model, True), self._around, self._codec)
        points = self._points
        columns: dict[str, list[NDArray[np.float32]]] = {"median": [], "mean": [], "nats": []}
        parts: list[NDArray[np.float32]] = []
        for first in range(0, len(self._materials), _AT_A_TIME):
            chosen = self._materials[first : first + _AT_A_TIME]
            each = [self._sums(run, material) for material in chosen]
            parts += [sums[:: self._stride] for sums in each]
            part = slice(first, first + len(chosen))
            guess, value = points.guess[part].ravel(), points.value[part].ravel()
            for name, values in run.read(tuple(columns), np.concatenate(each), guess, value).items():
                columns[name].append(values)
        some, (guess, value) = np.concatenate(parts), self._some()

        def read(factor: float) -> Columns:
            return replace(run, model=run.model.stretched(factor)).read(("nats", "pit"), some, guess, value)

        return {name: np.concatenate(parts) for name, parts in columns.items()}, read

    @property
    def _stride(self) -> int:
        return max(1, self._points.count // _CALIBRATED_ON)

    def _some(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Promolecule and density of every so many points of all crystals."""
        n, points = len(self._materials), self._points
        return points.guess[:n, :: self._stride].ravel(), points.value[:n, :: self._stride].ravel()

    def _calibrated(self, read: Callable[[float], Columns]) -> dict[str, float]:
        """Numbers of the calibrated distributions, from every so many points of all crystals."""
        n = len(self._materials)
        weight = self._points.weight[:n, :: self._stride].astype(np.float64)
        weight = (weight / weight.sum(axis=1, keepdims=True)).ravel() / n
        factor = best_factor(lambda factor: float(weight @ read(factor)["nats"]))
        found = read(factor)
        return {
            "one_pass/width_factor": factor,
            "one_pass/calibrated_bits_per_voxel": float(weight @ found["nats"]) / math.log(2.0),
            **{
                f"one_pass/{name}": float(weight @ metrics.inside(found["pit"], probability))
                for name, probability in metrics.INTERVALS.items()
            },
        }

    def _look(self, model: Any, step: int, steps: int) -> None:
        super()._look(model, step, steps)
        if jax.process_index() == 0:
            write_factor(self._run, steps, self.last["one_pass/width_factor"])

    def _sums(self, run: FieldInference, material: int) -> NDArray[np.float32]:
        crystal, points = self._points.crystal(material), self._points.places(material, slice(None))
        return run.sums(
            crystal, run.weights(crystal, self._atoms.of(material)), points, self._points.guess[material]
        )

    def _unigram(self, training: DrawnPoints) -> float:
        """Bits per voxel of a model that knows only how frequent each level is in the training crystals."""
        size, n = len(self._codec.levels), len(self._materials)
        levels = self._codec.encode(training.value, training.guess)
        counts = np.bincount(levels.ravel(), _uniform(training).ravel() * training.count, size) + 1.0
        bits = -np.log2(counts / counts.sum())
        held_out = self._codec.encode(self._points.value[:n], self._points.guess[:n])
        return float((_uniform(self._points)[:n] * bits[held_out]).sum(axis=1).mean())

    def _nmae(self, error: NDArray[np.floating[Any]]) -> float:
        """Mean over crystals of the weighted mean \\|error\\| (crystals, points)."""
        n = len(self._materials)
        return float((self._points.weight[:n].astype(np.float64) * np.abs(error[:n])).mean())


def _uniform(points: DrawnPoints) -> NDArray[np.float64]:
    """Weights (materials, count), of sum 1 for each material, that make up for how voxels were drawn."""
    # The stored weights are 1 / (probability * sum of the density).
    weight = points.weight.astype(np.float64)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
