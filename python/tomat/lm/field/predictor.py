"""A trained field model as a patch predictor; needs JAX and Levanter."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from levanter.utils.jax_utils import parameter_count

from tomat._threads import processors
from tomat.lm.data.shuffle import key_of, random_bits
from tomat.lm.decode.base import TrainedPredictor
from tomat.lm.decode.estimates import Sampling
from tomat.lm.field.checkpoint import RelativeModel, Stretched, TrainedField, open_field
from tomat.lm.field.inference import BLOCK, FieldInference
from tomat.lm.field.network import FieldModel
from tomat.lm.field.surroundings import FLOOR
from tomat.prediction.predictor import PatchPrediction, PatchRequest, TrainingFacts
from tomat.tokenizer import PatchTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tomat.codec.relative import RelativeCodec
    from tomat.crystal import Crystal
    from tomat.prediction.cover import Triple
    from tomat.prediction.options import DecodingConfig, Mode
    from tomat.starting import StartingDensity

    type Floats = NDArray[np.float32]

#: Largest edge of a patch in grid points; crystals of whose atoms it is kept what was computed.
_EDGE, _KEPT = 32, 8


class RelativePredictor[Model: Stretched, Atoms](TrainedPredictor[RelativeModel[Model]]):
    """What predictors of models over the levels of a relative codec have in common.

    A kind says in :meth:`computed` what its model makes of a crystal's atoms, the ``Atoms`` of this class.

    Attributes:
        kind: of the model, as configurations name it.
    """

    #: The only mode: all voxels at once, from atoms and promolecule.
    modes: tuple[Mode, ...] = ("one_pass",)
    needs_guess = True
    kind: ClassVar[str]
    sees_truth = True  # for the expected error of its distributions
    keeps_electrons = True

    def __init__(self, trained: RelativeModel[Model], decoding: DecodingConfig) -> None:
        """Take the weights.

        Raises:
            ValueError: another mode than ``one_pass``.
        """
        if decoding.mode not in (None, *self.modes):
            raise ValueError(
                f"{trained.path}: a {self.kind} model predicts in mode {self.modes[0]}, not {decoding.mode}"
            )
        self.mode: Mode = self.modes[0]
        self.batch_size = decoding.batch_size
        self.trained, self.decoding = trained, replace(decoding, mode=self.modes[0])
        self.sampling = Sampling(decoding.temperature, decoding.nucleus)
        self._atoms: OrderedDict[int, tuple[Crystal, Atoms]] = OrderedDict()
        # Nothing is encoded: a layout without a lattice and unlimited row length accept every crystal.
        self.tokenizer = PatchTokenizer("v2", "two_token_9_12", _EDGE, pad_to=1 << 24, unit="e_per_A3")

    @property
    def codec(self) -> RelativeCodec:
        """The codec of densities."""
        return self.trained.codec

    @functools.cached_property
    def facts(self) -> TrainingFacts:
        """Facts about the training data."""
        promolecule = self.trained.surroundings.promolecule
        facts = TrainingFacts.from_json(self.trained.note.get("data_facts", {}), promolecule.source)
        return replace(facts, guess=self.starting())

    def starting(self) -> StartingDensity:
        """The starting density of training."""
        return self.trained.surroundings.promolecule

    @abstractmethod
    def computed(self, crystal: Crystal) -> Atoms:
        """What the model makes of a crystal's atoms, whatever the patch."""

    def of_atoms(self, crystal: Crystal) -> Atoms:
        """What :meth:`computed` gives, once for all patches of a crystal."""
        found = self._atoms.get(id(crystal))
        if found is None:
            # The crystal is kept as well, so that no other one takes its id.
            found = crystal, self.computed(crystal)
            self._atoms[id(crystal)] = found
            while len(self._atoms) > _KEPT:
                self._atoms.popitem(last=False)
        return found[1]

    def identity(self) -> dict[str, Any]:
        """Checkpoint, step and decoding."""
        return {
            "predictor": self.kind,
            "run": self.trained.note["name"],
            "step": self.trained.step,
            "weights": self.trained.fingerprint,
            "parameters": parameter_count(self.trained.model),
            "codec": self.codec.hash,
            "electrons": "kept",
            **self.decoding.identity(),
        }

    def drawn(self, request: PatchRequest) -> Floats:
        """Uniform numbers of a patch's voxels, independent of its batch."""
        n = int(np.prod(request.patch_shape))
        key = key_of(self.decoding.seed, request.crystal.name, *request.offset)
        drawn: Floats = (random_bits([key], n)[0] * np.float32(2.0**-24)).astype(np.float32)
        return drawn


class FieldPredictor(RelativePredictor[FieldModel, "Floats"]):
    """Predicts patches with a field model; implements :class:`tomat.prediction.predictor.PatchPredictor`.

    A voxel's prediction depends on the crystal and its place alone, not on the patch it is asked in.
    """

    kind = "field"

    def __init__(self, trained: TrainedField, decoding: DecodingConfig) -> None:
        """Take the weights.

        Raises:
            ValueError: another mode than ``one_pass``.
        """
        super().__init__(trained, decoding)
        self._run = FieldInference(trained.model, trained.surroundings, trained.codec, self.sampling)

    @staticmethod
    def load(path: str, weights: str) -> TrainedField:
        """See :func:`tomat.lm.field.checkpoint.open_field`."""
        return open_field(path, weights=weights)

    def computed(self, crystal: Crystal) -> Floats:
        """The weights of a crystal's atoms in the sums at its points."""
        return self._run.weights(crystal)

    def patch_shape(self, n_atoms: int, grid_shape: Triple, overlap: int) -> Triple:
        """Patches that divide the grid, of at most 32 points along an axis without the overlap."""
        del n_atoms  # any number
        x, y, z = (-(-n // -(-n // _EDGE)) + overlap for n in grid_shape)
        return x, y, z

    def predict(self, requests: Sequence[PatchRequest]) -> list[PatchPrediction]:
        """Predict patches, in order.

        Raises:
            ValueError: a request has no guess.
        """
        with ThreadPoolExecutor(processors()) as pool:
            return [self._patch(request, pool) for request in requests]

    def _patch(self, request: PatchRequest, pool: ThreadPoolExecutor) -> PatchPrediction:
        if request.guess is None:
            raise ValueError(f"{request.crystal.name}: the request at {request.offset} has no guess")
        shape = tuple(request.patch_shape)
        guess = np.maximum(np.asarray(request.guess, np.float32).ravel(), FLOOR)
        truth = guess if request.truth is None else np.asarray(request.truth, np.float32).ravel()
        points = patch_points(request)
        weights = self.of_atoms(request.crystal)
        drawn = self.drawn(request)
        blocks = [slice(first, first + BLOCK) for first in range(0, len(points), BLOCK)]

        def sums(block: slice) -> Floats:
            return self._run.sums(request.crystal, weights, points[block], guess[block])

        of_truth = [] if request.truth is None else ["expected_error", "pit"]
        wanted = [self.decoding.estimate, "spread", *of_truth]
        columns: dict[str, list[Floats]] = {name: [] for name in wanted}
        for block, found in zip(blocks, pool.map(sums, blocks), strict=True):
            of = self._run.read(tuple(columns), found, guess[block], truth[block], drawn[block])
            for name, values in of.items():
                columns[name].append(values)
        whole = {name: np.concatenate(parts).reshape(shape) for name, parts in columns.items()}
        density = whole[self.decoding.estimate]
        return PatchPrediction(density, whole["spread"], whole.get("expected_error"), whole.get("pit"))


def patch_points(request: PatchRequest) -> NDArray[np.float64]:
    """Fractional coordinates (points, 3) of the voxels of a patch, row-major."""
    axes = [
        (low + np.arange(size)) % n / n
        for low, size, n in zip(request.offset, request.patch_shape, request.grid_shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
