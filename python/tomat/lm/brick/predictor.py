"""A trained brick model as a patch predictor; needs JAX and Levanter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomat.lm.brick.checkpoint import TrainedBrick, open_brick
from tomat.lm.brick.inference import AtomStates, BrickInference
from tomat.lm.brick.tiles import Placed, voxel_order
from tomat.lm.field.predictor import RelativePredictor
from tomat.lm.field.starting import starting_of
from tomat.lm.field.surroundings import FLOOR
from tomat.prediction.predictor import PatchPrediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.crystal import Crystal
    from tomat.prediction.cover import Triple
    from tomat.prediction.options import DecodingConfig
    from tomat.prediction.predictor import PatchRequest
    from tomat.starting import StartingDensity

    type Floats = NDArray[np.float32]


class BrickPredictor(RelativePredictor[TrainedBrick, AtomStates]):
    """Predicts patches with a brick model; implements :class:`tomat.prediction.predictor.PatchPredictor`.

    A voxel's prediction depends on where its patch lies: attention is not invariant.
    """

    kind = "brick"

    def __init__(self, trained: TrainedBrick, decoding: DecodingConfig) -> None:
        """Take the weights.

        Raises:
            ValueError: another mode than ``one_pass``.
        """
        super().__init__(trained, decoding)
        self._run = BrickInference(trained.model, trained.surroundings, trained.codec, self.sampling)
        self._shape = trained.model.shape
        self._order = voxel_order(self._shape.bricks).ravel()

    @staticmethod
    def load(path: str, weights: str) -> TrainedBrick:
        """See :func:`tomat.lm.brick.checkpoint.open_brick`."""
        return open_brick(path, weights=weights)

    def starting(self) -> StartingDensity:
        """The starting density of training: a promolecule, or that of a field model.

        Raises:
            FileNotFoundError, ValueError: the field model is not where it was.
        """
        return starting_of(self.trained.note, self.trained.path) or super().starting()

    def computed(self, crystal: Crystal) -> AtomStates:
        """The states of a crystal's atoms."""
        return self._run.atoms(crystal)

    def patch_shape(self, n_atoms: int, grid_shape: Triple, overlap: int) -> Triple:
        """The patch of the model, whatever the crystal and its grid."""
        del n_atoms, grid_shape, overlap
        return (self._shape.edge,) * 3

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order; those of a crystal together.

        Raises:
            ValueError: a request has no guess, or another shape than the model's patches.
        """
        groups: dict[tuple[int, Triple, bool], list[int]] = {}
        for place, request in enumerate(requests):
            if request.guess is None:
                raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no guess")
            if tuple(request.patch_shape) != (self._shape.edge,) * 3:
                raise ValueError(
                    f"{request.crystal.name}: a patch of shape {tuple(request.patch_shape)}; the model's are cubes of "
                    f"{self._shape.edge}"
                )
            key = id(request.crystal), request.grid_shape, request.truth is not None
            groups.setdefault(key, []).append(place)
        found: dict[int, PatchPrediction] = {}
        for places in groups.values():
            found |= zip(places, self._of_crystal([requests[place] for place in places]), strict=True)
        return [found[place] for place in range(len(requests))]

    def _of_crystal(self, requests: list[PatchRequest]) -> list[PatchPrediction]:
        first = requests[0]
        guess = np.maximum(self._flat([request.guess for request in requests]), FLOOR)
        told = first.truth is not None
        truth = self._flat([request.truth for request in requests]) if told else guess
        wanted = (self.decoding.estimate, "spread", *(("expected_error", "pit") if told else ()))
        found = self._run.read(
            wanted,
            Placed(first.crystal, first.grid_shape, self._shape),
            self.of_atoms(first.crystal),
            np.array([request.offset for request in requests], np.int64),
            guess,
            truth,
            np.stack([self.drawn(request)[self._order] for request in requests]),
        )
        whole = {}
        for name, values in found.items():
            patches = np.empty_like(values)
            patches[:, self._order] = values
            whole[name] = patches.reshape(-1, *first.patch_shape)
        return [
            PatchPrediction(
                whole[self.decoding.estimate][i],
                whole["spread"][i],
                whole["expected_error"][i] if told else None,
                whole["pit"][i] if told else None,
            )
            for i in range(len(requests))
        ]

    def _flat(self, patches: Sequence[NDArray[np.float32] | None]) -> Floats:
        """Patches (n, voxels), brick by brick."""
        return np.stack([np.asarray(patch, np.float32).ravel()[self._order] for patch in patches])
